"""The tuner on a real control plane, with the real deployer, profiler and deleter."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from aml_tool_core.documents import read_json

if TYPE_CHECKING:
    from tests.contract.conftest import TinyDeployment


def tune(tiny: TinyDeployment) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aml_tuner", "--config_path", "tuning.json", "--profiler_config_path", "load.json"]
    return tiny.run([*command, *tiny.deployer()[3:]])


def test_two_variants_are_deployed_measured_and_gone(tiny: TinyDeployment, client: Any) -> None:
    tiny.write()
    config = {"profiler": "aml_wrk_profiler", "parameters": {"worker_count": [1, 2]}, "strategy": "grid"}
    config["constraints"] = {"error_percent": 0}
    (tiny.folder / "tuning.json").write_text(json.dumps({"version": 1.0, "tuning_config": config}))
    load = {"duration_sec": 1, "connections": 1}
    (tiny.folder / "load.json").write_text(json.dumps({"version": 1.0, "profiler_config": load}))
    done = tune(tiny)
    assert done.returncode == 0, done.stderr
    summary = read_json(tiny.folder / "outputs" / "summary.json", "tuning_summary")
    assert [one["variant"] for one in summary["trials"]] == [{"worker_count": 1}, {"worker_count": 2}]
    # What the service answered, not what was asked.
    assert [one["target"]["worker_count"] for one in summary["trials"]] == [1, 2]
    assert all(one["metrics"]["succeeded_per_sec"] > 0 and one["feasible"] for one in summary["trials"])
    assert summary["pareto_axes"] == ["latency_ms_99", "core_hour_per_million_requests"]
    stand = [endpoint.name for endpoint in client.online_endpoints.list()]
    assert not [name for name in stand if name.startswith(tiny.endpoint_name[:15])]
    # Nothing is deployed a second time.
    again = tune(tiny)
    assert again.returncode == 0, again.stderr
    assert "2 trials were finished before and are not run again" in again.stderr
    assert read_json(tiny.folder / "outputs" / "summary.json")["trials"] == summary["trials"]
