"""A load that cannot be made: what was measured is kept and told, and the load generator's limits are known before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.profilers.test_nodes import on_nodes, port, run, shares

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

__all__ = ["port"]  # a fixture

# The real wrk, which says no to some numbers of connections while the file is there.
WRK = """#!/bin/sh
for refused in $(cat REFUSED 2>/dev/null); do
  case "$*" in *"--connections $refused "*) echo "no room for $refused" >&2; exit 1;; esac
done
exec BINARY "$@"
"""


def refusing(case: Case, *connections: int) -> Path:
    """Let the case's wrk refuse numbers of connections, and return the file to remove for an end of that."""
    found = shutil.which("wrk")
    assert found, "wrk is not on PATH"
    folder = case.folder / "bin"
    folder.mkdir()
    refused = folder / "refused"
    refused.write_text(" ".join(map(str, connections)))
    (folder / "wrk").write_text(WRK.replace("REFUSED", f"'{refused}'").replace("BINARY", found))
    (folder / "wrk").chmod(0o755)
    case.env["PATH"] = f"{folder}:{os.environ['PATH']}"
    return refused


def test_a_sweep_goes_on_past_a_point_that_fails_and_the_next_start_makes_what_is_left(
    cases: Callable[[str], Case], serve: Serve, aim: Aim
) -> None:
    case = aim(cases("aml_wrk_profiler"), serve("--delay_ms", "5"))
    refused = refusing(case, 2)
    case.config["profiler_config"] |= {"connections": [1, 2, 3], "duration_sec": 1}
    outcome = case.run()
    assert outcome.code == 1, outcome.stderr
    assert "1 of 3 points could not be measured, the first of them (2 connections): wrk on " in outcome.error
    assert "no room for 2; outputs/report.json is about the others; " in outcome.error
    assert outcome.error.endswith("2 finished run(s) are kept in outputs/runs, start again to go on")
    report = outcome.report
    assert [run["load"]["connections"] for run in report["runs"]] == [1, 3]
    (failure,) = report["failures"]
    assert failure["connections"] == 2 and failure["reason"].endswith("no room for 2")
    assert "not measured: 2 connections: wrk on " in outcome.stderr
    assert "1 point could not be measured" in (case.folder / "outputs" / "report.html").read_text()
    measured = {run["load"]["connections"]: run["result"]["requests"]["sent"] for run in report["runs"]}

    refused.unlink()
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    assert "going on after 2 finished runs" in outcome.stderr
    assert outcome.stderr.count("measured already") == 2
    report = outcome.report
    assert [run["load"]["connections"] for run in report["runs"]] == [1, 2, 3] and "failures" not in report
    again = {run["load"]["connections"]: run["result"]["requests"]["sent"] for run in report["runs"]}
    assert {1: again[1], 3: again[3]} == measured

    case.config["profiler_config"] |= {"connections": [4, 3, 1], "sla": {"latency_ms_99": 0.001}}
    outcome = case.run()
    assert outcome.code == 3, outcome.stderr
    assert "measured already" not in outcome.stderr, "it was finished, and another model may answer there by now"
    assert "starting anew: that measurement is finished, and nothing tells whether" in outcome.stderr
    command = [*case.command(), "--resume_path", "outputs/runs_before_1"]
    case.command = lambda: command  # type: ignore[method-assign]
    outcome = case.run()
    assert outcome.code == 3, outcome.stderr
    assert outcome.stderr.count("measured already") == 2, "of a longer list, with another demand"
    assert "outputs/runs_before_1: its 3 finished runs are taken over" in outcome.stderr
    assert "2 of 3 runs were made earlier, the oldest " in outcome.stderr
    sent = {run["load"]["connections"]: run["result"]["requests"]["sent"] for run in outcome.report["runs"]}
    assert list(sent) == [4, 3, 1] and {1: sent[1], 3: sent[3]} == measured


def test_a_sweep_gives_up_after_two_failures_and_reports_what_it_has(
    cases: Callable[[str], Case], serve: Serve, aim: Aim
) -> None:
    case = aim(cases("aml_wrk_profiler"), serve("--delay_ms", "5"))
    refusing(case, 2, 3)
    case.config["profiler_config"] |= {"connections": [1, 2, 3, 4], "duration_sec": 1}
    outcome = case.run()
    assert outcome.code == 1
    assert "3 of 4 points could not be measured" in outcome.error
    assert [one["reason"].split(": ")[-1] for one in outcome.report["failures"]] == [
        "no room for 2", "no room for 3", "not tried, as 2 points in a row failed",
    ]  # fmt: skip


