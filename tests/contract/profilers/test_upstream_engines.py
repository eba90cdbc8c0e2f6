"""The upstream engines, asked for by `engine`: for real where they are on PATH, else by stand-ins that play recordings.

A stand-in takes what the profiler hands over as the real one would (arguments, files, working folder), so what is not
tested by it is upstream's own behaviour alone.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

UNIT = Path(__file__).parents[2] / "unit"
wrk2 = pytest.mark.parametrize("case", ["aml_wrk2_profiler"], indirect=True)
labench = pytest.mark.parametrize("case", ["aml_labench_profiler"], indirect=True)

# Loads with wrk, which runs the same script, and prints wrk2's histograms.
WRK2 = """#!/bin/sh
[ "$1" = --version ] && { echo "wrk 4.0.0 [epoll] Copyright (C) 2012 Will Glozer"; exit 1; }
[ "$9 ${10} ${11} ${12}" = "--rate 200 --latency --u_latency" ] || { echo "unexpected: $*" >&2; exit 1; }
threads=$2 connections=$4 duration=$6 timeout=$8
shift 12
wrk --threads $threads --connections $connections --duration $duration --timeout $timeout "$@" > /dev/null || exit 1
cat RECORDING
"""
# Sends one request with the body of its YAML file, and leaves LaBench's files.
LABENCH = """#!PYTHON
import pathlib, sys, urllib.request, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
request = config["Request"]
urllib.request.urlopen(urllib.request.Request(
    request["URL"], request["Body"].encode(), request["Headers"], method=request["HTTPMethod"])).read()
recordings = pathlib.Path("RECORDINGS")
print((recordings / "labench.txt").read_text())
pathlib.Path("out").mkdir()
pathlib.Path("out/res.hgrm").write_text((recordings / "res.hgrm").read_text())
"""


def stand_in(case: Case, name: str, text: str) -> None:
    folder = case.folder / "bin"
    folder.mkdir()
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    case.env["PATH"] = f"{folder}:{os.environ['PATH']}"


@wrk2
def test_wrk2_is_driven_by_the_same_script(case: Case, serve: Serve, aim: Aim) -> None:
    stand_in(case, "wrk2", WRK2.replace("RECORDING", str(UNIT / "aml_wrk2_profiler/recordings/wrk2.txt")))
    server = serve("--delay_ms", "5")
    case.config["profiler_config"] |= {"engine": "wrk2", "threads": 2}
    case.payload = '{"a": 1}\n{"a": 2}\n'
    outcome = aim(case, server).run()
    assert outcome.code == 0, outcome.stderr
    report, received = outcome.report, server.stop()
    assert report["tool"]["engine"] == {"name": "wrk2", "version": "4.0.0"}
    assert report["result"]["requests"]["sent"] == received["requests"]
    assert set(received["bodies"]) == {'{"a": 1}', '{"a": 2}'}
    assert report["result"]["latency_ms"]["mean"] == 5.649
    assert report["result"]["service_time_ms"]["mean"] == 5.066
    assert "schedule" not in report["result"]
    assert any("tick in milliseconds" in note for note in report["verdict"]["notes"])


@labench
def test_labench_takes_its_file_and_leaves_its_histogram(case: Case, serve: Serve, aim: Aim) -> None:
    recordings = str(UNIT / "aml_labench_profiler/recordings")
    stand_in(case, "labench", LABENCH.replace("PYTHON", sys.executable).replace("RECORDINGS", recordings))
    server = serve()
    case.config["profiler_config"] |= {"engine": "labench", "duration_sec": 10}
    case.payload = '{"a": "é"}\n{"a": 2}\n'
    outcome = aim(case, server).run()
    assert outcome.code == 0, outcome.stderr
    report = outcome.report
    assert server.stop()["bodies"] == {'{"a": "é"}': 1}
    assert report["tool"]["engine"] == {"name": "labench", "version": "unknown"}
    assert report["result"]["latency_ms"]["count"] == 2000
    assert "bytes_read" not in report["result"], "LaBench does not tell"
    assert report["verdict"]["valid"], report["verdict"]
    assert any("a single body: the first of the 2" in note for note in report["verdict"]["notes"])


@wrk2
@pytest.mark.skipif(shutil.which("wrk2") is None, reason="no upstream wrk2 on PATH")
def test_the_real_wrk2(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"engine": "wrk2", "duration_sec": 13}
    server = serve("--delay_ms", "5")
    report = aim(case, server).run().report
    assert server.stop()["requests"] == report["result"]["requests"]["sent"]
    assert report["result"]["requests_per_sec"] == pytest.approx(200, rel=0.05)
    assert 5 <= report["result"]["service_time_ms"]["percentiles"]["50"]["value"] < 10


@labench
@pytest.mark.skipif(shutil.which("labench") is None, reason="no upstream labench on PATH")
def test_the_real_labench(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"engine": "labench", "duration_sec": 5}
    server = serve("--delay_ms", "5")
    report = aim(case, server).run().report
    assert server.stop()["requests"] == report["result"]["requests"]["sent"]
    assert 5 <= report["result"]["latency_ms"]["percentiles"]["50"]["value"] < 10
