"""Long-running operations of Azure: waited for with progress, and never longer than a limit."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from aml_tool_core.azure import sdk_output
from aml_tool_core.azure.failures import asking
from aml_tool_core.errors import ToolError

if TYPE_CHECKING:
    from azure.core.polling import LROPoller

_log = logging.getLogger("aml_tool_core.azure")
_PROGRESS_SEC = 15.0
_Result = TypeVar("_Result")


class TimedOut(ToolError):
    """The operation is still under way when its limit is over."""


def finish(poller: LROPoller[_Result], what: str, deadline: float) -> _Result:
    """Wait until the operation ends, logging progress, and return its result.

    `deadline` is a time of `time.monotonic()`. Raises TimedOut, or ToolError with the service's cause.
    """
    begun = time.monotonic()
    with asking(what), sdk_output.diverted():
        while not poller.done():
            left_sec = deadline - time.monotonic()
            if left_sec <= 0:
                waited = time.monotonic() - begun
                raise TimedOut(f"{what}: not done after {waited:.0f} s ({_status(poller)}); raise --timeout_sec")
            poller.wait(min(_PROGRESS_SEC, left_sec))
            if not poller.done():
                _log.info("%s: %s, %.0f s", what, _status(poller), time.monotonic() - begun)
        return poller.result()


def _status(poller: LROPoller[Any]) -> str:
    return str(poller.status() or "in progress")
