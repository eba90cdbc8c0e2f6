"""The page of one report: what is said in which order. A part that the report does not have says why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aml_tool_core.report_page import time_charts
from aml_tool_core.report_page.blocks import Banner, Cell, Drawing, Measured, Section, Table, Tile, Tone
from aml_tool_core.report_page.charts import Point
from aml_tool_core.report_page.curve import decoded
from aml_tool_core.report_page.figures import Figure, at, cost_words, escaped, figure, flattened, number
from aml_tool_core.report_page.page import render_page
from aml_tool_core.report_page.percentile_chart import percentile_drawing
from aml_tool_core.report_page.survey import survey_sections

Document = Mapping[str, Any]

LATENCIES = {"latency_ms": "Latency", "service_time_ms": "Service time"}
_TILE_PERCENTILES = ("50", "95", "99")
_SPREAD = ("minimum", "median", "maximum")
_ERROR_KINDS = {
    "connect": "Could not connect",
    "read": "Connection failed while reading",
    "write": "Connection failed while writing",
    "timeout": "No answer in time",
}
_ORIGINS = {
    "/version": "report version",
    "/started_at": "started at",
    "/tool": "tool",
    "/provenance": "",
    "/result/duration_sec": "duration in seconds",
    "/result/bytes_read": "bytes read",
    "/result/bytes_written": "bytes written",
    "/result/requests": "requests",
    "/result/schedule": "schedule",
    "/result/generator": "generator",
    "/cost": "cost",
}
_PHRASES = {200: "OK", 400: "bad request", 401: "not authorized", 403: "forbidden", 404: "not found",
            408: "request timed out", 413: "too large", 424: "the model failed", 429: "concurrency limit reached",
            500: "server error", 502: "bad gateway", 503: "not available", 504: "gateway timed out"}  # fmt: skip


def render_report(report: Document) -> str:
    """Return report.html's text for a report that satisfies its schema."""
    tool = report["tool"]
    target = report["target"]
    subtitle = f"{target.get('deployment_name') or target['scoring_uri']}, {moment(report['started_at'])}"
    return render_page(
        title=f"{tool['name']} report",
        subtitle=subtitle,
        sections=sections(report),
        generator=f"{tool['name']} {tool['version']}",
    )


def moment(text: str) -> str:
    """Return an RFC 3339 time in UTC as a person reads it: `2026-03-14 09:26:53 UTC`."""
    return f"{text[:10]} {text[11:19]} UTC"


def sections(report: Document) -> list[Section]:
    """Return the page's sections in their order."""
    return [
        *survey_sections(report),
        _verdict(report),
        _figures(report),
        *_repeats(report),
        _latency(report),
        time_charts.timeline(report),
        time_charts.resource_usage(report),
        _status(report),
        *_nodes(report),
        _configuration(report),
        _provenance(report),
    ]


def _nodes(report: Document) -> list[Section]:
    """Return the section on the nodes that made the load together; none where one machine made it."""
    nodes = report.get("nodes", ())
    if not nodes:
        return []
    keys = {
        "connections": ("Connections", ""),
        "target_rps": ("Requests per second asked for", ""),
        "sent": ("Sent", ""),
        "completed": ("Answered", ""),
        "succeeded": ("Good", ""),
        "clock_error_ms": ("Clock known to", "ms"),
        "clock_drift_ms": ("Clock drift", "ms"),
    }
    known = [key for key in keys if any(key in node for node in nodes)]
    rows: list[list[Cell]] = [
        [f"node {node['rank']}", *(figure(report, f"/nodes/{index}/{key}", keys[key][1]) or "none" for key in known)]
        for index, node in enumerate(nodes)
    ]
    table = Table("What each node did", ("Node", *(keys[key][0] for key in known)), rows)
    intro = "Several machines made this load together; the figures above are of all of them."
    return [Section("nodes", "Nodes", intro=intro, tables=[table])]


def _verdict(report: Document) -> Section:
    verdict = report["verdict"]
    banners = [
        Banner(Tone.GOOD, "Valid: this run may be believed")
        if verdict["valid"]
        else Banner(Tone.BAD, "Not valid: do not draw conclusions from this run", verdict["reasons"])
    ]
    sla = report.get("sla")
    tables, absent = [], []
    if sla is None:
        absent.append("No SLA was set: the configuration has no sla, so there is nothing to meet or to miss.")
    else:
        banners.append(Banner(Tone.GOOD, "SLA met") if sla["met"] else Banner(Tone.BAD, "SLA missed"))
        tables.append(_criteria(report))
    if verdict.get("notes"):
        banners.append(Banner(Tone.PLAIN, "To be kept in mind", verdict["notes"]))
    return Section("verdict", "Verdict", banners=banners, tables=tables, absent=absent)


def _criteria(report: Document) -> Table:
    rows: list[list[Cell]] = []
    tones = []
    for index, criterion in enumerate(report["sla"]["criteria"]):
        place = f"/sla/criteria/{index}"
        rows.append(
            [
                str(criterion["metric"]),
                figure(report, f"{place}/limit") or "none",
                figure(report, f"{place}/value") or ": ".join(["not known", *filter(None, [criterion.get("reason")])]),
                _outcome(criterion),
            ]
        )
        tones.append(Tone.GOOD if criterion["met"] else Tone.BAD)
    return Table("SLA criteria", ("Metric", "Limit", "Measured", "Outcome"), rows, tones)


