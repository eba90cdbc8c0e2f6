"""Whether a change is more than noise, and on what that judgement rests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aml_report.metrics import Interval, Metric

Document = Mapping[str, Any]


class Noise(Enum):
    """A change against the noise band."""

    OUTSIDE = "outside the noise"
    WITHIN = "within the noise"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Judgement:
    """A verdict on a change and what it rests on."""

    noise: Noise
    basis: str

    def __str__(self) -> str:
        return f"{self.noise.value} ({self.basis})"


def judge(metric: Metric, base: Document, new: Document) -> Judgement:
    """Hold a change against the spread between repeated runs, else against each run's own 95 % interval.

    Two bands that share no value are told apart; two that do are not. The spread between runs says all that is random
    from run to run; a run's own interval says only what is random within it, and is named as such.
    """
    if metric.per_run:
        spreads = [_spread(metric, document) for document in (base, new)]
        if spreads[0] is not None and spreads[1] is not None:
            counts = [len(runs_of(document)) for document in (base, new)]
            return Judgement(_apart(spreads[0], spreads[1]), f"spread of {counts[0]} and {counts[1]} runs")
    own = metric.interval(base), metric.interval(new)
    if own[0] is not None and own[1] is not None:
        return Judgement(_apart(own[0], own[1]), "95 % intervals")
    return Judgement(Noise.UNKNOWN, "no repeated runs")


def runs_of(document: Document) -> list[Document]:
    """Return each run of a repeated measurement as a report of its own; none where it was not repeated."""
    repeats: Sequence[Mapping[str, Any]] = document["result"].get("repeats") or ()
    return [{**document, "result": run} for run in repeats]


def chance_of_separation(base_runs: int, new_runs: int) -> float:
    """Return how often the spreads of two sets of runs of one and the same system share no value.

    Of all orders of the runs two have one set wholly below the other (the extreme of the rank-sum test, Mann & Whitney,
    Ann. Math. Stat. 18 (1947), 50-60).
    """
    return 2 / math.comb(base_runs + new_runs, base_runs)


def _spread(metric: Metric, document: Document) -> Interval | None:
    values = [metric.value(run) for run in runs_of(document)]
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(known) < len(values):
        return None
    return min(known), max(known)


def _apart(one: Interval, other: Interval) -> Noise:
    return Noise.OUTSIDE if one[1] < other[0] or other[1] < one[0] else Noise.WITHIN
