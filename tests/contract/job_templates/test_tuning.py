"""The templates of a tuning, and of a load from two nodes: read by the SDK, their command lines read by the tools."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import azure.ai.ml
import pytest
from aml_tool_core.documents import read_json, validate
from aml_tool_core.main import parser
from aml_tuner import quick
from aml_tuner.command import CHOICE, TOOL
from aml_tuner.space import Space
from aml_wrk2_profiler.command import TOOL as WRK2
from azureml_local.models.placeholders import resolve

TEMPLATES = Path(__file__).parents[3] / "job-templates"
PLACEHOLDER = re.compile(r"\$([A-Z][A-Z0-9_]*)")
EXAMPLES = ("digits", "minilm")


@pytest.fixture(params=EXAMPLES)
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The templates with an example's names in the place of their placeholders."""
    folder = tmp_path / "job-templates"
    shutil.copytree(TEMPLATES, folder, ignore=shutil.ignore_patterns("__pycache__", "model"))
    (folder / "tuning" / "made" / "named-outputs" / "optimized_model").mkdir(parents=True)
    (folder / "tuning" / "made" / "named-outputs" / "optimized_parameters").mkdir()
    values = {"EXAMPLE": request.param, "OPTIMIZER_DOWNLOAD_FOLDER": "made", "DEPLOYER_DOWNLOAD_FOLDER": "made"}
    settings = folder / "made" / "artifacts" / "outputs" / "deployment_settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text("{}")
    for name in ("tuning/tune.yml", "tuning/sweep.yml", "two_nodes.yml"):
        text = (folder / name).read_text()
        (folder / name).write_text(PLACEHOLDER.sub(lambda found: values.get(found[1], f"a-{found[1].lower()}"), text))
    return folder


def words(command: str, **values: str) -> list[str]:
    named = dict.fromkeys(re.findall(r"\$\{\{(.*?)\}\}", command), "/some/file") | values
    return shlex.split(resolve(command, named))


def test_the_job_loads_and_its_command_line_parses(filled: Path) -> None:
    job: Any = azure.ai.ml.load_job(filled / "tuning" / "tune.yml")
    command = words(job.command)
    assert command[:3] == ["python", "-m", "aml_tuner"]
    parser(TOOL).parse_args(command[3:])
    assert set(re.findall(r"inputs\.(\w+)", job.command)) == set(job.inputs)
    assert Path(job.inputs["profiler_config"].path).name == "search.json", "deployed, searched, and deleted"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_valid(example: str) -> None:
    config = read_json(TEMPLATES / "tuning" / example / "config.json", "tuning_config")["tuning_config"]
    for name in ("load.json", "search.json"):
        load = read_json(TEMPLATES / "tuning" / example / name, f"{config['profiler'][4:-9]}_profiler_config")
        assert ("search" in load["profiler_config"]) == (name == "search.json")
    assert quick.budget(Space.of(config["parameters"])) == 7


def test_a_trial_of_the_sweep_writes_a_valid_configuration_of_its_one_variant(filled: Path, tmp_path: Path) -> None:
    sweep: Any = azure.ai.ml.load_job(filled / "tuning" / "sweep.yml")
    assert sweep.type == "sweep"
    assert sweep.objective.primary_metric == f"{CHOICE}succeeded_per_sec"
    assert Path(sweep.inputs["profiler_config"].path).name == "search.json"
    command = str(sweep.trial.command).replace("${{search_space.", "${{inputs.")
    values = {"inputs.worker_count": "2", "inputs.concurrency": "8", "inputs.threads": "1"}
    named = dict.fromkeys(re.findall(r"\$\{\{(.*?)\}\}", command), "/some/file") | values
    # The shell's own reading of it, with a program in the place of python that shows its words.
    shown = tmp_path / "python"
    shown.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done >words.txt\n')
    shown.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", resolve(command, named)], cwd=tmp_path, env=env, check=True)
    parsed = (tmp_path / "words.txt").read_text().splitlines()
    assert parsed[:2] == ["-m", "aml_tuner"]
    parser(TOOL).parse_args(parsed[2:])
    config = json.loads((tmp_path / "tuning.json").read_text())
    validate(config, "tuning_config", "tuning.json")
    assert config["tuning_config"]["parameters"] == {
        "worker_count": [2],
        "max_concurrent_requests_per_instance": [8],
        "intra_op_num_threads": [1],
    }
    # Its trials are those of the one job that tunes: their ids do not depend on what else is tried.
    tuned = read_json(TEMPLATES / "tuning" / "digits" / "config.json")["tuning_config"]
    assert list(tuned["parameters"]) == list(config["tuning_config"]["parameters"])
    assert tuned["profiler"] == config["tuning_config"]["profiler"] and "constraints" not in tuned


def test_a_load_from_two_nodes(filled: Path) -> None:
    job: Any = azure.ai.ml.load_job(filled / "two_nodes.yml")
    assert job.resources.instance_count == 2
    assert (job.distribution.type, job.distribution.process_count_per_instance) == ("pytorch", 1)
    command = words(job.command)
    assert command[:3] == ["python", "-m", "aml_wrk2_profiler"]
    parser(WRK2).parse_args(command[3:])