def _outcome(criterion: Mapping[str, Any]) -> str:
    said = "met" if criterion["met"] else "missed"
    return f"{said}; more requests are needed to certify it" if criterion.get("certified") is False else said


def _figures(report: Document) -> Section:
    tiles = [
        Tile(f"Latency p{name}", percentile(report, f"/result/latency_ms/percentiles/{name}", name) or "not measured")
        for name in _TILE_PERCENTILES
    ]
    tiles += [_rate_tile(report), *_request_tiles(report), *_cost_tiles(report)]
    absent = []
    if at(report, "/result/latency_ms") is None:
        absent.append("There is no latency: no request was answered.")
    open_loop = at(report, "/load/model") == "open"
    counted = "from the moment a request was due" if open_loop else "from the moment a request was sent"
    intro = f"Latency counts {counted}. Small print: the 95 % confidence interval of each percentile."
    return Section("figures", "Figures", intro=intro, tiles=tiles, absent=absent)


def percentile(report: Document, place: str, name: str, unit: str = "ms") -> Measured | None:
    """Return a percentile with its interval; one that is not certified says how many requests it needs."""
    value = figure(report, f"{place}/value", unit)
    if value is None:
        return None
    needed = math.ceil(math.log(0.05) / math.log(float(name) / 100))
    certified = at(report, f"{place}/certified")
    return Measured(
        value,
        low=figure(report, f"{place}/ci95/0", unit if at(report, f"{place}/ci95/1") is None else ""),
        high=figure(report, f"{place}/ci95/1", unit),
        has_interval=True,
        remark="" if certified else f"not certified: needs {needed:,} requests",
    )


def _rate_tile(report: Document) -> Tile:
    achieved = _required(report, "/result/requests_per_sec", "/s")
    asked = at(report, "/load/target_rps")
    remark = "closed loop: no rate was asked for" if asked is None else f"of {asked:g}/s asked for"
    return Tile("Rate achieved", Measured(achieved, remark=remark))


def _request_tiles(report: Document) -> list[Tile]:
    errors = at(report, "/result/errors")
    sent = at(report, "/result/requests/sent")
    status = errors.get("status", {})
    refused = status.get("429", 0)
    failed = time_charts.wrong_of(errors) - refused
    good = _required(report, "/result/requests/succeeded")
    return [
        Tile("Good answers", Measured(good, remark=f"of {sent:,} sent")),
        Tile("Failures", Measured(_derived(failed), remark=_share(failed, sent))),
        Tile("Refused with 429", Measured(_derived(refused), remark=f"{_share(refused, sent)}; no failures"))
        if "status" in errors
        else Tile("Refused with 429", "not known: this engine does not tell status codes apart"),
    ]


def _cost_tiles(report: Document) -> list[Tile]:
    reason = at(report, "/cost/reason")
    tiles = []
    for key in report["cost"]:
        if key not in ("vcpus_per_instance", "reason"):
            found = figure(report, f"/cost/{key}")
            unknown = f"not known: {reason}" if reason else "not known"
            tiles.append(Tile(cost_words(key), Measured(found) if found else unknown))
    return tiles


def _repeats(report: Document) -> list[Section]:
    """Return what the runs of a repeated measurement gave; nothing where it was one run."""
    repeats = at(report, "/result/repeats")
    if not repeats:
        return []
    rows: list[list[Cell]] = []
    for index in range(len(repeats)):
        place = f"/result/repeats/{index}"
        rows.append(
            [
                str(index + 1),
                *(
                    figure(report, f"{place}/latency_ms/percentiles/{name}/value", "ms") or "not measured"
                    for name in _TILE_PERCENTILES
                ),
                figure(report, f"{place}/requests_per_sec", "/s") or "not measured",
            ]
        )
    header = ("Run", *(f"p{name}" for name in _TILE_PERCENTILES), "Rate")
    spread: Document = at(report, "/result/spread") or {}
    spread_rows: list[list[Cell]] = [
        [
            metric,
            *(figure(report, f"/result/spread/{escaped(metric)}/{key}") or "none" for key in _SPREAD),
        ]
        for metric in spread
    ]
    intro = (
        "The measurement was repeated, and all runs are taken together in the figures of this page. How far the runs "
        "lie apart is the measurement's noise."
    )
    tables = [Table("Each run", header, rows)]
    if spread_rows:
        tables.append(Table("Spread between the runs", ("Metric", "Smallest", "Median", "Largest"), spread_rows))
    return [Section("repeats", "Repeated runs", intro=intro, tables=tables)]


