"""Computes' nodes: each runs one job at a time, and jobs wait for theirs in the order of their submission."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """How many nodes of each compute are busy."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()
        self._queues: dict[str, list[object]] = {}
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, compute: str, capacity: int, canceled: asyncio.Event, nodes: int = 1) -> AsyncIterator[bool]:
        """Wait for so many nodes and keep them; yields False, without any, when the job is canceled first."""
        ticket = object()
        queue = self._queues.setdefault(compute, [])
        queue.append(ticket)
        try:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: canceled.is_set() or (queue[0] is ticket and self._busy[compute] + nodes <= capacity)
                )
        finally:
            queue.remove(ticket)
        if canceled.is_set():
            await self.wake()
            yield False
            return
        self._busy[compute] += nodes
        await self.wake()
        try:
            yield True
        finally:
            self._busy[compute] -= nodes
            await self.wake()

    async def wake(self) -> None:
        """Let all that wait look again."""
        async with self._changed:
            self._changed.notify_all()
