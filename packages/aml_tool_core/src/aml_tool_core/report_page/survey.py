"""The sections of a sweep or a search: the answer, the picture of all runs, and the runs as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aml_tool_core.report_page.blocks import Banner, Cell, Drawing, Measured, Section, Table, Tile, Tone
from aml_tool_core.report_page.charts import Axis, Chart, Point, Series
from aml_tool_core.report_page.figures import Figure, at, figure, number
from aml_tool_core.report_page.scales import linear_ticks, log_ticks

Document = Mapping[str, Any]
Run = Mapping[str, Any]

_P99 = "/latency_ms/percentiles/99/value"
_PERCENTILES = ("50", "95", "99")
_LATENCY = "latency_ms_"
_LOG_FROM_RATIO = 12.0
_SMALLEST_MS = 1e-3
_AXES = {"target_rps": "requests/s", "connections": "connections", "payload_class": "payload class"}
_PURPOSES = {"point": "point", "probe": "probe", "confirmation": "confirmation"}


def survey_sections(report: Document) -> list[Section]:
    """Return the sections; none of a report of a single load."""
    if "runs" not in report:
        return []
    first = _search(report) if "search" in report else _sweep(report)
    return [first, _all_runs(report)]


def about_words(report: Document) -> str:
    """Return which of the runs the rest of the page is about; nothing where there is one."""
    if "runs" not in report:
        return ""
    return (
        f"From here on this page is about run {report['about_run']} of {len(report['runs'])}: {_load(_about(report))}."
    )


def _about(report: Document) -> Run:
    return _run(report, report["about_run"])


def _run(report: Document, wanted: int) -> Run:
    found: Run = next(run for run in report["runs"] if run["number"] == wanted)
    return found


def _load(run: Run) -> str:
    load = run["load"]
    sender = "client" if load.get("schedule") == "clock" else "connection"
    words = f"{load['connections']} {sender}{'' if load['connections'] == 1 else 's'}"
    if "target_rps" in load:
        words = f"{number(load['target_rps'])} requests/s, {words}"
    name = load.get("payload", {}).get("class")
    return words if name is None else f"{words}, payload class {name}"


def _search(report: Document) -> Section:
    search, answer = report["search"], report["search"]["answer"]
    unit = "/s" if search["axis"] == "target_rps" else _AXES[search["axis"]]
    reason = f"{search['reason'][0].upper()}{search['reason'][1:]}."
    if answer is None:
        miss = search.get("nearest_miss")
        near = [] if miss is None else [f"Nearest miss, run {miss['run']}: {one}" for one in miss["misses"]]
        banner = Banner(Tone.BAD, "No load was found that holds", [reason, *near])
        return Section("answer", "Answer", banners=[banner], tables=[_limits(report)])
    value = figure(report, "/search/answer/value", unit)
    assert value is not None, "the schema requires it"
    low, high = (figure(report, f"/search/answer/interval/{index}", unit) for index in (0, 1))
    confirmed = answer["confirmed"]
    banner = Banner(
        Tone.GOOD if confirmed else Tone.BAD,
        f"{value.text} holds" if confirmed else f"{value.text} held; it is not confirmed",
        [reason],
    )
    tiles = [
        Tile("Largest load that holds", Measured(value, remark=f"run {answer['run']} of {len(report['runs'])}")),
        Tile("95 % interval", _interval(low, high)),
        *_knee_tiles(report),
    ]
    intro = (
        "The largest load that keeps every limit, from all runs together; the interval is where it lies with 95 % "
        "probability. A confirmation is a run of full length."
    )
    return Section(
        "answer", "Answer", intro=intro, banners=[banner], tiles=tiles, drawings=_pictures(report),
        tables=[_limits(report)],
    )  # fmt: skip


def _interval(low: Figure | None, high: Figure | None) -> Measured | str:
    if low is None and high is None:
        return "not known"
    if low is None or high is None:
        bound = low or high
        assert bound is not None
        return Measured(bound, remark="or more" if high is None else "or less")
    return Measured(low, remark=f"to {high.text}")


def _limits(report: Document) -> Table:
    limits = report["search"]["constraints"]
    rows: list[list[Cell]] = [[name, figure(report, f"/search/constraints/{name}") or "none"] for name in limits]
    return Table("Limits", ("Metric", "Limit"), rows)


def _sweep(report: Document) -> Section:
    banners, tiles = [], []
    for choice in report["choices"]:
        of_class = f" of {choice['payload_class']}" if "payload_class" in choice else ""
        if choice["best"] is None:
            why = choice.get("reason", f"no run{of_class} keeps every demand")
            banners.append(Banner(Tone.BAD, why.replace("no run", "No run", 1) if why.startswith("no run") else why))
            continue
        best = _run(report, choice["best"])
        words = f"Best{of_class}: run {best['number']}, {_load(best)}"
        banners.append(Banner(Tone.GOOD, words, [f"{choice['objective']} is best among the runs that hold."]))
    if failures := report.get("failures", ()):
        points = f"{len(failures)} point{'' if len(failures) == 1 else 's'}"
        banners.append(Banner(Tone.BAD, f"{points} could not be measured", [_failure(report, one) for one in failures]))
    tiles += _knee_tiles(report)
    axes = report["sweep"]["axes"]
    varied = "; ".join(f"{_AXES[name]}: {', '.join(_value(one) for one in values)}" for name, values in axes.items())
    return Section(
        "answer", "Best", intro=f"Swept: {varied}.", banners=banners, tiles=tiles, drawings=_pictures(report)
    )


def _failure(report: Document, failure: Mapping[str, Any]) -> str:
    payload = {"payload": {"class": failure["payload_class"]}} if "payload_class" in failure else {}
    load = {**failure, **payload, "schedule": report["load"]["schedule"]}
    return f"{_load({'load': load})}: {failure['reason']}"


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


def _knee_tiles(report: Document) -> list[Tile]:
    tiles = []
    for index, choice in enumerate(report["choices"]):
        label = f"Knee, {choice['payload_class']}" if "payload_class" in choice else "Knee"
        place = f"/choices/{index}/knee"
        rate = figure(report, f"{place}/requests_per_sec", "/s")
        if rate is None:
            tiles.append(Tile(label, "none: the curve of rate and p99 has too few points, or no bend"))
            continue
        p99 = figure(report, f"{place}/latency_ms_99", "ms")
        assert p99 is not None, "the schema requires it"
        remark = f"p99 {p99.text}, run {choice['knee']['run']}; beyond it, more throughput costs much latency"
        tiles.append(Tile(label, Measured(rate, remark=remark)))
    return tiles


def _pictures(report: Document) -> list[Drawing]:
    drawings = [_picture(report, index) for index in range(len(report["choices"]))]
    return [drawing for drawing in drawings if drawing is not None]


def _picture(report: Document, index: int) -> Drawing | None:
    """Draw throughput against p99: all runs, the front, the knee, and the answer or the best."""
    choice = report["choices"][index]
    name = choice.get("payload_class")
    runs = [run for run in report["runs"] if run["load"].get("payload", {}).get("class") == name]
    drawn = [run for run in runs if at(run["result"], _P99) is not None]
    if not drawn:
        return None
    places = {run["number"]: (run["result"]["succeeded_per_sec"], at(run["result"], _P99)) for run in drawn}
    holding = [run for run in drawn if run["feasible"]]
    failing = [run for run in drawn if run["usable"] and not run["feasible"]]
    mute = [run for run in drawn if not run["usable"]]
    series = [
        Series("Pareto front", _points(places, choice["pareto_front"]), 5),
        Series("Holds", _points(places, [run["number"] for run in holding]), 2, dots=True, line=False),
        Series("Does not hold", _points(places, [run["number"] for run in failing]), 1, dots=True, line=False),
        Series("Says nothing", _points(places, [run["number"] for run in mute]), 0, dots=True, line=False),
    ]
    if choice["knee"] is not None:
        series.append(Series("Knee", _points(places, [choice["knee"]["run"]]), 3, dots=True, line=False))
    if choice["best"] is not None:
        label = "Answer" if "search" in report else "Best"
        series.append(Series(label, _points(places, [choice["best"]]), 4, dots=True, line=False))
    rates, latencies = zip(*places.values(), strict=True)
    low, high = max(min(latencies), _SMALLEST_MS), max(latencies)
    limit = _limit(report)
    top = max(rates)
    if limit is not None:
        low, high = min(low, limit), max(high, limit)
        series.insert(0, Series("Limit", [(0.0, limit), (linear_ticks(top)[-1], limit)], 1))
    is_wide = high / low > _LOG_FROM_RATIO
    of_class = "" if name is None else f", {name}"
    chart = Chart(
        key=f"survey-{index}",
        title=f"Throughput and p99{of_class}",
        summary="Each dot is a run: to the right more good answers per second, upwards a longer p99.",
        series=[one for one in series if one.points],
        x=Axis(linear_ticks(top)),
        y=Axis(log_ticks(low, high) if is_wide else linear_ticks(high), logarithmic=is_wide),
        x_title="good answers per second",
        y_title="p99, ms, logarithmic" if is_wide else "p99, ms",
    )
    return Drawing(chart, _picture_table(chart.title, drawn, choice))


def _limit(report: Document) -> float | None:
    """Return the limit of what is drawn, where there is one."""
    criteria: Sequence[Mapping[str, Any]] = report.get("sla", {}).get("criteria", ())
    return next((one["limit"] for one in criteria if one["metric"] == "latency_ms_99" and one["limit"] > 0), None)


def _points(places: Mapping[int, Point], numbers: Sequence[int]) -> list[Point]:
    return [places[one] for one in numbers if one in places]


def _picture_table(caption: str, runs: Sequence[Run], choice: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            f"run {run['number']}",
            number(run["result"]["succeeded_per_sec"]),
            number(at(run["result"], _P99)),
            ", ".join(_marks(run, choice)) or "beaten by another",
        ]
        for run in sorted(runs, key=lambda run: float(run["result"]["succeeded_per_sec"]))
    ]
    return Table(caption, ("Run", "Good answers/s", "p99, ms", "What it is"), rows)


def _marks(run: Run, choice: Mapping[str, Any]) -> list[str]:
    marks = []
    if run["number"] == choice["best"]:
        marks.append("best")
    if choice["knee"] is not None and run["number"] == choice["knee"]["run"]:
        marks.append("knee")
    if run["number"] in choice["pareto_front"]:
        marks.append("on the front")
    return marks


def _all_runs(report: Document) -> Section:
    has_search = "search" in report
    rows: list[list[Cell]] = []
    tones = []
    demanded = _demanded(report)
    for index, run in enumerate(report["runs"]):
        place = f"/runs/{index}"
        purpose = f", {_PURPOSES[run['purpose']]}" if has_search else ""
        rows.append(
            [
                f"{run['number']}{purpose}",
                _load(run),
                figure(report, f"{place}/load/duration_sec", "s") or "",
                figure(report, f"{place}/result/succeeded_per_sec", "/s") or "",
                *(_percentile(report, f"{place}/result/latency_ms/percentiles/{name}") for name in _PERCENTILES),
                *(_demanded_figure(report, index, metric) for metric in demanded),
                _outcome(run),
            ]
        )
        tones.append(Tone.GOOD if run["feasible"] else Tone.BAD)
    percentiles = [f"p{name}" for name in (*_PERCENTILES, *(one.removeprefix(_LATENCY) for one in demanded))]
    header = ("Run", "Load", "Length", "Good answers", *percentiles, "Outcome")
    return Section("runs", "All runs", intro=about_words(report), tables=[Table("All runs", header, rows, tones)])


def _percentile(report: Document, place: str) -> Cell:
    value = figure(report, f"{place}/value", "ms")
    if value is None:
        return "not measured"
    return value if at(report, f"{place}/certified") else Measured(value, remark="too few requests to be certain")


def _demanded(report: Document) -> list[str]:
    """Return the percentiles of the latency that are demanded, as metrics, other than those that are shown anyway."""
    metrics = (one["metric"] for run in report["runs"] for one in run.get("sla", {}).get("criteria", ()))
    shown = {f"{_LATENCY}{name}" for name in (*_PERCENTILES, "mean", "max")}
    return [one for one in dict.fromkeys(metrics) if one.startswith(_LATENCY) and one not in shown]


def _demanded_figure(report: Document, index: int, metric: str) -> Cell:
    criteria = report["runs"][index].get("sla", {}).get("criteria", ())
    places = [number for number, one in enumerate(criteria) if one["metric"] == metric]
    found = [figure(report, f"/runs/{index}/sla/criteria/{number}/value", "ms") for number in places]
    return next(iter(found), None) or "not known"


def _outcome(run: Run) -> str:
    if not run["usable"]:
        unknown = [
            f"{one['metric']} is not known" for one in run.get("sla", {}).get("criteria", ()) if one["value"] is None
        ]
        because = [*run["verdict"]["reasons"], *unknown] or ["the load generator lost too much time"]
        return f"says nothing: {'; '.join(because)}"
    if run["feasible"]:
        return "holds"
    missed = [one["metric"] for one in run.get("sla", {}).get("criteria", ()) if not one["met"]]
    why = ", ".join(missed) or "; ".join(run["verdict"]["reasons"]) or "the load was not carried"
    return f"does not hold: {why}"
