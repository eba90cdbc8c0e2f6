"""Child processes: started with our mark, written down, and ended whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from azureml_local.processes import OWNER_VARIABLE, ProcessIdentity, ProcessTable, identify, send, session_members, tree


class Child:
    """A running child and its log."""

    def __init__(self, role: str, process: asyncio.subprocess.Process, table: ProcessTable) -> None:
        self.role = role
        self.process = process
        self.identity: ProcessIdentity | None = identify(process.pid)
        self._table = table
        self._waiter = asyncio.create_task(self._wait())

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def _wait(self) -> int:
        code = await self.process.wait()
        self._table.remove(self.process.pid)
        return code

    async def wait(self) -> int:
        """Wait for the end; return the exit status."""
        return await asyncio.shield(self._waiter)

    async def stop(self, grace_sec: float, first: signal.Signals = signal.SIGTERM) -> None:
        """End the child and its descendants: asked first, killed after the grace time."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(first)
        deadline = asyncio.get_running_loop().time() + grace_sec
        while self.running and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        # The child leads a session of its own, so its orphans are found there even when it is gone.
        for member in {*session_members(self.pid), *self._descendants()}:
            send(member, signal.SIGKILL)
        await self.wait()

    def _descendants(self) -> list[ProcessIdentity]:
        return tree(self.identity) if self.identity else []


class Children:
    """Starts children for one home."""

    def __init__(self, home_id: str, table: ProcessTable) -> None:
        self._home_id = home_id
        self._table = table

    async def start(
        self, role: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> Child:
        """Start a child in its own session, its output appended to `log`."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**env, OWNER_VARIABLE: self._home_id},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self._table.add(role, process.pid)
        return Child(role, process, self._table)
