"""The end of a run on the terminal: a plain aligned table, on stderr because stdout is for programs' own data."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from aml_tool_core import logs
from aml_tool_core.profiling import survey_summary

_GREEN, _RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"
_SHOWN_PERCENTILES = ("50", "90", "95", "99", "99.9")
_UNCERTAIN = "  * more requests are needed to certify this percentile"


def show(document: dict[str, Any]) -> None:
    """Write the summary of a report to stderr, with colour on a terminal only (and NO_COLOR respected)."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    sys.stderr.write(logs.redacted("\n".join(text(document, colour=colour)) + "\n"))


def text(document: dict[str, Any], *, colour: bool = False) -> list[str]:
    """Return the summary's lines."""
    rows = [*_load_rows(document), *_result_rows(document["result"]), *_cost_rows(document["cost"])]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    return [
        "",
        *lines,
        *_latency_lines(document["result"]),
        *_verdict_lines(document["verdict"], colour),
        *_sla_lines(document, colour),
        *_survey_lines(document),
        "",
    ]


def _load_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    load, engine = document["load"], document["tool"]["engine"]
    rate = f", {load['target_rps']:g} requests/s asked for" if "target_rps" in load else ""
    sender = "client" if load.get("schedule") == "clock" else "connection"
    senders = f"{load['connections']} {sender}{'' if load['connections'] == 1 else 's'}"
    return [
        ("target", document["target"]["scoring_uri"]),
        ("load", f"{load['model']} loop, {senders}, {load['duration_sec']} s{rate}"),
        ("engine", f"{engine['name']} {engine['version']}"),
    ]


def _result_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    requests, errors = result["requests"], result["errors"]
    rows = [
        ("requests/s", f"{result['requests_per_sec']:.2f}, of them good {result['succeeded_per_sec']:.2f}"),
        ("requests", f"{requests['sent']} sent, {requests['completed']} answered, {requests['succeeded']} good"),
    ]
    wrong = {kind: errors[kind] for kind in ("connect", "read", "write", "timeout")}
    wrong |= {f"status {code}": count for code, count in errors.get("status", {}).items()}
    wrong["status not 2xx"] = errors.get("unknown_status", 0)
    rows.append(("errors", ", ".join(f"{kind} {count}" for kind, count in wrong.items() if count) or "none"))
    if "schedule" in result:
        schedule = result["schedule"]
        kept = f"{schedule['timely_sends_percent']:.2f} % ({schedule['late']} late, {schedule['missed']} never)"
        rows.append(("timely sends", kept))
    return rows


def _cost_rows(cost: dict[str, Any]) -> list[tuple[str, str]]:
    figure = cost["core_hour_per_million_requests"]
    rows = [("core-hours per million requests", f"not known: {cost['reason']}" if figure is None else f"{figure:.3f}")]
    if cost.get("price_per_million_requests") is not None:
        rows.append(("price per million requests", f"{cost['price_per_million_requests']:.4f}"))
    return rows


def _latency_lines(result: dict[str, Any]) -> list[str]:
    names = {"latency_ms": "latency, ms", "service_time_ms": "service time, ms"}
    kinds = [(title, result[key]) for key, title in names.items() if key in result]
    if not kinds:
        return ["", "  no latency: nothing was answered"]
    head = ["", "mean", *(f"p{percent}" for percent in _SHOWN_PERCENTILES), "max"]
    rows = [[title, *_latency_figures(latency)] for title, latency in kinds]
    footnote = [_UNCERTAIN] if _uncertain(kinds) else []
    return ["", *_aligned([head, *rows]), *footnote]


def _latency_figures(latency: dict[str, Any]) -> list[str]:
    percentiles = latency["percentiles"]
    shown = [f"{percentiles[p]['value']:.3f}{'' if percentiles[p]['certified'] else '*'}" for p in _SHOWN_PERCENTILES]
    return [f"{latency['mean']:.3f}", *shown, f"{latency['max']:.3f}"]


def _uncertain(kinds: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    return any(not latency["percentiles"][p]["certified"] for _, latency in kinds for p in _SHOWN_PERCENTILES)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(f"{cell:{'>' if column else '<'}{widths[column]}}" for column, cell in enumerate(row))
            for row in rows]  # fmt: skip


def _coloured(word: str, good: bool, colour: bool) -> str:
    return f"{_GREEN if good else _RED}{word}{_PLAIN}" if colour else word


def _sla_lines(document: dict[str, Any], colour: bool) -> list[str]:
    if "sla" not in document:
        return []
    criteria = document["sla"]["criteria"]
    head = ["SLA", "limit", "measured", ""]
    rows = [
        [
            each["metric"],
            f"{each['limit']:g}",
            _measured(each),
            _coloured("met" if each["met"] else "MISSED", each["met"], colour),
        ]
        for each in criteria
    ]
    reasons = [f"  {each['metric']}: {each['reason']}" for each in criteria if "reason" in each]
    footnote = [_UNCERTAIN] if any(each.get("certified") is False for each in criteria) else []
    return ["", *_aligned([head, *rows]), *reasons, *footnote]


def _measured(criterion: dict[str, Any]) -> str:
    if criterion["value"] is None:
        return "not known"
    return f"{criterion['value']:.3f}{'*' if criterion.get('certified') is False else ''}"


def _survey_lines(document: dict[str, Any]) -> list[str]:
    rows = survey_summary.rows(document)
    if not rows:
        return []
    about = f"  (all of the above is about run {document['about_run']})"
    return ["", *_aligned(rows), about, "", *(f"  {line}" for line in survey_summary.conclusions(document))]


def _verdict_lines(verdict: dict[str, Any], colour: bool) -> list[str]:
    word = _coloured("valid" if verdict["valid"] else "NOT VALID", verdict["valid"], colour)
    reasons = [f"    - {reason}" for reason in verdict["reasons"]]
    notes = [f"    note: {note}" for note in verdict["notes"]]
    return ["", f"  verdict: {word}", *reasons, *notes]
