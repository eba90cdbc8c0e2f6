"""`python -m aml_report` on reports that a real profiler wrote of a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aml_tool_core.documents import read_json
from hdrh.histogram import HdrHistogram

SERVER = Path(__file__).parents[1] / "profilers" / "scoring_server.py"
LIMIT_SEC = 60


@dataclass(frozen=True)
class Reports:
    """Reports of the same load on a fast and on a slow server, and of two generators on one server at a time."""

    fast: Path
    slow: Path
    machines: tuple[Path, Path]


@contextmanager
def serving(delay_ms: int) -> Iterator[str]:
    """Run a server that answers after a delay, and yield its URI."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), "--delay_ms", str(delay_ms)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/score"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def profile(uri: str, folders: Sequence[Path], duration_sec: int = 3) -> None:
    """Profile a server from all folders at the same time."""
    assert shutil.which("wrk"), "wrk is not on PATH: install Debian's package wrk"
    processes = []
    for folder in folders:
        folder.mkdir()
        config = {
            "version": "1.0",
            "profiler_config": {"duration_sec": duration_sec, "connections": 2, "payload": '{"x": 1}'},
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "target.json").write_text(json.dumps({"version": "1.0", "deployment_settings": {"scoring_uri": uri}}))
        command = [sys.executable, "-m", "aml_wrk_profiler", "--config_path", "config.json"]
        processes.append(
            subprocess.Popen(
                [*command, "--scoring_target_path", "target.json"], cwd=folder, stderr=subprocess.PIPE, text=True
            )
        )
    for process in processes:
        _, said = process.communicate(timeout=LIMIT_SEC)
        assert process.returncode == 0, said


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    folder = tmp_path_factory.mktemp("runs")
    with serving(delay_ms=5) as uri:
        profile(uri, [folder / "fast"])
        # Long enough to lie over one another even where a busy machine starts the second late.
        profile(uri, [folder / "one", folder / "two"], duration_sec=10)
    with serving(delay_ms=12) as uri:
        profile(uri, [folder / "slow"])
    fast, slow, one, two = (folder / name / "outputs" / "report.json" for name in ("fast", "slow", "one", "two"))
    return Reports(fast, slow, (one, two))


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aml_report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SEC, check=False, cwd=cwd)


def test_a_regression_stops_the_pipeline_and_is_written_down(reports: Reports, tmp_path: Path) -> None:
    page = tmp_path / "out" / "comparison.html"
    done = run("compare", reports.fast, reports.slow, "--html", page, "--fail-on-regression", "20")
    assert done.returncode == 3, done.stderr
    assert any(
        re.match(r"aml_report: error: slow/outputs/report.json: latency_ms_50: [\d.]+ -> [\d.]+ \(\+\d", line)
        for line in done.stderr.splitlines()
    ), done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("latency_ms_50 ")]
    base, new = (
        read_json(path, "report")["result"]["latency_ms"]["percentiles"]["50"]["value"]
        for path in (reports.fast, reports.slow)
    )
    shown = row.split()
    assert float(shown[2]) == pytest.approx(base, rel=5e-4) and float(shown[3]) == pytest.approx(new, rel=5e-4)
    assert float(shown[4]) == pytest.approx(100 * (new - base) / base, abs=0.06)
    assert "worse" in row and "outside the noise" in row
    html = page.read_text(encoding="utf-8")
    assert "Regression: the gate is not passed" in html
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)", html), "the page refers to something outside itself"


def test_an_improvement_passes(reports: Reports) -> None:
    done = run("compare", reports.slow, reports.fast, "--fail-on-regression", "0")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "better" in done.stdout


def test_without_a_gate_a_regression_is_only_shown(reports: Reports) -> None:
    done = run("compare", reports.fast, reports.slow)
    assert done.returncode == 0, done.stderr
    assert "worse" in done.stdout


