"""What the plane does in the background goes on, and ends, whatever happens to one part of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from azureml_local import supervisor
from azureml_local.models.store import Resource
from azureml_local.plane import Plane


def deployment(plane: Plane) -> Resource:
    serving: dict[str, Any] = {"properties": {}, "sku": {}}
    identity = f"{plane.endpoint_id('my-endpoint')}/deployments/blue"
    return Resource(id=identity, properties={"provisioningState": "Succeeded"}, internal={"serving": serving})


class Fleet:
    """Servers that only note that they were stopped."""

    class spec:
        max_queue_wait_sec, request_timeout_sec = 60.0, 60.0

    def __init__(self) -> None:
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True


def test_a_replaced_generation_ends_with_the_plane(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane.gateway, "old_workers", lambda: 1)
    fleet = Fleet()

    async def stop_while_it_drains() -> None:
        replacing = asyncio.create_task(plane._replace(fleet, deployment(plane)))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        replacing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await replacing

    asyncio.run(stop_while_it_drains())
    assert fleet.stopped


def test_a_deployment_that_cannot_be_restored_keeps_nothing_else_from_starting(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def roll(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(plane.deployments, "roll", roll)
    resource = plane.store.put(deployment(plane))
    asyncio.run(plane._restore_deployment(resource))
    assert plane.store.get(resource.id).provisioning_state == "Failed"


def test_a_deployment_that_is_deleted_while_it_is_restored_leaves_no_servers(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet()
    resource = plane.store.put(deployment(plane))

    async def roll(*_: Any) -> None:
        plane.store.remove(resource.id)
        plane.deployments.fleets[resource.id.lower()] = fleet  # type: ignore[assignment]

    async def apply() -> None:
        pass

    monkeypatch.setattr(plane.deployments, "roll", roll)
    monkeypatch.setattr(plane.deployments, "_changed", apply)
    asyncio.run(plane._restore_deployment(resource))
    assert fleet.stopped and plane.deployments.fleets == {}


def test_a_deployment_whose_endpoint_goes_while_it_rolls_leaves_no_servers(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Fleet(), Fleet()
    resource = plane.store.put(deployment(plane))

    async def roll(*_: Any) -> Fleet:
        plane.store.remove(resource.id)
        plane.deployments.fleets[resource.id.lower()] = new  # type: ignore[assignment]
        return old

    async def apply() -> None:
        pass

    monkeypatch.setattr(plane.deployments, "roll", roll)
    monkeypatch.setattr(plane.deployments, "_changed", apply)

    async def live() -> None:
        operation = plane.apply_deployment(resource)
        await plane._tasks[operation.id]
        assert operation.status == "Failed" and operation.error is not None
        assert operation.error["code"] == "OperationCanceled"

    asyncio.run(asyncio.wait_for(live(), 60))
    assert old.stopped and new.stopped and plane.deployments.fleets == {}


def test_what_a_deletion_has_overtaken_does_not_say_how_the_resource_is(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(plane, "_do_deployment", wait)

    async def live() -> None:
        plane.store.put(Resource(id=plane.endpoint_id("my-endpoint"), properties={}))
        resource = plane.store.put(deployment(plane))
        put = plane.apply_deployment(resource)
        await asyncio.sleep(0)
        task = plane._tasks[put.id]
        seen: list[str] = []

        async def remove(_: str) -> None:
            seen.append(resource.provisioning_state)

        async def apply() -> None:
            pass

        monkeypatch.setattr(plane.deployments, "remove", remove)
        monkeypatch.setattr(plane, "apply_gateway", apply)
        deletion = plane.delete_deployment(resource)
        await plane._tasks[deletion.id]
        await task
        assert seen == ["Deleting"] and (put.status, deletion.status) == ("Failed", "Succeeded")

    asyncio.run(asyncio.wait_for(live(), 60))


def test_sampling_goes_on_after_a_sample_that_failed(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PERIOD_SEC", 0.01)
    rounds = 0
    again = asyncio.Event()

    class Sampler:
        def sample(self) -> None:
            nonlocal rounds
            rounds += 1
            if rounds > 1:
                again.set()
            raise OSError("No space left on device")

    async def live() -> None:
        sampling = asyncio.create_task(supervisor._sample(plane, Sampler()))  # type: ignore[arg-type]
        try:
            await asyncio.wait_for(again.wait(), 10)
        finally:
            await supervisor._cancel(sampling)

    asyncio.run(live())
