"""The upstream LaBench's YAML file, and what it prints and leaves, on recordings of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from aml_labench_profiler.command import PROFILER
from aml_labench_profiler.labench import CONFIG_FILE, HISTOGRAM_FILE, command, histogram, parse
from aml_tool_core import InputError, ToolError
from aml_tool_core.profiling import Artifacts, Load, LoadModel, Plan
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.target import target_of
from aml_tool_core.profiling.verdict import judge

# 200 requests/s over 16 clients for 10 s, against a server that answers after 5.04 ms.
RECORDINGS = Path(__file__).parent / "recordings"
PRINTED = (RECORDINGS / "labench.txt").read_text()
HGRM = (RECORDINGS / "res.hgrm").read_text()


def plan(bodies: tuple[bytes, ...] = ('{"a": "é: $"}'.encode(),), headers: Any = None, **load: Any) -> Plan:
    settings = {
        "scoring_uri": "http://h.example:8080/score?code=s3cr3t",
        "scoring_headers": {"Authorization": "Bearer t0k3n"} if headers is None else headers,
    }
    defaults: dict[str, Any] = {
        "duration_sec": 10, "connections": 16, "threads": 1, "timeout_sec": 2.5, "target_rps": 200.0
    }  # fmt: skip
    return Plan(
        target_of(settings, "t.json"), Payload(bodies, "p"), Load(LoadModel.OPEN, **defaults | load), "t/1", "ca.pem",
        config_source="c.json", target_source="t.json",
    )  # fmt: skip


def artifacts(stdout: str = PRINTED, hgrm: str | None = HGRM) -> Artifacts:
    return Artifacts(stdout, {} if hgrm is None else {HISTOGRAM_FILE: hgrm}, cpu_sec=1.0)


def test_the_default_engine_needs_no_upstream_binary() -> None:
    assert next(iter(PROFILER.engines)) == "metronome"
    assert "clock" in PROFILER.engines["metronome"].command(plan(), Path("/private")).arguments


def test_the_command_line_holds_a_path_and_the_file_the_rest() -> None:
    made = command(plan(), Path("/private"))
    assert made.arguments == ("/private/labench.yaml",)
    assert made.env == {"SSL_CERT_FILE": str(Path("ca.pem").absolute())}
    assert yaml.safe_load(made.files[CONFIG_FILE]) == {
        "RequestRatePerSec": 200,
        "Clients": 16,
        "Duration": "10s",
        "RequestTimeout": "2500ms",
        "ReuseConnections": True,
        "OutputJSON": True,
        "Request": {
            "URL": "http://h.example:8080/score?code=s3cr3t",
            "HTTPMethod": "POST",
            "Headers": {"User-Agent": "t/1", "Content-Type": "application/json", "Authorization": "Bearer t0k3n"},
            "Body": '{"a": "é: $"}',
        },
    }


def test_without_a_payload_it_is_a_get_without_body() -> None:
    request = yaml.safe_load(command(plan(bodies=()), Path("/private")).files[CONFIG_FILE])["Request"]
    assert request["HTTPMethod"] == "GET"
    assert "Body" not in request
    assert "Content-Type" not in request["Headers"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_rps": 0.5}, r"^c.json: /profiler_config/target_rps: 0.5: engine labench takes whole numbers only"),
        ({"headers": {"X-Key": "a$b"}}, r"^t.json: /deployment_settings/scoring_headers/X-Key: engine labench cannot"),
        ({"headers": {"host": "other"}}, r"^t.json: /deployment_settings/scoring_headers/host: engine labench cannot"),
    ],
)
def test_what_labench_cannot_send_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        command(plan(**changes), Path("/private"))


def test_the_recording_is_read() -> None:
    result = parse(plan(), artifacts())
    assert (result.planned, result.sent, result.completed, result.succeeded) == (2_000, 2_000, 2_000, 2_000)
    assert result.requests_per_sec == pytest.approx(199.99, abs=0.01)
    assert result.latency.total == 2_000
    assert result.latency.percentile(50).value_us == pytest.approx(5_243, rel=1e-3)
    assert result.latency.percentile(99.9).value_us == pytest.approx(5_767, rel=1e-3)
    assert result.latency.max_us == pytest.approx(6_291, rel=1e-3)
    assert result.service_time is None, "LaBench tells one latency"
    assert result.schedule is not None
    assert (result.schedule.timely_sends_percent, result.schedule.late, result.schedule.missed) == (100, 0, 0)


def test_dropped_ticks_are_missed_sends_and_make_the_run_invalid() -> None:
    printed = PRINTED.replace('"SuccessTotal":2000', '"SuccessTotal":1880').replace(
        '"SendsTimely":2000', '"SendsTimely":1870'
    )
    result = parse(plan(), artifacts(printed))
    assert result.schedule is not None
    assert (result.schedule.timely_sends_percent, result.schedule.late, result.schedule.missed) == (93.5, 10, 120)
    assert judge(plan().load, result).reasons[0].startswith("93.50 % of the requests were sent on time (10 late, 120 n")


def test_errors_are_sorted_by_what_go_says() -> None:
    errors = (
        '"Errors":{"503":3,"Expected 200 got 429":2,"201":4,'
        '"Post \\"http://h/\\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)":5,'
        '"Post \\"http://h/\\": dial tcp 127.0.0.1:1: connect: connection refused":6,"Post \\"http://h/\\": EOF":7,'
        '"Post \\"http://h/\\": write tcp 127.0.0.1:5->127.0.0.1:1: write: broken pipe":8}'
    )
    printed = PRINTED.replace('"Errors":{}', errors).replace('"ErrorTotal":0', '"ErrorTotal":35')
    result = parse(plan(), artifacts(printed))
    kinds = result.errors
    assert (kinds.connect, kinds.read, kinds.write, kinds.timeout) == (6, 7, 8, 5)
    assert kinds.status == {503: 3, 429: 2}
    assert (result.sent, result.completed, result.succeeded) == (2_035, 2_009, 2_004)


def test_what_labench_cannot_do_is_said() -> None:
    notes = parse(plan(bodies=(b"1", b"2")), artifacts()).notes
    assert "1 ms up" in notes[0]
    assert "drops a tick" in notes[1]
    assert notes[2] == "LaBench sends a single body: the first of the 2"


@pytest.mark.parametrize(
    ("stdout", "hgrm", "said"),
    [
        ("", HGRM, "printed no JSON"),
        ("Json Output: {oops}", HGRM, "the JSON that it printed cannot be read"),
        (PRINTED, None, "left no out/res.hgrm"),
        (PRINTED, "Value\n", "holds no percentiles"),
    ],
)
def test_output_that_is_not_whole_is_an_error(stdout: str, hgrm: str | None, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        parse(plan(), artifacts(stdout, hgrm))


def test_no_success_is_an_empty_histogram() -> None:
    assert histogram("Value    Percentile    TotalCount    1/(1-Percentile)\n", 0).total == 0
