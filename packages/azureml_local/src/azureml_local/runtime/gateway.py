"""The gateway process: HAProxy, reloaded without dropping a connection."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from azureml_local.exceptions import PlaneError
from azureml_local.files import write_atomic
from azureml_local.home import Home
from azureml_local.runtime.children import Child, Children
from azureml_local.runtime.haproxy_config import OWN_FRONTEND, EndpointRoutes, GatewayFiles, render
from azureml_local.runtime.service import Service

RELOAD_LIMIT_SEC = 15.0
# Tokens are verified with http_auth_bearer and jwt_verify, which came with 2.5, a version that is no longer maintained.
OLDEST_VERSION = (2, 6)


def find_haproxy() -> str:
    """Return HAProxy's path; raises PlaneError."""
    # Debian installs it where the PATH of an ordinary user may not look.
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise PlaneError("haproxy: not found on PATH; install it (Debian, Ubuntu: apt-get install haproxy)")
    told = subprocess.run([found, "-v"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\d+)\.(\d+)", told)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise PlaneError(
            f"{found}: {told.splitlines()[0] if told else 'no version'}; version {oldest} or newer is needed"
        )
    return found


class Gateway:
    """HAProxy in master-worker mode and its configuration."""

    def __init__(self, home: Home, children: Children, files: GatewayFiles) -> None:
        self._haproxy = find_haproxy()
        self._home = home
        self._children = children
        self._files = files
        self._config_path = home.gateway_dir / "haproxy.cfg"
        self._generation = 0
        self._lock = asyncio.Lock()
        self.service = Service("gateway", self._start_process)

    async def _start_process(self) -> Child:
        return await self._children.start(
            "gateway",
            [self._haproxy, "-W", "-f", str(self._config_path)],
            log=self._home.logs_dir / "gateway.log",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    async def start(self) -> None:
        """Start HAProxy without endpoints."""
        async with self._lock:
            await self._write(())
            await self.service.start()
            await self._wait_in_force()

    async def apply(self, endpoints: tuple[EndpointRoutes, ...], keys: Mapping[Path, tuple[str, ...]]) -> None:
        """Put routes and keys into force; returns once new connections meet them."""
        async with self._lock:
            for path, values in keys.items():
                write_atomic(path, "".join(f"{value}\n" for value in values), 0o600)
            for path in self._home.gateway_dir.glob("*.keys"):
                if path not in keys:
                    path.unlink()
            await self._write(endpoints)
            child = self.service.child
            if child is not None and child.running:
                child.process.send_signal(signal.SIGUSR2)
            await self._wait_in_force()

    async def _write(self, endpoints: tuple[EndpointRoutes, ...]) -> None:
        self._generation += 1
        candidate = self._config_path.with_suffix(".next")
        write_atomic(candidate, render(endpoints, self._files, self._generation), 0o600)
        check = await asyncio.create_subprocess_exec(
            self._haproxy,
            "-c",
            "-f",
            str(candidate),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await check.communicate()
        if check.returncode != 0:
            raise PlaneError(f"{candidate}: HAProxy refuses it: {output.decode(errors='replace').strip()[-2000:]}")
        candidate.replace(self._config_path)

    async def _wait_in_force(self) -> None:
        wanted = f"description: generation-{self._generation}"
        deadline = asyncio.get_running_loop().time() + RELOAD_LIMIT_SEC
        while asyncio.get_running_loop().time() < deadline:
            # Before Python 3.11 asyncio's TimeoutError is no OSError.
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                if wanted in (await self.ask("show info")).splitlines():
                    return
            await asyncio.sleep(0.02)
        log = self._home.logs_dir / "gateway.log"
        raise PlaneError(f"the gateway has not taken its new configuration in {RELOAD_LIMIT_SEC:g} s; see {log}")

    async def ask(self, command: str) -> str:
        """Send one command to HAProxy's admin socket and return the answer."""
        reader, writer = await asyncio.open_unix_connection(str(self._files.admin_socket))
        try:
            writer.write(f"{command}\n".encode())
            await writer.drain()
            return (await asyncio.wait_for(reader.read(-1), 5)).decode(errors="replace")
        finally:
            writer.close()

    async def frontend_counters(self) -> dict[str, tuple[int, int, int]]:
        """Return, by endpoint, the connections now, the connections ever, and the bytes in both directions ever."""
        return {
            row["pxname"]: (int(row["scur"]), int(row["conn_tot"] or 0), int(row["bin"]) + int(row["bout"]))
            for row in await self._statistics(1)
            if row["pxname"] != OWN_FRONTEND
        }

    async def server_counters(self) -> dict[str, tuple[int, int]]:
        """Return, by instance, the bytes that went to it and the bytes that came from it ever."""
        return {row["svname"]: (int(row["bin"]), int(row["bout"])) for row in await self._statistics(4)}

    async def _statistics(self, kind: int) -> list[dict[str, str]]:
        """Return the rows of "show stat": 1 is frontends, 4 is servers (management guide, 9.3)."""
        answer = await self.ask(f"show stat -1 {kind} -1")
        return list(csv.DictReader(io.StringIO(answer.lstrip("# "))))

    def old_workers(self) -> int:
        """Count the workers that still finish requests under an earlier configuration."""
        child = self.service.child
        if child is None or not child.running:
            return 0
        try:
            return max(0, len(psutil.Process(child.pid).children()) - 1)
        except psutil.NoSuchProcess:
            return 0

    async def stop(self) -> None:
        """Stop HAProxy."""
        await self.service.stop(grace_sec=2.0)