def test_a_node_that_fails_at_one_load_keeps_nobody_waiting(
    cases: Callable[[str], Case], serve: Serve, aim: Aim, port: int
) -> None:
    case = aim(cases("aml_wrk_profiler"), serve("--delay_ms", "5"))
    case.config["profiler_config"] |= {"connections": [4, 2], "duration_sec": 1}
    nodes = on_nodes(case, port, 2)
    refused = refusing(nodes[1], 2)  # its share of the 4
    outcomes = run(nodes)
    assert [outcome.code for outcome in outcomes] == [1, 0], [outcome.stderr for outcome in outcomes]
    assert "1 of 2 points could not be measured, the first of them (4 connections): node 1: " in outcomes[0].error
    (made,) = outcomes[0].report["runs"]
    assert made["load"]["connections"] == 2
    assert [node["connections"] for node in outcomes[0].report["nodes"]] == [1, 1]
    assert [path.exists() for path in shares(outcomes, 1)] == [True, True]

    refused.unlink()
    case.config["profiler_config"] |= {"connections": [2, 4]}
    outcomes = run(nodes)
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
    again, new = outcomes[0].report["runs"]
    assert (again["started_at"], new["load"]["connections"]) == (made["started_at"], 4)
    # Of the run that is in another list now, no node says anything; of the new one, both do.
    assert [path.exists() for number in (1, 2) for path in shares(outcomes, number)] == [False, False, True, True]


def test_what_a_node_did_is_never_told_of_another_point(
    cases: Callable[[str], Case], serve: Serve, aim: Aim, port: int
) -> None:
    """A run is damaged and its point fails, so what follows moves up; then it is made up for, on the same list."""
    case = aim(cases("aml_wrk_profiler"), serve("--delay_ms", "5"))
    case.config["profiler_config"] |= {"connections": [2, 4, 6, 8], "duration_sec": 1}
    nodes = on_nodes(case, port, 2)
    refused = refusing(nodes[1], 4)  # its share of the 8

    def start(*wanted: int) -> list[bool]:
        """Return of which runs the nodes have reports, which are those of the runs with these numbers."""
        outcomes = run(nodes)
        assert [outcome.code for outcome in outcomes] == [len(wanted) < 4, 0], [one.stderr for one in outcomes]
        made = outcomes[0].report["runs"]
        assert [one["load"]["connections"] for one in made] == list(wanted)
        told = []
        for number, one in enumerate(made, 1):
            parts = [json.loads(path.read_text()) for path in shares(outcomes, number) if path.exists()]
            told.append(bool(parts))
            if parts:
                assert sum(part["load"]["connections"] for part in parts) == one["load"]["connections"]
                assert sum(part["result"]["requests"]["sent"] for part in parts) == one["result"]["requests"]["sent"]
        assert not any(path.exists() for path in shares(outcomes, len(made) + 1))
        return told

    assert start(2, 4, 6) == [True, True, True]
    (nodes[0].folder / "outputs" / "runs" / "0002.json").write_text("{", encoding="utf-8")
    refused.write_text("2")
    assert start(2, 6, 8) == [True, False, True], "the 6 has moved to where the 4 was"
    refused.unlink()
    assert start(2, 4, 6, 8) == [True, True, False, False], "and back again"


def limited(case: Case, command: str) -> None:
    """Start the case's tool under a limit of its shell's."""
    written = ["sh", "-c", f'{command} && exec "$@"', "sh", *case.command()]
    case.command = lambda: written  # type: ignore[method-assign]


def test_more_connections_than_files_can_be_open_are_refused_before_the_first_load(
    case: Case, serve: Serve, aim: Aim
) -> None:
    server = serve()
    key = "clients" if case.tool == "aml_labench_profiler" else "connections"
    case.config["profiler_config"] |= {key: [4, 600]}
    limited(aim(case, server), "ulimit -n 300")
    outcome = case.run()
    assert outcome.code == 2
    assert (
        f"config.json: /profiler_config/{key}: 600 are more than the 228 connections that can be open" in outcome.error
    )
    assert server.stop()["requests"] == 0


@pytest.mark.parametrize("case", ["aml_wrk_profiler"], indirect=True)
def test_a_low_soft_limit_of_open_files_is_raised_for_the_load_generator(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "100")
    case.config["profiler_config"] |= {"connections": 200, "duration_sec": 1}
    limited(aim(case, server), "ulimit -Sn 100")
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    assert outcome.report["result"]["errors"]["connect"] == 0
    assert server.stop()["connections"] >= 200
