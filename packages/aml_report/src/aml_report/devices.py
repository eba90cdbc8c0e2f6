"""Several models or machine sizes in one table: what each used and what it served."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from aml_tool_core import InputError
from aml_tool_core.documents import read_json, read_text
from aml_tool_core.report_page.figures import at

from aml_report.table import aligned

REPORT = "report.json"
USAGE = "device_usage.json"
SCHEMA = "device_usage"
# So the control plane of this machine says it where it could have no control groups.
WITHOUT_GROUPS = "CPU affinity"
MEGABYTE = 1e6
GIB = 1024**3
_LARGEST = 1e30  # no time, rate or size is anywhere near

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One model on one machine size; None where a figure is not known. The names are the CSV file's columns."""

    model: str
    size: str
    instances: int | None
    vcpus: float | None
    cpu_average_percent: float | None
    cpu_peak_percent: float | None
    memory_average_bytes: float | None
    memory_limit_bytes: float | None
    memory_peak_bytes: float | None
    network_in_bytes: float | None
    network_out_bytes: float | None
    block_read_bytes: float | None
    block_written_bytes: float | None
    time_sec: float
    requests_per_sec: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    # Of all that the instances did, per good answer: says most about a model where the machine is shared.
    cpu_per_request_ms: float | None
    core_hours_per_million_requests: float | None


@dataclass(frozen=True)
class Measured:
    """A row, and what a reader of it must know."""

    row: Row
    notes: tuple[str, ...]


NUMBERS = tuple(field.name for field in fields(Row) if field.name not in ("model", "size"))


def read_folder(folder: Path) -> Measured:
    """Read a folder with a report.json and, where there is one, a device_usage.json. Raises InputError."""
    report = read_json(folder / REPORT, "report")
    usage = read_json(folder / USAGE, SCHEMA) if (folder / USAGE).exists() else None
    return measured(folder.resolve().name, report, usage)


def measured(name: str, report: Document, usage: Document | None) -> Measured:
    """Put together what one load shows; `name` is the model's where nothing else names it."""
    metrics = usage["metrics"] if usage else report.get("resource_usage") or {}
    instances = usage["instance_count"] if usage else at(report, "/target/instance_count")
    vcpus = _vcpus(report, usage)
    limit_bytes = _limit_bytes(metrics, usage)
    rate = report["result"]["succeeded_per_sec"]
    cpu_percent = _of(metrics, "CpuUtilizationPercentage", "average")
    row = Row(
        model=usage["model"] if usage else name,
        size=usage["instance_type"] if usage else str(at(report, "/target/sku") or "-"),
        instances=instances,
        vcpus=vcpus,
        cpu_average_percent=cpu_percent,
        cpu_peak_percent=_of(metrics, "CpuUtilizationPercentage", "maximum"),
        memory_average_bytes=_memory(metrics, "average", limit_bytes),
        memory_limit_bytes=limit_bytes,
        memory_peak_bytes=_memory(metrics, "maximum", limit_bytes),
        network_in_bytes=_moved(metrics, "NetworkInputMegabytes"),
        network_out_bytes=_moved(metrics, "NetworkOutputMegabytes"),
        block_read_bytes=_moved(metrics, "DiskReadMegabytes"),
        block_written_bytes=_moved(metrics, "DiskWriteMegabytes"),
        time_sec=report["result"]["duration_sec"],
        requests_per_sec=rate,
        latency_p50_ms=at(report, "/result/latency_ms/percentiles/50/value"),
        latency_p99_ms=at(report, "/result/latency_ms/percentiles/99/value"),
        cpu_per_request_ms=(
            10 * cpu_percent * vcpus * instances / rate if cpu_percent and vcpus and instances and rate > 0 else None
        ),
        core_hours_per_million_requests=(
            vcpus * instances * 1e6 / (rate * 3600) if vcpus and instances and rate > 0 else None
        ),
    )
    return Measured(row, tuple(_notes(row, report, usage, metrics)))


def _moment(written: str) -> datetime:
    # Python 3.10 reads no Z.
    return datetime.fromisoformat(written.replace("Z", "+00:00"))


def _vcpus(report: Document, usage: Document | None) -> float | None:
    """Return what one instance had: what was granted, where that is less than the size's."""
    if usage is None:
        found = at(report, "/cost/vcpus_per_instance")
        return None if found is None else float(found)
    granted = _of(usage["metrics"], "CpuCapacityMillicores", "maximum")
    return float(usage["vcpus"]) if granted is None else min(float(usage["vcpus"]), granted / 1000)


def _limit_bytes(metrics: Document, usage: Document | None) -> float | None:
    granted = _of(metrics, "CpuMemoryCapacityMegabytes", "maximum")
    if granted is not None:
        return granted * MEGABYTE
    return usage["memory_gib"] * GIB if usage else None


def _memory(metrics: Document, statistic: str, limit_bytes: float | None) -> float | None:
    megabytes = _of(metrics, "CpuMemoryUtilizationMegabytes", statistic)
    if megabytes is not None:
        return megabytes * MEGABYTE
    percent = _of(metrics, "CpuMemoryUtilizationPercentage", statistic)
    return None if percent is None or limit_bytes is None else percent / 100 * limit_bytes


