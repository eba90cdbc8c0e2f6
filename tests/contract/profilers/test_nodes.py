"""One load from several nodes: as many processes as nodes, with the variables that AzureML sets on each."""

from __future__ import annotations

import json
import math
import signal
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aml_report.merge import merge
from aml_report.reading import read_reports

from tests.contract.profilers.conftest import Outcome

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

open_loops = pytest.mark.parametrize("case", ["aml_wrk2_profiler", "aml_labench_profiler"], indirect=True)
wrk2_alone = pytest.mark.parametrize("case", ["aml_wrk2_profiler"], indirect=True)
wrk_alone = pytest.mark.parametrize("case", ["aml_wrk_profiler"], indirect=True)
LIMIT_SEC = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pytorch(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "NODE_RANK": str(rank),
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "AZUREML_RUN_ID": "a_job",
    }


def mpi(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": str(count),
        "AZ_BATCH_MASTER_NODE": f"127.0.0.1:{port}",
        "AZUREML_RUN_ID": "a_job",
    }


def on_nodes(
    case: Case, count: int, variables: Callable[[int, int, int], dict[str, str]] = pytorch, **more: str
) -> list[Case]:
    """Return the case on each of so many nodes, in a folder of its own."""
    port = free_port()
    made = []
    for rank in range(count):
        folder = case.folder / f"node {rank}"
        folder.mkdir()
        made.append(replace(case, folder=folder, env=case.env | variables(rank, count, port) | more))
    return made


@contextmanager
def started(cases: Sequence[Case]) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [case.start() for case in cases]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def run(cases: Sequence[Case]) -> list[Outcome]:
    """Run all nodes to their end."""
    with started(cases) as processes:
        outcomes = []
        for case, process in zip(cases, processes, strict=True):
            _, err = process.communicate(timeout=LIMIT_SEC)
            outcomes.append(Outcome(process.returncode, err, case.folder))
        return outcomes


def shares(outcomes: Sequence[Outcome], number: int = 1) -> list[Path]:
    """Return the report of what each node alone did."""
    names = [f"node_{rank}_run_{number}.json" for rank in range(len(outcomes))]
    return [outcome.folder / "outputs" / "nodes" / name for name, outcome in zip(names, outcomes, strict=True)]


def without_clocks(document: Mapping[str, Any]) -> Any:
    """Return what is measured, rounded as the parts' reports are, without what merging does not know."""
    result = dict(document["result"])
    for key in ("latency_ms", "service_time_ms"):
        if key in result:
            result[key] = {name: value for name, value in result[key].items() if name not in ("mean", "stdev")}
    result.pop("generator", None)
    return json.loads(json.dumps(result), parse_float=lambda text: f"{float(text):.9g}")


