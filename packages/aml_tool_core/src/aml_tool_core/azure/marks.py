"""The marks that the deployer leaves on what it creates, as tags, and that tell what may be removed again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

DEPLOYER = "aml_online_endpoints_deployer"
TOOL, VERSION, JOB, RUN = "tool", "tool_version", "job", "run"
DEPLOYED_AT, EXPIRES_AT = "deployed_at", "expires_at"
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def of_run(entity: Any, run: str) -> bool:
    """Tell whether an endpoint or a deployment was created by a run of the deployer."""
    return tags(entity).get(RUN) == run


def of_product(entity: Any) -> bool:
    """Tell whether an endpoint or a deployment was created by the deployer at all."""
    return tags(entity).get(TOOL) == DEPLOYER


def tags(entity: Any) -> Mapping[str, str]:
    """Return the tags of the SDK's entity."""
    return entity.tags or {}


def deployed_at(entity: Any) -> datetime | None:
    """Return when the deployer last deployed it; None where that is not marked, or not readable."""
    return _time(tags(entity).get(DEPLOYED_AT))


def expires_at(entity: Any) -> datetime | None:
    """Return when it may be swept; None where that is not marked, or not readable."""
    return _time(tags(entity).get(EXPIRES_AT))


def times(now: datetime, expires_after_sec: float | None) -> dict[str, str]:
    """Return the tags that say when something was deployed and, if it is to, when it expires."""
    marked = {DEPLOYED_AT: _text(now)}
    if expires_after_sec is not None:
        marked[EXPIRES_AT] = _text(now + timedelta(seconds=expires_after_sec))
    return marked


def _text(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime(_FORMAT)


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text or "", _FORMAT).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
