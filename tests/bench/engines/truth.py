"""The server of known behaviour, compiled and running, and what it says about itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "server"
# CMake ties a build to its sources, so every checkout has a folder of its own.
_OWN = f"known_server-{os.getuid()}-{hashlib.sha256(bytes(SOURCES.resolve())).hexdigest()[:12]}"
BUILD = Path(os.environ.get("KNOWN_SERVER_BUILD", Path(tempfile.gettempdir()) / _OWN))


@cache
def compiled() -> Path:
    """Compile the server (again, where its sources changed) and return the program."""
    for command in (
        ["cmake", "-S", str(SOURCES), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", str(BUILD), "--target", "known_server", "--", "-j2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return BUILD / "known_server"


@dataclass
class KnownServer:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    written: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> dict[str, Any]:
        """End it; return its own figures: requests, cpu_sec, service_time_us {p50, p95, p99, max}."""
        self.process.terminate()
        self.process.wait(timeout=30)
        figures: dict[str, Any] = json.loads(self.written.read_text())
        return figures


@contextmanager
def known_server(*flags: str, prefix: tuple[str, ...] = ()) -> Iterator[KnownServer]:
    """Start the server on a free port, with `prefix` before its command; end it afterwards whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "figures.json"
        command = [*prefix, str(compiled()), *flags, "--json", str(written)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield KnownServer(process, int(process.stdout.readline().split()[-1]), written)
            finally:
                process.terminate()
