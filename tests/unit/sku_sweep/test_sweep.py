"""The sweep over sizes: what it leaves, and what it says of that, however it ends. The tools are played here."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from azureml_local.models.vm_sizes import find_vm_size

ROOT = Path(__file__).parents[3]
DEPLOYER, DELETER, PROFILER = "aml_online_endpoints_deployer", "aml_online_endpoints_deleter", "aml_wrk_profiler"
SIZES = ("Standard_DS1_v2", "Standard_F2s_v2")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sku_sweep_script", ROOT / "job-templates/sku-sweep/sweep.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sku_sweep_script"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass
class Played:
    """Azure and the tools: what stands, what was run, and what is to go wrong."""

    script: ModuleType
    standing: set[str] = field(default_factory=set)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    # By step: raises, or not.
    faults: dict[str, Callable[[Path], None]] = field(default_factory=dict)

    def run(self, chain: Any, step: str, command: list[Any]) -> None:
        words = [str(word) for word in command]
        flags = {word: words[at + 1] for at, word in enumerate(words) if word.startswith("--")}
        folder = chain.folder(step)
        folder.mkdir(parents=True, exist_ok=True)
        tool = words[2] if words[1] == "-m" else "usage"
        path = Path(flags.get("--config_path", "/"))
        whole = flags.get("--delete_endpoint") == "True"
        self.ran.append((tool, path.name, str(whole)) if tool == DELETER else (tool,))
        if step in self.faults:
            self.faults[step](folder / "outputs")
        if tool == DEPLOYER:
            named = json.loads((folder / "deployment.yml").read_text())
            note(folder / "outputs", named["endpoint_name"], "deployment_settings.json")
            self.standing |= {named["endpoint_name"], f"{named['endpoint_name']}/{named['name']}"}
        elif tool == PROFILER:
            (folder / "outputs").mkdir(exist_ok=True)
            (folder / "outputs" / "report.json").write_text("{}")
        elif tool == DELETER:
            endpoint = json.loads(path.read_text())["deployment_settings"]["endpoint_name"]
            self.standing = {
                name for name in self.standing if not name.startswith(endpoint if whole else f"{endpoint}/")
            }


def note(folder: Path, endpoint: str, name: str = "deployment_settings.partial.json") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"deployment_settings": {"endpoint_name": endpoint}}))


@pytest.fixture
def played(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    found = Played(script)
    monkeypatch.setattr(script.Chain, "run", lambda chain, step, command: found.run(chain, step, command))
    # YAML that JSON's parser reads.
    monkeypatch.setattr(script.yaml, "safe_dump", lambda document, **_: json.dumps(document))
    example = tmp_path / "example"
    example.mkdir()
    (example / "endpoint.yml").write_text("name: $ENDPOINT_NAME\n")
    (example / "deployment.yml").write_text("name: $DEPLOYMENT_NAME\nendpoint_name: $ENDPOINT_NAME\n")
    return found


def sweep(played: Played, tmp_path: Path) -> tuple[Any, BaseException | None]:
    """Run a model on two sizes; returns what has come of it and what ended it early."""
    chain = played.script.Chain(tmp_path / "example", tmp_path / "work", Path(sys.executable))
    cases = [played.script.Case("small", tmp_path, find_vm_size(name)) for name in SIZES]
    outcome = played.script.Sweep()
    try:
        played.script.run(chain, cases, "ours", 1.0, outcome)
    except (KeyboardInterrupt, played.script.StepFailed) as error:
        return outcome, error
    return outcome, None


def failing(played: Played, step: str, then: Callable[[Path], None] = lambda _: None) -> None:
    def fail(outputs: Path) -> None:
        then(outputs)
        raise played.script.StepFailed(f"{step}: exit code 1")

    played.faults[step] = fail


def interrupting(played: Played, step: str, then: Callable[[Path], None] = lambda _: None) -> None:
    def interrupt(outputs: Path) -> None:
        then(outputs)
        raise KeyboardInterrupt

    played.faults[step] = interrupt


def test_each_has_the_machine_alone_and_nothing_is_left(played: Played, tmp_path: Path) -> None:
    outcome, ended = sweep(played, tmp_path)
    case = [(DEPLOYER,), (PROFILER,), ("usage",), (DELETER, "deployment_settings.json", "False")]
    assert played.ran == [*case, *case, (DELETER, "deployment_settings.json", "True")]
    assert ended is None and len(outcome.measured) == 2 and played.standing == set()
    assert outcome.remains == "what it had deployed is deleted"
    assert not list(tmp_path.rglob("deployment_settings*"))


def test_a_case_that_fails_does_not_keep_the_next_from_running(played: Played, tmp_path: Path) -> None:
    failing(played, "small/Standard_DS1_v2/profile")
    outcome, ended = sweep(played, tmp_path)
    assert ended is None and [path.parent.name for path in outcome.measured] == ["Standard_F2s_v2"]
    assert "small on Standard_DS1_v2" in outcome.failures[0] and played.standing == set()


def test_interrupted_in_the_first_deployment_its_note_is_used(played: Played, tmp_path: Path) -> None:
    interrupting(played, "small/Standard_DS1_v2/deploy", lambda outputs: note(outputs, "ours"))
    played.standing = {"ours", "ours/half-made"}
    outcome, ended = sweep(played, tmp_path)
    assert isinstance(ended, KeyboardInterrupt)
    assert played.ran == [(DEPLOYER,), (DELETER, "deployment_settings.partial.json", "True")]
    assert played.standing == set() and outcome.remains == "what it had deployed is deleted"


def test_interrupted_before_anything_stands_nothing_is_deleted(played: Played, tmp_path: Path) -> None:
    interrupting(played, "small/Standard_DS1_v2/deploy")
    outcome, _ = sweep(played, tmp_path)
    assert played.ran == [(DEPLOYER,)] and outcome.remains == "nothing had been deployed"


def test_what_an_earlier_sweep_has_left_is_not_taken_for_this_one_s(played: Played, tmp_path: Path) -> None:
    outputs = tmp_path / "work" / "small" / "Standard_DS1_v2" / "deploy" / "outputs"
    outputs.mkdir(parents=True)
    note(outputs, "an-earlier-one", "deployment_settings.json")
    interrupting(played, "small/Standard_DS1_v2/deploy")
    played.standing = {"an-earlier-one"}
    outcome, _ = sweep(played, tmp_path)
    assert played.ran == [(DEPLOYER,)] and played.standing == {"an-earlier-one"}
    assert outcome.remains == "nothing had been deployed"


def test_an_interrupt_stays_one_when_the_deletion_fails_too(played: Played, tmp_path: Path) -> None:
    interrupting(played, "small/Standard_DS1_v2/profile")
    failing(played, "delete")
    outcome, ended = sweep(played, tmp_path)
    assert isinstance(ended, KeyboardInterrupt) and played.ran[-1][0] == DELETER
    settings = tmp_path / "work" / "small" / "Standard_DS1_v2" / "deploy" / "outputs" / "deployment_settings.json"
    assert outcome.standing == [settings] and settings.exists()
    assert outcome.remains.startswith("not removed (delete: exit code 1); remove it by:\n")
    assert outcome.remains.endswith(f"python -m {DELETER} --delete_endpoint True --config_path {settings}")


def test_a_deployment_that_stays_ends_the_sweep(played: Played, tmp_path: Path) -> None:
    """The next would share the machine with it, and its figures would be worth nothing."""
    failing(played, "small/Standard_DS1_v2/delete")
    outcome, ended = sweep(played, tmp_path)
    assert isinstance(ended, played.script.StepFailed) and len(outcome.measured) == 1
    assert played.ran.count((DEPLOYER,)) == 1
    assert played.ran[-1] == (DELETER, "deployment_settings.json", "True") and played.standing == set()


@pytest.mark.parametrize("example", ["digits", "an-example-whose-name-is-long-and-longer"])
def test_every_sweep_has_an_endpoint_of_its_own(script: ModuleType, example: str) -> None:
    names = {script.endpoint_name(example) for _ in range(20)}
    assert len(names) == 20
    assert all(len(name) <= 32 and name.startswith(example[:10]) and "--" not in name for name in names)


@pytest.mark.parametrize(
    ("models", "line"),
    [
        (["small"], "NAME=FOLDER is wanted"),
        (["small=/no/such/folder"], "with a folder that is there"),
        (["one=/", "one=/"], "two of the same name"),
    ],
)
def test_models_that_are_refused(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: list[str],
    line: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep.py", "digits", "--size", "Standard_DS1_v2", "--model", *models])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2 and line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("duration", ["90.5", "0", "-1", "soon"])
def test_a_duration_that_the_profiler_would_refuse_is_refused_before_anything_is_deployed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], duration: str
) -> None:
    words = ["sweep.py", "digits", "--size", "Standard_DS1_v2", f"--duration_sec={duration}", "--model", "one=/nowhere"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert "--duration_sec" in (said := capsys.readouterr().err.splitlines()[-1]) and "whole seconds" in said
