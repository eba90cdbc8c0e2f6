"""summary.html: the summary as one page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aml_tool_core.profiling.sla import AT_LEAST
from aml_tool_core.report_page import Banner, Cell, Drawing, Section, Table, Text, Tile, Tone, render_page
from aml_tool_core.report_page.blocks import Measured
from aml_tool_core.report_page.charts import Axis, Chart, Series
from aml_tool_core.report_page.figures import Figure, escaped, figure, number
from aml_tool_core.report_page.scales import linear_ticks, log_ticks

from aml_tuner.deployment import FILE_NAME as DEPLOYMENT
from aml_tuner.summary import AXES, LATENCY, cost_axis, ranking
from aml_tuner.trial import said, shown

_THROUGHPUT = "succeeded_per_sec"
_TITLES = {
    "succeeded_per_sec": ("Good answers", "/s"),
    "requests_per_sec": ("Answers", "/s"),
    "latency_ms_50": ("p50", "ms"),
    "latency_ms_95": ("p95", "ms"),
    "latency_ms_99": ("p99", "ms"),
    "error_percent": ("Failed", "%"),
    "core_hour_per_million_requests": ("Core-hours per million requests", ""),
    "price_per_million_requests": ("Price per million requests", ""),
}

Trial = Mapping[str, Any]


def render_summary(document: Mapping[str, Any]) -> str:
    """Return the page of a valid summary.json."""
    trials = list(document["trials"])
    ranked = ranking(trials)
    sections = [_choice(document, trials), _tradeoffs(document, ranked), *_settings(document, ranked)]
    sections += [_top(document, trials), _gaps(document), _all(document, trials)]
    tool = document["tool"]
    tried = (
        f"{len(trials)} of {document['grid_size']} combinations, {document['strategy']} search, {document['profiler']}"
    )
    return render_page(
        title="What to deploy", subtitle=tried, sections=sections, generator=f"{tool['name']} {tool['version']}"
    )


def _choice(document: Mapping[str, Any], trials: Sequence[Trial]) -> Section:
    choice = document["choice"]
    if choice is None:
        reasons = [f"{shown(one['variant'])}: {_said(one)}" for one in trials[:10]]
        return Section("choice", "The choice", banners=[Banner(Tone.BAD, _nothing_words(document, trials), reasons)])
    index, best = next((i, one) for i, one in enumerate(trials) if one["id"] == choice["id"])
    tiles = _answer_tiles(document, index)
    names = [*document["objective"], _THROUGHPUT, LATENCY]
    cost = cost_axis([best])
    names += [cost] if cost else []
    for name in dict.fromkeys(names):
        found = figure(document, f"/trials/{index}/metrics/{escaped(name)}", _title(name)[1])
        if found is not None:
            tiles.append(Tile(_title(name)[0], Measured(found)))
    for name in best["accuracy"]:
        found = figure(document, f"/trials/{index}/accuracy/{escaped(name)}")
        if found is not None:
            tiles.append(Tile(name, Measured(found)))
    texts = [Text("To deploy it", choice["command"]), Text(DEPLOYMENT, choice["deployment_yml"])]
    return Section(
        "choice",
        "The choice",
        banners=[Banner(Tone.GOOD if best["valid"] else Tone.PLAIN, shown(best["variant"]))],
        intro=choice["why"],
        tiles=tiles,
        texts=texts,
    )


def _nothing_words(document: Mapping[str, Any], trials: Sequence[Trial]) -> str:
    """Return why there is no choice."""
    feasible = [one for one in trials if one["feasible"]]
    if feasible:
        unknown = [
            name for name in document["objective"] if any(one["metrics"].get(name, 0.0) <= 0 for one in feasible)
        ]
        return f"{', '.join(unknown)} is not known of any combination that keeps every constraint"
    if any(one.get("unconfirmed") is not None for one in trials):
        return "No combination is confirmed to keep every constraint"
    return "No combination keeps every constraint"


def _answer_tiles(document: Mapping[str, Any], index: int) -> list[Tile]:
    place = f"/trials/{index}/answer"
    found = figure(document, f"{place}/value")
    if found is None:
        return []
    low, high = (figure(document, f"{place}/interval/{side}") for side in (0, 1))
    axis = AXES[document["trials"][index]["answer"]["axis"]]
    has_interval = low is not None or high is not None
    return [
        Tile(
            f"Most {axis} that hold", Measured(found, low, high, has_interval, "95 % interval" if has_interval else "")
        )
    ]


def _tradeoffs(document: Mapping[str, Any], ranked: Sequence[Trial]) -> Section:
    """Draw p99 against cost, or throughput where no cost is known, each accuracy as a line of its own."""
    drawn = [one for one in ranked if LATENCY in one["metrics"]]
    return Section(
        "tradeoffs",
        "What one pays for what",
        intro=f"Every trial that keeps the constraints. No other beats {_front_words(document)} at once.",
        drawings=[_scatter(document, drawn, cost_axis(drawn) or _THROUGHPUT)] if drawn else [],
        absent=[] if drawn else [f"{_nothing_words(document, document['trials'])}."],
    )


def _front_words(document: Mapping[str, Any]) -> str:
    names = [_title(name)[0] if name in _TITLES else name for name in document["pareto_axes"]]
    axes = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"those on the front in {axes[0].lower() + axes[1:]}"


def _scatter(document: Mapping[str, Any], drawn: Sequence[Trial], across: str) -> Drawing:
    def point(one: Trial) -> tuple[float, float]:
        return float(one["metrics"][across]), float(one["metrics"][LATENCY])

    front = [one for one in drawn if one["id"] in document["pareto_front"]]
    chosen = [one for one in drawn if document["choice"] is not None and one["id"] == document["choice"]["id"]]
    others = [one for one in drawn if one not in front]
    series = [Series("other trials", [point(one) for one in others], 5, dots=True, line=False)] if others else []
    for style, known in enumerate(_accuracies(front)):
        alike = sorted(point(one) for one in front if one["accuracy"] == known)
        told = ", ".join(f"{name} {value:g}" for name, value in known.items())
        series.append(Series(f"front{told and f' at {told}'}", alike, style % 4, dots=True, line=len(alike) > 1))
    series.append(Series("the choice", [point(one) for one in chosen], 4, dots=True, line=False))
    title, unit = _title(across)
    name = f"{title}, {unit}" if unit else title
    points = [point(one) for one in drawn]
    rows: list[list[Cell]] = [
        [shown(one["variant"]), _plain(x), _plain(y)] for one, (x, y) in zip(drawn, points, strict=True)
    ]
    chart = Chart(
        "p99-and-cost",
        f"p99 against {title[0].lower()}{title[1:]}",
        f"{len(drawn)} trials, {len(front)} on the front",
        series,
        Axis(_ticks([x for x, _ in points])),
        Axis(log_ticks(min(y for _, y in points), max(y for _, y in points)), logarithmic=True),
        name,
        "p99, ms",
    )
    return Drawing(chart, Table(f"p99 against {name}", ("Trial", name, "p99, ms"), rows))


def _accuracies(trials: Sequence[Trial]) -> list[Mapping[str, float]]:
    """Return the accuracies that occur, the highest first."""
    found: list[Mapping[str, float]] = []
    for one in trials:
        if one["accuracy"] not in found:
            found.append(one["accuracy"])
    return sorted(found, key=lambda each: tuple(each.values()), reverse=True)


def _ticks(values: Sequence[float]) -> list[float]:
    """Return ticks that enclose the values: from 0, unless they lie close together far from it."""
    low, high = min(values), max(values)
    if low > 0.5 * high and high > low:
        step = linear_ticks(high - low)[1]
        first = int(low / step) * step
        return [round(first + step * index, 12) for index in range(int((high - first) / step) + 2)]
    return linear_ticks(high)


def _settings(document: Mapping[str, Any], ranked: Sequence[Trial]) -> list[Section]:
    """Draw, for each setting with an order, the best that was reached at each of its values."""
    names = [name for name in document["objective"] if any(name in one["metrics"] for one in ranked)]
    if not names or not ranked:
        return []
    main = names[0]
    better = max if main in AT_LEAST else min
    rows: list[list[Cell]] = []
    for setting, values in document["parameters"].items():
        if len(values) < 2:
            continue
        for value in values:
            found = [
                one["metrics"][main] for one in ranked if one["variant"][setting] == value and main in one["metrics"]
            ]
            rows.append([f"{setting} {value}", _plain(better(found)) if found else "no trial", str(len(found))])
    title, unit = _title(main)
    table = Table(
        "The best of the trials at each value", ("Setting", f"{title}{f', {unit}' if unit else ''}", "Trials"), rows
    )
    return [Section("settings", "Setting by setting", tables=[table])]


def _top(document: Mapping[str, Any], trials: Sequence[Trial]) -> Section:
    by_id = {one["id"]: one for one in trials}
    metrics = _columns(document, [by_id[key] for key in document["top"]])
    rows = [_row(document, by_id[key], metrics) for key in document["top"]]
    tones = [Tone.GOOD if position == 0 else Tone.PLAIN for position in range(len(rows))]
    header = _head(document, metrics)
    tables = [Table(f"The best {len(rows)}", header, rows, tones)] if rows else []
    return Section("top", "The best", tables=tables, absent=[] if rows else [f"{_nothing_words(document, trials)}."])


def _columns(document: Mapping[str, Any], trials: Sequence[Trial]) -> list[str]:
    wanted = [*document["objective"], _THROUGHPUT, LATENCY, *document["constraints"]]
    cost = cost_axis(trials)
    return list(dict.fromkeys([*wanted, *([cost] if cost else [])]))


def _row(document: Mapping[str, Any], one: Trial, metrics: Sequence[str]) -> list[Cell]:
    found = {**one["accuracy"], **one["metrics"]}
    cells: list[Cell] = [_plain(found[name]) if name in found else "not known" for name in metrics]
    if _is_searched(document):
        cells.insert(0, f"{one['answer']['value']:g} {AXES[one['answer']['axis']]}" if "answer" in one else "none")
    # What a reader looks for first stands where no narrow window cuts it off; it may be long, the figures are not.
    return [shown(one["variant"]), _said(one), *cells]


def _head(document: Mapping[str, Any], metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the head of a table of trials."""
    searched = ["Largest load found"] if _is_searched(document) else []
    return ("Variant", "May be believed", *searched, *map(_header, metrics))


def _is_searched(document: Mapping[str, Any]) -> bool:
    return any("answer" in one for one in document["trials"])


def _said(one: Trial) -> str:
    if told := said(one):
        return told
    if one["valid"]:
        return "yes"
    first, *others = one["reasons"]
    more = f" (and {len(others)} more, in its report.html)" if others else ""
    return f"no: {first}{more}"


def _gaps(document: Mapping[str, Any]) -> Section:
    return Section("gaps", "What was not measured", absent=[f"{_capital(one)}." for one in document["not_measured"]])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _all(document: Mapping[str, Any], trials: Sequence[Trial]) -> Section:
    metrics = _columns(document, [one for one in trials if one["error"] is None])
    rows = [_row(document, one, metrics) for one in trials]
    tones = [Tone.PLAIN if one["feasible"] else Tone.BAD for one in trials]
    table = Table("All trials, as they ended", _head(document, metrics), rows, tones)
    return Section("trials", "All trials", tables=[table])


def _title(name: str) -> tuple[str, str]:
    return _TITLES.get(name, (name, ""))


def _header(name: str) -> str:
    title, unit = _title(name)
    return f"{title}, {unit}" if unit else title


def _plain(value: float) -> Figure:
    return Figure(value, "", number(value))
