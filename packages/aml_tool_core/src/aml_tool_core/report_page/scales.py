"""Where an axis has its ticks."""

from __future__ import annotations

import math

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def linear_ticks(top: float, count: int = 4) -> list[float]:
    """Return evenly spaced round ticks from 0 to at or above `top`, about `count` steps."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _STEPS if factor * power >= rough * 0.999)
    steps = math.ceil(top / step - 1e-9)
    return [round(index * step, 12) for index in range(steps + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return ticks that enclose [low, high], low > 0: 1, 2, 5 per decade; over many decades 1 alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first >= 4 else (1, 2, 5)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = [tick for tick in ticks if tick <= low * 1.000001]
    above = [tick for tick in ticks if tick >= high * 0.999999]
    start, end = below[-1], above[0]
    if start == end:
        end = next(tick for tick in ticks if tick > start) if start < ticks[-1] else start * 10
    return [tick for tick in ticks if start <= tick <= end] or [start, end]


def time_ticks(end_sec: float, count: int = 6) -> list[float]:
    """Return round ticks of a time axis from 0 on, none behind its end."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((step for step in steps if end_sec / step <= count), math.ceil(end_sec / count))
    return [float(step * index) for index in range(int(end_sec // step) + 1)]


def time_label(t_sec: float) -> str:
    """Return seconds since the start as `40s`, `5m`, `1m30s`, `2h`, `1h05m`."""
    seconds = round(t_sec)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    return f"{rest}s"
