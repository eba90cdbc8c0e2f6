"""Latency by percentile as a chart: one or more histograms on HdrHistogram's axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aml_tool_core.report_page.blocks import Cell, Drawing, Table
from aml_tool_core.report_page.charts import Axis, Chart, Point, Series
from aml_tool_core.report_page.curve import by_percentile, percent_label, percent_ticks
from aml_tool_core.report_page.scales import linear_ticks, log_ticks

if TYPE_CHECKING:
    from aml_tool_core.profiling.histogram import Histogram

_LOG_FROM_RATIO = 12.0  # a tail this many times the fastest answer flattens the rest of a linear axis
_SMALLEST_MS = 1e-3  # the histogram's resolution
_TABLE_ROWS = 40
_DOTS_STYLE = 0
_INTERVALS_STYLE = 6


def percentile_drawing(
    histograms: Mapping[str, Histogram], dots: Sequence[Point] = (), intervals: Sequence[Point] = ()
) -> Drawing:
    """Draw histograms by their names; `dots` are percentiles, `intervals` upright lines, each ended by a None."""
    curves = [
        Series(name, by_percentile(histogram), style % _INTERVALS_STYLE)
        for style, (name, histogram) in enumerate(histograms.items())
    ]
    series = list(curves)
    if dots:
        series.append(Series("Percentile", dots, _DOTS_STYLE, dots=True, line=False))
    if intervals:
        series.insert(0, Series("95 % interval", intervals, _INTERVALS_STYLE))
    values = [y for one in series for _, y in one.points if y is not None]
    low, high = max(min(values), _SMALLEST_MS), max(values)
    spread = high / low > _LOG_FROM_RATIO
    total = max(histogram.total for histogram in histograms.values())
    chart = Chart(
        key="percentiles",
        title="Latency by percentile",
        summary="Latency rises from left to right with the percentile; the table below has the figures.",
        series=series,
        x=Axis(percent_ticks(total), percent_label, logarithmic=True),
        y=Axis(log_ticks(low, high) if spread else linear_ticks(high), logarithmic=spread),
        x_title="percentile",
        y_title="ms, logarithmic" if spread else "ms",
        x_end=2.0 * total,
    )
    return Drawing(chart, _table(curves))


def _table(curves: Sequence[Series]) -> Table:
    longest = max(curves, key=lambda curve: len(curve.points))
    step = math.ceil(len(longest.points) / _TABLE_ROWS)
    places = [x for x, _ in [*longest.points[:-1:step], longest.points[-1]]]
    rows: list[list[Cell]] = [[percent_label(x), *(_reached(curve, x) for curve in curves)] for x in places]
    return Table("Latency by percentile", ("Percentile", *(f"{curve.name}, ms" for curve in curves)), rows)


def _reached(curve: Series, x: float) -> str:
    found = next((y for place, y in curve.points if place >= x * (1 - 1e-9)), None)
    return "" if found is None else f"{found:.3f}"
