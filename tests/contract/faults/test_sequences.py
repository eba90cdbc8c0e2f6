"""Random faults, random runs: nothing is orphaned that the tools do not tell of, and nobody else's things are touched.

AML_FAULT_SEQUENCES says how many sequences (default 3), AML_FAULT_SEED which is the first.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud, TinyDeployment
    from tests.contract.faults.conftest import Control, Ended, Tools

SEQUENCES = int(os.environ.get("AML_FAULT_SEQUENCES", "3"))
FIRST_SEED = int(os.environ.get("AML_FAULT_SEED", "1"))
SOON = {"retry_after_sec": 0.05}
# What may strike, and how: the times and places are drawn.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("throttled", SOON),
    ("throttled", {"retry_after_sec": 3600}),
    ("unavailable", SOON),
    ("internal_error", {}),
    ("token_expired", {}),
    ("forbidden", {}),
    ("conflict", {}),
    ("locked", {}),
    ("slow_answer", {"delay_sec": 0.3}),
    ("dropped", {}),
    ("answer_lost", {}),
    ("operation_slow", {"delay_sec": 0.3}),
    ("operation_fails", {}),
    ("operation_fails_midway", {}),
    ("operation_canceled", {}),
    ("operation_hangs", {}),
    ("out_of_capacity", {}),
    ("out_of_quota", {}),
    ("crash_in_init", {}),
    ("hang_in_init", {}),
    ("slow_init", {"delay_sec": 0.5}),
    ("no_identity", {}),
]
PLACES = ("onlineEndpoints/*", "onlineEndpoints/*/deployments/*", "mfeOperationsStatus/*", "models/*/versions/*")
METHODS = ("GET", "PUT", "DELETE", "*")
TIMEOUT = ("--timeout_sec", "8")
OLD = "old-ep"
# An update whose container hangs goes on without the deployer, for five minutes by the default probe.
PATIENCE = "readiness_probe: {initial_delay: 1, period: 1, timeout: 2, success_threshold: 1, failure_threshold: 60}\n"


@dataclass
class Sequence:
    """One sequence: its dice, its folder, what has happened."""

    dice: random.Random
    tiny: TinyDeployment
    control: Control
    tools: Tools
    flags: tuple[str, ...]
    on_old: bool
    share: int | None  # of the traffic, asked for on the old endpoint
    switched: bool = False  # a run has come to its good end
    log: str = ""
    events: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """What the tools have left that says what stands."""
        return sorted(self.tiny.note.parent.glob("deployment_settings*.json"))

    def queue_faults(self) -> None:
        for _ in range(self.dice.randint(0, 3)):
            name, keys = self.dice.choice(FAULTS)
            drawn: dict[str, Any] = {**keys, "times": self.dice.choice((1, 1, 1, 2, 4, None))}
            if name not in ("out_of_capacity", "out_of_quota", "crash_in_init", "hang_in_init", "slow_init"):
                if name != "no_identity":
                    drawn["path"] = self.dice.choice(PLACES)
                if name not in ("no_identity", "locked"):
                    drawn["method"] = self.dice.choice(METHODS)
                drawn["skip"] = self.dice.choice((0, 0, 0, 1, 2, 4))
            self.control.add(name, **drawn)
            self.events.append(f"fault {name} {drawn}")

    def deploy(self) -> None:
        """Run the deployer, or begin to and end it by a signal."""
        number = self.dice.choice((None, None, None, signal.SIGKILL, signal.SIGTERM))
        share = () if self.share is None else ("--traffic", str(self.share))
        run = self.tools.start("deployer", self.tiny.folder, *self.flags, *share, *TIMEOUT)
        if number is not None:
            end = time.monotonic() + self.dice.uniform(0.2, 3)
            while run.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            run.kill(number)
        self.ended(f"deploy {share} {number.name if number else ''}", run.wait())
        self.switched |= self.tiny.settings.exists()

    def delete(self) -> None:
        """Run the deleter with what the tools have left."""
        if self.files:
            file = self.dice.choice(self.files)
            whole = "False" if self.on_old else self.dice.choice(("True", "False"))
            flags = ("--config_path", str(file), "--delete_endpoint", whole, *TIMEOUT)
            self.ended(f"delete {file.name} {whole}", self.tools.run("deleter", self.tiny.folder, *flags))

    def ended(self, what: str, ended: Ended) -> None:
        self.events.append(f"{what}: {ended.code} {ended.line}")
        self.log = ended.log
        # -15: the signal has come before the tool was there to take it.
        assert ended.code in (0, 1, -9, -15, 143), ended.log

    def is_told(self, endpoint: str) -> bool:
        """Tell whether a file names the endpoint, or the last run has said that it stands."""
        documents = (json.loads(file.read_text()) for file in self.files)
        names = {str(document["deployment_settings"]["endpoint_name"]) for document in documents}
        return endpoint in names or f"endpoint {endpoint} was there before this run, and stands" in self.log


@pytest.fixture(scope="module")
def old(cloud: Cloud, session_control: Control) -> Iterator[dict[str, Any]]:
    """Somebody else's endpoint with a deployment; what the service says of it."""
    cloud.endpoint(OLD)
    cloud.deploy(OLD, "old")
    cloud.traffic(OLD, {"old": 100})
    yield {name: session_control.described(OLD, name) for name in ("", "old")}
    session_control.delete(OLD)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEQUENCES))
