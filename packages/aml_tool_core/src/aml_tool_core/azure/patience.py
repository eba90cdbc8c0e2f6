"""How the SDKs try again: through a hiccup of the service, but not all at one moment, and never past the tool's limit.

azure-core's own retry policy does the work: which answers, which methods, Retry-After, growing pauses. It has no jitter
and waits as long as the service says, be it a day; both are decided where it sleeps, in the transport. So is what a
single call may take.
"""

from __future__ import annotations

import random
import time
from typing import Any

from azure.core.pipeline.transport import RequestsTransport

from aml_tool_core.azure.failures import WaitTooLong

# Pauses of 0, 1, 2, 4 and 8 s, unless the service says when to ask again.
RETRIES: dict[str, Any] = {
    "retry_total": 10,
    "retry_connect": 4,
    "retry_read": 4,
    "retry_status": 5,
    "retry_backoff_factor": 0.5,
    "retry_backoff_max": 30,
}
_CONNECT_SEC, _READ_SEC = 30, 120  # azure-core's default is five minutes each
_LAST_CALL_SEC = 5.0  # so long a call may take when the time is over: what stands then is still asked for
_LONGEST_WAIT_SEC = 120.0
_LONGEST_POLL_SEC = 60.0
_JITTER = 0.25  # at most so much longer: never earlier than the service asked for


class Transport(RequestsTransport):  # type: ignore[misc]  # azure-core loads it lazily, without a type
    """azure-core's transport, whose sleeps have jitter and, like its calls, an end. Clients may share one."""

    def __init__(self, deadline: float | None = None) -> None:
        """`deadline` is a time of `time.monotonic()`; without one a single wait is bounded."""
        super().__init__(connection_timeout=_CONNECT_SEC, read_timeout=_READ_SEC)
        self._deadline = deadline

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request, and wait for its answer no longer than there is time."""
        if self._deadline is not None:
            left_sec = max(self._deadline - time.monotonic(), _LAST_CALL_SEC)
            for name, longest_sec in (("connection_timeout", _CONNECT_SEC), ("read_timeout", _READ_SEC)):
                options[name] = min(options.get(name, longest_sec), left_sec)
        return super().send(request, **options)

    def sleep(self, duration: float) -> None:
        """Wait about so long. Raises WaitTooLong where the service asks for more than there is, or the time is over.

        The latter ends a poller: azure-core's thread would go on asking, without a pause, for as long as the tool runs.
        """
        left_sec = _LONGEST_WAIT_SEC if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        if left_sec <= 0 or (duration > left_sec and duration > _LONGEST_POLL_SEC):
            raise WaitTooLong(duration, left_sec)
        time.sleep(min(duration * random.uniform(1, 1 + _JITTER), left_sec))
