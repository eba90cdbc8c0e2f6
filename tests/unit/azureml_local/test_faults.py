"""Faults are queued, strike the calls that they match so often as they should, and leave all others alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from azureml_local import tokens
from azureml_local.application import arm_application, identity_application
from azureml_local.exceptions import DeploymentError, InvalidRequestError, OperationCanceledError
from azureml_local.models.faults import Fault, Faults, known_faults, parse_fault
from azureml_local.models.store import Operation, Resource
from azureml_local.plane import Plane
from starlette.testclient import TestClient

FAULTS, CALLS = "/azureml_local/faults", "/azureml_local/calls"
ENDPOINT = "/subscriptions/s/resourceGroups/g/providers/P/workspaces/w/onlineEndpoints/e"


@pytest.fixture
def api(plane: Plane) -> Iterator[TestClient]:
    token = tokens.issue(plane.secrets.signing_key, plane.settings.arm_url).value
    with TestClient(
        arm_application(plane), headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "pattern", "call", "matches"),
    [
        ("*", "**", ("GET", "/metadata/endpoints"), True),
        ("PUT", "onlineEndpoints/*", ("PUT", ENDPOINT), True),
        ("PUT", "onlineendpoints/*", ("PUT", ENDPOINT), True),
        ("PUT", "onlineEndpoints/*", ("GET", ENDPOINT), False),
        ("*", "onlineEndpoints/*", ("PUT", f"{ENDPOINT}/deployments/blue"), False),
        ("*", "onlineEndpoints/**", ("PUT", f"{ENDPOINT}/deployments/blue"), True),
        ("*", "deployments/b*", ("PUT", f"{ENDPOINT}/deployments/blue"), True),
        ("*", "deployments/b*", ("PUT", f"{ENDPOINT}/deployments/green"), False),
        ("*", "eployments/*", ("PUT", f"{ENDPOINT}/deployments/blue"), False),
        ("*", "/MSI/auth", ("GET", "/MSI/auth"), True),
        ("*", "/auth", ("GET", "/MSI/auth"), False),
    ],
)
def test_which_calls_are_meant(method: str, pattern: str, call: tuple[str, str], matches: bool) -> None:
    assert Fault(method=method, path=pattern, status=500).matches(*call) is matches


def test_a_fault_strikes_as_often_as_it_should() -> None:
    faults = Faults()
    faults.add(parse_fault({"status": 503, "times": 2, "skip": 1}))
    struck = [faults.of_request("GET", "/a") is not None for _ in range(5)]
    assert struck == [False, True, True, False, False]


def test_the_first_that_matches_strikes_and_of_its_kind_only() -> None:
    faults = Faults()
    faults.add(parse_fault({"operation": "fail"}))
    first = faults.add(parse_fault({"status": 503, "times": None}))
    faults.add(parse_fault({"status": 504}))
    assert faults.of_request("PUT", "/a") is first
    assert faults.of_container("/a") is None
    assert faults.of_operation("PUT", "/a") is not None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "needs status, drop, operation, container or delay_sec"),
        ({"status": 200}, "status must be a status from 400 to 599, not 200"),
        ({"status": "500"}, "status must be"),
        ({"status": 500, "drop": "after"}, "has one effect, not status and drop"),
        ({"drop": "never"}, "drop must be one of before, after, not 'never'"),
        ({"status": 500, "times": 0}, "times must be a whole number from 1, or null, not 0"),
        ({"status": 500, "times": True}, "times must be"),
        ({"status": 500, "skip": -1}, "skip must be"),
        ({"delay_sec": 1e9}, "delay_sec must be seconds from 0 to 3600"),
        ({"delay_sec": 1, "path": ""}, "path must be a line of text"),
        ({"status": 500, "statuss": 1}, "has no statuss"),
        ({"name": "nonsense"}, "no known fault 'nonsense'; there are throttled, "),
        ({"name": ["throttled"]}, "no known fault ['throttled']"),
        ({"drop": ["before"]}, "drop must be one of before, after, not ['before']"),
        ({"drop": "before", "retry_after_sec": 5}, "retry_after_sec is of an answer: it needs a status"),
        ({"delay_sec": 1, "retry_after_sec": 5}, "retry_after_sec is of an answer: it needs a status"),
        ({"operation": "slow"}, "operation slow needs delay_sec"),
        ({"container": "slow", "delay_sec": 0}, "container slow needs delay_sec"),
    ],
)
def test_faults_that_are_refused(body: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_fault(body)
    assert says in refusal.value.message


@pytest.mark.parametrize("name", list(known_faults()))
def test_known_faults_are_faults(name: str) -> None:
    fault = parse_fault({"name": name, "times": 3})
    assert fault.times == 3
    assert known_faults()[name]["what"]


def test_an_answer_of_azures_shape(plane: Plane, api: TestClient) -> None:
    queued = api.post(FAULTS, json={"name": "throttled", "path": "workspaces/*"})
    assert queued.status_code == 201
    assert queued.json()["struck"] == 0
    refused = api.get(plane.workspace_id)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "TooManyRequests"
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["x-ms-request-id"]
    assert api.get(plane.workspace_id).status_code == 200
    (told,) = api.get(FAULTS).json()["value"]
    assert told["struck"] == 1


def test_less_than_a_second_is_azures_own_header(plane: Plane, api: TestClient) -> None:
    api.post(FAULTS, json={"name": "throttled", "retry_after_sec": 0.05})
    refused = api.get(plane.workspace_id)
    assert refused.headers["retry-after-ms"] == "50"
    assert "Retry-After" not in refused.headers


def test_calls_can_be_read_back_without_secrets(plane: Plane, api: TestClient) -> None:
    identity = TestClient(identity_application(plane))
    query = {"resource": plane.settings.arm_url, "clientid": "a-client"}
    identity.get("/MSI/auth", params=query, headers={"secret": plane.secrets.identity_secret})
    api.get(plane.workspace_id.lower())
    api.get(plane.workspace_id, headers={"Authorization": "Bearer nonsense"})
    asked, right, wrong = api.get(CALLS).json()["value"]
    assert (asked["method"], asked["path"], asked["status"]) == ("GET", "/MSI/auth", 200)
    assert "clientid=a-client" in asked["query"]
    assert right["path"].endswith("/Microsoft.MachineLearningServices/workspaces/local-ws")
    assert (right["status"], wrong["status"]) == (200, 401)
    assert set(asked) == {"number", "at", "method", "path", "query", "status", "ended", "fault"}
    api.delete(CALLS)
    assert api.get(CALLS).json() == {"value": []}


def test_the_control_route_needs_a_token_and_has_no_faults(plane: Plane, api: TestClient) -> None:
    assert TestClient(arm_application(plane)).get(FAULTS).status_code == 401
    made = api.post(FAULTS, json={"status": 500, "times": None}).json()
    assert api.get(FAULTS).status_code == 200
    assert api.delete(f"{FAULTS}/{made['id']}").status_code == 204
    assert api.delete(f"{FAULTS}/{made['id']}").status_code == 404
    assert api.get(plane.workspace_id).status_code == 200
    assert "crash_in_init" in api.get(f"{FAULTS}/known").json()["value"]


def test_the_identity_may_be_struck_too(plane: Plane, api: TestClient) -> None:
    api.post(FAULTS, json={"name": "no_identity"})
    identity = TestClient(identity_application(plane))
    headers = {"secret": plane.secrets.identity_secret}
    query = {"resource": plane.settings.arm_url}
    assert identity.get("/MSI/auth", params=query, headers=headers).status_code == 400
    assert identity.get("/MSI/auth", params=query, headers=headers).status_code == 200


def attended(plane: Plane, verb: str, fault: dict[str, Any]) -> tuple[Operation, Resource, list[str]]:
    """Let an operation run with a fault; return it, its resource, and what was done."""
    plane.faults.add(parse_fault(fault))
    resource = plane.store.put(Resource(id=plane.endpoint_id("my-ep"), properties={"provisioningState": "Creating"}))
    operation = plane.store.start_operation(verb, resource.id)
    done: list[str] = []

    async def work(_: Operation) -> None:
        done.append("work")

    asyncio.run(plane._attend(operation, work))
    return operation, resource, done


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [("fail", "Failed", []), ("fail_midway", "Failed", ["work"]), ("cancel", "Canceled", [])],
)
@pytest.mark.parametrize("verb", ["endpoint", "deployment"])
def test_operations_that_do_not_succeed(verb: str, kind: str, status: str, done: list[str], plane: Plane) -> None:
    operation, resource, work = attended(plane, verb, {"method": "PUT", "operation": kind, "code": "OutOfLuck"})
    assert (operation.status, resource.provisioning_state, work) == (status, status, done)
    assert operation.error == {"code": "OutOfLuck", "message": "A fault that was asked for."}


def test_a_deletion_that_fails_leaves_a_resource_that_is_not_deleting(plane: Plane) -> None:
    operation, resource, work = attended(plane, "delete-endpoint", {"method": "DELETE", "operation": "fail"})
    assert (operation.status, resource.provisioning_state, work) == ("Failed", "Failed", [])


def test_a_fault_of_another_call_does_not_strike_an_operation(plane: Plane) -> None:
    operation, _, work = attended(plane, "endpoint", {"method": "DELETE", "operation": "fail"})
    assert (operation.status, work) == ("Succeeded", ["work"])


def test_an_operation_hangs_until_the_fault_is_removed(plane: Plane) -> None:
    async def hang() -> list[str]:
        plane.faults.add(parse_fault({"operation": "hang"}))
        operation = plane.store.start_operation("endpoint", plane.endpoint_id("my-ep"))
        done: list[str] = []

        async def work(_: Operation) -> None:
            done.append("work")

        task = asyncio.create_task(plane._attend(operation, work))
        await asyncio.sleep(0.05)
        assert not task.done() and not done
        plane.faults.clear()
        await asyncio.wait_for(task, 10)
        return done

    assert asyncio.run(hang()) == ["work"]


def test_removing_a_fault_ends_its_delay() -> None:
    async def delay() -> float:
        faults = Faults()
        queued = faults.add(parse_fault({"delay_sec": 600}))
        begun = time.monotonic()
        waiting = asyncio.create_task(queued.delay())
        await asyncio.sleep(0.01)
        faults.clear()
        await asyncio.wait_for(waiting, 60)
        return time.monotonic() - begun

    assert asyncio.run(delay()) < 60


def test_a_cancellation_is_a_failure_of_its_own() -> None:
    assert issubclass(OperationCanceledError, DeploymentError)


def test_a_body_whose_properties_are_no_object_is_refused(plane: Plane, api: TestClient) -> None:
    for body in ({"properties": 5}, {"properties": {"properties": 5}}):
        answer = api.put(f"{plane.workspace_id}/models/m/versions/1", json=body)
        assert answer.status_code == 400, answer.text
