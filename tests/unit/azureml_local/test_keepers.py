"""What keeps services and instances running goes on when a start itself fails."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from azureml_local.exceptions import PlaneError
from azureml_local.processes import ProcessTable
from azureml_local.runtime import service
from azureml_local.runtime.children import Child, Children
from azureml_local.runtime.instances import Fleet
from azureml_local.runtime.service import Service

LIMIT_SEC = 30


@pytest.mark.parametrize("failure", [OSError("no such file"), PlaneError("127.0.0.1:1: in use")])
def test_a_service_that_could_not_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(service, "FIRST_PAUSE_SEC", 0.02)
    children = Children("test", ProcessTable(tmp_path / "processes.json"))
    starts = 0

    async def start() -> Child:
        nonlocal starts
        starts += 1
        if starts == 2:
            raise failure
        code = "pass" if starts == 1 else "import time; time.sleep(60)"
        return await children.start("test", [sys.executable, "-c", code], log=tmp_path / "log", env={})

    async def live() -> None:
        kept = Service("test", start)
        await kept.start()
        try:
            deadline = time.monotonic() + LIMIT_SEC
            while starts < 3 and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            assert starts == 3
        finally:
            await kept.stop(grace_sec=0)

    asyncio.run(live())


class Unstartable:
    """An instance whose first start the operating system refuses."""

    name = "blue-0"
    child = None
    ready = False
    starts = 0

    async def start(self) -> None:
        self.starts += 1
        if self.starts == 1:
            raise FileNotFoundError("bin/python")

    def out_of_memory(self) -> None:
        return None

    async def wait_ready(self, _client: Any) -> None:
        self.ready = True

    async def stop(self, grace_sec: float = 0) -> None:
        self.ready = False


def test_an_instance_that_could_not_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_PAUSE_SEC", 0.02)
    became_ready = asyncio.Event()

    class Spec:
        endpoint_name, name, instance_count = "endpoint", "blue", 0

    async def live() -> None:
        async def changed() -> None:
            became_ready.set()

        fleet = Fleet(Spec(), None, None, None, changed)  # type: ignore[arg-type]
        fleet.instances = [Unstartable()]  # type: ignore[list-item]
        fleet.keep()
        try:
            await asyncio.wait_for(became_ready.wait(), LIMIT_SEC)
        finally:
            await fleet.stop()

    asyncio.run(live())