def _latency(report: Document) -> Section:
    present = [key for key in LATENCIES if at(report, f"/result/{key}") is not None]
    if not present:
        return Section("latency", "Latency by percentile", absent=["No request was answered, so there is no latency."])
    absent = []
    if "service_time_ms" not in present:
        absent.append(
            "Service time is not listed apart: in a closed loop a request is sent when it is due, so both are the same."
            if at(report, "/load/model") == "closed"
            else "Service time is not there: this engine does not report it."
        )
    intro = (
        "Latency counts from the moment a request was due, service time from the moment it was really sent: what lies "
        "between them is time spent waiting to be sent."
        if len(present) == 2
        else ""
    )
    names = list(at(report, f"/result/{present[0]}/percentiles"))
    rows: list[list[Cell]] = [
        [
            f"p{name}",
            *(
                percentile(report, f"/result/{key}/percentiles/{escaped(name)}", name) or "not measured"
                for key in present
            ),
        ]
        for name in names
    ]
    for entry, label in (("min", "Smallest"), ("mean", "Mean"), ("stdev", "Standard deviation"), ("max", "Largest")):
        rows.append([label, *(figure(report, f"/result/{key}/{entry}", "ms") or "not measured" for key in present)])
    table = Table("Percentiles with their 95 % intervals", ("Statistic", *(LATENCIES[key] for key in present)), rows)
    return Section(
        "latency",
        "Latency by percentile",
        intro=intro,
        drawings=_curves(report, present),
        tables=[table],
        absent=absent,
    )


def _curves(report: Document, present: Sequence[str]) -> list[Drawing]:
    histograms = {}
    for key in present:
        place = f"/result/histogram/{key.removesuffix('_ms')}"
        encoded = at(report, place)
        if encoded is not None:
            histograms[LATENCIES[key]] = decoded(encoded, place)
    if not histograms:
        return []
    total = max(histogram.total for histogram in histograms.values())
    return [percentile_drawing(histograms, *_markers(report, present[0], total))]


def _markers(report: Document, key: str, total: int) -> tuple[list[Point], list[Point]]:
    """Return the listed percentiles as dots, and their intervals as upright lines (None ends each)."""
    dots: list[Point] = []
    intervals: list[Point] = []
    for name, entry in at(report, f"/result/{key}/percentiles").items():
        x = 1 / (1 - float(name) / 100)
        if x > total:
            continue
        dots.append((x, entry["value"]))
        low, high = entry["ci95"]
        if low is not None and high is not None:
            intervals += [(x, low), (x, high), (x, None)]
    return dots, intervals


def _status(report: Document) -> Section:
    errors = at(report, "/result/errors")
    rows: list[list[Cell]] = [["Good answers (2xx)", _required(report, "/result/requests/succeeded")]]
    tones = [Tone.GOOD if at(report, "/result/requests/succeeded") else Tone.BAD]
    absent = []
    for code in sorted(errors.get("status", {}), key=int):
        meaning = _PHRASES.get(int(code))
        label = f"{code}, {meaning}" if meaning else str(code)
        rows.append([label, _required(report, f"/result/errors/status/{escaped(code)}")])
        tones.append(Tone.BAD if errors["status"][code] and code != "429" else Tone.PLAIN)
    if "status" not in errors:
        rows.append(["Answers that were not 2xx", _required(report, "/result/errors/unknown_status")])
        tones.append(Tone.BAD if errors.get("unknown_status") else Tone.PLAIN)
        absent.append("This engine does not tell status codes apart.")
    elif not errors["status"]:
        absent.append("Every answer was a good one.")
    for kind, label in _ERROR_KINDS.items():
        found = figure(report, f"/result/errors/{kind}")
        if found is not None:
            rows.append([label, found])
            tones.append(Tone.BAD if found.value else Tone.PLAIN)
    table = Table("Answers and errors", ("Outcome", "Requests"), rows, tones)
    return Section("status", "Status codes and errors", tables=[table], absent=absent)


def _configuration(report: Document) -> Section:
    load: list[list[Cell]] = [[name, entry] for name, entry in flattened(report, "/load")]
    target: list[list[Cell]] = [[name, entry] for name, entry in flattened(report, "/target")]
    tables = [Table("Load", ("Setting", "Value"), load), Table("Target", ("Setting", "Value"), target)]
    return Section("configuration", "Configuration", tables=tables)


def _provenance(report: Document) -> Section:
    rows: list[list[Cell]] = []
    for place, heading in _ORIGINS.items():
        rows += [[f"{heading} {name}".strip().replace("_", " "), entry] for name, entry in flattened(report, place)]
    absent = []
    if at(report, "/provenance/model_sha256") is None:
        absent.append("The deployment does not carry the hash of its model, so this report is not tied to one.")
    return Section(
        "provenance", "Provenance", tables=[Table("Origin and counts", ("Entry", "Value"), rows)], absent=absent
    )


def _required(report: Document, pointer: str, unit: str = "") -> Figure:
    found = figure(report, pointer, unit)
    assert found is not None, f"{pointer}: the schema requires it"
    return found


def _derived(value: int) -> Figure:
    """Return a figure that the report does not hold as such."""
    return Figure(value, "", f"{value:,}")


def _share(part: int, whole: int) -> str:
    return f"{number(100 * part / whole)} % of requests" if whole else "nothing was sent"
