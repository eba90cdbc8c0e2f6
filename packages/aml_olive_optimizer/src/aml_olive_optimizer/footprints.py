"""What a search found: Olive's footprints, read as values and ranked by us.

Olive 0.9.3 resolves no goal at all when every goal is a threshold, marks no candidate when none meets its goals, and
ignores `output_model_num`; so goals, the Pareto frontier and the ranking are worked out here, from the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One measured metric of one model. Latencies are in milliseconds."""

    value: float
    priority: int
    higher_is_better: bool
    type: str = ""  # "accuracy", "latency", "throughput", "size_on_disk" or "custom"; "" where not known

    @property
    def is_number(self) -> bool:
        """Whether a value came of it: a broken model's accuracy is NaN, which compares with nothing."""
        return math.isfinite(self.value)

    @property
    def merit(self) -> float:
        """The value with its sign such that greater is better; what is no number is the worst."""
        if not self.is_number:
            return -math.inf
        return self.value if self.higher_is_better else -self.value


@dataclass(frozen=True)
class Goal:
    """What a metric must reach, as the configuration says it: relative to the input model, or a threshold."""

    kind: str
    value: float
    unit: str = ""  # "ms" for a latency

    def threshold(self, baseline: float | None, higher_is_better: bool) -> float | None:
        """Return the value to reach; None where it depends on an input model that was not measured."""
        if self.kind == "threshold":
            return self.value
        if baseline is None or not math.isfinite(baseline):
            return None
        sign = 1.0 if higher_is_better else -1.0
        return {
            "max-degradation": baseline - sign * self.value,
            "min-improvement": baseline + sign * self.value,
            "percent-max-degradation": baseline * (1 - sign * self.value / 100),
            "percent-min-improvement": baseline * (1 + sign * self.value / 100),
        }[self.kind]


@dataclass(frozen=True)
class Node:
    """One model of a search: the input model (no parent), or what a pass made of its parent."""

    model_id: str
    parent_id: str | None
    pass_type: str | None
    pass_config: Mapping[str, Any] | None
    model_config: Mapping[str, Any] | None  # None: the pass failed, or the model is the input model
    metrics: Mapping[str, Measurement]
    duration_sec: float | None
    document: Mapping[str, Any] = field(repr=False, compare=False)  # the footprint as Olive wrote it

    @property
    def is_onnx(self) -> bool:
        """Whether this is a model that can be packaged and deployed."""
        return self.model_config is not None and str(self.model_config["type"]).lower() == "onnxmodel"


@dataclass(frozen=True)
class Footprint:
    """All models of the search for one accelerator, in the order in which they were made."""

    accelerator: str  # "cpu-openvino"
    nodes: Mapping[str, Node]

    @property
    def input_metrics(self) -> Mapping[str, Measurement]:
        """The input model's measurements; empty when it was not evaluated."""
        return next((node.metrics for node in self.nodes.values() if node.parent_id is None), {})

    def chain(self, model_id: str) -> Iterator[Node]:
        """Yield a model and its ancestors, up to the input model."""
        current: str | None = model_id
        while current is not None:
            yield self.nodes[current]
            current = self.nodes[current].parent_id


@dataclass(frozen=True)
class Miss:
    """A goal that a model does not reach."""

    metric: str
    value: float
    needed: float | None  # None: any number would do
    higher_is_better: bool
    unit: str = ""  # "ms" for a latency

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.needed is None:
            return f"{self.metric} {self.value:.6g}, needed a number"
        sign = "≥" if self.higher_is_better else "≤"
        return f"{self.metric} {self.value:.6g}{unit}, needed {sign} {self.needed:.6g}{unit}"

    @property
    def distance(self) -> float:
        """How far off, relative to what is needed."""
        if self.needed is None or not math.isfinite(self.value):
            return math.inf
        return abs(self.value - self.needed) / max(abs(self.needed), 1e-12)


@dataclass(frozen=True)
class Candidate:
    """A measured model of a search, held against the goals."""

    accelerator: str
    node: Node
    misses: tuple[Miss, ...]
    on_frontier: bool

    @property
    def meets_goals(self) -> bool:
        """Whether every goal is reached."""
        return not self.misses


def parse(accelerator: str, document: Mapping[str, Any], types: Mapping[str, str] | None = None) -> Footprint:
    """Return a footprint from the JSON that Olive writes: `{model_id: {...}}`; `types` are those of the metrics."""
    nodes = {model_id: _node(model_id, found, types or {}) for model_id, found in document.items()}
    return Footprint(accelerator, nodes)


def _node(model_id: str, found: Mapping[str, Any], types: Mapping[str, str]) -> Node:
    config = found.get("model_config") or None
    started, ended = found.get("start_time"), found.get("end_time")
    timed = found.get("parent_model_id") is not None and started is not None and ended is not None
    values = ((found.get("metrics") or {}).get("value")) or {}
    return Node(
        model_id=model_id,
        parent_id=found.get("parent_model_id"),
        pass_type=found.get("from_pass"),
        pass_config=found.get("pass_run_config"),
        model_config=config if config and "type" in config else None,
        metrics={
            name: Measurement(
                float(metric["value"]), int(metric["priority"]), bool(metric["higher_is_better"]), types.get(name, "")
            )
            for name, metric in values.items()
        },
        duration_sec=max(float(ended) - float(started), 0.0) if timed else None,  # type: ignore[arg-type]
        document=found,
    )


