"""Outputs appear whole or not at all: written under a temporary name, validated, then moved into place."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aml_tool_core import documents
from aml_tool_core.errors import InputError, ToolError

_log = logging.getLogger("aml_tool_core")
DEFAULT_FOLDER = Path("outputs")  # AzureML uploads ./outputs of a job by itself


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is moved there, otherwise it is removed."""
    make_folder(path.parent)
    with _refusal_told(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would keep the job's uploader out
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, otherwise it is removed."""
    make_folder(path.parent)
    with _refusal_told(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            _swap_in(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already when it was moved


def _swap_in(folder: Path, path: Path) -> None:
    """Move a folder to `path`. What stood there goes, but only then: interrupted or refused, it stands there again."""
    retired = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old.")) / path.name
    try:
        if path.exists():
            os.replace(path, retired)
        os.replace(folder, path)
    except BaseException:
        if retired.exists() and not path.exists():
            os.replace(retired, path)
        raise
    finally:
        shutil.rmtree(retired.parent)


@contextmanager
def _refusal_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ToolError(
            f"{path}: cannot be written: {error.strerror or error}; free space or choose another folder"
        ) from error


def write_json(path: Path, document: Any, schema: str | None = None) -> None:
    """Validate a document against its schema and write it to `path` atomically.

    A document of ours that its own schema refuses is a defect, not an input error: raises RuntimeError.
    """
    if schema is not None:
        try:
            documents.validate(document, schema, path.name)
        except InputError as fault:
            raise RuntimeError(f"our own output violates its schema: {fault}") from None
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to `path` atomically, UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove(files: Iterable[Path], but: Iterable[Path] = ()) -> list[Path]:
    """Remove those files that are there, except those that are also among `but` (under whatever name), and return them.

    Raises ToolError where the file system says no.
    """
    kept = [path for path in but if path.exists()]
    removed = []
    for file in files:
        if not (file.is_file() or file.is_symlink()) or (file.exists() and any(file.samefile(one) for one in kept)):
            continue
        try:
            file.unlink()
        except OSError as error:
            raise ToolError(f"{file}: an earlier run's, cannot be removed: {error.strerror}; remove it") from None
        removed.append(file)
    return removed


def check_writable(folder: Path) -> None:
    """Raise ToolError where a folder takes no files, or cannot be made; so that this shows before the work is done.

    Nothing is left behind, not even the folder.
    """
    there = os.path.lexists(folder)  # also a link that leads nowhere
    with _refusal_told(folder), tempfile.NamedTemporaryFile(dir=folder if there else folder.parent):
        pass


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only tool that works in a folder: two would take, or replace, each other's files.

    The folder is made if need be, and removed again where an exception leaves it empty. The lock is the kernel's, on
    the folder itself: it ends with the process, however that does, and leaves nothing behind. Raises ToolError.
    """
    new = not folder.exists()
    make_folder(folder)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ToolError(f"{folder}: cannot be opened: {error.strerror}; run in another folder") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolError(
                f"{folder}: another tool is at work in this folder; wait for it to end, or run this one elsewhere"
            ) from None
        except OSError as error:  # some network file systems have no locks
            _log.warning("%s: cannot be locked (%s); let no other tool work in it", folder, error.strerror)
        try:
            yield
        except BaseException:
            if new and not any(folder.iterdir()):
                folder.rmdir()
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder with its parents. Raises ToolError where the file system says no."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(f"{folder}: cannot be made: {error.strerror}; choose a folder that can be written") from None
