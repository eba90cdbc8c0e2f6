"""Latency by percentile, from a report's encoded histogram, on HdrHistogram's axis."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from itertools import accumulate
from typing import TYPE_CHECKING

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

from aml_tool_core.errors import InputError

if TYPE_CHECKING:
    from aml_tool_core.profiling.histogram import Histogram

_POINTS_PER_DECADE = 40
# What the library raises on a text that is cut short, garbled, or something else.
_DECODING_ERRORS = (
    binascii.Error,
    zlib.error,
    ValueError,
    TypeError,
    IndexError,
    RuntimeError,
    OverflowError,
    HdrCookieException,
    HdrLengthException,
)


def decoded(encoded: str, source: str) -> Histogram:
    """Return the histogram of an HdrHistogram V2 compressed, base64 text. Raises InputError."""
    # Imported here because the profilers, whose package this is in, import the page.
    from aml_tool_core.profiling.histogram import Histogram

    try:
        base64.b64decode(encoded, validate=True)
        hdr = HdrHistogram.decode(encoded)
    except _DECODING_ERRORS as error:
        said = str(error) or type(error).__name__
        raise InputError(f"{source}: not an HdrHistogram V2 compressed histogram in base64: {said}") from None
    return Histogram.of(
        (int(bucket.value_iterated_to), int(bucket.count_added_in_this_iter_step))
        for bucket in hdr.get_recorded_iterator()
    )


def by_percentile(histogram: Histogram) -> list[tuple[float, float]]:
    """Return (1 / (1 - q), latency in ms) points from q = 0 to the last observation but none.

    On a logarithmic axis 1 / (1 - q) gives each further nine the same room: that is HdrHistogram's percentile plot.
    The largest value, whose own q would be 1, stands at the middle of its rank, q = 1 - 1/(2n).
    """
    points: list[tuple[float, float]] = []
    last_cell = None
    cumulative = accumulate(count for _, count in histogram.counts)
    total = histogram.total
    for (value_us, _), below in zip(histogram.counts, cumulative, strict=True):
        x = total / max(total - below, 0.5)
        cell = math.floor(math.log10(x) * _POINTS_PER_DECADE)
        if cell == last_cell:
            points[-1] = (x, value_us / 1000)  # within a cell the last one stands for all
        else:
            points.append((x, value_us / 1000))
        last_cell = cell
    if points and points[0][0] > 1:
        points.insert(0, (1.0, histogram.counts[0][0] / 1000))
    return points


def percent_label(x: float) -> str:
    """Return the percentile at 1 / (1 - q): `99.9 %`."""
    percent = 100 * (1 - 1 / x)
    return f"{percent:.6f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"


def percent_ticks(total: int) -> list[float]:
    """Return the axis from 0 % over 50 %, 90 %, 99 %, ... to what `total` observations resolve."""
    ticks = [1.0, 2.0]
    power = 1
    while 10**power <= total:
        ticks.append(float(10**power))
        power += 1
    return ticks
