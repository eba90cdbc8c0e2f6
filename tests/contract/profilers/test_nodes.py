"""One load from several nodes: as many processes as nodes, with the variables that AzureML sets on each."""

from __future__ import annotations

import json
import math
import random
import signal
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
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


# So far apart that a busy machine, on which a request is some milliseconds late, cannot be taken for nodes in step.
RATE, INTERVAL_MS = 4, 250


@pytest.fixture
def port() -> Iterator[int]:
    """Hold a port for node 0: who has SO_REUSEADDR may listen there too, and nobody else is given it meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


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
    case: Case, port: int, count: int, variables: Callable[[int, int, int], dict[str, str]] = pytorch, **more: str
) -> list[Case]:
    """Return the case on each of so many nodes, in a folder of its own."""
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


def apart_ms(arrivals: Sequence[float]) -> float:
    """Return how far apart two nodes' turns are from the even schedule that both keep together.

    A busy machine only makes requests late: the earlier of a node's arrivals tell its schedule, hence the quartile.
    """
    late_ms = [1e3 * (at - arrivals[0]) - INTERVAL_MS * number for number, at in enumerate(sorted(arrivals))]
    own, other = (statistics.quantiles(late_ms[turn::2], n=4)[0] for turn in (0, 1))
    return abs(own - other)


@pytest.mark.parametrize(
    ("offset_ms", "rate_error"), [(26, 0), (-26, 0), (100, 0), (-100, 0), (240, 0), (-250, 0), (0, 0.02), (0, -0.02)]
)
def test_nodes_out_of_turn_are_seen_on_a_busy_machine(offset_ms: float, rate_error: float) -> None:
    draw = random.Random(f"{offset_ms} {rate_error}")
    turns = [(number, number % 2) for number in range(24)]
    late_ms = [draw.choice([0.5, 1, 2, 4, 8, 60]) for _ in turns]
    even = [(INTERVAL_MS * number + late) / 1e3 for (number, _), late in zip(turns, late_ms, strict=True)]
    assert apart_ms(even) < INTERVAL_MS / 10
    uneven = [
        at + other * (offset_ms + rate_error * INTERVAL_MS * number) / 1e3
        for (number, other), at in zip(turns, even, strict=True)
    ]
    assert apart_ms(uneven) > INTERVAL_MS / 10


@open_loops
def test_two_nodes_keep_one_even_schedule_and_their_sum_is_the_report(
    case: Case, serve: Serve, aim: Aim, port: int
) -> None:
    server = serve("--arrivals")
    load = case.config["profiler_config"]
    load |= {"target_rps": RATE, "duration_sec": 5, "warmup_sec": 1}
    outcomes = run(on_nodes(aim(case, server), port, 2))
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert not (outcomes[1].folder / "outputs" / "report.json").exists(), "one report, of node 0"

    # What the server saw: one request every 250 ms, the nodes in turn. Were they to send together, every second request
    # would come 250 ms before its time; a busy machine delays all of them alike.
    arrivals = server.stop()["arrivals"]
    assert len(arrivals) == 6 * RATE
    late_ms = [1e3 * (at - arrivals[0]) - INTERVAL_MS * number for number, at in enumerate(arrivals)]
    assert abs(statistics.median(late_ms[::2]) - statistics.median(late_ms[1::2])) < INTERVAL_MS / 2
    assert apart_ms(arrivals) < INTERVAL_MS / 10, "each node begins at its turn, and keeps its rate"
    gaps_ms = [1e3 * (later - earlier) for earlier, later in pairwise(arrivals)]
    even = sum(INTERVAL_MS / 2 < gap < 1.5 * INTERVAL_MS for gap in gaps_ms)
    assert even >= 0.6 * len(gaps_ms), gaps_ms  # nodes that sent together would have none

    # The sum of what each says of itself.
    parts = [json.loads(path.read_text()) for path in shares(outcomes)]
    assert [part["load"]["target_rps"] for part in parts] == [RATE / 2, RATE / 2]
    assert [part["load"].get("connections") for part in parts] == [2, 2]
    assert report["load"]["target_rps"] == RATE and report["load"]["connections"] == 4
    assert report["result"]["requests"]["planned"] == 5 * RATE
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
    assert (second["rank"], second["target_rps"], second["connections"]) == (1, RATE / 2, 2)
    assert 0 < second["clock_error_ms"] < INTERVAL_MS / 2, "on one machine, a round trip takes less than an interval"
    assert not [note for note in report["verdict"]["notes"] if "clocks are known" in note]


@wrk2_alone
def test_three_nodes_of_an_mpi_job_repeat_and_deal_out_what_does_not_divide(
    case: Case, serve: Serve, aim: Aim, port: int
) -> None:
    case.config["profiler_config"] |= {"target_rps": 50, "duration_sec": 1, "connections": 4, "repeat": 2}
    outcomes = run(on_nodes(aim(case, serve()), port, 3, mpi))
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert [node["connections"] for node in report["nodes"]] == [2, 1, 1]
    assert math.fsum(node["target_rps"] for node in report["nodes"]) == pytest.approx(50)
    assert len(report["result"]["repeats"]) == 2
    assert sum(node["sent"] for node in report["nodes"]) == report["result"]["requests"]["sent"], "of both runs"
    for number, one in enumerate(report["result"]["repeats"], 1):
        parts = [json.loads(path.read_text())["result"]["requests"]["sent"] for path in shares(outcomes, number)]
        assert one["requests"]["sent"] == sum(parts)


@wrk_alone
def test_a_closed_loop_deals_its_connections_out(case: Case, serve: Serve, aim: Aim, port: int) -> None:
    case.config["profiler_config"] |= {"connections": 3, "duration_sec": 1}
    server = serve("--delay_ms", "5")
    outcomes = run(on_nodes(aim(case, server), port, 2))
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert [node["connections"] for node in report["nodes"]] == [2, 1]
    assert "target_rps" not in report["nodes"][0] and report["load"]["connections"] == 3
    assert report["result"]["requests"]["completed"] == sum(node["completed"] for node in report["nodes"])


@wrk2_alone
def test_a_node_that_is_missing_is_named_within_bounded_time(case: Case, serve: Serve, aim: Aim, port: int) -> None:
    first, second, _ = on_nodes(aim(case, serve()), port, 3, AML_PROFILER_NODES_WAIT_SEC="2")
    zeroth, other = run([first, second])
    assert (zeroth.code, other.code) == (1, 1)
    assert "node 2 of 3 did not call within 2 s; see their logs" in zeroth.error
    assert "node 0 gave up: " in other.error and "node 2 of 3" in other.error
    (alone,) = run([second])
    assert alone.code == 1
    assert "node 0 did not answer within" in alone.error and "see its log" in alone.error


@wrk2_alone
def test_nodes_with_different_inputs_do_not_run(case: Case, serve: Serve, aim: Aim, port: int) -> None:
    server = serve()
    first, second = on_nodes(aim(case, server), port, 2)
    second.config = json.loads(json.dumps(second.config))
    second.config["profiler_config"]["duration_sec"] = 7
    zeroth, other = run([first, second])
    assert (zeroth.code, other.code) == (1, 1)
    assert "node 1: not the same as on node 0: configuration; give all nodes the same inputs" in zeroth.error
    assert "node 0 gave up: " in other.error
    assert not [line for line in server.stop()["lines"] if "POST" in line]


@wrk2_alone
def test_a_stranger_cannot_join(case: Case, serve: Serve, aim: Aim, port: int) -> None:
    first, second = on_nodes(aim(case, serve()), port, 2, AML_PROFILER_NODES_WAIT_SEC="4")
    second.env["AML_PROFILER_NODES_SECRET"] = "another"
    zeroth, other = run([first, second])
    assert (zeroth.code, other.code) == (1, 1)
    assert "is none of this job's nodes: it does not know this job's key" in zeroth.stderr
    assert "node 1 of 2 did not call" in zeroth.error


@wrk2_alone
def test_a_node_that_is_killed_ends_the_others(case: Case, serve: Serve, aim: Aim, port: int) -> None:
    case.config["profiler_config"] |= {"duration_sec": 600}
    nodes = on_nodes(aim(case, serve()), port, 2)
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


@pytest.mark.parametrize(
    ("signum", "said"),
    [(signal.SIGTERM, "node 0 gave up: interrupted by SIGTERM"), (signal.SIGKILL, "node 0 was lost: ")],
)
@wrk2_alone
def test_the_others_end_with_node_0(
    case: Case, serve: Serve, aim: Aim, port: int, signum: signal.Signals, said: str
) -> None:
    case.config["profiler_config"] |= {"duration_sec": 600}
    nodes = on_nodes(aim(case, serve()), port, 2)
    with started(nodes) as processes:
        leader, follower = processes
        assert follower.stderr is not None
        for line in follower.stderr:
            if "run 1:" in line:
                break
        leader.send_signal(signum)
        _, err = follower.communicate(timeout=LIMIT_SEC)  # far less than its own load takes
    assert follower.returncode == 1
    assert said in err
    assert not (nodes[1].folder / "outputs" / "nodes").exists(), "a share that was not finished"


@wrk2_alone
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"connections": 1}, "/profiler_config: 1 connection for 2 nodes: each needs one at least"),
        ({"connections": [4, 1]}, "/profiler_config: 1 connection for 2 nodes: each needs one at least"),
        ({"sla": {"latency_ms_99": 9}, "abort_on_fail": True}, "/profiler_config/abort_on_fail: not on 2 nodes"),
    ],
)
def test_what_several_nodes_cannot_do_is_said_at_once(
    case: Case, serve: Serve, aim: Aim, port: int, change: dict[str, Any], said: str
) -> None:
    aim(case, serve())
    case.config["profiler_config"] |= change
    (outcome,) = run(on_nodes(case, port, 2)[:1])
    assert outcome.code == 2
    assert said in outcome.error


@wrk_alone
def test_two_nodes_sweep_payload_classes_and_tell_of_the_best_run(
    case: Case, serve: Serve, aim: Aim, port: int
) -> None:
    case.config["profiler_config"] |= {
        "connections": 3, "threads": 2, "payload_classes": {"size_bytes": [1000]},
    }  # fmt: skip
    case.payload = '{"data": [1]}\n' + json.dumps({"data": "x" * 5000}) + "\n"
    nodes = on_nodes(aim(case, serve("--delay_ms", "20")), port, 2)
    stale = [node.folder / "outputs" / "nodes" / name for node in nodes for name in ("node_1_run_9.json", "mine.json")]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    outcomes = run(nodes)
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert [path.exists() for path in stale] == [False, True] * 2, "what another measurement left goes, no more"
    classes = report["sweep"]["axes"]["payload_class"]
    assert len(classes) == 2 and [one["load"]["payload"]["class"] for one in report["runs"]] == classes
    about = report["about_run"]
    for number, one in enumerate(report["runs"], 1):
        parts = [json.loads(path.read_text()) for path in shares(outcomes, number)]
        assert {part["load"]["payload"]["class"] for part in parts} == {one["load"]["payload"]["class"]}
        assert sum(part["result"]["requests"]["sent"] for part in parts) == one["result"]["requests"]["sent"]
        if number == about:
            assert [node["sent"] for node in report["nodes"]] == [part["result"]["requests"]["sent"] for part in parts]


@wrk_alone
def test_a_search_of_two_nodes_keeps_one_connection_for_each(case: Case, serve: Serve, aim: Aim, port: int) -> None:
    case.config["profiler_config"] |= {
        "connections": 2, "search": {"constraints": {"latency_ms_99": 1}, "max_runs": 4, "probe_sec": 1},
    }  # fmt: skip
    outcomes = run(on_nodes(aim(case, serve("--delay_ms", "30")), port, 2))
    assert [outcome.code for outcome in outcomes] == [3, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert report["search"]["answer"] is None
    assert {one["load"]["connections"] for one in report["runs"]} == {2}


@wrk_alone
def test_an_interrupted_sweep_of_two_nodes_goes_on_with_what_each_node_did(
    case: Case, serve: Serve, aim: Aim, port: int
) -> None:
    case.config["profiler_config"] |= {"connections": [2, 3]}
    nodes = on_nodes(aim(case, serve("--delay_ms", "20")), port, 2)
    with started(nodes) as processes:
        leader, follower = processes
        assert follower.stderr is not None
        for line in follower.stderr:
            if "run 2:" in line:
                break
        leader.send_signal(signal.SIGTERM)
        _, err = leader.communicate(timeout=LIMIT_SEC)
        follower.communicate(timeout=LIMIT_SEC)
    assert (leader.returncode, follower.returncode) == (128 + signal.SIGTERM, 1)
    assert "1 finished run(s) are kept" in err
    outcomes = run(nodes)
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    report = outcomes[0].report
    assert [one["load"]["connections"] for one in report["runs"]] == [2, 3]
    assert "run 1:" not in outcomes[1].stderr, "it is not repeated"
    for number, one in enumerate(report["runs"], 1):
        sent = [json.loads(path.read_text())["result"]["requests"]["sent"] for path in shares(outcomes, number)]
        assert sum(sent) == one["result"]["requests"]["sent"]
        if number == report["about_run"]:
            assert [node["sent"] for node in report["nodes"]] == sent, "of a run that was kept, too"
