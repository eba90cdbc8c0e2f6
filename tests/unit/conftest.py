"""Reports as the profilers write them, from latencies drawn with a fixed seed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core.profiling import (
    Engine,
    Errors,
    Generator,
    Histogram,
    Load,
    LoadModel,
    Result,
    Schedule,
    Second,
    repeats,
    sla,
)
from aml_tool_core.profiling.cost import cost_of, price_of
from aml_tool_core.profiling.deployment import Deployment, Usage
from aml_tool_core.profiling.engine import Artifacts, Command, Installed, Plan
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.report import Provenance, Report
from aml_tool_core.profiling.target import target_of
from aml_tool_core.profiling.verdict import judge

STARTED_AT = datetime(2026, 3, 14, 9, 26, 53, 589000, timezone.utc)


@dataclass(frozen=True)
class Run:
    """What a measured run was like."""

    seed: int = 1
    duration_sec: int = 120
    rate: float = 50.0
    target_rps: float | None = 50.0
    median_ms: float = 20.0
    status: tuple[tuple[int, int], ...] = ()
    has_usage: bool = False
    has_endpoint: bool = False
    has_timeline: bool = True
    payload: bytes = b'{"data": [1, 2, 3]}'
    repeat: int = 1
    price: float | None = None
    sla: tuple[tuple[str, float], ...] = ()


Measured = Callable[..., dict[str, Any]]


@pytest.fixture
def measured() -> Measured:
    """Return a function that makes the report of a run with the given properties."""
    return lambda **properties: report_of(Run(**properties))


def latencies_us(run: Run) -> list[int]:
    draw = random.Random(run.seed)
    count = round(run.rate * run.duration_sec)
    return [
        round(1000 * run.median_ms * draw.lognormvariate(0, 0.35) + draw.expovariate(1 / 800)) for _ in range(count)
    ]


def load_of(run: Run) -> Load:
    model = LoadModel.CLOSED if run.target_rps is None else LoadModel.OPEN
    return Load(model, run.duration_sec, 4, 1, 10.0, run.target_rps)


def result_of(run: Run) -> Result:
    service_us = latencies_us(run)
    waiting = random.Random(run.seed + 1)
    latency_us = [
        one + (round(waiting.expovariate(1 / 30_000)) if waiting.random() < 0.02 else 0) for one in service_us
    ]
    is_open = run.target_rps is not None
    count = len(service_us)
    return Result(
        duration_sec=float(run.duration_sec),
        sent=count,
        completed=count,
        succeeded=count - sum(number for _, number in run.status),
        errors=Errors(status=dict(run.status)),
        bytes_read=count * 210,
        bytes_written=count * 160,
        latency=Histogram.of((one, 1) for one in latency_us),
        service_time=Histogram.of((one, 1) for one in service_us) if is_open else None,
        planned=count if is_open else None,
        schedule=Schedule(100.0, 0, 0, 0.21) if is_open else None,
        timeline=timeline(run, latency_us) if run.has_timeline else (),
        generator=Generator(1.5, 12.0),
    )


def report_of(run: Run) -> dict[str, Any]:
    runs = tuple(result_of(replace(run, seed=run.seed + 10 * index)) for index in range(run.repeat))
    result = repeats.together(runs)
    load = load_of(run)
    settings: dict[str, Any] = {"scoring_uri": "https://digits.example.net/score"}
    if run.has_endpoint:
        settings |= {"endpoint_name": "digits", "deployment_name": "blue", "sku": "Standard_F8s_v2",
                     "location": "eastus2", "instance_count": 1}  # fmt: skip
    target = target_of(settings, "target.json")
    reasons = ("the scoring target names no endpoint_name",)
    usage = Usage(usage_of(run), ()) if run.has_usage else Usage(None, reasons)
    cost = cost_of(target, 8 if run.has_endpoint else None, None, result.succeeded_per_sec)
    if run.price is not None:
        cost = replace(cost, price_per_million_requests=price_of(target, run.price, result.succeeded_per_sec))
    return Report(
        Provenance("aml_wrk2_profiler", "0.1.0", Installed(engine(), "/usr/bin/true", "0.1.0"), STARTED_AT, "c" * 64),
        Deployment(target, settings),
        load,
        Payload((run.payload,), "payload.jsonl"),
        result,
        judge(load, result, demands=dict(run.sla)),
        usage,
        cost,
        repeats=runs,
        criteria=sla.judge(dict(run.sla), result, usage) if run.sla else None,
        instance_price_per_hour=run.price,
    ).document()


def timeline(run: Run, latency_us: list[int]) -> tuple[Second, ...]:
    each = max(1, round(run.rate))
    errors = sum(number for _, number in run.status)
    seconds = []
    for t_sec in range(run.duration_sec):
        part = sorted(latency_us[t_sec * each : (t_sec + 1) * each])
        if part:
            here = errors if t_sec == run.duration_sec // 2 else 0
            seconds.append(
                Second(
                    t_sec, float(len(part)), here, part[len(part) // 2], part[min(len(part) - 1, len(part) * 99 // 100)]
                )
            )
    return tuple(seconds)


def usage_of(run: Run) -> dict[str, Any]:
    draw = random.Random(run.seed)
    first = (STARTED_AT + timedelta(minutes=1)).replace(second=0, microsecond=0)
    metrics = {}
    for name, unit, level in (
        ("CpuUtilizationPercentage", "Percent", 62.0),
        ("CpuMemoryUtilizationPercentage", "Percent", 31.0),
        ("GpuEnergyJoules", "Joules", 4200.0),
    ):
        averages = [level * draw.uniform(0.9, 1.1) for _ in range(max(1, run.duration_sec // 60 - 1))]
        series = [
            {
                "time": (first + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "average": average, "maximum": average * 1.2, "minimum": average * 0.8,
            }
            for minute, average in enumerate(averages)
        ]  # fmt: skip
        metrics[name] = {
            "unit": unit, "average": sum(averages) / len(averages), "maximum": max(averages) * 1.2,
            "minimum": min(averages) * 0.8, "series": series,
        }  # fmt: skip
    return metrics


def engine() -> Engine:
    def command(_plan: Plan, _folder: Path) -> Command:
        raise AssertionError("these reports are made without an engine")

    def parse(_plan: Plan, _artifacts: Artifacts) -> Result:
        raise AssertionError("these reports are made without an engine")

    return Engine("metronome", "metronome", "install it", ("--version",), "(.*)", command, parse)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that reports every request and every console message."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.fail("Chromium is not on PATH: install Debian's package chromium")
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.fail("chromedriver is not on PATH: install Debian's package chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",  # as root, and in containers, the sandbox does not start
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-sync",
        "--no-first-run",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.set_page_load_timeout(60)
    yield started
    started.quit()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that opens a page and returns what the browser said and asked for meanwhile."""

    def opened(html: str, width: int, scheme: str) -> dict[str, Any]:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"media": "screen", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get_log("browser"), browser.get_log("performance")  # what was said before is not about this page
        browser.get(path.as_uri())
        messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return {"console": browser.get_log("browser"), "requests": asked, "uri": path.as_uri()}

    return opened
