"""The space of variants: each parameter with its values, and every combination of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aml_tool_core.deployment_variant import CANDIDATE

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

    def is_ordered(self, index: int) -> bool:
        """Tell whether a parameter's values are amounts, so that one lies between others; a SKU or a rank is a name."""
        return self.names[index] != CANDIDATE and all(
            isinstance(value, int | float) and value > 0 for value in self.values[index]
        )
