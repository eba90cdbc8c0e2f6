"""What the search tells while it runs: JSON lines from the worker's process to the tool's."""

from __future__ import annotations

import json
from typing import Any, TextIO

# Kinds, and what comes with each:
#   accelerators names        the accelerators that will be searched, in order
#   points       accelerator, count   how many points the search will try for it
#   step         accelerator, number, point   a search point begins
#   pass         name, type   a pass begins
#   measured     number, metrics, pruned, reason   a search point is done; why it was pruned, "" where not known
#   warning      text         Olive's own warning
#   failure      text         a pass, an evaluation or an accelerator failed, and why
#   refused      text         the environment or the configuration cannot be used
#   done         the search has come to its end
Event = dict[str, Any]


class Channel:
    """The worker's end: one JSON object per line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, kind: str, **what: Any) -> None:
        """Send one event now."""
        self._stream.write(json.dumps({"kind": kind, **what}, default=str) + "\n")
        self._stream.flush()


def parse(line: bytes) -> Event | None:
    """Return the event of a line; None for a line that is none (a library writing to the channel)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
