"""The chain's script: what it leaves when it is cut short, and what its table says of any report."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
REPORTS = ROOT / "tests/data/valid/report"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chain_script", ROOT / "job-templates/chain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chain_script"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def chain(script: ModuleType, tmp_path: Path) -> Any:
    return script.Chain(ROOT / "job-templates/digits", tmp_path, Path(sys.executable))


def test_a_model_that_was_not_finished_is_made_again(script: ModuleType, tmp_path: Path) -> None:
    model = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt), script.made_once(model) as folder:
        folder.mkdir()
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt
    assert not model.exists()
    with script.made_once(model) as folder:
        assert not folder.exists()
        folder.mkdir()
        (folder / "weights").write_text("whole")
    assert (model / "weights").read_text() == "whole"
    with script.made_once(model) as folder:
        assert folder is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("left", ["deployment_settings.json", "deployment_settings.partial.json", None])
@pytest.mark.parametrize("cause", ["StepFailed", "KeyboardInterrupt"])
def test_what_stands_is_deleted_whatever_cuts_the_run_short(
    script: ModuleType, chain: Any, monkeypatch: pytest.MonkeyPatch, left: str | None, cause: str
) -> None:
    """A deployer that is killed leaves only its note; one that removes what it made leaves nothing."""
    reason = KeyboardInterrupt() if cause == "KeyboardInterrupt" else script.StepFailed("deploy: exit code 1")
    ran: list[tuple[str, str]] = []

    def run_tool(self: Any, step: str, tool: str, flags: dict[str, Any], python: Any = None) -> None:
        ran.append((tool, str(flags["config_path"])))

    def deploy(chain: Any) -> None:
        if left is not None:
            folder = chain.settings("optimized").parent
            folder.mkdir(parents=True)
            (folder / left).write_text("{}")
        raise reason

    monkeypatch.setattr(script, "make_model", lambda chain: None)
    monkeypatch.setattr(script, "optimize", lambda chain: None)
    monkeypatch.setattr(script, "deploy", deploy)
    monkeypatch.setattr(script.Chain, "run_tool", run_tool)
    with pytest.raises(type(reason)):
        script.run(chain, ["wrk"])
    named = [("aml_online_endpoints_deleter", str(chain.settings("optimized").parent / left))] if left else []
    assert ran == named


def test_an_earlier_runs_settings_are_left_to_the_deployer(
    script: ModuleType, chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They alone tell what that run has deployed, and the deployer sets them aside."""
    settings = chain.settings("optimized")
    settings.parent.mkdir(parents=True)
    settings.write_text("{}")
    monkeypatch.setattr(script.Chain, "run_tool", lambda *_: None)
    script.deploy(chain)
    assert settings.read_text() == "{}"


def test_in_azure_each_run_has_an_endpoint_of_its_own(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names: list[str] = []

    def run(chain: Any, _profilers: Any) -> None:
        names.append(chain.endpoint)
        raise script.StepFailed("seen enough")

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(sys, "argv", ["chain.py", "minilm", "--azure", "--work_folder", str(tmp_path)])
    assert (script.main(), script.main()) == (1, 1)
    assert len(set(names)) == 2 and all(name.startswith("minilm-endpoint-") and len(name) <= 32 for name in names)


def test_a_control_plane_that_does_not_start_is_one_line(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ["chain.py", "digits", "--work_folder", str(tmp_path / "work"), "--plane_home", str(tmp_path / "file")]
    monkeypatch.setattr(sys, "argv", words)
    assert script.main() == 1
    assert capsys.readouterr().err.strip() == "chain: error: azureml-local up: exit code 1; its reason is above"


@pytest.mark.parametrize("name", ["nothing_answered", "closed_loop", "open_loop_of_a_deployment"])
def test_every_report_has_its_column(script: ModuleType, chain: Any, name: str) -> None:
    report = json.loads((REPORTS / f"{name}.json").read_text())
    for deployment in ("exported", "optimized"):
        chain.report("wrk", deployment).parent.mkdir(parents=True)
        chain.report("wrk", deployment).write_text(json.dumps(report))
    metrics = {"accuracy-accuracy_score": {"value": 0.98, "input_model_value": None}}
    options = {"intra_op_num_threads": 2, "inter_op_num_threads": 1, "graph_optimization_level": 99}
    parameters = {"metrics": metrics, "session_options": options, "execution_provider": [["CPUExecutionProvider", {}]]}
    chain.optimized_parameters.mkdir(parents=True)
    (chain.optimized_parameters / "optimized_parameters.json").write_text(json.dumps(parameters))
    summary = script.summary(chain, ["wrk"])
    assert "CPUExecutionProvider, 2 intra-op" in summary
    rows = {
        cells[0]: cells[1]
        for line in summary.splitlines()
        if len(cells := [cell.strip() for cell in line.split("  ") if cell.strip()]) == 3
    }
    answered = "latency_ms" in report["result"]
    assert (rows["p99 ms [95 % interval]"] == "-") is not answered
    assert rows["may be believed"].startswith("yes" if report["verdict"]["valid"] else "no")


@pytest.mark.parametrize(
    ("errors", "shown"),
    [
        ({"connect": 0, "read": 0, "write": 0, "timeout": 2, "status": {}}, "2 / 0"),
        ({"connect": 1, "read": 2, "write": 3, "timeout": 4, "status": {"429": 5, "500": 6}}, "16 / 5"),
        ({"connect": 0, "read": 0, "write": 0, "timeout": 0, "unknown_status": 7}, "7 / -"),
    ],
)
def test_every_kind_of_failure_is_counted(script: ModuleType, errors: dict[str, Any], shown: str) -> None:
    assert script._failures({"result": {"errors": errors}}) == shown
