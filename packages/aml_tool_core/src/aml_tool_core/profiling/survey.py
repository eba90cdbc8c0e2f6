"""Several runs as one measurement: which of them is the answer, and whether what was demanded is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_tool_core.profiling import choices as chosen
from aml_tool_core.profiling.choices import Choice
from aml_tool_core.profiling.course import Plan, Search, Sweep
from aml_tool_core.profiling.runs import Run
from aml_tool_core.profiling.search import Finding


@dataclass(frozen=True)
class Survey:
    """The runs of a course and what follows from them."""

    plan: Plan
    runs: tuple[Run, ...]
    finding: Finding | None  # of a search
    choices: tuple[Choice, ...]
    about: Run  # the run that stands for all

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
        elif self.plan.is_several and not about.standing.feasible:
            return ["no run keeps every demand", *_near(about)]
        missed = [criterion.miss for criterion in about.criteria or () if not criterion.met]
        return missed + [f"the run is not valid: {reason}" for reason in about.verdict.reasons]


def survey_of(plan: Plan, runs: Sequence[Run], finding: Finding | None) -> Survey:
    """Return what follows from the runs of a course."""
    found = chosen.choices(runs, plan.objective)
    if isinstance(plan, Sweep):
        best = chosen.best_of(runs, plan.objective)
    else:
        best = None if finding is None or finding.run is None else runs[finding.run]
        found = tuple(Choice(one.payload_class, one.objective, best, one.front, one.knee) for one in found)
    about = best or chosen.nearest_miss(runs) or runs[-1]
    return Survey(plan, tuple(runs), finding, found, about)


def misses_of(run: Run) -> tuple[str, ...]:
    """Return why a run's load does not hold, or why nothing can be said of it."""
    return run.standing.misses or tuple(f"not usable: {reason}" for reason in run.verdict.reasons) or ("not usable",)


def _near(run: Run) -> list[str]:
    return [f"nearest miss, {named(run)}: {miss}" for miss in misses_of(run)]


def named(run: Run) -> str:
    """Return a run by its number and its load."""
    load = f"{run.load.connections} {run.load.sender}s"
    if run.load.target_rps is not None:
        load = f"{run.load.target_rps:g} requests/s, {load}"
    of_class = "" if run.point.payload_class is None else f", {run.point.payload_class}"
    return f"run {run.number} ({load}{of_class})"
