"""A comparison as an aligned table of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from aml_report.comparison import Comparison, Direction, shown, shown_change

_HEADER = ("metric", "unit", "base", "new", "change", "", "noise")
_RIGHT = frozenset({2, 3, 4})


def lines(comparison: Comparison) -> list[str]:
    """Return the lines of one comparison."""
    rows = [
        [
            change.metric.key,
            change.metric.unit,
            shown(change.base),
            shown(change.new),
            shown_change(change),
            "" if change.direction is Direction.SAME else change.direction.value,
            "" if change.judgement is None else str(change.judgement),
        ]
        for change in comparison.changes
    ]
    head = [f"base: {_line(comparison, base=True)}", f"new:  {_line(comparison, base=False)}"]
    head += [f"not alike: {one}" for one in comparison.unlike]
    head += [f"differs: {one}" for one in comparison.differences]
    head += [f"caution: {one}" for one in comparison.cautions]
    return [*head, "", *aligned([_HEADER, *rows], _RIGHT)]


def _line(comparison: Comparison, *, base: bool) -> str:
    report = comparison.base if base else comparison.new
    verdict = report.document["verdict"]
    return f"{report.name} ({report.document['started_at']}, {_word(verdict['reasons'])})"


def _word(reasons: Sequence[str]) -> str:
    """Return a verdict in a line: the first reason is the cause, and the report has the others."""
    if not reasons:
        return "valid"
    return f"NOT VALID: {reasons[0]}" + (f"; {len(reasons) - 1} more in the report" if len(reasons) > 1 else "")


def aligned(rows: Sequence[Sequence[str]], right: frozenset[int]) -> list[str]:
    """Return rows as lines with their columns below one another; `right` are the columns that are set to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