def test_sequence(
    seed: int,
    fresh: TinyDeployment,
    control: Control,
    tools: Tools,
    deployer_flags: tuple[str, ...],
    old: dict[str, Any],
    cloud: Cloud,
) -> None:
    dice = random.Random(seed)
    on_old = dice.random() < 0.3
    if on_old:
        for name in ("endpoint.yml", "deployment.yml"):
            path = fresh.folder / name
            path.write_text(path.read_text().replace(f"name: {fresh.endpoint_name}\n", f"name: {OLD}\n"))
    with (fresh.folder / "deployment.yml").open("a") as stream:
        stream.write(PATIENCE)
    endpoint = OLD if on_old else fresh.endpoint_name
    others = {"", "old"} if on_old else set()
    share = dice.choice((None, 40, 100)) if on_old else None
    sequence = Sequence(dice, fresh, control, tools, deployer_flags, on_old, share)
    try:
        for _ in range(dice.randint(1, 3)):
            sequence.queue_faults()
            dice.choices((sequence.deploy, sequence.delete), (3, 1))[0]()
            # What was asked for goes on for a moment without who asked; then what stands must be known.
            control.let_go()
            control.settled(endpoint)
            made = set(control.stands(endpoint)) - others
            sequence.events.append(f"stands: {control.stands(endpoint)}, files: {[one.name for one in sequence.files]}")
            assert not made or sequence.is_told(endpoint), "an orphan that nobody tells of"
        control.clear()
        # Without faults, what was told can be deleted: all that the tools have made, and only that. Of what a run has
        # found and left, the user names it.
        named = fresh.folder / "named.json"
        names = {"endpoint_name": endpoint, "deployment_name": "blue"}
        named.write_text(json.dumps({"version": "1.0", "deployment_settings": names}))
        for file in (*sequence.files, named):
            whole = "False" if on_old and "partial" not in file.name else "True"
            ended = tools.run("deleter", fresh.folder, "--config_path", str(file), "--delete_endpoint", whole)
            sequence.ended(f"at last, delete {file.name} {whole}", ended)
            assert ended.code == 0, ended.log
        assert set(control.stands(endpoint)) == others, "an orphan"
        # Who was given all of the traffic and is deleted leaves none to the others; else they have what they had.
        given_away = sequence.switched and share == 100
        assert control.traffic(OLD) in ([{"old": 100}, {}] if given_away else [{"old": 100}])
        for name, before in old.items():
            assert comparable(control.described(OLD, name)) == comparable(before), "somebody else's thing was touched"
    except AssertionError:
        print(f"seed {seed}:", *sequence.events, sep="\n  ")
        raise
    finally:
        control.clear()
        for name in set(control.stands(OLD)) - {"", "old"}:  # after a failure, for the sequences that follow
            control.arm.delete(f"{control.endpoint_url(OLD)}/deployments/{name}")
        control.settled(OLD)
        if control.traffic(OLD) != {"old": 100}:
            cloud.traffic(OLD, {"old": 100})
        shutil.rmtree(fresh.note.parent, ignore_errors=True)


def comparable(described: dict[str, Any]) -> dict[str, Any]:
    """Leave out an endpoint's traffic and the state of its last update, which are the tools' to make."""
    # "properties": what the SDK adds when it reads an endpoint, and sends back.
    left_out = ("provisioningState", "traffic", "properties")
    return {**described, "properties": {k: v for k, v in described["properties"].items() if k not in left_out}}
