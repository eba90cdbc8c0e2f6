"""Compare a report with a base: metric by metric, refusing what cannot be compared, and gate on regressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aml_tool_core import InputError
from aml_tool_core.report_page.figures import at, number

from aml_report.metrics import Better, Metric, metrics_of
from aml_report.noise import Judgement, Noise, judge, runs_of
from aml_report.reading import Document, Report

# What must be alike for two figures to be about the same thing: where it stands, and its name.
_MUST_BE_ALIKE = (
    ("/load/model", "load model"),
    ("/load/target_rps", "target rate"),
    ("/load/method", "method"),
    ("/provenance/payload_sha256", "payload (its hash)"),
    ("/load/duration_sec", "duration_sec"),
    ("/load/warmup_sec", "warmup_sec"),
    ("/load/timeout_sec", "timeout_sec"),
    ("/tool/engine/name", "engine"),
)
# A search finds its load, so the load is no condition but the result.
_FOUND = frozenset({"/load/target_rps", "/load/connections"})
_OF_SEARCHES = (("/search/axis", "what is searched"), ("/search/constraints", "constraints"))
_SCHEDULE = ("/load/schedule", "schedule of the load model")
# What may differ, since it may be what is being compared, and is worth knowing.
_WORTH_KNOWING = (
    ("/target/scoring_uri", "scoring_uri"),
    ("/target/endpoint_name", "endpoint"),
    ("/target/deployment_name", "deployment"),
    ("/target/sku", "sku"),
    ("/target/location", "location"),
    ("/target/instance_count", "instance_count"),
    ("/target/worker_count", "worker_count"),
    ("/target/max_concurrent_requests_per_instance", "max_concurrent_requests_per_instance"),
    ("/load/connections", "connections"),
    ("/load/threads", "threads"),
    ("/provenance/model_sha256", "model (its hash)"),
    ("/tool/version", "profiler version"),
    ("/tool/engine/version", "engine version"),
)
_HASH_SHOWN = 12
_REPEATS_ADVISED = 3


class Direction(Enum):
    """Whether a change is for the better."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    CHANGED = "changed"


@dataclass(frozen=True)
class Change:
    """One metric in two reports; None where one does not have it."""

    metric: Metric
    base: float | None
    new: float | None
    judgement: Judgement | None

    @property
    def percent(self) -> float | None:
        """The change in percent of the base; None where a value is missing or the base is 0 and the new one is not."""
        if self.base is None or self.new is None:
            return None
        if self.base == 0:
            return 0.0 if self.new == 0 else None
        return 100 * (self.new - self.base) / self.base

    @property
    def direction(self) -> Direction:
        """Whether the new value is better; noise is not looked at."""
        if self.base is None or self.new is None or self.base == self.new:
            return Direction.SAME
        if self.metric.better is Better.NEITHER:
            return Direction.CHANGED
        rises = self.new > self.base
        return Direction.BETTER if rises is (self.metric.better is Better.HIGHER) else Direction.WORSE

    @property
    def is_certain(self) -> bool:
        """Tell whether the change is outside the noise."""
        return self.judgement is not None and self.judgement.noise is Noise.OUTSIDE


@dataclass(frozen=True)
class Comparison:
    """A report against its base."""

    base: Report
    new: Report
    changes: Sequence[Change]
    unlike: Sequence[str]  # what should be alike and is not
    differences: Sequence[str]  # what may differ and does

    @property
    def cautions(self) -> list[str]:
        """Whose resource usage is not of the run alone."""
        return [
            f"{report.name}: resource usage is not of the run alone: "
            + "; ".join(report.document.get("resource_usage_reasons") or ["the run covers no whole minute"])
            for report in (self.base, self.new)
            if not report.document.get("resource_usage_whole_minutes", True)
        ]


