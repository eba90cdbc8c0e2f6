"""Reports as they are read: validated, decoded, and named so that two files of one name can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import InputError
from aml_tool_core.documents import read_json
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.report_page.curve import decoded

SCHEMA = "report"

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """A report file: its short name among the files it was read with, its content, and its histograms."""

    name: str
    path: Path
    document: Document
    latency: Histogram
    service_time: Histogram | None


def read_reports(paths: Sequence[Path]) -> list[Report]:
    """Read and validate reports. Raises InputError where one is unusable or is given twice."""
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise InputError(f"{path}: given twice; name each report once")
        seen.add(path.resolve())
    return [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _read(path: Path, name: str) -> Report:
    document = read_json(path, SCHEMA)
    latency = _histogram(document, "latency", path)
    assert latency is not None, "the schema requires it"
    return Report(name, path, document, latency, _histogram(document, "service_time", path))


def _histogram(document: Document, key: str, path: Path) -> Histogram | None:
    encoded = document["result"]["histogram"].get(key)
    if encoded is None:
        return None
    place = f"{path}: /result/histogram/{key}"
    histogram = decoded(encoded, place)
    stated = document["result"].get(f"{key}_ms", {}).get("count", 0)
    if histogram.total != stated:
        raise InputError(
            f"{place}: holds {histogram.total} requests, but /result/{key}_ms/count says {stated}; "
            "take the file as the profiler wrote it"
        )
    return histogram


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the file names, with as many of their folders as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