def goals(configuration: Mapping[str, Any]) -> dict[str, Goal]:
    """Return the goals of every evaluator that a configuration uses, by `<metric>-<sub type>`."""
    found = {}
    unit = units(configuration)
    for evaluator in used_evaluators(configuration):
        for metric in evaluator.get("metrics", []):
            for sub_type in metric.get("sub_types", []):
                goal = sub_type.get("goal")
                if goal and sub_type.get("priority", -1) > 0:
                    name = f"{metric['name']}-{sub_type['name']}"
                    found[name] = Goal(str(goal["type"]), float(goal["value"]), unit.get(name, ""))
    return found


def units(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return the units of the metrics that have one, by `<metric>-<sub type>`: Olive gives latencies in ms."""
    return {name: "ms" for name, kind in metric_types(configuration).items() if kind == "latency"}


def metric_types(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return the type of each metric that has one, in lower case, by `<metric>-<sub type>`."""
    return {
        f"{metric['name']}-{sub_type['name']}": str(metric["type"]).lower()
        for evaluator in used_evaluators(configuration)
        for metric in evaluator.get("metrics", [])
        if metric.get("type")
        for sub_type in metric.get("sub_types", [])
    }


def used_evaluators(configuration: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the evaluators that the engine or a pass names."""
    engine = configuration.get("engine") or {}
    flat = [entry for value in (configuration.get("passes") or {}).values() for entry in _as_list(value)]
    named = [engine.get("evaluator"), *(entry.get("evaluator") for entry in flat)]
    known = configuration.get("evaluators") or {}
    used = []
    for evaluator in named:
        resolved = known.get(evaluator) if isinstance(evaluator, str) else evaluator
        if resolved and resolved not in used:
            used.append(resolved)
    return used


def candidates(footprint: Footprint, wanted: Mapping[str, Goal], *, evaluated: bool = True) -> list[Candidate]:
    """Return the measured ONNX models of a footprint, each with the goals it misses and whether it is on the frontier.

    The Pareto frontier is that of the candidates which meet every goal; when none does, that of all of them. A
    configuration without an evaluator (`evaluated` false) measures nothing: there, what the last pass made counts.
    """
    parents = {node.parent_id for node in footprint.nodes.values()}
    measured = [
        node
        for node in footprint.nodes.values()
        if (node.metrics if evaluated else node.model_id not in parents) and node.parent_id is not None and node.is_onnx
    ]
    missed = {node.model_id: _misses(node, footprint.input_metrics, wanted) for node in measured}
    compared = [node for node in measured if not missed[node.model_id]] or measured
    frontier = {node.model_id for node in compared if not any(_dominates(other, node) for other in compared)}
    return [
        Candidate(footprint.accelerator, node, missed[node.model_id], node.model_id in frontier) for node in measured
    ]


def other_forms(footprint: Footprint) -> list[str]:
    """Return the types of what the passes made that is no ONNX model."""
    made = [node for node in footprint.nodes.values() if node.parent_id is not None and not node.is_onnx]
    return sorted({str(node.model_config["type"]) for node in made if node.model_config is not None})


def _misses(node: Node, baseline: Mapping[str, Measurement], wanted: Mapping[str, Goal]) -> tuple[Miss, ...]:
    """Return the goals that a model does not reach, and the metrics to rank by that are no number."""
    found = []
    for name, measured in node.metrics.items():
        goal, base = wanted.get(name), baseline.get(name)
        needed = goal.threshold(base.value if base else None, measured.higher_is_better) if goal else None
        unit = goal.unit if goal else ""
        if not measured.is_number:
            if measured.priority > 0:
                found.append(Miss(name, measured.value, needed, measured.higher_is_better, unit))
        elif needed is not None and (measured.value < needed if measured.higher_is_better else measured.value > needed):
            found.append(Miss(name, measured.value, needed, measured.higher_is_better, unit))
    return tuple(found)


def _dominates(one: Node, other: Node) -> bool:
    shared = [name for name in other.metrics if name in one.metrics and other.metrics[name].priority > 0]
    pairs = [(one.metrics[name].merit, other.metrics[name].merit) for name in shared]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def ranked(found: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates best first: by the metric of priority 1, ties by that of priority 2, and so on."""
    return sorted(found, key=_rank_key)


def _rank_key(candidate: Candidate) -> tuple[float, ...]:
    prioritized = sorted(
        (measured.priority, name, measured.merit)
        for name, measured in candidate.node.metrics.items()
        if measured.priority > 0
    )
    return tuple(-merit for _, _, merit in prioritized)


def chosen(found: Iterable[Candidate], count: int) -> list[Candidate]:
    """Return the `count` best of one accelerator that meet their goals: the frontier first, then what follows it."""
    good = ranked(candidate for candidate in found if candidate.meets_goals)
    frontier = [candidate for candidate in good if candidate.on_frontier]
    rest = [candidate for candidate in good if not candidate.on_frontier]
    return ranked((frontier + rest)[:count])


def nearest_miss(found: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate that comes closest to its goals, where none reaches them."""
    return min(
        (candidate for candidate in found if candidate.misses),
        key=lambda candidate: (len(candidate.misses), max(miss.distance for miss in candidate.misses)),
        default=None,
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
