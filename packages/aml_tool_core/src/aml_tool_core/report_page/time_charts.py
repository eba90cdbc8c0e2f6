"""What happened when: the run's seconds, and below them the deployment's minutes on the same time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aml_tool_core.report_page.blocks import Cell, Drawing, Section, Table
from aml_tool_core.report_page.charts import Axis, Chart, Point, Series
from aml_tool_core.report_page.figures import at, escaped, figure, number
from aml_tool_core.report_page.scales import linear_ticks, log_ticks, time_label, time_ticks
from aml_tool_core.report_page.timeline import Moment, seconds_between, thinned, utc

Document = Mapping[str, Any]

_LOG_FROM_RATIO = 12.0
_UNITS = {"Percent": "%", "Joules": "J", "Bytes": "bytes"}
_MINUTE_SEC = 60.0
_ROUNDING_SEC = 1.0  # of a run's end: it lasts a little longer than its seconds
_ACRONYMS = {"cpu", "gpu"}


def timeline(report: Document) -> Section:
    """Return rate, latency and errors over time."""
    seconds = at(report, "/result/timeline") or []
    if not seconds:
        return Section("timeline", "Timeline", absent=["This engine does not report the run second by second."])
    moments, step = thinned(seconds)
    end_sec = _end_sec(report)
    intro = ""
    if step > 1:
        intro += f"Each point stands for {step} seconds: the mean rate, the median of the medians, the worst p99, "
        intro += "all errors. "
    if at(report, "/result/repeats"):
        intro += "Repeated runs stand one behind the other, without the time between them."
    latency = _latency(moments, end_sec)
    absent = [] if latency else ["The report has no percentiles of single seconds, so their course is not drawn."]
    placed, wrong = sum(one.errors for one in moments), wrong_of(at(report, "/result/errors"))
    if placed != wrong:
        absent.append(f"Of {wrong:,} requests that went wrong, the timeline has {placed:,}: the engine places no more.")
    drawings = [_rate(report, moments, end_sec), *latency, _errors(moments, end_sec)]
    return Section("timeline", "Timeline", intro=intro, drawings=drawings, absent=absent)


def resource_usage(report: Document) -> Section:
    """Return the deployment's resource usage; metrics of one unit share a chart."""
    metrics: Mapping[str, Any] = report.get("resource_usage") or {}
    reasons = [str(reason) for reason in report.get("resource_usage_reasons", [])]
    if not metrics:
        absent = [f"No resource usage: {reason}." for reason in reasons]
        absent = absent or ["No resource usage: the report does not say why."]
        return Section("resources", "Resource usage", absent=absent)
    by_unit: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        by_unit.setdefault(str(metric["unit"]), []).append(name)
    end_sec = _end_sec(report)
    drawings = [
        drawing
        for index, (unit, names) in enumerate(by_unit.items(), 1)
        for drawing in _usage(report, index, unit, names, end_sec)
    ]
    rows: list[list[Cell]] = []
    for name, metric in metrics.items():
        unit = _UNITS.get(metric["unit"], metric["unit"])
        entries = (
            figure(report, f"/resource_usage/{escaped(name)}/{key}", unit) for key in ("average", "maximum", "minimum")
        )
        rows.append([metric_words(name), *(entry or "none" for entry in entries)])
    whole = report.get("resource_usage_whole_minutes", True)
    table = Table(
        "Over the whole run" if whole else "Over the minutes that the run touches",
        ("Metric", "Average", "Largest", "Smallest"),
        rows,
    )
    intro = "From Azure Monitor, by the minute, of the deployment's instances together."
    times = {sample["time"] for metric in metrics.values() for sample in metric["series"]}
    reaching = sum(_reaches_beyond(report, time, end_sec) for time in times)
    if reaching:
        intro += f" Of its {len(times)} minutes, {reaching} reach beyond the run: they are drawn in the middle of what "
        intro += "they share with it, if anything, and hold what else happened in them."
    return Section("resources", "Resource usage", intro=intro, drawings=drawings, tables=[table], absent=reasons)


def wrong_of(errors: Mapping[str, Any]) -> int:
    """Return how many requests went wrong, 429 included."""
    return sum(sum(count.values()) if isinstance(count, Mapping) else count for count in errors.values())


def _rate(report: Document, moments: Sequence[Moment], end_sec: float) -> Drawing:
    asked = at(report, "/load/target_rps")
    series = [Series("Achieved", [(one.t_sec, one.requests_per_sec) for one in moments], 0, dots=len(moments) < 2)]
    if asked is not None:
        series.append(Series("Asked for", [(0.0, asked), (end_sec, asked)], 5))
    rates = [one.requests_per_sec for one in moments]
    top = max([*rates, asked or 0])
    summary = f"Between {number(min(rates))} and {number(max(rates))} requests per second."
    rows: list[list[Cell]] = [[time_label(one.t_sec), number(one.requests_per_sec)] for one in moments]
    return Drawing(
        _over_time("rate", "Rate", summary, series, Axis(linear_ticks(top)), "requests per second", end_sec),
        Table("Rate over time", ("Time", "Requests per second"), rows),
    )


