"""What a search came to, as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aml_olive_optimizer.footprints import Footprint
from aml_olive_optimizer.package import Packaged


def table(packaged: Sequence[Packaged], footprints: Mapping[str, Footprint]) -> list[str]:
    """Return a header and one row per packaged candidate, best first, each metric beside the input model's."""
    names = list(packaged[0].candidate.node.metrics)
    rows = [["rank", "candidate", *(f"{name} (input)" for name in names)]]
    for entry in packaged:
        baseline = footprints[entry.candidate.accelerator].input_metrics
        cells = []
        for name in names:
            measured = entry.candidate.node.metrics.get(name)
            value = f"{measured.value:.5g}" if measured else "-"
            cells.append(f"{value} ({baseline[name].value:.5g})" if name in baseline else value)
        rows.append([str(entry.rank), entry.name, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
