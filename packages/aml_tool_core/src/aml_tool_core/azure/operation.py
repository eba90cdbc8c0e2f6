"""Long-running operations of Azure: waited for with progress, and never longer than a limit."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aml_tool_core.azure import sdk_output
from aml_tool_core.azure.failures import Conflict, TimedOut, WaitTooLong, asking

if TYPE_CHECKING:
    from azure.core.polling import LROPoller

_log = logging.getLogger("aml_tool_core.azure")
_PROGRESS_SEC = 15.0
_ASK_AGAIN_SEC = 2.0
_LONGEST_PAUSE_SEC = 30.0
_MOST_REFUSALS = 3
_UNDER_WAY = {"creating", "updating", "scaling", "deleting"}
_Result = TypeVar("_Result")


def finish(poller: LROPoller[_Result], what: str, deadline: float) -> _Result:
    """Wait until the operation ends, logging progress, and return its result.

    `deadline` is a time of `time.monotonic()`. Raises TimedOut, or ToolError with the service's cause.
    """
    begun = time.monotonic()
    with asking(what), sdk_output.diverted():
        try:
            while not poller.done():
                left_sec = deadline - time.monotonic()
                if left_sec <= 0:
                    raise _late(poller, what, begun)
                poller.wait(min(_PROGRESS_SEC, left_sec))
                if not poller.done():
                    _log.info("%s: %s, %.0f s", what, _status(poller), time.monotonic() - begun)
            return poller.result()
        except WaitTooLong as error:
            if time.monotonic() < deadline:
                raise
            raise _late(poller, what, begun) from error  # the poller has noticed before us


def _late(poller: LROPoller[Any], what: str, begun: float) -> TimedOut:
    waited_sec = time.monotonic() - begun
    return TimedOut(f"{what}: not done after {waited_sec:.0f} s ({_status(poller)}); raise --timeout_sec")


def settled(find: Callable[[], Any | None], what: str, deadline: float) -> Any | None:
    """Return what `find` finds once no operation is under way with it; None when it is not, or no longer, there.

    What somebody else began (or a run of ours that was killed) must end before Azure takes anything new.
    Raises TimedOut.
    """
    told = False
    while (found := find()) is not None and (state := state_of(found)) in _UNDER_WAY:
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: still {state} by another operation; wait for it to end, then run again")
        if not told:
            _log.info("%s: %s by another operation; waiting for it to end", what, state)
            told = True
        time.sleep(_ASK_AGAIN_SEC)
    return found


def unhindered(act: Callable[[], _Result], find: Callable[[], Any | None], what: str, deadline: float) -> _Result:
    """Do what Azure refuses (409) while something else is under way, and again once that has ended.

    `find` finds the thing whose state tells. Where it tells of nothing under way, a few refusals are believed to be
    meant. Raises Conflict or TimedOut then, and whatever else `act` raises.
    """
    refusals = 0
    while True:
        try:
            return act()
        except Conflict as conflict:
            found = find()
            busy = found is not None and state_of(found) in _UNDER_WAY
            refusals = 0 if busy else refusals + 1
            if refusals >= _MOST_REFUSALS:
                raise
            if time.monotonic() >= deadline:
                raise TimedOut(f"{what}: still refused when the time was over: {conflict}") from conflict
            _log.info("%s; trying again once it has ended", conflict)
            settled(find, what, deadline)
            time.sleep(pause_sec(refusals))


def pause_sec(tries: int) -> float:
    """Return how long to wait after so many tries: growing, and not the same for all who wait."""
    return float(min(_ASK_AGAIN_SEC * 2 ** max(0, tries - 1), _LONGEST_PAUSE_SEC) * random.uniform(0.5, 1))


def state_of(entity: Any) -> str:
    """Return the provisioning state of the SDK's entity, in lower case."""
    state: str = entity.provisioning_state or ""  # often an enumeration whose str() is its member's name
    return state.lower()


def _status(poller: LROPoller[Any]) -> str:
    return str(poller.status() or "in progress")
