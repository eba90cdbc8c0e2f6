"""Parts of a request's body, as far as every resource reads them alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azureml_local.exceptions import InvalidRequestError


def part(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object under a key, an empty one where there is none; raises InvalidRequestError."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{key} must be an object, not {value!r}.")
    return value
