"""wrk's command line, and what its output means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import ToolError
from aml_tool_core.profiling import Artifacts, Load, LoadModel, Plan
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.target import target_of
from aml_tool_core.profiling.wrk_script import usable_threads
from aml_wrk_profiler.wrk import command, parse

FOLDER = Path("/private")


def plan(uri: str = "http://h.example:8080/score?code=s3cr3t", **load: Any) -> Plan:
    settings = {"scoring_uri": uri, "scoring_headers": {"Authorization": "Bearer t0k3n"}}
    defaults: dict[str, Any] = {"duration_sec": 3, "connections": 4, "threads": 2, "timeout_sec": 10.0}
    return Plan(target_of(settings, "t.json"), Payload((b"1",), "p"), Load(LoadModel.CLOSED, **defaults | load), "t/1")


def test_the_command_line_holds_nothing_secret() -> None:
    made = command(plan(), FOLDER)
    assert made.arguments == (
        "--threads", "2", "--connections", "4", "--duration", "3s", "--timeout", "10s",
        "--script", "/private/profiler.lua", "http://h.example:8080/",
        "--", "/private/requests.bin", str(len(made.files["requests.bin"])), "/private/output.json", "2",
    )  # fmt: skip
    assert b"Authorization: Bearer t0k3n\r\n" in made.files["requests.bin"]
    assert b"POST /score?code=s3cr3t HTTP/1.1\r\n" in made.files["requests.bin"]


@pytest.mark.parametrize(
    ("connections", "threads", "usable"), [(10, 3, 2), (10, 5, 5), (7, 4, 1), (8, 8, 8), (1, 1, 1)]
)
def test_threads_share_the_connections_evenly(connections: int, threads: int, usable: int) -> None:
    load = plan(connections=connections, threads=threads).load
    assert usable_threads(load) == usable


def output(**changes: Any) -> Artifacts:
    document = {
        "duration_us": 3_000_000, "requests": 1_000, "bytes": 9, "sent": 1_003, "bytes_written": 8,
        "errors": {"connect": 0, "read": 0, "write": 0, "status": 20, "timeout": 0},
        "status": {"200": 980, "429": 20}, "answers": {"0": 330, "1": 340, "2": 330}, "failures": {"1": 20},
        "latency_us": [[11_900, 1000]],
    }  # fmt: skip
    return Artifacts("", {"output.json": json.dumps(document | changes)}, cpu_sec=0.6)


def test_output_becomes_a_result() -> None:
    result = parse(plan(), output())
    assert (result.sent, result.completed, result.succeeded) == (1_003, 1_000, 980)
    assert result.errors.status == {429: 20}
    assert result.latency.counts == ((11_900, 1000),)
    assert result.service_time is None, "in a closed loop it is the latency"
    assert [second.errors for second in result.timeline] == [0, 20, 0]
    assert result.generator is not None
    assert result.generator.cpu_percent_of_threads == pytest.approx(10)
    assert result.requests_per_sec == pytest.approx(333.33, abs=0.01)


def test_latencies_that_wrk_made_up_are_taken_out() -> None:
    # 1,000 requests over 4 connections in 3 s: 12 ms apart; one of 40 ms, for which wrk invents 28 ms and 16 ms.
    reported = [[11_900, 999], [16_000, 1], [28_000, 1], [40_000, 1]]
    assert parse(plan(), output(latency_us=reported)).latency.counts == ((11_900, 999), (40_000, 1))


@pytest.mark.parametrize("latency_us", [[[11_900, 998]], [[11_900, 1001]], [[11_900, 999], [40_000, 3]]])
def test_counts_that_do_not_add_up_are_refused(latency_us: list[list[int]]) -> None:
    with pytest.raises(ToolError, match=r"1000 requests were answered in time but its histogram holds"):
        parse(plan(), output(latency_us=latency_us))


def test_an_answer_that_no_request_waited_for_is_told_of() -> None:
    result = parse(plan(), output(latency_us=[[11_900, 999]]))
    assert (result.completed, result.latency.total) == (1_000, 999)
    assert "answers that no request waited for: 1;" in " ".join(result.notes)


def test_answers_beyond_the_timeout_are_no_successes() -> None:
    late = output(errors={"connect": 0, "read": 0, "write": 0, "status": 20, "timeout": 5}, latency_us=[[11_900, 995]])
    result = parse(plan(), late)
    assert (result.completed, result.succeeded, result.errors.timeout) == (1_000, 975, 5)


def test_what_wrk_does_otherwise_than_asked_is_noted() -> None:
    assert parse(plan(), output()).notes == ()
    odd = plan("https://h.example/", connections=10, threads=3)
    threads, tls = parse(odd, output(latency_us=[[5_000, 1000]])).notes
    assert threads.startswith("2 thread(s) were used instead of 3")
    assert tls.startswith("wrk does not verify TLS certificates")
