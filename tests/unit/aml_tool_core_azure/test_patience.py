"""The SDKs wait as long as the service asks, a little more, and never longer than the tool may."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from aml_tool_core.azure import operation, patience
from aml_tool_core.azure.failures import Conflict, TimedOut, WaitTooLong, asking
from aml_tool_core.azure.operation import pause_sec, unhindered
from aml_tool_core.azure.patience import Transport
from azure.core.pipeline.transport import RequestsTransport
from azure.core.polling import LROPoller, NoPolling


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in place of sleeping."""
    waits: list[float] = []
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=time.monotonic, sleep=waits.append))
    return waits


def test_sleeps_are_as_asked_or_a_little_more(slept: list[float]) -> None:
    for _ in range(50):
        Transport().sleep(4)
    assert all(4 <= wait <= 5 for wait in slept)
    assert len(set(slept)) > 1, "all would come back at one moment"


def test_a_long_wait_that_fits_is_waited(slept: list[float]) -> None:
    Transport(time.monotonic() + 900).sleep(300)
    assert 300 <= slept[0] <= 375


@pytest.mark.parametrize("deadline_in_sec", [None, 30, 3000])
def test_a_wait_that_does_not_fit_is_an_error_at_once(deadline_in_sec: float | None, slept: list[float]) -> None:
    deadline = None if deadline_in_sec is None else time.monotonic() + deadline_in_sec
    with pytest.raises(WaitTooLong, match=r"Azure asks to wait 3600 s, and \d+ s are left; run again later"):
        Transport(deadline).sleep(3600)
    assert slept == []
    with pytest.raises(TimedOut, match="endpoint e: Azure asks to wait"), asking("endpoint e"):
        raise WaitTooLong(3600, 30)


def test_a_poll_waits_no_longer_than_there_is_time(slept: list[float]) -> None:
    Transport(time.monotonic() + 2).sleep(30)
    assert slept[0] <= 2


@pytest.mark.parametrize("asked_sec", [0.5, 30, 3600])
def test_when_the_time_is_over_nothing_is_waited_for(asked_sec: float, slept: list[float]) -> None:
    with pytest.raises(WaitTooLong):
        Transport(time.monotonic() - 1).sleep(asked_sec)
    assert slept == []


@pytest.mark.parametrize(
    ("left_sec", "given", "connect_sec", "read_sec"),
    [
        (None, {}, None, None),
        (9000, {}, 30, 120),
        (60, {}, 30, 60),
        (60, {"connection_timeout": 1}, 1, 60),
        (-5, {}, 5, 5),
    ],
)
def test_a_call_takes_no_longer_than_there_is_time(
    left_sec: float | None, given: Any, connect_sec: float | None, read_sec: float | None, monkeypatch: Any
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(RequestsTransport, "send", lambda _self, _request, **options: sent.append(options))
    Transport(None if left_sec is None else time.monotonic() + left_sec).send(object(), **given)
    for name, wanted_sec in (("connection_timeout", connect_sec), ("read_timeout", read_sec)):
        assert sent[0].get(name) == (None if wanted_sec is None else pytest.approx(wanted_sec, abs=5))


class Unending(NoPolling[None]):
    """Asks and sleeps as azure-core's own polling does; the operation has no end."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.transport = transport
        self.polls = 0

    def run(self) -> None:
        while True:
            self.polls += 1
            self.transport.sleep(0.05)

    def status(self) -> str:
        return "InProgress"

    def finished(self) -> bool:
        return False


def test_an_operation_that_is_not_done_in_time_is_asked_for_no_longer() -> None:
    deadline = time.monotonic() + 0.3
    polling = Unending(Transport(deadline))
    poller: LROPoller[None] = LROPoller(None, None, lambda _: None, polling)
    with pytest.raises(TimedOut, match=r"it: not done after 0 s \(InProgress\); raise --timeout_sec"):
        operation.finish(poller, "it", deadline)
    thread = poller._thread
    assert thread is not None
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert polling.polls < 10


def test_pauses_grow_and_differ() -> None:
    for tries, longest in ((0, 2), (1, 2), (2, 4), (3, 8), (9, 30)):
        pauses = {pause_sec(tries) for _ in range(20)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 1


class Busy:
    """A thing that refuses for a while: first because of what is under way, then for no reason that it tells."""

    def __init__(self, under_way: int, unexplained: int) -> None:
        self.states = ["Updating"] * under_way
        self.unexplained = unexplained
        self.done = 0

    def act(self) -> str:
        if self.states or self.unexplained:
            self.unexplained -= not self.states
            raise Conflict("Azure answered 409")
        self.done += 1
        return "done"

    def find(self) -> Any:
        return SimpleNamespace(provisioning_state=self.states.pop() if self.states else "Succeeded")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "_ASK_AGAIN_SEC", 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("under_way", "unexplained"), [(0, 0), (1, 0), (9, 0), (0, 2), (6, 2)])
def test_what_is_refused_for_a_while_is_done_once(under_way: int, unexplained: int) -> None:
    busy = Busy(under_way, unexplained)
    assert unhindered(busy.act, busy.find, "it", time.monotonic() + 60) == "done"
    assert busy.done == 1


@pytest.mark.usefixtures("quick")
def test_a_refusal_that_nothing_explains_is_believed() -> None:
    busy = Busy(0, 99)
    with pytest.raises(Conflict):
        unhindered(busy.act, busy.find, "it", time.monotonic() + 60)
    assert busy.unexplained == 96


@pytest.mark.usefixtures("quick")
def test_a_refusal_ends_with_the_time() -> None:
    busy = Busy(500, 99)
    with pytest.raises(TimedOut, match="it: still "):
        unhindered(busy.act, busy.find, "it", time.monotonic())
