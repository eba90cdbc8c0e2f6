"""The values of a setting that is swept or searched: a list, or a range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from aml_tool_core.errors import InputError


@dataclass(frozen=True)
class Bounds:
    """Where a search may go."""

    lowest: float
    highest: float


def is_single(setting: Any) -> TypeGuard[float]:
    """Tell whether a setting of a valid configuration is one number."""
    return isinstance(setting, int | float)


def values(setting: Any, place: str, *, whole: bool) -> tuple[float, ...]:
    """Return the values of a list or a range, rounded to whole numbers where they must be. Raises InputError."""
    if isinstance(setting, Sequence):
        return tuple(float(one) for one in setting)
    if "steps" not in setting:
        raise InputError(f"{place}: steps: missing; a sweep over a range needs the number of its values")
    limits = bounds(setting, place, whole=whole)
    count = int(setting["steps"])
    shares = [index / (count - 1) for index in range(count)]
    if setting.get("scale") == "log":
        ratio = limits.highest / limits.lowest
        # The ends exactly as they are stated: powers would miss them by a rounding.
        inner = [limits.lowest * ratio**share for share in shares[1:-1]]
    else:
        inner = [limits.lowest + (limits.highest - limits.lowest) * share for share in shares[1:-1]]
    found = [limits.lowest, *inner, limits.highest]
    rounded = [float(round(one)) for one in found] if whole else [_plain(one) for one in found]
    return tuple(dict.fromkeys(rounded))


def bounds(setting: Mapping[str, Any], place: str, *, whole: bool) -> Bounds:
    """Return the ends of a range, of whole numbers the first and the last in it.

    Raises InputError where they are the wrong way round, or hold no whole number.
    """
    lowest, highest = float(setting["from"]), float(setting["to"])
    if lowest >= highest:
        raise InputError(f"{place}: from {lowest:g} to {highest:g}: `to` must be the larger one")
    if not whole:
        return Bounds(lowest, highest)
    if math.ceil(lowest) > math.floor(highest):
        raise InputError(f"{place}: from {lowest:g} to {highest:g}: holds no whole number; the engine takes no other")
    return Bounds(float(math.ceil(lowest)), float(math.floor(highest)))


def _plain(value: float) -> float:
    """Return a number without the dust of binary fractions: 0.1 + 0.2 is 0.3."""
    return float(f"{value:.{12 - math.ceil(math.log10(value))}f}") if value < 1e12 else value