def test_machines_merge_into_one_report_and_its_page(reports: Reports, tmp_path: Path) -> None:
    done = run("merge", *reports.machines, "-o", "merged.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = read_json(tmp_path / "merged.json", "report")
    parts = [read_json(path, "report") for path in reports.machines]
    assert whole["load"]["connections"] == 4
    for key in ("sent", "completed", "succeeded"):
        assert whole["result"]["requests"][key] == sum(part["result"]["requests"][key] for part in parts)
    added, other = (HdrHistogram.decode(part["result"]["histogram"]["latency"]) for part in parts)
    added.add(other)
    for name, entry in whole["result"]["latency_ms"]["percentiles"].items():
        assert entry["value"] * 1000 == pytest.approx(added.get_value_at_percentile(float(name))), name
    assert run("page", "merged.json", "-o", "report.html", cwd=tmp_path).returncode == 0
    assert "aml_wrk_profiler report" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_runs_that_were_not_at_the_same_time_do_not_merge(reports: Reports, tmp_path: Path) -> None:
    later = read_json(reports.machines[1])
    later["started_at"] = later["started_at"].replace("20", "21", 1)
    (tmp_path / "later.json").write_text(json.dumps(later))
    done = run("merge", reports.machines[0], "later.json", "-o", "merged.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "generators that ran at the same time" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["later.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND; see aml_report --help"),
        (["weigh"], "invalid choice: 'weigh'"),
        (["compare", "FAST"], "the following arguments are required: NEW.json"),
        (["compare", "FAST", "absent.json"], "absent.json: no such file"),
        (["compare", "FAST", "FAST"], "given twice"),
        (["compare", "FAST", "SLOW", "--fail-on-regression", "much"], "'much' is not a number of percent"),
        (["compare", "FAST", "SLOW", "--fail-on-regression", "nan"], "'nan' is not a percentage"),
        (["compare", "FAST", "SLOW", "--fail-on", "5"], "unrecognized arguments: --fail-on"),
        (["compare", "FAST", "NOT_JSON"], "line 1, column 2: not JSON"),
        (["compare", "FAST", "OTHER_SCHEMA"], "unknown key 'deployment_settings'"),
        (["compare", "FAST", "CUT"], "/result/histogram/latency: not an HdrHistogram"),
        (["merge", "FAST", "-o", "x.json"], "nothing to merge it with"),
        (["merge", "FAST", "SLOW"], "the following arguments are required: -o/--output"),
        (["merge", "FAST", "SLOW", "-o", "x.json"], "target differ"),
        (["page", "NOT_JSON", "-o", "x.html"], "not JSON"),
        (["page", "CUT", "-o", "x.html"], "/result/histogram/latency: not an HdrHistogram"),
        (["page", "/", "-o", "x.html"], "/: cannot be read: Is a directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(reports: Reports, tmp_path: Path, arguments: list[str], says: str) -> None:
    cut = read_json(reports.fast)
    cut["result"]["histogram"]["latency"] = cut["result"]["histogram"]["latency"][:40]
    files = {
        "FAST": reports.fast, "SLOW": reports.slow, "NOT_JSON": tmp_path / "not.json", "CUT": tmp_path / "cut.json",
        "OTHER_SCHEMA": tmp_path / "other.json",
    }  # fmt: skip
    files["NOT_JSON"].write_text("{")
    files["CUT"].write_text(json.dumps(cut))
    files["OTHER_SCHEMA"].write_text('{"version": "1.0", "deployment_settings": {}}')
    before = sorted(tmp_path.iterdir())
    done = run(*(files.get(argument, argument) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("aml_report: error: ") and says in line
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_cannot_be_written_is_exit_1(reports: Reports, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("page", reports.fast, "-o", tmp_path / "file" / "report.html")
    assert done.returncode == 1
    assert "cannot be made" in done.stderr


@pytest.mark.parametrize("command", [[], ["compare"], ["merge"], ["page"]])
def test_help(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: aml_report")


def test_every_flag_stands_in_the_readme() -> None:
    readme = (Path(__file__).parents[3] / "packages" / "aml_report" / "README.md").read_text(encoding="utf-8")
    flags = {
        flag
        for name in ("compare", "merge", "page")
        for flag in re.findall(r" (--[a-z-]+)", run(name, "--help").stdout)
    }
    for flag in flags - {"--help", "--output"}:
        assert f"`{flag}" in readme, flag


def test_it_starts_without_the_azure_sdks() -> None:
    code = "import sys, aml_report.command; print([name for name in sys.modules if name.split('.')[0] == 'azure'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.stdout.strip() == "[]"
