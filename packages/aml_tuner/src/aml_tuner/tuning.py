"""The tuning itself: which trials are made, so many at a time, until the budget is spent; finished ones are kept."""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aml_tool_core import documents, outputs
from aml_tool_core.errors import Interrupted, ToolError

from aml_tuner import objective, quick, trial
from aml_tuner.configuration import Plan
from aml_tuner.quick import Outcome
from aml_tuner.space import Point
from aml_tuner.takeover import FLAG, LOCK, take_over
from aml_tuner.trial import NotDeleted, Trial

log = logging.getLogger("aml_tuner")


def tune(
    plan: Plan, trials: Path, brought: Path | None = None, begin: Callable[[], None] = lambda: None
) -> tuple[list[dict[str, Any]], int]:
    """Make all trials; return what came of each, in the order of their end, and how many were finished before.

    `brought` holds trials of an earlier tuning, which are taken over. `begin` is called once all inputs are found good,
    before the first trial. Whatever happens, what was deployed is deleted before this returns or raises. Raises
    ToolError where the folder of trials cannot be used.
    """
    try:
        with _alone(trials):
            if brought is not None:
                take_over(brought, trials)
            try:
                return _tune(plan, trials, begin)
            except Interrupted as stop:
                stop.left = _kept_words(plan, trials)
                raise
    except OSError as error:
        raise ToolError(
            f"{error.filename or trials}: {error.strerror or error}; free space, or name a folder that can be written "
            f"with --trials_path, and trials that can only be read with {FLAG}"
        ) from error


@contextmanager
def _alone(trials: Path) -> Iterator[None]:
    """Hold the folder of trials: another tuner would take what is deployed just now for leftovers."""
    outputs.make_folder(trials)
    with (trials / LOCK).open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the tuner ends, however
        except BlockingIOError:
            raise ToolError(
                f"{trials}: another tuner is at work there; wait for it, or name another folder with --trials_path"
            ) from None
        yield


def _finished(plan: Plan, trials: Path) -> dict[Point, dict[str, Any]]:
    found = {point: trial.finished(Trial.of(plan, point, trials)) for point in plan.space.grid()}
    return {point: document for point, document in found.items() if document is not None}


def _of_other_inputs(plan: Plan, trials: Path) -> int:
    """Return how many finished trials lie there that this tuning cannot use."""
    documents_there = [documents.read_json(path) for path in sorted(trials.glob(f"[!.]*/{trial.FILE_NAME}"))]
    return sum(one["error"] is None and one["inputs_sha256"] != plan.inputs_sha256 for one in documents_there)


def _kept_words(plan: Plan, trials: Path) -> str:
    count = len(_finished(plan, trials))
    kept = f"{count} finished trial{' is' if count == 1 else 's are'} kept in {trials}, start again to go on"
    return kept if count else "no trial was finished"


def _tune(plan: Plan, trials: Path, begin: Callable[[], None]) -> tuple[list[dict[str, Any]], int]:
    for one in trial.left_over(trials, plan):
        log.warning("trial %s was cut short; deleting what it deployed", one.folder.name)
        trial.delete(one)
    done = _finished(plan, trials)
    before = len(done)
    if before:
        log.info("%d trials were finished before and are not run again", before)
    if others := _of_other_inputs(plan, trials):
        log.info(
            "%d finished trials in %s are not used, as they were made of other inputs: only those of the same YAML, "
            "model, code, payload, constraints, prices, profiler and load can be compared",
            others,
            trials,
        )
    if before < plan.max_trials:
        trial.check_profiler(plan, trials)
    begin()
    _run(plan, trials, done)
    return list(done.values()), before


def _run(plan: Plan, trials: Path, done: dict[Point, dict[str, Any]]) -> None:
    stop = threading.Event()
    under_way: dict[Future[dict[str, Any]], Point] = {}
    with ThreadPoolExecutor(plan.parallel) as pool:
        try:
            while True:
                room = min(plan.parallel - len(under_way), plan.max_trials - len(done) - len(under_way))
                for point in _suggested(plan, done, list(under_way.values()), room):
                    under_way[pool.submit(trial.run, Trial.of(plan, point, trials), stop)] = point
                if not under_way:
                    return
                ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ended:
                    point = under_way.pop(future)
                    done[point] = future.result()
                    log.info("%s", _told(plan, done, point))
        except BaseException:
            # The others are told to stop, and delete what they deployed.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            for future in under_way:
                if not future.cancelled() and isinstance(stands := future.exception(), NotDeleted):
                    log.error("%s", stands)
            raise


def _suggested(plan: Plan, done: dict[Point, dict[str, Any]], under_way: Sequence[Point], room: int) -> list[Point]:
    if room < 1:
        return []
    if plan.strategy == "grid":
        return [point for point in plan.space.grid() if point not in done and point not in under_way][:room]
    return quick.suggest(plan.space, outcomes(plan, done), room, under_way)


def outcomes(plan: Plan, done: Mapping[Point, Mapping[str, Any]]) -> dict[Point, Outcome]:
    """Return what the search learns from each trial; one that failed says nothing of speed and is far off."""
    scores = {point: objective.score(document["metrics"], plan.objective) for point, document in done.items()}
    excesses = [document["excess"] for document in done.values()]
    failed = Outcome(None, max(excesses, default=0.0) + 1.0)
    return {
        point: failed if score is None else Outcome(score, None if done[point]["feasible"] else done[point]["excess"])
        for point, score in scores.items()
    }


def _told(plan: Plan, done: dict[Point, dict[str, Any]], point: Point) -> str:
    document = done[point]
    if document["error"] is not None:
        said = "failed"
    else:
        figures = (f"{name} {document['metrics'].get(name, float('nan')):.4g}" for name in plan.objective)
        said = "; ".join(filter(None, (", ".join(figures), trial.said(document))))
    return f"{len(done)} of {plan.max_trials} trials: {trial.shown(document['variant'])}: {said}"


def check_any_worked(documents: Sequence[dict[str, Any]]) -> None:
    """Raise ToolError where every trial failed: there is nothing to say then."""
    if all(document["error"] is not None for document in documents):
        raise ToolError(f"all {len(documents)} trials failed; the last one: {documents[-1]['error']}")
