"""Services of the plane itself: kept running, restarted with growing pauses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from azureml_local.exceptions import PlaneError
from azureml_local.runtime.children import Child

LOGGER = logging.getLogger(__name__)

FIRST_PAUSE_SEC = 0.5
LONGEST_PAUSE_SEC = 30.0
# A process that has lived this long has recovered: its next failure begins with the shortest pause again.
STEADY_SEC = 60.0


def next_pause_sec(pause_sec: float, lived_sec: float) -> float:
    """Return the pause before the next start."""
    return FIRST_PAUSE_SEC if lived_sec >= STEADY_SEC else min(pause_sec * 2, LONGEST_PAUSE_SEC)


class Service:
    """One process that must run as long as the plane does."""

    def __init__(self, name: str, start: Callable[[], Awaitable[Child]]) -> None:
        self.name = name
        self._start = start
        self.child: Child | None = None
        self.restarts = 0
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and keep it running from now on."""
        self.child = await self._start()
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        pause_sec = FIRST_PAUSE_SEC / 2
        while self.child is not None:
            started = time.monotonic()
            code = await self.child.wait()
            # What it started may live on, and hold its ports.
            await self.child.stop(grace_sec=0)
            pause_sec = next_pause_sec(pause_sec, time.monotonic() - started)
            LOGGER.error("%s ended with status %s; starting it again in %.1f s", self.name, code, pause_sec)
            await asyncio.sleep(pause_sec)
            self.restarts += 1
            try:
                self.child = await self._start()
            except (PlaneError, OSError) as error:
                # The ended child is still the child, so the next round waits no longer than its pause.
                LOGGER.error("%s: cannot be started: %s", self.name, error)

    async def stop(self, grace_sec: float = 5.0) -> None:
        """Stop it for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.child is not None:
            await self.child.stop(grace_sec)
