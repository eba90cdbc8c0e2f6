#!/usr/bin/env python3
"""Judge profilers' reports by the SLA that their configurations set: exit code 3 when one misses it.

A search without a confirmed answer misses it; so does a sweep with a payload class of which no run keeps the SLA, or
with a point that was not measured.

Needs nothing but Python, so that it runs in any image and on any build machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

USAGE = "usage: sla_gate.py REPORT_OR_FOLDER [REPORT_OR_FOLDER ...]"


def find_reports(arguments: Sequence[str]) -> list[Path]:
    """Return the reports: files as named, and every report.json below a folder."""
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        below = sorted(path.rglob("report.json")) if path.is_dir() else [path]
        if not below:
            raise SystemExit(fail(f"{path}: there is no report.json"))
        found += below
    return found


def criteria(report: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Iterate over what is demanded of a report: whether it is met, and how that is said."""
    search = report.get("search")
    if search is not None and search["answer"] is None:
        yield False, f"no load holds: {search['reason']}"
    elif search is not None and not search["answer"]["confirmed"]:
        yield False, f"the load that holds is not confirmed: {search['reason']}"
    for one in report.get("failures", ()):
        rate = f" at {one['target_rps']:.6g}/s" if "target_rps" in one else ""
        yield False, f"{one['connections']} connections{rate} were not measured: {one['reason']}"
    if "sla" not in report:
        return
    # Of several runs, the criteria below are those of one: where it belongs to another payload class, all may be met.
    for choice in () if search is not None else report.get("choices", ()):
        if choice["best"] is None:
            of_class = f" of payload class {choice['payload_class']}" if "payload_class" in choice else ""
            yield False, f"no run{of_class} can be used and keeps every demand"
    for criterion in report["sla"]["criteria"]:
        value = "not known" if criterion["value"] is None else f"{criterion['value']:.6g}"
        yield criterion["met"], f"{criterion['metric']} is {value}, the limit {criterion['limit']:.6g}"
    # A run that may not be believed proves no SLA.
    for reason in report["verdict"]["reasons"] if not report["verdict"]["valid"] else ():
        yield False, f"the run is not valid: {reason}"


def fail(message: str) -> int:
    """Say in one line what is wrong; returns the exit code for bad input."""
    print(f"sla_gate: error: {message}", file=sys.stderr)
    return 2


def main(arguments: Sequence[str]) -> int:
    """Print each criterion of each report; returns the exit code."""
    if not arguments:
        return fail(USAGE)
    missed = 0
    for path in find_reports(arguments):
        try:
            found = list(criteria(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            return fail(f"{path}: not a profiler's report: {type(error).__name__}: {error}")
        for met, text in found:
            print(f"{'met   ' if met else 'MISSED'} {path}: {text}")
            missed += not met
        if not found:
            print(f"       {path}: its configuration sets no SLA")
    return 3 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
