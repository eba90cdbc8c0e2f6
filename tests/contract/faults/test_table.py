"""For each fault and each tool: the exit code, the one line, and what stands afterwards.

The table is the tests: a row is a fault (or several), what the tool makes of it, and what is there in the end. All
rows run with AML_FAULTS=all; else the long ones are left out.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud, TinyDeployment
    from tests.contract.faults.conftest import Control, Ended, Run, Tools

ENDPOINT = "onlineEndpoints/*"
DEPLOYMENT = "onlineEndpoints/*/deployments/*"
OPERATION = "mfeOperationsStatus/*"
IDENTITY = "/MSI/auth"
PROGRAM = {
    "deployer": "aml_online_endpoints_deployer",
    "deleter": "aml_online_endpoints_deleter",
    "profiler": "profiler",
}
ALWAYS = None
SOON = {"retry_after_sec": 0.05}
LATER = {"retry_after_sec": 3600}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    fault: str
    code: int
    says: str = ""  # a regular expression of the one line, or of the log where the code is 0
    keys: dict[str, Any] | None = None  # what differs from the known fault
    flags: tuple[str, ...] = ()
    stands: bool = False  # after a failure of the deployer; of the deleter: whether the endpoint does
    log: str = ""  # a regular expression of the lines before
    late: bool = False  # queued when the traffic has been moved
    long: bool = False  # only with AML_FAULTS=all

    @property
    def id(self) -> str:
        keys = {**(self.keys or {})}
        where = str(keys.get("path", "")).rstrip("/*").rpartition("/")[2]
        often = {ALWAYS: "always", 1: ""}.get(keys.get("times", 1), f"x{keys.get('times')}")
        return "-".join(part for part in (self.fault, keys.get("method", ""), where, often) if part)


def rows(*found: Row) -> pytest.MarkDecorator:
    marked = [pytest.param(row, id=row.id, marks=[pytest.mark.long] if row.long else []) for row in found]
    return pytest.mark.parametrize("row", marked)


def check(row: Row, tool: str, ended: Ended) -> None:
    assert ended.code == row.code, ended.log
    if row.code:
        assert ended.line.startswith(f"{PROGRAM[tool]}: error: "), ended.log
        assert re.search(row.says, ended.error), ended.log
        assert ended.log.count(": error: ") == 1, ended.log
    else:
        assert ": error: " not in ended.log
        assert re.search(row.says, ended.log), ended.log
    assert re.search(row.log, ended.log), ended.log
    print(f"{tool:<9} {row.id:<44} exit {ended.code}  {ended.error or ended.line.partition(': ')[2]}")


# The deployer: an endpoint with one deployment, neither of which is there.

PUT_ENDPOINT = {"method": "PUT", "path": ENDPOINT}
PUT_DEPLOYMENT = {"method": "PUT", "path": DEPLOYMENT}


@rows(
    Row("throttled", 0, keys={**PUT_ENDPOINT, **SOON, "times": 3}, long=True),
    Row(
        "throttled",
        1,
        "creation: Azure answered 429: TooManyRequests: .*; wait, then run again",
        keys={**PUT_ENDPOINT, **SOON, "times": ALWAYS},
    ),
    Row("throttled", 1, "creation: Azure asks to wait 3600 s, and .* s are left", keys={**PUT_ENDPOINT, **LATER}),
    Row("unavailable", 0, keys={**PUT_DEPLOYMENT, **SOON, "times": 2}, long=True),
    Row(
        "unavailable",
        1,
        r"endpoint \S+: Azure answered 503: ServiceUnavailable: .*; run again later",
        keys={"method": "GET", "path": ENDPOINT, **SOON, "times": ALWAYS},
    ),
    Row("internal_error", 0, keys={**PUT_ENDPOINT, "times": 2}, long=True),
    Row("token_expired", 1, "deployment blue: creation: the Azure token has expired", keys=PUT_DEPLOYMENT),
    Row(
        "forbidden",
        1,
        "creation: Azure answered 403: AuthorizationFailed: .*; give the identity the role Contributor",
        keys=PUT_ENDPOINT,
    ),
    Row("conflict", 0, log="trying again once it has ended", keys={**PUT_DEPLOYMENT}, long=True),
    Row("conflict", 1, "creation: Azure answered 409: Conflict: ", keys={**PUT_ENDPOINT, "times": ALWAYS}, long=True),
    Row("slow_answer", 0, keys={**PUT_ENDPOINT, "delay_sec": 0.5}, long=True),
    Row("dropped", 0, keys=PUT_ENDPOINT),
    Row("dropped", 0, keys={"method": "GET", "path": OPERATION, "times": 2}, long=True),
    Row("answer_lost", 0, keys=PUT_ENDPOINT, long=True),
    Row("answer_lost", 0, keys=PUT_DEPLOYMENT),
    Row("operation_slow", 0, keys={**PUT_ENDPOINT, "delay_sec": 0.5}, long=True),
    Row("operation_fails", 1, r"endpoint \S+: creation: failed: InternalServerError: ", keys=PUT_ENDPOINT),
    Row(
        "operation_fails_midway",
        1,
        "deployment blue: creation: failed: InternalServerError: ",
        keys=PUT_DEPLOYMENT,
        long=True,
    ),
    Row("operation_canceled", 1, "deployment blue: creation: failed: OperationCanceled: ", keys=PUT_DEPLOYMENT),
    Row(
        "operation_hangs",
        1,
        "deployment blue: creation: not done after .*; raise --timeout_sec",
        keys=PUT_DEPLOYMENT,
        flags=("--timeout_sec", "25"),  # room for what comes before it, on a busy machine
        long=True,
    ),
    Row(
        "operation_hangs",
        1,
        r"endpoint \S+: creation: not done after .*; raise --timeout_sec",
        keys=PUT_ENDPOINT,
        flags=("--timeout_sec", "6"),
    ),
    Row("operation_fails", 1, "traffic .*: failed: InternalServerError", keys={**PUT_ENDPOINT, "skip": 1}, long=True),
    Row("out_of_capacity", 1, "failed: OutOfCapacity: .*; run again later, or take another instance_type or region"),
    Row("out_of_quota", 1, "failed: OutOfQuota: .*; ask for more quota", long=True),
    Row(
        "crash_in_init",
        1,
        "creation: failed: ResourceNotReady: ",
        log="end of its container's log:(.|\n)*RuntimeError: a fault that was asked for",
    ),
    Row("hang_in_init", 1, "creation: not done after ", flags=("--timeout_sec", "25"), long=True),
    Row("slow_init", 0, keys={"delay_sec": 1}, long=True),
    Row("no_identity", 1, "no Azure identity: ", keys={"times": ALWAYS}),
)
def test_deployer(row: Row, fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any) -> None:
    fault = control.add(row.fault, **(row.keys or {}))
    ended = tools.run("deployer", fresh.folder, *deployer_flags, *row.flags)
    check(row, "deployer", ended)
    assert control.struck(fault) >= 1
    if (row.keys or {}).get("method") == "GET":
        control.clear()  # the looks that follow are GETs too
    stands = control.stands(fresh.endpoint_name)
    if row.code == 0:
        assert stands == {"": "Succeeded", "blue": "Succeeded"}
        assert control.described(fresh.endpoint_name)["properties"]["traffic"] == {"blue": 100}
        assert fresh.settings.exists()
    else:
        assert stands == {}
        assert not fresh.settings.exists()
    assert not fresh.note.exists()


@pytest.mark.long  # test_again.py has one that is stopped and cannot remove
def test_deployer_whose_removal_fails_too_leaves_a_note_that_removes_it(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    control.add("out_of_capacity")
    control.add("forbidden", method="DELETE", times=None)
    ended = tools.run("deployer", fresh.folder, *deployer_flags)
    assert ended.code == 1
    assert "OutOfCapacity" in ended.error
    assert re.search(
        r"still stands \(.*403.*\); to remove it: python -m aml_online_endpoints_deleter --config_path", ended.log
    )
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded", "blue": "Failed"}
    assert fresh.note.exists()
    control.clear()
    removed = tools.run("deleter", fresh.folder, "--config_path", str(fresh.note), "--delete_endpoint", "True")
    assert removed.code == 0, removed.log
    assert control.stands(fresh.endpoint_name) == {}


# The deployer: a new deployment on an endpoint that somebody else has, with a deployment that has all the traffic.

SWITCH = ("--traffic", "100")
LOOK_AT_LAST = {"method": "GET", "path": DEPLOYMENT}


@rows(
    Row("out_of_capacity", 1, "deployment green: creation: failed: OutOfCapacity", flags=SWITCH, long=True),
    Row("token_expired", 1, "the Azure token has expired", keys=PUT_DEPLOYMENT, long=True),
    Row("operation_fails", 1, "traffic .*: failed: InternalServerError", keys=PUT_ENDPOINT, flags=SWITCH),
    Row("operation_canceled", 1, "traffic .*: failed: ", keys=PUT_ENDPOINT, flags=SWITCH, long=True),
    Row("forbidden", 1, r"endpoint \S+: Azure answered 403", keys=LOOK_AT_LAST, flags=SWITCH, late=True, long=True),
    Row(
        "dropped",
        1,
        "cannot be reached",
        keys={**LOOK_AT_LAST, "times": 5},
        flags=("--traffic", "30"),
        late=True,
        long=True,
    ),
    Row("throttled", 1, "asks to wait 3600 s", keys={**LOOK_AT_LAST, **LATER}, flags=SWITCH, late=True, long=True),
)
def test_deployer_on_anothers_endpoint(
    row: Row, green: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    names = ("", "blue")
    before = {name: control.described(green.endpoint_name, name) for name in names}
    assert control.traffic(green.endpoint_name) == {"blue": 100}
    if row.late:
        run = moving_traffic(green, control, tools, *deployer_flags, *row.flags)
        fault = control.add(row.fault, **(row.keys or {}))
        ended = run.wait()
    else:
        fault = control.add(row.fault, **(row.keys or {}))
        ended = tools.run("deployer", green.folder, *deployer_flags, *row.flags)
    check(row, "deployer", ended)
    assert control.struck(fault) >= 1
    control.clear()
    after = {name: control.described(green.endpoint_name, name) for name in names}
    for described in (before[""], after[""]):
        # The update of its traffic may be what failed, and its shares may be 0 or none; the SDK sends back what it has
        # put among the properties.
        for name in ("provisioningState", "traffic", "properties"):
            described["properties"].pop(name)
    assert after == before
    assert control.traffic(green.endpoint_name) == {"blue": 100}
    assert control.stands(green.endpoint_name).keys() == {"", "blue"}
    assert not green.note.exists()


def test_killed_when_it_has_moved_the_traffic_its_note_puts_it_back(
    green: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    run = moving_traffic(green, control, tools, *deployer_flags, *SWITCH)
    run.kill()
    run.wait()
    control.let_go()
    control.settled(green.endpoint_name)
    assert control.traffic(green.endpoint_name) == {"green": 100}
    ended = tools.run("deleter", green.folder, "--config_path", str(green.note), "--delete_endpoint", "True")
    assert ended.code == 0, ended.log
    assert control.stands(green.endpoint_name).keys() == {"", "blue"}
    assert control.traffic(green.endpoint_name) == {"blue": 100}


@pytest.mark.long
def test_killed_when_it_has_moved_the_traffic_and_then_failing_it_puts_it_back(
    green: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    run = moving_traffic(green, control, tools, *deployer_flags, *SWITCH)
    run.kill()
    run.wait()
    control.clear()
    control.settled(green.endpoint_name)
    control.add("crash_in_init")
    ended = tools.run("deployer", green.folder, *deployer_flags, *SWITCH)
    assert ended.code == 1, ended.log
    assert control.stands(green.endpoint_name).keys() == {"", "blue"}
    assert control.traffic(green.endpoint_name) == {"blue": 100}


def moving_traffic(green: TinyDeployment, control: Control, tools: Tools, *flags: str) -> Run:
    """Start the deployer, and return when it waits for the traffic that it moves."""
    held = control.add(**PUT_ENDPOINT, operation="slow", delay_sec=1.5)
    run = tools.start("deployer", green.folder, *flags)
    deadline = time.monotonic() + 60
    while not control.struck(held):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    return run


@pytest.mark.long
def test_deployer_that_another_was_quicker_than(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    """Between its look and its call somebody makes an endpoint of the name: it is theirs, whatever comes."""
    held = control.add(method="PUT", path=ENDPOINT, status=409, code="Conflict", delay_sec=1.5)
    control.add("out_of_capacity")
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    deadline = time.monotonic() + 60
    while not control.struck(held):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    control.endpoint(fresh.endpoint_name, owner="somebody")
    ended = run.wait()
    assert ended.code == 1
    assert "OutOfCapacity" in ended.error
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded"}
    assert control.described(fresh.endpoint_name)["tags"] == {"owner": "somebody"}


# The deleter: an endpoint, without deployments, which are nothing to it.

DELETE = {"method": "DELETE", "path": ENDPOINT}


@rows(
    Row("throttled", 0, keys={**DELETE, **SOON, "times": 3}, long=True),
    Row(
        "throttled",
        1,
        "deletion: Azure answered 429: .*; wait, then run again",
        keys={**DELETE, **SOON, "times": ALWAYS},
        stands=True,
    ),
    Row("throttled", 1, "deletion: Azure asks to wait 3600 s", keys={**DELETE, **LATER}, stands=True),
    Row("unavailable", 0, keys={**DELETE, **SOON}, long=True),
    Row(
        "unavailable",
        1,
        r"endpoint \S+: Azure answered 503",
        keys={**SOON, "method": "GET", "path": ENDPOINT, "times": ALWAYS},
        stands=True,
    ),
    Row("internal_error", 0, keys={**DELETE, "times": 2}, long=True),
    Row("token_expired", 1, "deletion: the Azure token has expired", keys=DELETE, stands=True),
    Row("forbidden", 1, "deletion: Azure answered 403: .* the role Contributor", keys=DELETE, stands=True),
    Row("locked", 1, "deletion: a lock forbids it: ScopeLocked: .*; `az lock list` shows the locks", stands=True),
    Row("conflict", 0, "deleted, and verified gone", log="trying again once it has ended", keys=DELETE),
    Row(
        "conflict",
        1,
        "deletion: Azure answered 409: Conflict: ",
        keys={**DELETE, "times": ALWAYS},
        stands=True,
        long=True,
    ),
    Row("slow_answer", 0, keys={**DELETE, "delay_sec": 0.5}, long=True),
    Row("dropped", 0, keys=DELETE),
    Row("dropped", 0, keys={"method": "GET", "path": ENDPOINT, "times": 2}, long=True),
    Row("answer_lost", 0, keys=DELETE, long=True),
    Row("operation_slow", 0, keys={**DELETE, "delay_sec": 0.5}, long=True),
    Row("operation_fails", 0, log="failed: InternalServerError: .*; trying again", keys=DELETE),
    Row(
        "operation_fails",
        1,
        "deletion: failed: InternalServerError: ",
        keys={**DELETE, "times": ALWAYS},
        stands=True,
        long=True,
    ),
    Row("operation_canceled", 0, log="trying again", keys=DELETE, long=True),
    Row("operation_hangs", 1, "deletion: not done after ", keys=DELETE, flags=("--timeout_sec", "6"), stands=True),
    Row("no_identity", 1, "no Azure identity: ", keys={"times": ALWAYS}, stands=True),
)
def test_deleter(row: Row, control: Control, tools: Tools, tmp_path: Path, doomed: str) -> None:
    fault = control.add(row.fault, **(row.keys or {}))
    settings = written(tmp_path, {"endpoint_name": doomed})
    ended = tools.run("deleter", tmp_path, "--config_path", settings, "--delete_endpoint", "True", *row.flags)
    check(row, "deleter", ended)
    assert control.struck(fault) >= 1
    if (row.keys or {}).get("method") == "GET":
        control.clear()  # the looks that follow are GETs too
    assert bool(control.stands(doomed)) == row.stands


@pytest.fixture
def doomed(control: Control, tmp_path: Path) -> Iterator[str]:
    """The name of an endpoint without deployments."""
    name = f"doomed-{time.monotonic_ns() % 10**9}"
    control.endpoint(name)
    yield name
    control.clear()
    control.settled(name)
    control.delete(name)


# The deleter: a deployment alone, which has part of the traffic, on an endpoint that stays.

DELETE_DEPLOYMENT = {"method": "DELETE", "path": DEPLOYMENT}
PUT_TRAFFIC = {"method": "PUT", "path": ENDPOINT}


@rows(
    Row("operation_fails_midway", 0, log="failed: InternalServerError: .*; trying again", keys=DELETE_DEPLOYMENT),
    Row("locked", 1, "deployment green: deletion: a lock forbids it: ", keys=DELETE_DEPLOYMENT, stands=True, long=True),
    Row("throttled", 0, keys={**DELETE_DEPLOYMENT, **SOON, "times": 3}, long=True),
    Row("answer_lost", 0, keys=DELETE_DEPLOYMENT, long=True),
    Row("dropped", 0, keys=PUT_TRAFFIC, long=True),
    Row("conflict", 0, log="trying again once it has ended", keys=PUT_TRAFFIC, long=True),
    Row("operation_fails", 1, "traffic .*: failed: InternalServerError", keys=PUT_TRAFFIC, stands=True, long=True),
    Row("forbidden", 1, "traffic .*: Azure answered 403", keys=PUT_TRAFFIC, stands=True, long=True),
)
def test_deleter_of_a_deployment_alone(
    row: Row, green: TinyDeployment, cloud: Cloud, control: Control, tools: Tools
) -> None:
    """The answer is the same whatever it serves, so a copy of `blue` will do."""
    cloud.deploy(green.endpoint_name, "green")
    cloud.traffic(green.endpoint_name, {"blue": 70, "green": 30})
    before = control.described(green.endpoint_name, "blue")
    fault = control.add(row.fault, **(row.keys or {}))
    settings = written(green.folder, {"endpoint_name": green.endpoint_name, "deployment_name": "green"})
    ended = tools.run("deleter", green.folder, "--config_path", settings, "--delete_endpoint", "False", *row.flags)
    check(row, "deleter", ended)
    assert control.struck(fault) >= 1
    assert control.described(green.endpoint_name, "blue") == before
    assert control.stands(green.endpoint_name).keys() == {"", "blue"} | ({"green"} if row.stands else set())
    if not row.stands:
        assert control.traffic(green.endpoint_name) == {"blue": 100}


@pytest.mark.long
def test_deleter_of_what_is_half_gone(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    """Its deletion has failed before, when its deployments were gone already, and fails half-way once more."""
    assert tools.run("deployer", fresh.folder, *deployer_flags).code == 0
    control.add("operation_fails_midway", method="DELETE", path=ENDPOINT)
    control.arm.delete(control.endpoint_url(fresh.endpoint_name)).raise_for_status()
    control.settled(fresh.endpoint_name)
    assert control.stands(fresh.endpoint_name) == {"": "Failed"}
    control.add("operation_fails_midway", method="DELETE", path=ENDPOINT)
    ended = tools.run("deleter", fresh.folder, "--config_path", str(fresh.settings), "--delete_endpoint", "True")
    assert ended.code == 0, ended.log
    assert "failed: InternalServerError: The operation failed half-way; trying again" in ended.log
    assert control.stands(fresh.endpoint_name) == {}


def test_deleter_of_what_another_deletes(control: Control, tools: Tools, tmp_path: Path, doomed: str) -> None:
    control.add("operation_slow", method="DELETE", delay_sec=2)
    control.arm.delete(control.endpoint_url(doomed)).raise_for_status()
    settings = written(tmp_path, {"endpoint_name": doomed})
    ended = tools.run("deleter", tmp_path, "--config_path", settings, "--delete_endpoint", "True")
    assert ended.code == 0, ended.log
    assert "deleting by another operation; waiting for it to end" in ended.log
    assert control.stands(doomed) == {}


# The profilers' look at their target: an endpoint with a deployment that stands.

KEYS = {"method": "POST", "path": "onlineEndpoints/*/listKeys"}
LOOK = {"method": "GET", "path": ENDPOINT}


@rows(
    Row("throttled", 0, keys={**LOOK, **SOON, "times": 3}, long=True),
    Row("throttled", 0, keys={**KEYS, "retry_after_sec": 1}, long=True),
    Row("throttled", 1, "Azure answered 429: .*; wait, then run again", keys={**LOOK, **SOON, "times": ALWAYS}),
    Row("throttled", 1, "Azure asks to wait 3600 s, and 120 s are left; run again later", keys={**LOOK, **LATER}),
    Row("unavailable", 0, keys={**KEYS, **SOON}, long=True),
    Row("internal_error", 0, keys={**LOOK, "times": 2}, long=True),
    Row("token_expired", 1, r"endpoint \S+: the Azure token has expired", keys=LOOK),
    Row("forbidden", 1, r"endpoint \S+: credentials: Azure answered 403", keys=KEYS),
    Row("slow_answer", 0, keys={**LOOK, "delay_sec": 0.5}, long=True),
    Row("dropped", 0, keys=LOOK),
    Row("answer_lost", 0, keys=LOOK, long=True),
    Row("no_identity", 1, "no Azure identity: ", keys={"times": ALWAYS}),
)
def test_profilers_resolution(row: Row, control: Control, tools: Tools, tmp_path: Path, standing: str) -> None:
    fault = control.add(row.fault, **(row.keys or {}))
    ended = tools.run("profiler", tmp_path, "--scoring_target_path", target(tmp_path, standing))
    check(row, "profiler", ended)
    assert control.struck(fault) >= 1
    if (row.keys or {}).get("method") == "GET":
        control.clear()  # the looks that follow are GETs too
    assert ended.out.startswith("https://127.0.0.1:") is (row.code == 0)


@pytest.mark.parametrize(
    "profiler", ["wrk", *(pytest.param(name, marks=pytest.mark.long) for name in ("wrk2", "labench"))]
)
def test_a_profiler_ends_as_its_resolution_does(
    profiler: str, control: Control, tools: Tools, tmp_path: Path, standing: str
) -> None:
    """The rows above look at the resolution alone, which is the same code in all three; here they are whole."""
    control.add("forbidden", **KEYS)
    (tmp_path / "load.json").write_text(json.dumps({"version": "1.0", "profiler_config": LOADS[profiler]}))
    (tmp_path / "payload.jsonl").write_text("{}\n")
    flags = ("--config_path", "load.json", "--payload_path", "payload.jsonl")
    ended = tools.run(profiler, tmp_path, *flags, "--scoring_target_path", target(tmp_path, standing))
    assert ended.code == 1, ended.log
    assert re.match(rf"aml_{profiler}_profiler: error: endpoint \S+: credentials: Azure answered 403", ended.line)
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").glob("report*"))


LOADS: dict[str, dict[str, Any]] = {
    "wrk": {"duration_sec": 1, "connections": 1, "threads": 1},
    "wrk2": {"duration_sec": 1, "connections": 1, "threads": 1, "target_rps": 20},
    "labench": {"duration_sec": 1, "target_rps": 20},
}


def test_an_expired_token_says_so(tools: Tools, tmp_path: Path, standing: str) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_000_000_000}).encode()).decode().rstrip("=")
    path = target(tmp_path, standing, identity_access_token=f"header.{claims}.signature")
    ended = tools.run("profiler", tmp_path, "--scoring_target_path", path)
    assert ended.code == 1
    assert "identity_access_token: expired at 2001-09-09T01:46:40Z; get a new one" in ended.error
    assert claims not in ended.log


def test_the_user_assigned_identity_is_asked_for(control: Control, tools: Tools, tmp_path: Path, standing: str) -> None:
    identity = "11112222-3333-4444-5555-666677778888"
    path = target(tmp_path, standing)
    ended = tools.run("profiler", tmp_path, "--scoring_target_path", path, DEFAULT_IDENTITY_CLIENT_ID=identity)
    assert ended.code == 0, ended.log
    (asked,) = control.calls("GET", IDENTITY)
    assert f"clientid={identity}" in asked["query"]
    control.add("no_identity", times=None)
    refused = tools.run("profiler", tmp_path, "--scoring_target_path", path, DEFAULT_IDENTITY_CLIENT_ID=identity)
    assert refused.code == 1
    assert f"check DEFAULT_IDENTITY_CLIENT_ID={identity}" in refused.error


def written(folder: Path, settings: dict[str, Any]) -> str:
    path = folder / "settings.json"
    path.write_text(json.dumps({"version": "1.0", "deployment_settings": settings}))
    return str(path)


def target(folder: Path, endpoint: str, **settings: str) -> str:
    return written(folder, {"endpoint_name": endpoint, "deployment_name": "blue", **settings})
