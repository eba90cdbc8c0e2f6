"""A sweep or a search on the terminal: its runs as a table, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

_SHOWN_PERCENTILES = ("50", "99")
_LATENCY = "latency_ms_"
_CPU = "cpu_percent_max"
_AXES = {"target_rps": "rate", "connections": "number of connections"}


def rows(document: Document) -> list[list[str]]:
    """Return the table of the runs, its head first; nothing of a single load."""
    if "runs" not in document:
        return []
    names = [f"p{percent}, ms" for percent in (*_SHOWN_PERCENTILES, *_demanded(document))]
    return [["run", "load", "s", "good/s", *names, ""], *(_row(document, run) for run in document["runs"])]


def conclusions(document: Document) -> list[str]:
    """Return what follows from the runs, a line each; nothing of a single load."""
    if "runs" not in document:
        return []
    lines = [line for choice in document["choices"] for line in _choice(document, choice)]
    if any(cell.endswith("*") for row in rows(document) for cell in row):
        lines.insert(0, "* more requests are needed to certify this percentile")
    lines += [f"not measured: {failure_words(document, one)}" for one in document.get("failures", ())]
    lines += _silent(document)
    return [*_answer(document), *lines] if "search" in document else lines


def _row(document: Document, run: Mapping[str, Any]) -> list[str]:
    percentiles = run["result"].get("latency_ms", {}).get("percentiles", {})
    return [
        f"{run['number']}{'' if run['purpose'] == 'point' else ' ' + run['purpose']}",
        load_words(run),
        str(run["load"]["duration_sec"]),
        f"{run['result']['succeeded_per_sec']:.2f}",
        *(_latency(percentiles.get(name)) for name in _SHOWN_PERCENTILES),
        *(_demanded_latency(run, name, percentiles) for name in _demanded(document)),
        ", ".join(_marks(document, run)),
    ]


def _demanded(document: Document) -> list[str]:
    """Return the percentiles of the latency that are demanded, other than those that are shown anyway."""
    metrics = (one["metric"] for run in document["runs"] for one in run.get("sla", {}).get("criteria", ()))
    names = (metric.removeprefix(_LATENCY) for metric in metrics if metric.startswith(_LATENCY))
    return [one for one in dict.fromkeys(names) if one not in (*_SHOWN_PERCENTILES, "mean", "max")]


def _latency(percentile: Mapping[str, Any] | None) -> str:
    return "-" if percentile is None else f"{percentile['value']:.3f}{'' if percentile['certified'] else '*'}"


def _demanded_latency(run: Mapping[str, Any], name: str, percentiles: Mapping[str, Any]) -> str:
    """Return a percentile as its demand takes it: who was not answered waited longest."""
    found = (one for one in run.get("sla", {}).get("criteria", ()) if one["metric"] == f"{_LATENCY}{name}")
    value = next((one["value"] for one in found), None)
    star = "*" if name in percentiles and not percentiles[name]["certified"] else ""
    return "-" if value is None else f"{value:.3f}{star}"


def load_words(run: Mapping[str, Any]) -> str:
    """Return a run's load in a few words."""
    load = run["load"]
    sender = "client" if load.get("schedule") == "clock" else "connection"
    words = f"{load['connections']} {sender}{'' if load['connections'] == 1 else 's'}"
    if "target_rps" in load:
        words = f"{load['target_rps']:g}/s, {words}"
    name = load.get("payload", {}).get("class")
    return words if name is None else f"{words}, {name}"


def failure_words(document: Document, failure: Mapping[str, Any]) -> str:
    """Return a point that was not measured, and why."""
    payload = {"payload": {"class": failure["payload_class"]}} if "payload_class" in failure else {}
    return (
        f"{load_words({'load': {**failure, **payload, 'schedule': document['load']['schedule']}})}: {failure['reason']}"
    )


def _marks(document: Document, run: Mapping[str, Any]) -> list[str]:
    missed = [one["metric"] for one in run.get("sla", {}).get("criteria", ()) if not one["met"]]
    misses = f"does not hold: {', '.join(missed) or 'not carried'}"
    marks = ["says nothing" if not run["usable"] else "holds" if run["feasible"] else misses]
    for choice in document["choices"]:
        if run["number"] == choice["best"]:
            marks.append("answer" if "search" in document else "best")
        if choice["knee"] is not None and run["number"] == choice["knee"]["run"]:
            marks.append("knee")
    return marks


def _silent(document: Document) -> list[str]:
    """Return how many runs say nothing, what that means and what helps; nothing where all of them say something."""
    count, runs = sum(not run["usable"] for run in document["runs"]), len(document["runs"])
    if not count:
        return []
    cause = "the load generator itself was late or short of CPU"
    if any(one["metric"] == _CPU for run in document["runs"] for one in run.get("sla", {}).get("criteria", ())):
        cause = f"{cause}, or Azure had no CPU figure of them"
    return [
        f"{count} of {runs} runs say{'s' if count == 1 else ''} nothing about the target, neither that the load holds "
        f"nor that it does not: {cause}; give it cores that nothing else uses, or another machine than the target's"
    ]


def _answer(document: Document) -> list[str]:
    search = document["search"]
    answer = search["answer"]
    if answer is None:
        return [f"no answer: {search['reason']}"]
    low, high = ("not known" if bound is None else f"{bound:.6g}" for bound in answer["interval"])
    state = "confirmed" if answer["confirmed"] else "NOT confirmed"
    lines = [
        f"largest {_AXES[search['axis']]} that holds: {answer['value']:g} ({state} by run {answer['run']}); "
        f"95 % interval {low} to {high}",
        f"stopped: {search['reason']}",
    ]
    if answer["confirmed"] and not document["verdict"]["valid"]:
        lines.append(
            "confirmed, as a run of full length kept every limit; but that run is NOT VALID, and what its verdict says "
            "is to be mended before the answer is relied on"
        )
    return lines


def _choice(document: Document, choice: Mapping[str, Any]) -> list[str]:
    of_class = f" of {choice['payload_class']}" if "payload_class" in choice else ""
    lines = []
    if "sweep" in document:
        best = next((run for run in document["runs"] if run["number"] == choice["best"]), None)
        why_none = choice.get("reason", "no run keeps every demand")
        said = why_none if best is None else f"run {best['number']}, {load_words(best)}"
        lines.append(f"best{of_class} by {choice['objective']}: {said}")
    knee = choice["knee"]
    if knee is not None:
        lines.append(
            f"knee{of_class}: run {knee['run']}, {knee['requests_per_sec']:.2f} good answers/s at a p99 of "
            f"{knee['latency_ms_99']:.3f} ms"
        )
    lines.append(f"Pareto front{of_class}: {_numbered(choice['pareto_front'])}")
    return lines


def _numbered(runs: Sequence[int]) -> str:
    if not runs:
        return "no run"
    return f"run{'' if len(runs) == 1 else 's'} {', '.join(map(str, runs))}"
