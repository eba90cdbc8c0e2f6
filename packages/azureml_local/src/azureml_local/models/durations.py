"""ISO 8601 durations, as far as request settings and intervals use them."""

from __future__ import annotations

import re

from azureml_local.exceptions import InvalidRequestError

DURATION = re.compile(
    r"P(?:(?P<days>\d+(?:\.\d+)?)D)?(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
UNIT_SEC = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def parse_duration_sec(text: str) -> float:
    """Return the seconds of a duration such as ``PT0.5S``; raises InvalidRequestError."""
    match = DURATION.fullmatch(text)
    parts = {unit: value for unit, value in match.groupdict().items() if value} if match else {}
    if not parts:
        raise InvalidRequestError(f"{text!r} is not an ISO 8601 duration such as PT5S.")
    return sum(float(value) * UNIT_SEC[unit] for unit, value in parts.items())
