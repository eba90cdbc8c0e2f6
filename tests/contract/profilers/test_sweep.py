"""Several loads in one report: sweeps of every profiler, payload classes, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]


def concurrency_key(case: Case) -> str:
    return "clients" if case.tool == "aml_labench_profiler" else "connections"


def test_each_number_of_connections_is_a_run(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "20")
    config = case.config["profiler_config"]
    config |= {concurrency_key(case): [1, 4], "duration_sec": 1, "sla": {"error_percent": 1}}
    if case.tool != "aml_wrk_profiler":
        config["target_rps"] = 40
    outcome = aim(case, server).run()
    assert outcome.code in (0, 3), outcome.stderr
    report, received = outcome.report, server.stop()
    assert [run["load"]["connections"] for run in report["runs"]] == [1, 4]
    assert [run["number"] for run in report["runs"]] == [1, 2]
    assert {run["purpose"] for run in report["runs"]} == {"point"}
    assert report["sweep"] == {"axes": {"connections": [1, 4]}}
    assert sum(run["result"]["requests"]["sent"] for run in report["runs"]) == received["requests"]
    (choice,) = report["choices"]
    assert choice["objective"] == "succeeded_per_sec" and choice["better"] == "higher"
    about = report["runs"][report["about_run"] - 1]
    for part in ("load", "result", "verdict", "started_at", "sla", "cost"):
        assert report[part] == about[part], part
    if case.tool == "aml_wrk_profiler":
        held = [run for run in report["runs"] if run["feasible"]]
        better = max(held, key=lambda run: (run["verdict"]["valid"], run["result"]["succeeded_per_sec"]))
        assert choice["best"] == report["about_run"] == better["number"]
    assert outcome.code == (0 if report["verdict"]["valid"] else 3), "the best run's own verdict counts"
    page = (case.folder / "outputs" / "report.html").read_text()
    assert "Throughput and p99" in page and "All runs" in page
    for words in ("run  ", "Pareto front", "best by succeeded_per_sec"):
        assert words in outcome.stderr, outcome.stderr


def test_a_range_of_rates_meets_a_demand_up_to_some(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    """One client and 20 ms per answer: 80/s cannot hold, whatever the machine; how much below does is its affair."""
    case = cases("aml_labench_profiler")
    case.config["profiler_config"] |= {
        "clients": 1, "target_rps": {"from": 20, "to": 80, "steps": 3, "scale": "log"}, "duration_sec": 1,
        "sla": {"latency_ms_95": 200}, "timeout_sec": 5,
    }  # fmt: skip
    outcome = aim(case, serve("--delay_ms", "20")).run()
    report = outcome.report
    assert [run["load"]["target_rps"] for run in report["runs"]] == [20, 40, 80]
    feasible = [run["feasible"] for run in report["runs"]]
    assert not feasible[2]
    held = [run["number"] for run in report["runs"] if run["feasible"]]
    if held:
        assert report["choices"][0]["best"] in held
        assert report["about_run"] == report["choices"][0]["best"]
        assert report["sla"]["met"] is True
    else:
        assert report["choices"][0]["best"] is None and outcome.code == 3


def test_no_run_keeps_the_demand(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    case = cases("aml_wrk_profiler")
    case.config["profiler_config"] |= {"connections": [1, 2], "sla": {"latency_ms_50": 5}}
    outcome = aim(case, serve("--delay_ms", "30")).run()
    assert outcome.code == 3
    assert "aml_wrk_profiler: error: no run keeps every demand" in outcome.stderr
    assert "nearest miss, run " in outcome.stderr and "SLA missed: latency_ms_50" in outcome.stderr
    report = outcome.report
    assert report["choices"][0]["best"] is None
    assert report["sla"]["met"] is False
    assert report["about_run"] in (1, 2)


def test_a_whole_number_may_be_written_with_a_point(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    case = cases("aml_wrk_profiler")
    case.config["profiler_config"] |= {"connections": 3.0, "duration_sec": 1}
    outcome = aim(case, serve("--delay_ms", "1")).run()
    assert outcome.report["load"]["connections"] == 3


def test_two_axes_are_their_product(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    case = cases("aml_wrk2_profiler")
    case.config["profiler_config"] |= {"connections": [2, 3], "target_rps": [20, 40], "duration_sec": 1}
    outcome = aim(case, serve("--delay_ms", "1")).run()
    assert outcome.code == 0, outcome.stderr
    loads = [(run["load"]["connections"], run["load"]["target_rps"]) for run in outcome.report["runs"]]
    assert loads == [(2, 20), (2, 40), (3, 20), (3, 40)]


def test_fewer_connections_than_threads_take_fewer_threads(
    cases: Callable[[str], Case], serve: Serve, aim: Aim
) -> None:
    case = cases("aml_wrk_profiler")
    case.config["profiler_config"] |= {"connections": [1, 2], "threads": 2}
    outcome = aim(case, serve("--delay_ms", "1")).run()
    assert [run["load"]["threads"] for run in outcome.report["runs"]] == [1, 2]


@pytest.mark.parametrize(("tool", "by"), [("aml_wrk_profiler", "file"), ("aml_wrk2_profiler", "size")])
def test_payload_classes_are_measured_apart(
    cases: Callable[[str], Case], tool: str, by: str, serve: Serve, aim: Aim
) -> None:
    case = cases(tool)
    server = serve("--delay_ms", "5")
    small, large = [json.dumps({"x": n}) for n in range(3)], [json.dumps({"x": "y" * 3000 + str(n)}) for n in range(2)]
    config = case.config["profiler_config"]
    config["duration_sec"] = 1
    if by == "file":
        folder = case.folder / "payloads"
        folder.mkdir()
        (folder / "large.jsonl").write_text("\n".join(large) + "\n")
        (folder / "small.jsonl").write_text("\n".join(small) + "\n")
        (folder / "notes.txt").write_text("no payload")
        config["payload_classes"] = "file"
        aim(case, server)
        command = [*case.command(), "--payload_path", "payloads"]
        case.command = lambda: command  # type: ignore[method-assign]
        names = ["large", "small"]
    else:
        case.payload = "\n".join([small[0], large[0], small[1], large[1], small[2]]) + "\n"
        config["payload_classes"] = {"size_bytes": [100, 1000]}
        names = ["up to 100 bytes", "more than 1000 bytes"]
    outcome = aim(case, server).run()
    assert outcome.code == 0, outcome.stderr
    report, received = outcome.report, server.stop()
    assert [run["load"]["payload"]["class"] for run in report["runs"]] == names
    assert report["sweep"] == {"axes": {"payload_class": names}}
    assert [choice["payload_class"] for choice in report["choices"]] == names
    sent = {run["load"]["payload"]["class"]: run["result"]["requests"]["sent"] for run in report["runs"]}
    for name, bodies in ((names[0], large if by == "file" else small), (names[1], small if by == "file" else large)):
        assert sum(received["bodies"].get(body, 0) for body in bodies) == sent[name], "each class in a run of its own"
    assert all(run["result"]["latency_ms"]["percentiles"]["99"]["value"] > 0 for run in report["runs"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_rps": {"from": 10, "to": 100}}, "/profiler_config/target_rps: steps: missing"),
        ({"target_rps": {"from": 100, "to": 10, "steps": 3}}, "/profiler_config/target_rps: from 100 to 10"),
        ({"target_rps": []}, "/profiler_config/target_rps: "),
        ({"connections": [1, 0]}, "/profiler_config/connections/1: 0 is less than the minimum of 1"),
        ({"payload_classes": "file"}, "/profiler_config/payload_classes: needs --payload_path"),
        (
            {"target_rps": [1, 2], "objective": "price_per_million_requests"},
            "config.json: /profiler_config/objective: price_per_million_requests needs instance_price_per_hour",
        ),
        (
            {"target_rps": [1, 2], "objective": "price_per_million_requests", "instance_price_per_hour": 1},
            "price_per_million_requests needs the instance_count of the scoring target; state it in target.json",
        ),
        (
            {"target_rps": [1, 2], "objective": "core_hour_per_million_requests"},
            "core_hour_per_million_requests needs sku, location, instance_count of the scoring target",
        ),
        ({"search": {}}, "/profiler_config/search: constraints: missing"),
        ({"search": {"constraints": {"latency_ms_99": 9}}, "connections": [1, 2]}, "a search varies target_rps alone"),
        ({"search": {"constraints": {"latency_ms_99": 9}}, "target_rps": [1, 2]}, "a list is for a sweep"),
        ({"search": {"max_runs": 1}}, "/profiler_config/search/max_runs: 1 is less than the minimum of 2"),
    ],
)
def test_bad_input_is_named(cases: Callable[[str], Case], change: dict[str, Any], said: str) -> None:
    case = cases("aml_wrk2_profiler")
    case.target["deployment_settings"]["scoring_uri"] = "http://127.0.0.1:9/score"
    case.config["profiler_config"] |= change
    outcome = case.run()
    assert outcome.code == 2
    assert said in outcome.error


def test_a_folder_of_payloads_needs_classes(cases: Callable[[str], Case]) -> None:
    case = cases("aml_wrk_profiler")
    case.target["deployment_settings"]["scoring_uri"] = "http://127.0.0.1:9/score"
    (case.folder / "payloads").mkdir()
    command = [*case.command(), "--payload_path", "payloads"]
    case.command = lambda: command  # type: ignore[method-assign]
    outcome = case.run()
    assert outcome.code == 2
    assert "--payload_path: payloads: is a folder" in outcome.error
