"""What adds up in the same way whether runs came one after the other or at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from aml_tool_core.profiling.result import Errors


def total(values: Sequence[int | None]) -> int | None:
    """Return the sum; None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def worst(values: Sequence[float | None]) -> float | None:
    """Return the largest that is known; None where none is."""
    return max((value for value in values if value is not None), default=None)


def errors(parts: Sequence[Errors]) -> Errors:
    """Return the errors of all parts; the codes where every part tells them."""
    status: dict[int, int] = {}
    for part in parts:
        for code, count in (part.status or {}).items():
            status[code] = status.get(code, 0) + count
    return Errors(
        connect=sum(part.connect for part in parts),
        read=sum(part.read for part in parts),
        write=sum(part.write for part in parts),
        timeout=sum(part.timeout for part in parts),
        status=status if all(part.status is not None for part in parts) else None,
        unknown_status=sum(part.unknown_status for part in parts),
    )
