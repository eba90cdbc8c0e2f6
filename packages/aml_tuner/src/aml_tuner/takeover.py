"""Trials that an earlier tuning has made elsewhere: copied to this one's own, as they may only be read there."""

from __future__ import annotations

import fcntl
import hashlib
import logging
from pathlib import Path

from aml_tool_core import outputs
from aml_tool_core.errors import InputError, ToolError

from aml_tuner.trial import FILE_NAME, NOTES

LOCK = ".lock"
FOLDER = "trials"
FLAG = "--resume_path"
log = logging.getLogger("aml_tuner")


def take_over(brought: Path, trials: Path) -> None:
    """Copy the trials that are not here yet, and the notes of what those that were cut short have deployed.

    `brought` is a folder of trials, or one that holds some, e.g. the outputs of all trials of a sweep. Raises
    InputError where there are none, and ToolError where a tuner is at work there: what it has deployed just now is no
    leftover.
    """
    sources = [source for source in _trials_in(brought) if source.resolve() != trials.resolve()]
    for source in sources:
        _check_idle(source)
    for source in sources:
        _take_over(source, trials)


def _take_over(source: Path, trials: Path) -> None:
    made = _made(source)
    new = [one for one in made if not (trials / one.name).exists()]
    for one in new:
        with outputs.atomic_folder(trials / one.name) as copy:
            for file in sorted(path for path in one.rglob("*") if path.is_file()):
                _copy(file, copy / file.relative_to(one))
    for one in made:
        if one not in new:
            _add(one, trials / one.name)
    log.info("%s: %d trials that were not here yet are copied", source, len(new))


def _add(brought: Path, here: Path) -> None:
    """Complete a trial that was begun in both places: each start of the tuner deploys under names of its own."""
    if (brought / FILE_NAME).is_file() and not (here / FILE_NAME).exists():
        _copy(brought / FILE_NAME, here / FILE_NAME)
    known = {_content(note) for note in here.glob(f"{Path(NOTES).parent}/*") if note.is_file()}  # of deleted ones too
    for note in sorted(brought.glob(NOTES)):
        if (content := _content(note)) not in known:
            name = f"deployment_settings.{hashlib.sha256(content).hexdigest()[:12]}.json"
            _copy(note, here / Path(NOTES).parent / name)


def _copy(file: Path, target: Path) -> None:
    """Copy a file, not its mode: what can only be read there is written here."""
    content = _content(file)
    outputs.make_folder(target.parent)
    target.write_bytes(content)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ToolError(f"{FLAG}: {file}: cannot be read: {error.strerror}") from None


def _trials_in(folder: Path) -> list[Path]:
    """Return the folders of trials at and below a folder."""
    found = {file.parents[1] for file in folder.rglob(FILE_NAME)}
    found |= {file.parents[len(Path(NOTES).parts)] for file in folder.rglob(f"*/{NOTES}")}
    made = [one for one in sorted(found) if one.is_relative_to(folder) and _made(one)]
    if made:
        return made
    raise InputError(
        f"{FLAG}: {folder}: holds no trials; give the outputs/{FOLDER} of an earlier tuning, or leave the flag out to "
        "start anew"
    )


def _made(folder: Path) -> list[Path]:
    """Return the folders of the trials that came to something, be it only to a deployment."""
    files = [*folder.glob(f"[!.]*/{FILE_NAME}"), *folder.glob(f"[!.]*/{NOTES}")]
    return sorted({folder / file.relative_to(folder).parts[0] for file in files})


def _check_idle(source: Path) -> None:
    if not (source / LOCK).is_file():
        return
    with (source / LOCK).open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolError(f"{FLAG}: {source}: another tuner is at work there; wait for it") from None
        except OSError as error:
            log.debug("%s: has no locks, so no tuner is at work there: %s", source, error)
