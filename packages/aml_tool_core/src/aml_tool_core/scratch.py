"""A folder for a moment: private, and gone afterwards."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aml_tool_core.errors import ToolError

# What a file system says that has no room, or takes no more; any other error within is not the folder's.
_REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


@contextmanager
def scratch_folder(prefix: str, within: Path | None = None) -> Iterator[Path]:
    """Yield a new folder that only its owner can read (mode 0700); on the way out it is removed with all in it.

    It is made where the system has its temporary files, or in `within`. Raises ToolError where that cannot be written.
    """
    place = "the temporary folder" if within is None else str(within)
    remedy = "name another folder in TMPDIR" if within is None else "choose another folder"
    is_made = False
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True) as name:
            is_made = True
            yield Path(name)
    except OSError as error:
        if is_made and error.errno not in _REFUSALS:
            raise
        raise ToolError(f"{place}: cannot be written: {error.strerror or error}; free space, or {remedy}") from error
