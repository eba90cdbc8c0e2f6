"""The marks that the deployer leaves on what it creates, as tags, and that tell what may be removed again.

Their names have a prefix, so that nobody's own tags are taken for them, or lost to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

DEPLOYER = "aml_online_endpoints_deployer"
PREFIX = "aml_model_optimizer."
TOOL, VERSION, JOB, RUN = f"{PREFIX}tool", f"{PREFIX}tool_version", f"{PREFIX}job", f"{PREFIX}run"
DEPLOYED_AT, EXPIRES_AT = f"{PREFIX}deployed_at", f"{PREFIX}expires_at"
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def of_run(entity: Any, run: str) -> bool:
    """Tell whether an endpoint or a deployment was created by a run of the deployer."""
    return tags(entity).get(RUN) == run


def of_product(entity: Any) -> bool:
    """Tell whether an endpoint or a deployment was created by the deployer at all."""
    return tags(entity).get(TOOL) == DEPLOYER


def has(entity: Any, name: str, value: str) -> bool:
    """Tell whether an endpoint or a deployment has a tag, or a mark of that name without its prefix."""
    return value in (tags(entity).get(name), tags(entity).get(PREFIX + name))


def updated(own: Mapping[str, str], found: Any) -> dict[str, str]:
    """Return the tags of what is updated, of those that it would have if it were created.

    The mark of the run stays that of the one that created it. What the deployer has not created gets no mark at all: it
    must not pass for the deployer's when somebody sweeps.
    """
    mine = {name: value for name, value in own.items() if name != RUN}
    if not of_product(found):
        return {name: value for name, value in mine.items() if not name.startswith(PREFIX)}
    return mine if RUN not in tags(found) else {**mine, RUN: tags(found)[RUN]}


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
