"""What each schedule sends, and what latency means in it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[..., tuple[str, Callable[[], dict[str, Any]]]]
Measure = Callable[..., dict[str, Any]]

OPEN = ("connection", "clock")


@pytest.mark.parametrize("schedule", OPEN)
@pytest.mark.parametrize("threads", ["1", "2"])
def test_open_loop_plans_and_sends_the_rate(serve: Serve, measure: Measure, schedule: str, threads: str) -> None:
    url, figures = serve()
    report = measure(
        url, "--rate", "200", "--connections", "5", "--threads", threads, "--duration", "2", "--schedule", schedule,
    )  # fmt: skip
    sent = report["requests"]["sent"]
    assert report["requests"] == {"planned": 400, "sent": sent, "completed": sent, "succeeded": sent}
    assert sent >= 360  # all, unless a busy machine keeps the last ones from finding a free connection
    assert report["requests_per_sec"] == sent / 2
    assert report["load"]["model"] == "open"
    assert len(report["cpu"]["threads"]) == int(threads)
    assert report["timeline"][0]["sent"] == pytest.approx(200, abs=40)
    assert figures()["requests"] == sent


@pytest.mark.parametrize("schedule", OPEN)
def test_warmup_sends_and_is_not_counted(serve: Serve, measure: Measure, schedule: str) -> None:
    url, figures = serve()
    report = measure(
        url, "--rate", "100", "--connections", "3", "--duration", "1", "--warmup", "1.005", "--schedule", schedule
    )
    assert report["requests"]["planned"] == 100
    assert report["requests"]["completed"] == report["requests"]["sent"] >= 80
    assert figures()["requests"] == report["requests"]["sent"] + 101  # 100.5 warm-up ticks round up


def test_closed_loop_sends_when_answered(serve: Serve, measure: Measure) -> None:
    url, figures = serve("--delay-us", "20000")
    report = measure(url, "--schedule", "none", "--connections", "4", "--duration", "2", "--warmup", "0.5")
    sent = report["requests"]["sent"]
    assert 300 < sent <= 404  # 4 connections, 20 ms each: 400 but for the machine's own delays
    assert report["requests"]["planned"] == sent
    assert report["load"]["rate"] is None
    assert report["latency"] == report["service_time"]
    assert report["latency"]["min_us"] >= 20_000
    assert figures()["requests"] > sent + 60  # the warm-up's


@pytest.mark.parametrize("schedule", [*OPEN, "none"])
def test_it_begins_when_it_is_told(serve: Serve, measure: Measure, schedule: str) -> None:
    url, _ = serve()
    rate = () if schedule == "none" else ("--rate", "100")
    load = (*rate, "--duration", "1", "--warmup", "0.5", "--schedule", schedule)
    began_ns, began = time.monotonic_ns(), time.time()
    report = measure(url, *load, "--start-at", str(began_ns + 3_000_000_000))
    # The counted window begins after the warm-up, which begins then; what is told is rounded to milliseconds.
    counted = datetime.fromisoformat(report["started_at"].replace("Z", "+00:00")).timestamp()
    assert began + 3.49 <= counted < began + 4.5, "not earlier; on a busy machine, later"
    assert report["requests"]["completed"] > 0


def test_a_beginning_that_has_passed_is_refused(build: Path, serve: Serve) -> None:
    url, figures = serve()
    words = [str(build / "metronome"), "--url", url, "--rate", "10", "--duration", "1", "--start-at", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "too late for it; name a later moment" in done.stderr
    assert figures()["requests"] == 0


@pytest.mark.parametrize("schedule", OPEN)
def test_a_stall_shows_in_latency_and_not_in_service_time(serve: Serve, measure: Measure, schedule: str) -> None:
    # 1 s of 10 s at 100/s: 100 of 1000 requests are due in the stall and wait 1 s to 0 s, so that p95 is 500 ms and
    # p99 900 ms. Only the few on the wire when it began had a long service time.
    url, _ = serve("--stall-at", "3", "--stall-for", "1")
    report = measure(url, "--rate", "100", "--connections", "4", "--duration", "10", "--schedule", schedule)
    assert report["requests"]["completed"] >= 950
    latency, service_time = report["latency"]["percentiles_us"], report["service_time"]["percentiles_us"]
    assert latency["95"] == pytest.approx(500_000, abs=60_000)
    assert latency["99"] == pytest.approx(900_000, abs=60_000)
    assert service_time["99"] < 100_000
    assert report["schedule"]["late_busy"] >= 80
    assert report["schedule"]["max_delay_busy_us"] == pytest.approx(1_000_000, abs=100_000)


def test_too_few_connections_are_told_from_a_slow_generator(serve: Serve, measure: Measure) -> None:
    url, _ = serve("--delay-us", "20000")  # one connection carries 50/s at most
    report = measure(url, "--rate", "100", "--connections", "1", "--duration", "2")
    kept = report["schedule"]
    assert kept["missed"] > 80
    assert kept["late_busy"] > 80
    assert kept["late_busy"] > kept["late_generator"]
    assert report["requests_per_sec"] < 52


def test_a_clock_tick_goes_to_whoever_is_idle(serve: Serve, measure: Measure) -> None:
    # One connection hangs in a slow answer; the others carry its share, so that only a schedule per connection is late.
    url, _ = serve("--delay-us", "15000")
    flags = ("--rate", "100", "--connections", "2", "--duration", "2")
    by_clock = measure(url, *flags, "--schedule", "clock")
    assert by_clock["requests"]["completed"] == by_clock["requests"]["sent"] >= 160


@pytest.mark.parametrize(("schedule", "rate"), [("connection", "300"), ("clock", "300"), ("none", None)])
def test_payload_lines_go_round(
    serve: Serve, measure: Measure, tmp_path: Path, schedule: str, rate: str | None
) -> None:
    lines = [json.dumps({"line": number}) for number in range(7)]
    payload = tmp_path / "bodies.jsonl"
    payload.write_text("\n".join(lines) + "\n")
    url, figures = serve("--delay-us", "2000")
    more = ["--rate", rate] if rate else []
    report = measure(
        url, "--payload", str(payload), "--schedule", schedule, *more, "--connections", "4", "--threads", "2",
        "--duration", "1",
    )  # fmt: skip
    assert report["load"]["method"] == "POST"
    assert report["load"]["payload"]["bodies"] == 7
    served = figures()
    assert set(served["bodies"]) == set(lines)
    assert max(served["bodies"].values()) - min(served["bodies"].values()) <= 1
    assert sum(served["bodies"].values()) == report["requests"]["sent"]
    assert "content-type: application/json" in served["last_request"].lower()


def test_a_million_lines_start_at_once(serve: Serve, measure: Measure, tmp_path: Path) -> None:
    payload = tmp_path / "million.jsonl"
    payload.write_text("".join(f'{{"id": {number}}}\n' for number in range(1_000_000)))
    url, _ = serve()
    report = measure(url, "--payload", str(payload), "--rate", "100", "--connections", "2", "--duration", "1")
    assert report["load"]["payload"]["bodies"] == 1_000_000
    assert report["requests"]["succeeded"] == 100
