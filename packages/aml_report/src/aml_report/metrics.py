"""What is compared: each metric, where its value stands, which way is better, and how sure one run is of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aml_tool_core.report_page.figures import at, cost_words, escaped
from aml_tool_core.report_page.time_charts import metric_words

Document = Mapping[str, Any]
Interval = tuple[float, float]

_Z95 = 1.959964  # the normal distribution's 97.5 % quantile
_KINDS = ("connect", "read", "write", "timeout", "unknown_status")
_REFUSED = "429"


class Better(Enum):
    """Which way a metric improves; neither for one that merely describes."""

    LOWER = -1
    HIGHER = 1
    NEITHER = 0


@dataclass(frozen=True)
class Metric:
    """One figure of a report.

    `per_run`: each run of a repeated measurement has its own. `gated`: a worse one counts as a regression.
    """

    key: str
    title: str
    unit: str
    better: Better
    value: Callable[[Document], float | None]
    interval: Callable[[Document], Interval | None] = lambda document: None
    per_run: bool = True
    gated: Callable[[Document], bool] = lambda document: False


def metrics_of(document: Document) -> list[Metric]:
    """Return the metrics that can be looked for in a report like this one.

    A search's latencies are those at its own answer: near the limit, whatever the target. The answer is what compares.
    """
    if "search" in document:
        return [_answer(document), *_rates(), *_costs(document), *_usage(document)]
    return [*_latencies(document, "latency_ms", "Latency", gated=True), *_rates(), *_costs(document),
            *_latencies(document, "service_time_ms", "Service time", gated=False), *_usage(document)]  # fmt: skip


def _latencies(document: Document, key: str, title: str, *, gated: bool) -> Iterator[Metric]:
    percentiles: Mapping[str, Any] = at(document, f"/result/{key}/percentiles") or {}
    for name in sorted(percentiles, key=float):
        place = f"/result/{key}/percentiles/{escaped(name)}"
        yield Metric(
            f"{key}_{name}",
            f"{title} p{name}",
            "ms",
            Better.LOWER,
            value=_reader(f"{place}/value"),
            interval=_interval_reader(f"{place}/ci95"),
            gated=_certified_reader(f"{place}/certified") if gated else lambda document: False,
        )
    for entry in ("mean", "max") if percentiles else ():
        yield Metric(f"{key}_{entry}", f"{title} {entry}", "ms", Better.LOWER, value=_reader(f"/result/{key}/{entry}"))


def _answer(document: Document) -> Metric:
    unit = "/s" if at(document, "/search/axis") == "target_rps" else "connections"

    def value(one: Document) -> float | None:
        return float(at(one, "/search/answer/value") or 0.0) if "search" in one else None  # 0: no load holds

    def interval(one: Document) -> Interval | None:
        low, high = at(one, "/search/answer/interval") or (None, None)
        return None if low is None and high is None else (low or 0.0, math.inf if high is None else high)

    return Metric(
        "search_answer", "Largest load that holds", unit, Better.HIGHER, value, interval,
        per_run=False, gated=lambda one: "search" in one,
    )  # fmt: skip


def _rates() -> Iterator[Metric]:
    yield Metric("requests_per_sec", "Answers", "/s", Better.HIGHER, value=_reader("/result/requests_per_sec"))
    yield Metric(
        "succeeded_per_sec", "Good answers", "/s", Better.HIGHER,
        value=_reader("/result/succeeded_per_sec"), gated=lambda document: True,
    )  # fmt: skip
    yield Metric(
        "error_percent", "Failures", "%", Better.LOWER,
        value=lambda document: _percent(_failed(document), document),
        interval=lambda document: _wilson(_failed(document), document),
        gated=lambda document: True,
    )  # fmt: skip
    yield Metric(
        "refused_percent", "Refused with 429", "%", Better.LOWER,
        value=lambda document: _percent(_refused(document), document),
        interval=lambda document: _wilson(_refused(document), document),
    )  # fmt: skip


def _costs(document: Document) -> Iterator[Metric]:
    for key in document["cost"]:
        if key not in ("vcpus_per_instance", "reason"):
            yield Metric(
                key, cost_words(key), "", Better.LOWER,
                value=_reader(f"/cost/{escaped(key)}"), per_run=False, gated=lambda document: True,
            )  # fmt: skip


def _usage(document: Document) -> Iterator[Metric]:
    for name in document.get("resource_usage") or {}:
        for entry, word in (("average", "average"), ("maximum", "largest")):
            place = f"/resource_usage/{escaped(name)}/{entry}"
            unit = str(at(document, f"/resource_usage/{escaped(name)}/unit"))
            yield Metric(
                f"{name}_{entry}", f"{metric_words(name)}, {word}", "%" if unit == "Percent" else unit, Better.NEITHER,
                value=_reader(place), per_run=False,
            )  # fmt: skip


def _reader(pointer: str) -> Callable[[Document], float | None]:
    def read(document: Document) -> float | None:
        found = at(document, pointer)
        return None if found is None else float(found)

    return read


def _certified_reader(pointer: str) -> Callable[[Document], bool]:
    return lambda document: at(document, pointer) is True


def _interval_reader(pointer: str) -> Callable[[Document], Interval | None]:
    def read(document: Document) -> Interval | None:
        low, high = at(document, pointer) or (None, None)
        return None if low is None or high is None else (float(low), float(high))

    return read


def _failed(document: Document) -> int:
    errors = document["result"]["errors"]
    status = sum(count for code, count in errors.get("status", {}).items() if code != _REFUSED)
    return int(status + sum(errors.get(kind, 0) for kind in _KINDS))


def _refused(document: Document) -> int | None:
    errors = document["result"]["errors"]
    return int(errors["status"].get(_REFUSED, 0)) if "status" in errors else None


def _percent(part: int | None, document: Document) -> float | None:
    sent = document["result"]["requests"]["sent"]
    return None if part is None or not sent else 100 * part / sent


def _wilson(part: int | None, document: Document) -> Interval | None:
    """Return the 95 % score interval of a share, in percent (E. B. Wilson, JASA 22 (1927), 209-212)."""
    sent = document["result"]["requests"]["sent"]
    if part is None or not sent:
        return None
    share = min(part / sent, 1.0)
    weight = _Z95**2 / sent
    centre = (share + weight / 2) / (1 + weight)
    reach = _Z95 / (1 + weight) * math.sqrt(share * (1 - share) / sent + weight / (4 * sent))
    return 100 * max(0.0, centre - reach), 100 * min(1.0, centre + reach)
