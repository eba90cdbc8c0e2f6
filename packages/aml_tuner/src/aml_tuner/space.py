"""The space of variants: each parameter with its values, and every combination of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = int | float | str
Point = tuple[Value, ...]  # a value of each parameter, in their order


@dataclass(frozen=True)
class Space:
    """Parameters by name, each with its values in the order in which they were given."""

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]

    @staticmethod
    def of(parameters: Mapping[str, Sequence[Value]]) -> Space:
        """Return the space of a configuration's `parameters`."""
        return Space(tuple(parameters), tuple(tuple(values) for values in parameters.values()))

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return math.prod(len(values) for values in self.values)

    def grid(self) -> list[Point]:
        """Return all combinations, the last parameter varying fastest."""
        return list(itertools.product(*self.values))

    def variant(self, point: Point) -> dict[str, Any]:
        """Return a combination as the deployer's --variant takes it."""
        return dict(zip(self.names, point, strict=True))

    def middle(self) -> Point:
        """Return the combination in the middle of every parameter's values."""
        return tuple(values[len(values) // 2] for values in self.values)


def is_ordered(values: Sequence[Value]) -> bool:
    """Tell whether values are positive numbers, so that one lies between others; a SKU's name does not."""
    return all(isinstance(value, int | float) and value > 0 for value in values)
