"""A small world in which the tools of a trial are stand-ins: programs of the same names, flags and files.

What they deploy are files of a folder, so a test sees what stands; what they measure is a formula.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LIMIT_SEC = 120.0
_HEAD = """
import json, os, pathlib, signal, sys, time
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
world = pathlib.Path(os.environ["STAND_IN_WORLD"])
rules = json.loads((world / "rules.json").read_text())
outputs = pathlib.Path("outputs")
outputs.mkdir(exist_ok=True)
def log(what):
    with (world / "calls.txt").open("a") as calls:
        calls.write(what + "\\n")
def fail(tool, why, code=1):
    sys.stderr.write(f"{tool}: error: {why}\\n")
    sys.exit(code)
"""
DEPLOYER = (
    _HEAD
    + """
tool = "aml_online_endpoints_deployer"
variant = json.loads(flags["--variant"])
name = variant.pop("endpoint_name")
log(f"deploy {json.dumps(variant)}")
settings = {"version": "1.0", "deployment_settings": {"endpoint_name": name, "deployment_name": "blue"}}
(outputs / "deployment_settings.partial.json").write_text(json.dumps(settings))
(world / "endpoints" / name).write_text(json.dumps(variant))
if variant in rules["fail"]:
    fail(tool, "no quota for it; ask for more")
time.sleep(rules["deploy_sec"])
(outputs / "deployment_settings.partial.json").rename(outputs / "deployment_settings.json")
"""
)
PROFILER = (
    _HEAD
    + """
tool = "aml_wrk_profiler"
assert "MLFLOW_RUN_ID" not in os.environ, "one trial's figures are not the job's"
target = json.loads(pathlib.Path(flags["--scoring_target_path"]).read_text())["deployment_settings"]
config = json.loads(pathlib.Path(flags["--config_path"]).read_text())["profiler_config"]
if rules["refuse"] == ("endpoint" if "endpoint_name" in target else "config"):
    fail(tool, f"{flags['--config_path']}: /profiler_config/search: constraints: missing", 2)
if "endpoint_name" not in target and rules["real_check"]:
    del os.environ["PYTHONPATH"]  # where the stand-ins are
    os.execv(sys.executable, [sys.executable, "-m", tool, *sys.argv[1:]])
if "endpoint_name" not in target:
    fail(tool, f"{target['scoring_uri']}: cannot be reached")
variant = json.loads((world / "endpoints" / target["endpoint_name"]).read_text())
time.sleep(rules["profile_sec"])
report = json.loads((world / "report.json").read_text())
workers = variant.get("worker_count", 1)
rate = 100.0 * workers / (1 + 0.1 * (workers - 1) ** 2)
p99 = 5.0 * workers
report["result"]["requests_per_sec"] = report["result"]["succeeded_per_sec"] = rate
report["result"]["latency_ms"]["percentiles"]["99"]["value"] = p99
report["cost"] = {"vcpus_per_instance": 2, "core_hour_per_million_requests": 2e6 / (3600 * rate)}
report.pop("sla", None)
limit = config.get("sla", {}).get("latency_ms_99")
if limit is not None:
    criteria = [{"metric": "latency_ms_99", "limit": limit, "value": p99, "met": p99 <= limit}]
    report["sla"] = {"met": p99 <= limit, "criteria": criteria}
log(f"profile {json.dumps(variant)}")
(outputs / "report.json").write_text(json.dumps(report))
if limit is not None and p99 > limit:
    sys.exit(3)
"""
)
DELETER = (
    _HEAD
    + """
tool = "aml_online_endpoints_deleter"
assert flags["--delete_endpoint"] == "True"
target = json.loads(pathlib.Path(flags["--config_path"]).read_text())["deployment_settings"]
if rules["undeletable"]:
    fail(tool, "not authorized; ask for the role")
time.sleep(rules["delete_sec"])
(world / "endpoints" / target["endpoint_name"]).unlink(missing_ok=True)
log(f"delete {target['endpoint_name']}")
"""
)
RULES: Mapping[str, Any] = {
    "fail": [],
    "deploy_sec": 0,
    "profile_sec": 0,
    "delete_sec": 0,
    "undeletable": False,
    "refuse": None,
    "real_check": False,
}


@dataclass
class World:
    """What the stand-ins are told and what they did."""

    folder: Path
    config: dict[str, Any]
    load: dict[str, Any] = field(default_factory=lambda: {"duration_sec": 1, "connections": 2})
    rules: dict[str, Any] = field(default_factory=lambda: dict(RULES))
    env: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def endpoints(self) -> list[str]:
        """What stands."""
        return sorted(path.name for path in (self.folder / "endpoints").iterdir())

    def calls(self, tool: str) -> list[str]:
        """What a tool was called for, in order."""
        path = self.folder / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(f"{tool} ") for line in lines if line.startswith(f"{tool} ")]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start aml_tuner."""
        (self.folder / "rules.json").write_text(json.dumps(self.rules))
        document = {"version": 1.0, "tuning_config": self.config}
        (self.work / "tuning.json").write_text(json.dumps(document))
        (self.work / "endpoint.yml").write_text("name: a-rather-long-name-of-an-endpoint\nauth_mode: key\n")
        (self.work / "deployment.yml").write_text("name: blue\ninstance_type: Standard_F2s_v2\n")
        (self.work / "wrk.json").write_text(json.dumps({"version": 1.0, "profiler_config": self.load}))
        words = [sys.executable, "-m", "aml_tuner", "--config_path", "tuning.json"]
        words += ["--endpoint_yaml_path", "endpoint.yml", "--deployment_yaml_path", "deployment.yml"]
        words += ["--profiler_config_path", "wrk.json", *more]
        return subprocess.Popen(
            words,
            cwd=self.work,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder / "tools"),
                "STAND_IN_WORLD": str(self.folder),
                **self.env,
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *more: str) -> tuple[int, str]:
        """Run aml_tuner to its end; return its exit code and stderr."""
        process = self.start(*more)
        try:
            _, said = process.communicate(timeout=LIMIT_SEC)
        finally:
            process.kill()
        return process.returncode, said

    def summary(self) -> dict[str, Any]:
        """summary.json, valid against its schema."""
        from aml_tool_core.documents import read_json

        document: dict[str, Any] = read_json(self.work / "outputs" / "summary.json", "tuning_summary")
        return document


@pytest.fixture
def world(tmp_path: Path, measured: Callable[..., dict[str, Any]]) -> World:
    """Stand-ins of the deployer, wrk's profiler and the deleter, and a configuration of four worker counts."""
    for name, program in (
        ("aml_online_endpoints_deployer", DEPLOYER),
        ("aml_wrk_profiler", PROFILER),
        ("aml_online_endpoints_deleter", DELETER),
    ):
        (tmp_path / "tools" / name).mkdir(parents=True)
        (tmp_path / "tools" / name / "__init__.py").touch()
        (tmp_path / "tools" / name / "__main__.py").write_text(program)
    for name in ("endpoints", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "report.json").write_text(json.dumps(measured()))
    config = {"profiler": "aml_wrk_profiler", "parameters": {"worker_count": [1, 2, 4, 8]}, "strategy": "grid"}
    return World(tmp_path, config)
