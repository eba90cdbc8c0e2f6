"""Several runs as one measurement: which of them is the answer, and whether what was demanded is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_tool_core.profiling import choices as chosen
from aml_tool_core.profiling.choices import Choice
from aml_tool_core.profiling.course import Plan, Search, Sweep
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.runs import Failure, Point, Run
from aml_tool_core.profiling.search import Finding


@dataclass(frozen=True)
class Survey:
    """The runs of a course and what follows from them."""

    plan: Plan
    runs: tuple[Run, ...]
    finding: Finding | None  # of a search
    choices: tuple[Choice, ...]
    about: Run  # the run that stands for all
    failures: tuple[Failure, ...] = ()  # points of a sweep that are not among the runs

    @property
    def answer(self) -> Run | None:
        """The run that a search's answer rests on."""
        return None if self.finding is None or self.finding.run is None else self.runs[self.finding.run]

    def misses(self) -> list[str]:
        """Return what was demanded and is not there, in words; nothing where nothing was demanded."""
        about = self.about
        if isinstance(self.plan, Search):
            assert self.finding is not None, "a search finds something, be it nothing"
            if self.finding.load is None:
                return [f"no answer: {self.finding.reason}", *_near(about)]
            if not self.finding.confirmed:
                return [f"not confirmed: {self.finding.reason}"]
        elif about.criteria is None:
            return []
        elif self.plan.is_several:
            return [miss for choice in self.choices for miss in self._missed_by(choice)]
        return _missed_by(about)

    def _missed_by(self, choice: Choice) -> list[str]:
        """Return what one payload class, or the payload as a whole, misses."""
        of_class = "" if choice.payload_class is None else f" of payload class {choice.payload_class}"
        if choice.best is not None:
            return [f"{named(choice.best)}: {miss}" if of_class else miss for miss in _missed_by(choice.best)]
        own = self._runs_of(choice)
        is_unknown = any(run.standing.feasible for run in own)
        near = [] if is_unknown else _near(chosen.nearest_miss(own) or own[-1])
        return [self.why_no_best(choice), *near]

    def why_no_best(self, choice: Choice) -> str:
        """Return why none of a class's runs is the best, in words."""
        own = self._runs_of(choice)
        of_class = "" if choice.payload_class is None else f" of payload class {choice.payload_class}"
        is_demanded = any(run.criteria is not None for run in own)
        if any(run.standing.feasible for run in own):
            keeping = " that keeps every demand" if is_demanded else ""
            return f"{choice.objective} is not known of any run{of_class}{keeping}"
        return f"no run{of_class} {'keeps every demand' if is_demanded else 'carried its load'}"

    def _runs_of(self, choice: Choice) -> list[Run]:
        return [run for run in self.runs if run.point.payload_class == choice.payload_class]


def survey_of(plan: Plan, runs: Sequence[Run], finding: Finding | None, failures: Sequence[Failure] = ()) -> Survey:
    """Return what follows from the runs of a course."""
    found = chosen.choices(runs, plan.objective)
    if isinstance(plan, Sweep):
        best = _standing_for_all(runs, found, plan.objective)
    else:
        best = None if finding is None or finding.run is None else runs[finding.run]
        found = tuple(Choice(one.payload_class, one.objective, best, one.front, one.knee) for one in found)
    about = best or chosen.nearest_miss(runs) or runs[-1]
    return Survey(plan, tuple(runs), finding, found, about, tuple(failures))


def _standing_for_all(runs: Sequence[Run], found: Sequence[Choice], objective: str) -> Run | None:
    """Return the best run of a sweep; where a payload class has none, its nearest miss: demands are made of each."""
    for choice in found:
        if choice.best is None:
            own = [run for run in runs if run.point.payload_class == choice.payload_class]
            return chosen.nearest_miss(own) or own[-1]
    return chosen.best_of(runs, objective)


def misses_of(run: Run) -> tuple[str, ...]:
    """Return why a run's load does not hold, or why nothing can be said of it."""
    return run.standing.misses or tuple(f"not usable: {reason}" for reason in run.verdict.reasons) or ("not usable",)


def _missed_by(run: Run) -> list[str]:
    missed = [criterion.miss for criterion in run.criteria or () if not criterion.met]
    return missed + [f"the run is not valid: {reason}" for reason in run.verdict.reasons]


def _near(run: Run) -> list[str]:
    return [f"nearest miss, {named(run)}: {miss}" for miss in misses_of(run)]


def named(run: Run) -> str:
    """Return a run by its number and its load."""
    return f"run {run.number} ({words(run.load, run.point)})"


def words(load: Load, point: Point) -> str:
    """Return a load in a few words."""
    said = f"{load.connections} {load.sender}{'' if load.connections == 1 else 's'}"
    if load.target_rps is not None:
        said = f"{load.target_rps:g} requests/s, {said}"
    return said if point.payload_class is None else f"{said}, {point.payload_class}"