def compare(base: Report, new: Report, *, allow_different: bool) -> Comparison:
    """Compare two reports. Raises InputError where they are not comparable, unless that is allowed."""
    rules = (*_MUST_BE_ALIKE, *_closed_loop_rules(base.document), *_schedule_rules(base.document, new.document))
    if "search" in base.document or "search" in new.document:
        rules = (*(rule for rule in rules if rule[0] not in _FOUND), *_OF_SEARCHES)
    unlike = _differences(base.document, new.document, rules)
    if unlike and not allow_different:
        raise InputError(
            f"{new.path}: not comparable with {base.path}: {'; '.join(unlike)}; measure both alike, or give "
            "--allow-different"
        )
    known = {metric.key: metric for metric in metrics_of(base.document)}
    known |= {metric.key: metric for metric in metrics_of(new.document) if metric.key not in known}
    changes = [_change(metric, base.document, new.document) for metric in known.values()]
    return Comparison(
        base,
        new,
        [change for change in changes if change.base is not None or change.new is not None],
        unlike,
        _differences(base.document, new.document, _WORTH_KNOWING),
    )


def regressions(comparison: Comparison, percent: float) -> list[str]:
    """Return why a comparison does not pass: a run that is not valid, or a metric that is worse by more than `percent`.

    A change within the noise passes. One whose noise cannot be told does not: a gate must not wave through what it
    cannot judge. What would tell is the last line, where a metric's change had no repeated runs to be held against.
    """
    missed = [
        f"{report.name}: not valid, so nothing follows from it: {reason}"
        for report in (comparison.base, comparison.new)
        for reason in report.document["verdict"]["reasons"]
    ]
    failed = False
    for change in comparison.changes:
        if change.direction is not Direction.WORSE or not _gates(change, comparison):
            continue
        if change.judgement is None or change.judgement.noise is Noise.WITHIN:
            continue
        if change.percent is None or abs(change.percent) > percent:
            failed = True
            missed.append(
                f"{comparison.new.name}: {change.metric.key}: {shown(change.base)} -> {shown(change.new)} "
                f"({shown_change(change)}), more than {percent:g} % worse; noise: {change.judgement}"
            )
    once = [report.name for report in (comparison.base, comparison.new) if len(runs_of(report.document)) < 2]
    if failed and once:
        missed.append(
            f"{' and '.join(dict.fromkeys(once))}: runs were not repeated; set repeat to {_REPEATS_ADVISED} or more in "
            "the profiler's configuration, so that noise can be told from change"
        )
    return missed


def shown(value: float | None) -> str:
    """Return a value for a person."""
    return "none" if value is None else number(value)


def shown_change(change: Change) -> str:
    """Return a change with its sign: in percent, or in percentage points for what is a share itself."""
    if change.base is None or change.new is None:
        return "none"
    if change.base == change.new:
        return "none"
    if change.percent is None or change.metric.unit == "%":
        unit = "points" if change.metric.unit == "%" else change.metric.unit
        return f"{change.new - change.base:+.3g} {unit}".strip()
    return f"{change.percent:+.1f} %"


def _gates(change: Change, comparison: Comparison) -> bool:
    return all(change.metric.gated(report.document) for report in (comparison.base, comparison.new))


def _change(metric: Metric, base: Document, new: Document) -> Change:
    values = metric.value(base), metric.value(new)
    known = values[0] is not None and values[1] is not None
    return Change(metric, values[0], values[1], judge(metric, base, new) if known else None)


def _closed_loop_rules(base: Document) -> tuple[tuple[str, str], ...]:
    # In a closed loop the connections are the load; in an open loop they only have to be enough.
    return (("/load/connections", "connections"),) if base["load"]["model"] == "closed" else ()


def _schedule_rules(base: Document, new: Document) -> tuple[tuple[str, str], ...]:
    # A part of the load model. Earlier reports do not state theirs, and closed loops have none: nothing contradicts.
    stated = at(base, _SCHEDULE[0]) is not None and at(new, _SCHEDULE[0]) is not None
    return (_SCHEDULE,) if stated else ()


def _differences(base: Document, new: Document, rules: Sequence[tuple[str, str]]) -> list[str]:
    found = []
    for pointer, name in rules:
        values = at(base, pointer), at(new, pointer)
        if values[0] != values[1]:
            found.append(f"{name}: {_said(values[0])} and {_said(values[1])}")
    return found


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    text = f"{value:g}" if isinstance(value, float) else str(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:_HASH_SHOWN]}…" if is_hash else text
