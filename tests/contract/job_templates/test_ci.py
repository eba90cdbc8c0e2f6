"""The CI examples: the gate at their end, the script that runs a pair, and the files that name both."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from aml_tool_core import documents
from azure.ai.ml import load_job

REPOSITORY = Path(__file__).parents[3]
CI = REPOSITORY / "job-templates" / "ci"
GATE = REPOSITORY / "job-templates" / "components" / "sla_gate" / "sla_gate.py"
REPORTS = REPOSITORY / "tests" / "data" / "valid" / "report"
NAMES = ("OPTIMIZER_IMAGE", "DEPLOYER_IMAGE", "PROFILER_IMAGE", "DELETER_IMAGE", "PIPELINE_COMPUTE_NAME")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run_pair = load(CI / "run_pair.py")


def report(*, valid: bool = True, sla: dict[str, Any] | None = None, **more: Any) -> str:
    """A real report with another verdict, and more."""
    document = json.loads(sorted(REPORTS.glob("*.json"))[0].read_text())
    document["verdict"] = {**document["verdict"], "valid": valid, "reasons": [] if valid else ["the machine was busy"]}
    document.pop("sla", None)
    if sla is not None:
        document["sla"] = sla
    return json.dumps(document | more)


def criterion(metric: str, limit: float, value: float | None, met: bool) -> dict[str, Any]:
    return {"metric": metric, "limit": limit, "value": value, "met": met}


def judge(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(GATE), *map(str, arguments)], capture_output=True, text=True, check=False
    )


MET = {"met": True, "criteria": [criterion("latency_ms_99", 200, 20.5, True)]}
MISSED = {"met": False, "criteria": [criterion("latency_ms_99", 200, 300, False), *MET["criteria"]]}  # type: ignore[misc]
SPENT = "the budget of 4 runs is spent"
UNKNOWN = {"answer": None, "reason": SPENT}
DOUBTFUL = {"answer": {"value": 9, "interval": [8, 10], "confirmed": False, "run": 4}, "reason": SPENT}
CERTAIN = {"answer": {**DOUBTFUL["answer"], "confirmed": True}, "reason": "narrow"}  # type: ignore[dict-item]
BEST = {"payload_class": "small", "best": 1}
NO_BEST = {"payload_class": "large", "best": None}


def test_the_gate_passes_what_meets_its_sla_or_has_none(tmp_path: Path) -> None:
    for name, text in {
        "a": report(sla=MET), "b": report(), "c": report(sla=MET, search=CERTAIN, choices=[BEST]),
        "d": report(choices=[NO_BEST]),
    }.items():  # fmt: skip
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "report.json").write_text(text)
    done = judge(tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "latency_ms_99 is 20.5, the limit 200" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (report(sla=MISSED), "latency_ms_99 is 300, the limit 200"),
        (report(sla={"met": False, "criteria": [criterion("cpu_percent_max", 80, None, False)]}), "is not known"),
        (report(valid=False, sla=MET), "the run is not valid: the machine was busy"),
        (report(sla=MET, search=UNKNOWN), f"no load holds: {SPENT}"),
        (report(sla=MET, search=DOUBTFUL, choices=[BEST]), f"is not confirmed: {SPENT}"),
        (report(search=UNKNOWN), f"no load holds: {SPENT}"),
        (report(sla=MET, choices=[BEST, NO_BEST]), "no run of payload class large can be used"),
        (report(sla=MET, choices=[{"best": None}]), "no run can be used"),
        (
            report(sla=MET, failures=[{"connections": 8, "target_rps": 40, "reason": "lost"}]),
            "8 connections at 40/s were not measured: lost",
        ),
    ],
)
def test_the_gate_holds_what_misses_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "report.json").write_text(text)
    done = judge(tmp_path / "report.json")
    assert done.returncode == 3
    assert [line for line in done.stdout.splitlines() if line.startswith("MISSED") and said in line]


@pytest.mark.parametrize("content", [None, "{}", "no JSON"])
def test_the_gate_says_what_is_no_report(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
        if content == "{}":
            (tmp_path / "report.json").write_text('{"sla": {}}')
    done = judge(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("sla_gate: error: ")


def test_a_pair_fills_the_templates(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "digits.pt").write_text("weights")
    folder = tmp_path / "templates"
    folder.mkdir()
    run_pair.copy_templates(folder, model)
    pair = run_pair.PAIR.fullmatch("Standard_F4s_v2:4")
    values = run_pair.variables(pair, {name: f"some-{name.lower()}" for name in NAMES})
    run_pair.fill(folder, {**values, "PIPELINE_COMPUTE_NAME": "cpu"})
    pipeline: Any = load_job(folder / "pipeline.yml")
    assert pipeline.settings.default_compute == "cpu"
    deployment = yaml.safe_load((folder / "digits" / "deployment.yml").read_text())
    assert deployment["instance_type"] == "Standard_F4s_v2"
    assert deployment["request_settings"]["max_concurrent_requests_per_instance"] == 4
    assert deployment["environment_variables"]["WORKER_COUNT"] == "4"
    config = documents.read_json(folder / "ci" / "profiler_config.json", "wrk_profiler_config")
    assert config["profiler_config"]["connections"] == 4


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CI / "run_pair.py"), "Standard_F4s_v2:4", "--model", str(tmp_path), "--download", "x"],
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"run_pair: error: {', '.join(sorted(NAMES))}: not set in the environment")


@pytest.mark.parametrize("pair", ["Standard_F4s_v2", "Standard_F4s_v2:0", "F4:x", "a:1; rm -rf /"])
def test_what_is_no_pair_is_refused(tmp_path: Path, pair: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run_pair.main([pair, "--model", str(tmp_path), "--download", "x"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("aml_wrk_profiler.yml", None, "PROFILER_COMPUTE_NAME, PROFILER_IMAGE, PROFILER_JOB_NAME: not filled in"),
        (
            "job.yml",
            "command: echo\n",
            "AZUREML_ARM_SUBSCRIPTION, AZUREML_ARM_RESOURCEGROUP, AZUREML_ARM_WORKSPACE_NAME",
        ),
    ],
)
def test_a_job_that_cannot_be_submitted_is_refused(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = CI.parent / name
    if text is not None:
        path = tmp_path / name
        path.write_text(text)
    command = [sys.executable, str(CI.parent / "run_job.py"), str(path)]
    done = subprocess.run(command, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("run_job: error: ") and said in done.stderr and done.stderr.count("\n") == 1


def steps_of(document: Any) -> str:
    return json.dumps(document)


@pytest.mark.parametrize("name", ["github-actions.yml", "azure-pipelines.yml"])
def test_the_examples_run_all_pairs_and_judge_at_the_end(name: str) -> None:
    document = yaml.safe_load((CI / name).read_text())
    told = steps_of(document)
    for script in ("job-templates/ci/run_pair.py", "job-templates/components/sla_gate/sla_gate.py"):
        assert script in told and (REPOSITORY / script).is_file()
    stated = set(re.findall(r"Standard_\w+:\d+", told))
    assert len(stated) == 3 and all(run_pair.PAIR.fullmatch(pair) for pair in stated)
    # What the templates need, and nothing gives by itself, the example sets.
    assert all(variable in (CI / name).read_text() for variable in NAMES)
    if name == "github-actions.yml":
        assert document["jobs"]["gate"]["needs"] == "profile"
        assert document["jobs"]["profile"]["strategy"]["matrix"]["pair"] == "${{ fromJson(needs.pairs.outputs.list) }}"
    else:
        assert [stage["stage"] for stage in document["stages"]] == ["profile", "gate"]
        assert document["stages"][1]["dependsOn"] == "profile"


def test_the_matrix_is_made_of_the_pairs() -> None:
    document = yaml.safe_load((CI / "github-actions.yml").read_text())
    line = document["jobs"]["pairs"]["steps"][0]["run"]
    expression = re.search(r"'(\$ENV.*)'", line)
    assert expression is not None
    done = subprocess.run(
        ["jq", "--null-input", "--compact-output", expression[1]],
        env={"PATH": "/usr/bin:/bin", "PAIRS": " Standard_F2s_v2:2  Standard_F4s_v2:4 "},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["Standard_F2s_v2:2", "Standard_F4s_v2:4"]
