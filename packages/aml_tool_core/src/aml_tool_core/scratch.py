"""A folder for a moment: private, and gone afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aml_tool_core.errors import ToolError

# What a file system says that has no room, or takes no more; any other error within is not the folder's.
_REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

# A folder this young may be of a process that has not locked it yet.
_YOUNG_SEC = 60.0


@contextmanager
def scratch_folder(prefix: str, within: Path | None = None) -> Iterator[Path]:
    """Yield a new folder that only its owner can read (mode 0700); on the way out it is removed with all in it.

    It is made where the system has its temporary files, or in `within`. What a process that was killed has left among
    the system's under this prefix is removed too: it may hold a key. Raises ToolError where none can be written.
    """
    place = "the temporary folder" if within is None else str(within)
    remedy = "name another folder in TMPDIR" if within is None else "choose another folder"
    is_made = False
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True) as name:
            is_made = True
            descriptor = _locked(Path(name))
            try:
                if within is None:
                    _remove_left_over(Path(name).parent, prefix)
                yield Path(name)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
    except OSError as error:
        if is_made and error.errno not in _REFUSALS:
            raise
        raise ToolError(f"{place}: cannot be written: {error.strerror or error}; free space, or {remedy}") from error


def _locked(folder: Path) -> int | None:
    """Lock a folder; return the descriptor that holds the lock, or None where it is held, gone, or cannot be locked.

    The kernel lets go of it when the process ends, however. Where a file system has no locks for folders (NFS), no
    folder is ever taken for left over.
    """
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _remove_left_over(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        try:
            found = folder.lstat()
        except FileNotFoundError:
            continue  # its process has just ended
        is_ours = found.st_uid == os.geteuid() and time.time() - found.st_mtime > _YOUNG_SEC
        if is_ours and (descriptor := _locked(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
