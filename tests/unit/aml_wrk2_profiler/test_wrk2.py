"""The upstream wrk2's command line, and what it prints, on a recording of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import InputError, ToolError
from aml_tool_core.profiling import Artifacts, Load, LoadModel, Plan
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.target import target_of
from aml_wrk2_profiler.command import PROFILER
from aml_wrk2_profiler.wrk2 import command, parse, spectrum

# 200 requests/s over 16 connections for 14 s, against a server that answers after 5.04 ms.
RECORDING = (Path(__file__).parent / "recordings" / "wrk2.txt").read_text()


def plan(uri: str = "http://h.example:8080/score?code=s3cr3t", **load: Any) -> Plan:
    settings = {"scoring_uri": uri, "scoring_headers": {"Authorization": "Bearer t0k3n"}}
    defaults: dict[str, Any] = {
        "duration_sec": 14, "connections": 16, "threads": 1, "timeout_sec": 10.0, "target_rps": 200.0
    }  # fmt: skip
    return Plan(
        target_of(settings, "t.json"), Payload((b"1",), "p"), Load(LoadModel.OPEN, **defaults | load), "t/1",
        config_source="c.json",
    )  # fmt: skip


def artifacts(stdout: str = RECORDING, **changes: Any) -> Artifacts:
    document = {
        "duration_us": 14_001_526, "requests": 2_800, "bytes": 240_800, "sent": 2_816, "bytes_written": 8,
        "errors": {"connect": 0, "read": 0, "write": 0, "status": 3, "timeout": 0},
        "status": {"200": 2_797, "503": 3}, "answers": {"0": 190, "13": 200}, "failures": {"13": 3}, "latency_us": [],
    }  # fmt: skip
    return Artifacts(stdout, {"output.json": json.dumps(document | changes)}, cpu_sec=0.7)


def test_the_default_engine_needs_no_upstream_binary() -> None:
    assert next(iter(PROFILER.engines)) == "metronome"
    assert "connection" in PROFILER.engines["metronome"].command(plan(), Path("/private")).arguments


def test_the_command_line_holds_nothing_secret() -> None:
    made = command(plan(), Path("/private"))
    assert made.arguments == (
        "--threads", "1", "--connections", "16", "--duration", "14s", "--timeout", "10s", "--rate", "200",
        "--latency", "--u_latency", "--script", "/private/profiler.lua", "http://h.example:8080/",
        "--", "/private/requests.bin", str(len(made.files["requests.bin"])), "/private/output.json", "1",
    )  # fmt: skip
    assert b"POST /score?code=s3cr3t HTTP/1.1\r\n" in made.files["requests.bin"]


def test_a_rate_that_is_not_whole_is_refused() -> None:
    with pytest.raises(InputError, match=r"^c.json: /profiler_config/target_rps: 0.5: engine wrk2 takes whole numbers"):
        command(plan(target_rps=0.5), Path("/private"))


def test_both_histograms_of_the_recording_are_read() -> None:
    result = parse(plan(), artifacts())
    assert result.service_time is not None
    assert (result.latency.total, result.service_time.total) == (783, 783)
    # What wrk2 printed: 5.63 ms, 6.37 ms, 7.08 ms at most; uncorrected mean 5.066 ms.
    assert result.latency.percentile(50).value_us == pytest.approx(5_630, abs=5)
    assert result.latency.percentile(99).value_us == pytest.approx(6_370, abs=10)
    assert result.latency.max_us == pytest.approx(7_080, abs=5)
    assert (result.latency.mean_us, result.latency.stdev_us) == (5_649, 349)
    assert (result.service_time.mean_us, result.service_time.stdev_us) == (5_066, 17)
    assert result.service_time.percentile(50).value_us == pytest.approx(5_071, abs=5)


def test_counts_come_from_the_script() -> None:
    result = parse(plan(), artifacts())
    assert (result.planned, result.sent, result.completed, result.succeeded) == (2_800, 2_816, 2_800, 2_797)
    assert result.errors.status == {503: 3}
    assert result.requests_per_sec == pytest.approx(199.98, abs=0.01)
    assert (result.timeline[13].requests_per_sec, result.timeline[13].errors) == (200, 3)
    assert result.schedule is None, "wrk2 does not tell"


def test_what_wrk2_cannot_do_is_said() -> None:
    notes = parse(plan(), artifacts()).notes
    assert "a millisecond too high" in notes[0]
    assert notes[1].startswith("the first 10 s calibrate wrk2")
    assert len(notes) == 2
    assert "wrk2 needs 10 s to calibrate itself" in parse(plan(duration_sec=10), artifacts()).notes[1]
    late = artifacts(errors={"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 4})
    assert "not a number of requests" in parse(plan(), late).notes[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "printed no histogram of its recorded latency"),
        (RECORDING.partition("#[Mean")[0], "its histogram of the recorded latency breaks off"),
        (RECORDING.replace("Uncorrected", "Other"), "printed no histogram of its uncorrected latency"),
    ],
)
def test_output_that_is_not_whole_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        parse(plan(), artifacts(text))


def test_an_empty_histogram_is_empty() -> None:
    nothing = "(HdrHistogram - Recorded Latency)\n       0.000     1.000000            0          inf\n"
    assert spectrum(nothing + "#[Mean    =        0.000, StdDeviation   =        0.000]", "Recorded").total == 0
