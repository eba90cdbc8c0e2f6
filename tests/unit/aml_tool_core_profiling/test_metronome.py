"""metronome's command line, and what its JSON means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import InputError, ToolError
from aml_tool_core.profiling import Artifacts, Load, LoadModel, Plan
from aml_tool_core.profiling.metronome import OUTPUT_FILE, command, parse, progress
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.progress import Counts, Snapshot
from aml_tool_core.profiling.target import target_of

FOLDER = Path("/private")


def plan(bodies: tuple[bytes, ...] = (b"1", b"2"), **changes: Any) -> Plan:
    settings = {
        "scoring_uri": "https://h.example/score?code=s3cr3t",
        "scoring_headers": changes.pop("headers", {"Authorization": "Bearer t0k3n"}),
    }
    load: dict[str, Any] = {"duration_sec": 2, "connections": 4, "threads": 2, "timeout_sec": 2.5, "target_rps": 50.0}
    return Plan(
        target_of(settings, "t.json"), Payload(bodies, "p"), Load(LoadModel.OPEN, **load | changes), "t/1", "/ca.pem"
    )


@pytest.mark.parametrize("body", [b"a,b\n1,2", b"1,2\r"])
def test_a_body_that_a_line_cannot_hold_is_refused_and_not_cut(body: bytes) -> None:
    with pytest.raises(InputError, match="a line break in a body"):
        command("clock", plan((b"1", body)), FOLDER)


def test_the_command_line_holds_nothing_secret() -> None:
    made = command("clock", plan(), FOLDER)
    assert made.arguments == (
        "--url-file", "/private/url.txt", "--header-file", "/private/headers.txt", "--method", "POST",
        "--schedule", "clock", "--rate", "50", "--connections", "4", "--threads", "2", "--duration", "2",
        "--warmup", "0", "--timeout", "2.5", "--json", "/private/output.json", "--progress",
        "--payload", "/private/payload.jsonl", "--ca", "/ca.pem",
    )  # fmt: skip
    assert made.files == {
        "url.txt": b"https://h.example/score?code=s3cr3t\n",
        "headers.txt": b"User-Agent: t/1\nAuthorization: Bearer t0k3n\n",
        "payload.jsonl": b"1\n2\n",
    }


def test_without_a_payload_it_is_a_get_and_an_own_agent_stays() -> None:
    made = command("connection", plan(bodies=(), headers={"user-agent": "me"}), FOLDER)
    assert "--payload" not in made.arguments
    assert made.arguments[made.arguments.index("--method") + 1] == "GET"
    assert made.files["headers.txt"] == b"user-agent: me\n"


def test_an_odd_rate_is_passed_exactly() -> None:
    arguments = command("clock", plan(target_rps=1 / 3), FOLDER).arguments
    assert float(arguments[arguments.index("--rate") + 1]) == 1 / 3


def distribution(pairs: list[list[int]], mean_us: float) -> dict[str, Any]:
    percentiles = dict.fromkeys(("50", "75", "90", "95", "99", "99.9", "99.99"), 0)
    return {
        "count": sum(count for _, count in pairs), "min_us": 1, "mean_us": mean_us, "stdev_us": 1.5, "max_us": 9,
        "percentiles_us": percentiles, "histogram": pairs,
    }  # fmt: skip


def document() -> dict[str, Any]:
    row = {"latency_us_p50": 5_000, "latency_us_p99": 6_000, "service_time_us_p99": 5_500}
    cpu = {"user_sec": 0.1, "system_sec": 0.1, "run_queue_wait_sec": 0.02}
    return {
        "version": "1.0", "generator": {"name": "metronome", "version": "1.0.0"},
        "started_at": "2026-01-31T12:00:00.000Z", "interrupted": False, "signal": None, "window_sec": 2.0,
        "drain_sec": 0.1,
        "target": {
            "url": "https://h.example/", "host": "h.example", "port": 443, "address": "127.0.0.1", "tls": True,
            "tls_verified": True, "tls_version": "TLSv1.3", "tls_cipher": "x",
        },
        "load": {
            "model": "open", "schedule": "clock", "rate": 50, "connections": 4, "threads": 2, "duration_sec": 2,
            "warmup_sec": 0, "timeout_sec": 2.5, "method": "GET", "payload": None,
        },
        "requests": {"planned": 100, "sent": 98, "completed": 91, "succeeded": 88},
        "sent_per_sec": 49, "requests_per_sec": 45.5, "succeeded_per_sec": 44, "bytes_read": 11, "bytes_written": 12,
        "status": {"200": 87, "204": 1, "429": 2, "301": 1},
        "errors": {"connect": 1, "read": 2, "write": 1, "timeout": 2, "protocol": 1},
        "first_error": None, "error_reasons": [{"kind": "protocol", "reason": "not HTTP", "count": 1}],
        "connections": {"opened": 4, "reconnects": 0, "idle_closes": 0, "stale_retries": 0},
        "schedule": {
            "timely_limit_us": 100, "timely": 90, "timely_percent": 91.8, "late": 8, "late_busy": 6,
            "late_generator": 2, "missed": 2, "max_delay_us": 1500, "max_delay_busy_us": 1500,
            "max_delay_generator_us": 200, "delay_generator_us_p99": 150,
        },
        "latency": distribution([[5_000, 90], [9_000, 1]], 5_040.5),
        "service_time": distribution([[4_000, 91]], 4_001.5),
        "latency_succeeded": distribution([[5_000, 88]], 5_000), "timed_out": distribution([], 0),
        "timeline": [
            {"t_sec": 0, "sent": 49, "completed": 50, "errors": 0, "not_2xx": {"429": 2, "301": 1}, **row},
            {"t_sec": 1, "sent": 49, "completed": 0, "errors": 7, "not_2xx": {}, **dict.fromkeys(row, 0)},
            {"t_sec": 2, "sent": 0, "completed": 41, "errors": 0, "not_2xx": {}, **row},
        ],
        "cpu": {**cpu, "us_per_request": 9.0, "threads": [{**cpu, "percent_of_core": 10.0}] * 2},
    }  # fmt: skip


def artifacts(text: str) -> Artifacts:
    return Artifacts("", {OUTPUT_FILE: text}, cpu_sec=99)


def test_output_becomes_a_result() -> None:
    result = parse(plan(), artifacts(json.dumps(document())))
    assert (result.planned, result.sent, result.completed, result.succeeded) == (100, 98, 91, 88)
    errors = result.errors
    assert (errors.connect, errors.read, errors.write, errors.timeout) == (1, 3, 1, 2)
    assert errors.status == {301: 1, 429: 2}
    assert result.latency.counts == ((5_000, 90), (9_000, 1))
    assert result.latency.mean_us == 5_040.5
    assert result.service_time is not None and result.service_time.mean_us == 4_001.5
    assert result.schedule is not None
    assert (result.schedule.late, result.schedule.late_busy, result.schedule.missed) == (8, 6, 2)
    assert result.schedule.max_delay_ms == 1.5
    assert (result.schedule.own_delay_ms_99, result.schedule.own_delay_ms_max) == (0.15, 0.2)
    assert result.generator is not None
    assert result.generator.cpu_percent_of_threads == pytest.approx(5)
    assert result.generator.run_queue_wait_percent == pytest.approx(0.5)
    assert result.notes == ("1 protocol errors: not HTTP",)


def test_the_timeline_ends_with_the_window_and_an_empty_second_has_no_latency() -> None:
    first, second = parse(plan(), artifacts(json.dumps(document()))).timeline
    assert (first.requests_per_sec, first.latency_us_99) == (50, 6_000)
    assert first.errors == 3, "answers that are not 2xx went wrong too"
    assert (second.errors, second.latency_us_50, second.latency_us_99) == (7, None, None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Artifacts("", {}, 0), "ended without a result"),
        (artifacts("{"), "not JSON"),
        (artifacts(json.dumps(document() | {"version": "9"})), "install the metronome of this release"),
    ],
)
def test_output_that_is_not_whole_is_an_error(found: Artifacts, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        parse(plan(), found)


def test_progress_lines_are_told_from_others() -> None:
    line = {
        "elapsed_sec": 1, "completed": 50, "errors": 2, "not_2xx": {"429": 1, "500": 3}, "requests_per_sec": 49,
        "latency_us_p50": 1, "latency_us": [[6500, 49]], "service_time_us": [[5500, 49]],
    }  # fmt: skip
    counts = Counts(2, {429: 1, 500: 3}, ((6500, 49),), ((5500, 49),))
    assert progress(json.dumps(line | {"latency_us_p99": 6_500})) == Snapshot(49.0, 6.5, 6, counts)
    unanswered = {"latency_us_p99": 0, "requests_per_sec": 0, "latency_us": [], "service_time_us": []}
    nothing = progress(json.dumps(line | unanswered))
    assert nothing is not None and nothing.latency_ms_99 is None
    assert progress(json.dumps(line | {"latency_us_p99": 6_500, "not_2xx": None})) is None
    assert progress(json.dumps(line)) is None
    assert progress("metronome: error: no") is None
    assert progress("{") is None
