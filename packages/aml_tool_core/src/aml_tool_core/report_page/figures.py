"""Figures as they stand on a page: the exact value, where the report holds it, and the text a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SIGNIFICANT_DIGITS = 4
_MOST_DECIMALS = 6
# A unit follows its number after a no-break space, so that a narrow screen does not tear them apart.
_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Figure:
    """One value of a report. `pointer` (RFC 6901) says where it stands, so that a page can be checked against it."""

    value: float | int | str | bool
    pointer: str
    text: str


def figure(document: Any, pointer: str, unit: str = "") -> Figure | None:
    """Return the value at a JSON pointer as a figure; None where there is none or it is null."""
    value = at(document, pointer)
    if value is None or isinstance(value, dict | list):
        return None
    return Figure(value, pointer, shown(value, unit))


def at(document: Any, pointer: str) -> Any:
    """Return what stands at a JSON pointer, None where nothing does."""
    found = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, Sequence) and not isinstance(found, str) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def escaped(key: str) -> str:
    """Return a key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def shown(value: float | int | str | bool, unit: str = "") -> str:
    """Return a value as a person reads it: four significant digits, thousands grouped, its unit behind it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{number(value)}{_NO_BREAK}{unit}" if unit else number(value)


def number(value: float | int) -> str:
    """Return a number with four significant digits (whole numbers whole), thousands grouped by commas."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    magnitude = abs(value)
    if magnitude >= 1e15 or magnitude < 10**-_MOST_DECIMALS:
        return f"{value:.{_SIGNIFICANT_DIGITS - 1}e}"
    decimals = 0
    while decimals < _MOST_DECIMALS and magnitude * 10**decimals < 10 ** (_SIGNIFICANT_DIGITS - 1):
        decimals += 1
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def cost_words(key: str) -> str:
    """Return a cost's key in words: `core_hour_per_million_requests` is `Core-hours per million requests`."""
    words = key.replace("core_hour_", "core-hours_").replace("_", " ")
    return words[:1].upper() + words[1:]


def flattened(document: Any, pointer: str) -> list[tuple[str, Figure]]:
    """Return every scalar below a pointer as (its path in words, figure); nulls and empty containers are left out."""
    found = at(document, pointer)
    if isinstance(found, Mapping):
        parts = [(str(key), f"{pointer}/{escaped(str(key))}") for key in found]
    elif isinstance(found, Sequence) and not isinstance(found, str):
        parts = [(str(index), f"{pointer}/{index}") for index in range(len(found))]
    else:
        single = figure(document, pointer)
        return [] if single is None else [("", single)]
    return [(f"{name} {rest}".strip(), entry) for name, place in parts for rest, entry in flattened(document, place)]