@open_loops
def test_two_nodes_keep_one_even_schedule_and_their_sum_is_the_report(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--arrivals")
    load = case.config["profiler_config"]
    load |= {"target_rps": 40, "duration_sec": 3, "warmup_sec": 1}
    outcomes = run(on_nodes(aim(case, server), 2))
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert not (outcomes[1].folder / "outputs" / "report.json").exists(), "one report, of node 0"

    # What the server saw: one request every 25 ms, the nodes in turn. Were they to send together, every second request
    # would come 25 ms before its time; a busy machine delays all of them alike.
    arrivals = server.stop()["arrivals"]
    assert len(arrivals) == 160
    late_ms = [1e3 * (at - arrivals[0]) - 25 * number for number, at in enumerate(arrivals)]
    assert statistics.median(late_ms[::2]) == pytest.approx(statistics.median(late_ms[1::2]), abs=8)

    # The sum of what each says of itself.
    parts = [json.loads(path.read_text()) for path in shares(outcomes)]
    assert [part["load"]["target_rps"] for part in parts] == [20, 20]
    assert [part["load"].get("connections") for part in parts] == [2, 2]
    assert report["load"]["target_rps"] == 40 and report["load"]["connections"] == 4
    assert report["result"]["requests"]["planned"] == 120
    assert report["result"]["requests"]["completed"] == sum(part["result"]["requests"]["completed"] for part in parts)
    merged = merge(read_reports(shares(outcomes)))
    assert without_clocks(merged) == without_clocks(report)
    for key in ("latency_ms", "service_time_ms"):
        for moment in ("mean", "stdev"):
            # The parts' moments are written with a precision of a nanosecond.
            assert merged["result"][key][moment] == pytest.approx(report["result"][key][moment], abs=1e-5)
    assert merged["provenance"] == report["provenance"]

    assert "What each node did" in (outcomes[0].folder / "outputs" / "report.html").read_text()
    first, second = report["nodes"]
    assert (first["rank"], first["clock_error_ms"], first["clock_drift_ms"]) == (0, 0, 0)
    assert (second["rank"], second["target_rps"], second["connections"]) == (1, 20, 2)
    assert 0 < second["clock_error_ms"] < 12.5, "on one machine, a round trip takes less than half an interval"
    assert not [note for note in report["verdict"]["notes"] if "clocks are known" in note]


@wrk2_alone
def test_three_nodes_of_an_mpi_job_repeat_and_deal_out_what_does_not_divide(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"target_rps": 50, "duration_sec": 1, "connections": 4, "repeat": 2}
    outcomes = run(on_nodes(aim(case, serve()), 3, mpi))
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert [node["connections"] for node in report["nodes"]] == [2, 1, 1]
    assert math.fsum(node["target_rps"] for node in report["nodes"]) == pytest.approx(50)
    assert len(report["result"]["repeats"]) == 2
    for number, one in enumerate(report["result"]["repeats"], 1):
        parts = [json.loads(path.read_text())["result"]["requests"]["sent"] for path in shares(outcomes, number)]
        assert one["requests"]["sent"] == sum(parts)


@wrk_alone
def test_a_closed_loop_deals_its_connections_out(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"connections": 3, "duration_sec": 1}
    server = serve("--delay_ms", "5")
    outcomes = run(on_nodes(aim(case, server), 2))
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert [node["connections"] for node in report["nodes"]] == [2, 1]
    assert "target_rps" not in report["nodes"][0] and report["load"]["connections"] == 3
    assert report["result"]["requests"]["completed"] == sum(node["completed"] for node in report["nodes"])


@wrk2_alone
def test_a_node_that_is_missing_is_named_within_bounded_time(case: Case, serve: Serve, aim: Aim) -> None:
    first, second, _ = on_nodes(aim(case, serve()), 3, AML_PROFILER_NODES_WAIT_SEC="2")
    zeroth, other = run([first, second])
    assert (zeroth.code, other.code) == (1, 1)
    assert "node 2 of 3 did not call within 2 s; see their logs" in zeroth.error
    assert "node 0 gave up: " in other.error and "node 2 of 3" in other.error
    (alone,) = run([second])
    assert alone.code == 1
    assert "node 0 did not answer within" in alone.error and "see its log" in alone.error


@wrk2_alone
def test_nodes_with_different_inputs_do_not_run(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve()
    first, second = on_nodes(aim(case, server), 2)
    second.config = json.loads(json.dumps(second.config))
    second.config["profiler_config"]["duration_sec"] = 7
    zeroth, other = run([first, second])
    assert (zeroth.code, other.code) == (1, 1)
    assert "node 1: not the same as on node 0: configuration; give all nodes the same inputs" in zeroth.error
    assert "node 0 gave up: " in other.error
    assert not [line for line in server.stop()["lines"] if "POST" in line]


@wrk2_alone
def test_a_stranger_cannot_join(case: Case, serve: Serve, aim: Aim) -> None:
    first, second = on_nodes(aim(case, serve()), 2, AML_PROFILER_NODES_WAIT_SEC="4")
    second.env["AML_PROFILER_NODES_SECRET"] = "another"
    zeroth, other = run([first, second])
    assert (zeroth.code, other.code) == (1, 1)
    assert "is none of this job's nodes: it does not know this job's key" in zeroth.stderr
    assert "node 1 of 2 did not call" in zeroth.error


@wrk2_alone
def test_a_node_that_is_killed_ends_the_others(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"duration_sec": 2}
    nodes = on_nodes(aim(case, serve()), 2)
    with started(nodes) as processes:
        follower = processes[1]
        assert follower.stderr is not None
        for line in follower.stderr:
            if "run 1:" in line:
                break
        follower.send_signal(signal.SIGKILL)
        _, err = processes[0].communicate(timeout=LIMIT_SEC)
    assert processes[0].returncode == 1
    assert "node 1 was lost: " in err
    assert not (nodes[0].folder / "outputs" / "report.json").exists()


@wrk2_alone
def test_what_several_nodes_cannot_do_is_said_at_once(case: Case, serve: Serve, aim: Aim) -> None:
    aim(case, serve())
    case.config["profiler_config"] |= {"connections": 1}
    (outcome,) = run(on_nodes(case, 2)[:1])
    assert outcome.code == 2
    assert "1 connection for 2 nodes: each needs one at least" in outcome.error