def _moved(metrics: Document, name: str) -> float | None:
    megabytes = _of(metrics, name, "total")
    return None if megabytes is None else megabytes * MEGABYTE


def _of(metrics: Document, name: str, statistic: str) -> float | None:
    value = (metrics.get(name) or {}).get(statistic)
    return None if value is None else float(value)


def _notes(row: Row, report: Document, usage: Document | None, metrics: Document) -> Iterator[str]:
    if usage is not None and row.vcpus is not None and row.vcpus < usage["vcpus"]:
        yield f"got {row.vcpus:g} of its {usage['vcpus']:g} vCPUs: the machine has no more"
    if usage is not None and WITHOUT_GROUPS in usage.get("held_by", ""):
        yield f"held to its size less strictly than by control groups: {usage['held_by']}"
    if usage is not None and _moment(usage["started_at"]) < _moment(report["started_at"]):
        yield "the load covers no whole minute, by which CPU and memory are counted: they are of more than the load"
    if reasons := report["verdict"]["reasons"]:
        yield f"NOT VALID: {'; '.join(reasons)}"
    if not metrics:
        reasons = report.get("resource_usage_reasons") or ["no metrics"]
        yield f"nothing is known of its CPU and memory: {'; '.join(reasons)}"


# As text and as CSV

_HEADER = (
    *("model", "size", "vCPU", "CPU avg", "CPU peak", "memory avg / limit", "memory peak"),
    *("network in / out", "block read / written", "time"),
    *("requests/s", "p50", "p99", "CPU/request", "core-h per million"),
)
_RIGHT = frozenset(range(2, len(_HEADER)))


def table(rows: Sequence[Measured]) -> list[str]:
    """Return the lines of the table, and below it the notes."""
    cells = [_cells(one.row) for one in rows]
    notes = [f"{one.row.model} on {one.row.size}: {note}" for one in rows for note in one.notes]
    return [*aligned([_HEADER, *cells], _RIGHT), *(["", *notes] if notes else [])]


def _cells(row: Row) -> list[str]:
    count = "" if row.instances in (None, 1) else f"{row.instances} x "
    return [
        row.model,
        f"{count}{row.size}",
        _number(row.vcpus, ""),
        _number(row.cpu_average_percent, " %"),
        _number(row.cpu_peak_percent, " %"),
        f"{size_text(row.memory_average_bytes)} / {size_text(row.memory_limit_bytes)}",
        size_text(row.memory_peak_bytes),
        f"{size_text(row.network_in_bytes)} / {size_text(row.network_out_bytes)}",
        f"{size_text(row.block_read_bytes)} / {size_text(row.block_written_bytes)}",
        _number(row.time_sec, " s"),
        _number(row.requests_per_sec, ""),
        _number(row.latency_p50_ms, " ms"),
        _number(row.latency_p99_ms, " ms"),
        _number(row.cpu_per_request_ms, " ms"),
        _number(row.core_hours_per_million_requests, ""),
    ]


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.4g}{unit}"


def size_text(size_bytes: float | None) -> str:
    """Return a size in the binary unit that suits it."""
    if size_bytes is None:
        return "-"
    for unit, step in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size_bytes >= step:
            return f"{size_bytes / step:.4g} {unit}"
    return f"{size_bytes:.0f} B"


def as_csv(rows: Sequence[Measured]) -> str:
    """Return the rows for other programs: plain numbers, nothing where a figure is not known."""
    text = io.StringIO()
    names = [field.name for field in fields(Row)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for one in rows:
        values = (getattr(one.row, name) for name in names)
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()


def read_csv(path: Path, metric: str, size: str | None) -> dict[str, float]:
    """Read one metric by model from a CSV file such as `as_csv` gives. Raises InputError."""
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        columns, entries = reader.fieldnames or [], list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1}: not CSV: {error}") from None
    for needed in ("model", metric):
        if needed not in columns:
            raise InputError(f"{path}: line 1: no column {needed}; there are {', '.join(columns) or 'none'}")
    if size is not None and "size" not in columns:
        raise InputError(f"{path}: line 1: no column size to choose {size} by")
    found: dict[str, float] = {}
    for line, entry in enumerate(entries, start=2):
        if (size is not None and entry["size"] != size) or not (entry[metric] or "").strip():
            continue
        model = (entry["model"] or "").strip()
        if model in found:
            raise InputError(f"{path}: line {line}: {model} stands there twice; choose one of the sizes by its flag")
        try:
            value = float(entry[metric])
        except ValueError:
            value = math.nan
        # float() takes "nan" and "inf" too; a line through those would be of no use, and what is beyond has no square.
        if not abs(value) <= _LARGEST:
            raise InputError(f"{path}: line {line}: {metric}: {entry[metric]!r} is not a number below {_LARGEST:g}")
        found[model] = value
    return found