def _latency(moments: Sequence[Moment], end_sec: float) -> list[Drawing]:
    values = [value for one in moments for value in (one.latency_ms_50, one.latency_ms_99) if value is not None]
    if not values:
        return []
    series = [
        Series("p50", [(one.t_sec, one.latency_ms_50) for one in moments], 0, dots=len(moments) < 2),
        Series("p99", [(one.t_sec, one.latency_ms_99) for one in moments], 1, dots=len(moments) < 2),
    ]
    low, high = max(min(values), 1e-3), max(values)
    spread = high / low > _LOG_FROM_RATIO
    axis = Axis(log_ticks(low, high) if spread else linear_ticks(high), logarithmic=spread)
    worst = max(moments, key=lambda one: one.latency_ms_99 or 0.0)
    summary = f"The worst p99, {number(worst.latency_ms_99 or 0.0)} ms, was {time_label(worst.t_sec)} after the start."
    rows: list[list[Cell]] = [
        [time_label(one.t_sec), _ms(one.latency_ms_50), _ms(one.latency_ms_99)] for one in moments
    ]
    unit = "ms, logarithmic" if spread else "ms"
    return [
        Drawing(
            _over_time("latency-over-time", "Latency over time", summary, series, axis, unit, end_sec),
            Table("Latency over time", ("Time", "p50, ms", "p99, ms"), rows),
        )
    ]


def _errors(moments: Sequence[Moment], end_sec: float) -> Drawing:
    total = sum(one.errors for one in moments)
    series = [Series("Errors", [(one.t_sec, one.errors) for one in moments], 4, dots=len(moments) < 2)]
    rows: list[list[Cell]] = [[time_label(one.t_sec), number(one.errors)] for one in moments if one.errors]
    summary = f"{number(total)} errors in all." if total else "No second has an error."
    axis = Axis(linear_ticks(max(4, *(one.errors for one in moments)) if len(moments) > 1 else max(4, total)))
    return Drawing(
        _over_time("errors", "Errors", summary, series, axis, "errors", end_sec),
        Table("Times with errors", ("Time", "Errors"), rows or [["No time", "0"]]),
    )


def _usage(report: Document, index: int, unit: str, names: Sequence[str], end_sec: float) -> list[Drawing]:
    series = []
    rows: dict[str, dict[str, str]] = {}
    for style, name in enumerate(names):
        points: list[Point] = []
        for sample in report["resource_usage"][name]["series"]:
            # A minute's sample is drawn in the middle of what of it is within the run.
            first_sec, last_sec = _shared(report, sample["time"], end_sec)
            if first_sec < last_sec:
                points.append(((first_sec + last_sec) / 2, sample["average"]))
            rows.setdefault(sample["time"], {})[name] = number(sample["average"])
        series.append(Series(metric_words(name), points, style % 6, dots=len(points) < 8))
    values = [y for one in series for _, y in one.points if y is not None]
    if not values:
        return []
    shown = _UNITS.get(unit, unit)
    averages = {name: number(report["resource_usage"][name]["average"]) for name in names}
    axis = (
        Axis([0.0, 25.0, 50.0, 75.0, 100.0])
        if unit == "Percent" and max(values) <= 100
        else Axis(linear_ticks(max(values)))
    )
    chart = _over_time(
        f"usage-{index}",
        f"Resource usage, {shown}",
        "; ".join(f"{metric_words(name)}: {average} {shown} on average" for name, average in averages.items()),
        series,
        axis,
        f"{shown}, minute averages",
        end_sec,
    )
    table_rows: list[list[Cell]] = [
        [f"{utc(time):%H:%M}", *(by_name.get(name, "none") for name in names)] for time, by_name in sorted(rows.items())
    ]
    return [Drawing(chart, Table(f"Resource usage, {shown}", ("Minute, UTC", *map(metric_words, names)), table_rows))]


def _over_time(
    key: str, title: str, summary: str, series: Sequence[Series], y: Axis, y_title: str, end_sec: float
) -> Chart:
    return Chart(
        key=key,
        title=title,
        summary=summary,
        series=series,
        x=Axis(time_ticks(end_sec), time_label),
        y=y,
        x_title="time since the start",
        y_title=y_title,
        x_end=end_sec,
    )


def _end_sec(report: Document) -> float:
    """Return where the common time axis ends: with the run, whatever was sampled around it."""
    seconds = at(report, "/result/timeline") or []
    ends: list[float] = [one["t_sec"] + 1.0 for one in seconds[-1:]]
    duration_sec: float = report["load"]["duration_sec"]
    return max([*ends, duration_sec * _run_count(report)])


def _run_count(report: Document) -> int:
    return max(1, len(at(report, "/result/repeats") or ()))


def _shared(report: Document, minute: str, end_sec: float) -> tuple[float, float]:
    """Return where on the time axis the part of a minute begins and ends that is within the run; alike if none is."""
    start_sec = seconds_between(report["started_at"], minute)
    first_sec, last_sec = (_on_axis(report, at_sec) for at_sec in (start_sec, start_sec + _MINUTE_SEC))
    return min(first_sec, end_sec), min(last_sec, end_sec)


def _on_axis(report: Document, at_sec: float) -> float:
    """Return where seconds since the load began are on the axis, on which the runs stand without their warm-ups."""
    warmup_sec, duration_sec = report["load"]["warmup_sec"], report["load"]["duration_sec"]
    run = min(max(0, int(at_sec // (warmup_sec + duration_sec))), _run_count(report) - 1)
    in_run_sec = at_sec - run * (warmup_sec + duration_sec)
    return float(run * duration_sec + max(0.0, in_run_sec - warmup_sec))


def _reaches_beyond(report: Document, minute: str, end_sec: float) -> bool:
    first_sec, last_sec = _shared(report, minute, end_sec)
    return last_sec - first_sec < _MINUTE_SEC - _ROUNDING_SEC


def metric_words(name: str) -> str:
    """Split a metric's name into words: `CpuUtilizationPercentage` is `CPU utilization percentage`."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    first, _, rest = spaced.partition(" ")
    return f"{first.upper() if first in _ACRONYMS else first.capitalize()} {rest}".strip()


def _ms(value: float | None) -> str:
    return "" if value is None else number(value)
