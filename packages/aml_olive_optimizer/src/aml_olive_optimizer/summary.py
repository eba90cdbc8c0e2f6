"""What a search came to, as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aml_olive_optimizer.footprints import Footprint, Goal, Measurement
from aml_olive_optimizer.package import Packaged
from aml_olive_optimizer.search import Found

_SHOWN_REASONS = 3


def pruned(found: Found) -> str:
    """Return one line on the combinations that Olive did not measure, the most frequent reasons first; "" for none."""
    if not found.pruned:
        return ""
    reasons = sorted(found.pruned.items(), key=lambda item: -item[1])
    shown = "; ".join(f"{count} x {reason}" for reason, count in reasons[:_SHOWN_REASONS])
    more = f"; and {len(reasons) - _SHOWN_REASONS} more reasons" if len(reasons) > _SHOWN_REASONS else ""
    return f"{sum(found.pruned.values())} of {found.tried} combinations were pruned by Olive: {shown}{more}"


def table(
    packaged: Sequence[Packaged],
    footprints: Mapping[str, Footprint],
    goals: Mapping[str, Goal],
    units: Mapping[str, str],
) -> list[str]:
    """Return a header and one row per packaged candidate, best first: each metric, the input model's, and the goal."""
    names = list(packaged[0].candidate.node.metrics)
    rows = [["rank", "candidate", *(f"{name} ({units[name]})" if name in units else name for name in names)]]
    for entry in packaged:
        baseline = footprints[entry.candidate.accelerator].input_metrics
        cells = [_cell(entry.candidate.node.metrics.get(name), baseline.get(name), goals.get(name)) for name in names]
        rows.append([str(entry.rank), entry.name, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(measured: Measurement | None, baseline: Measurement | None, goal: Goal | None) -> str:
    if measured is None:
        return "-"
    beside = []
    if baseline is not None:
        beside.append(f"input {baseline.value:.5g}")
    needed = goal.threshold(baseline.value if baseline else None, measured.higher_is_better) if goal else None
    if needed is not None:
        beside.append(f"goal {'≥' if measured.higher_is_better else '≤'} {needed:.5g}")
    return f"{measured.value:.5g}" + (f" ({', '.join(beside)})" if beside else "")
