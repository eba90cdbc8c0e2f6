"""The job templates: filled in as their users do, read by the SDK, their command lines read by the tools."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import azure.ai.ml
import pytest
import yaml
from aml_tool_core.main import parser
from azureml_local.models.placeholders import references, resolve

TEMPLATES = Path(__file__).parents[3] / "job-templates"
TOOLS = (
    "aml_olive_optimizer",
    "aml_online_endpoints_deployer",
    "aml_online_endpoints_deleter",
    "aml_wrk_profiler",
    "aml_wrk2_profiler",
    "aml_labench_profiler",
)
PLACEHOLDER = re.compile(r"\$([A-Z][A-Z0-9_]*)")
# After the tool itself: what takes its files to the step's outputs.
END_OF_TOOL = re.compile(r"\s;\scode=\$\?")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The templates beside the example, their placeholders filled in by envsubst."""
    folder = tmp_path_factory.mktemp("templates") / "job-templates"
    shutil.copytree(TEMPLATES, folder, ignore=shutil.ignore_patterns("__pycache__", "minilm"))
    download = folder / "download"
    for name in ("named-outputs/optimized_model/model.onnx", "artifacts/outputs/deployment_settings.json",
                 "named-outputs/optimized_parameters/optimized_parameters.json"):  # fmt: skip
        (download / name).parent.mkdir(parents=True)
        (download / name).write_text("{}")
    (folder / "digits" / "model").mkdir(exist_ok=True)
    values = {"OPTIMIZER_DOWNLOAD_FOLDER": "download", "DEPLOYER_DOWNLOAD_FOLDER": "download"}
    values |= {"PROFILER": "aml_wrk_profiler", "PROFILER_CONFIG": "digits/wrk_config.json", "CONCURRENCY": "2"}
    for path in [*folder.glob("*.yml"), *folder.glob("components/*.yml"), folder / "ci" / "deployment.yml"]:
        names = sorted(set(PLACEHOLDER.findall(path.read_text())))
        path.write_text(envsubst(path.read_text(), {name: values.get(name, f"a-{name.lower()}") for name in names}))
    return folder


def envsubst(text: str, values: Mapping[str, str]) -> str:
    """Fill the placeholders in as the README tells to."""
    names = " ".join(f"${name}" for name in values)
    # With these alone; the example's folders are read relative to the file that names them.
    return subprocess.run(
        ["envsubst", names], input=text, env=dict(values), capture_output=True, text=True, check=True
    ).stdout


def load_job(path: Path) -> Any:
    """Return a job; its type, which the SDK knows as Job alone, depends on the file."""
    return azure.ai.ml.load_job(path)


def load_component(path: Path) -> Any:
    """Return a component."""
    return azure.ai.ml.load_component(path)


def tool_of(name: str) -> Any:
    return importlib.import_module(f"{name}.command").TOOL


def words(command: str, *, only: frozenset[str] | None = None) -> list[str]:
    """Return the words of a command whose placeholders stand for paths; `only` names the inputs that are given."""
    values = {name: f"/some/{name}" for name in references(command) if only is None or name in only}
    values |= {name: "True" for name in values if name.endswith("delete_endpoint")}
    return shlex.split(END_OF_TOOL.split(resolve(command, values))[0])


def parse(tool: str, command: list[str]) -> Any:
    assert command[:3] == ["python", "-m", tool]
    return parser(tool_of(tool)).parse_args(command[3:])


def test_all_six_tools_have_a_job_and_a_component() -> None:
    assert {path.stem for path in TEMPLATES.glob("aml_*.yml")} == set(TOOLS)
    assert {path.stem for path in (TEMPLATES / "components").glob("aml_*.yml")} == set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_jobs_load_and_their_command_lines_parse(filled: Path, tool: str) -> None:
    job = load_job(filled / f"{tool}.yml")
    assert job.type == "command"
    assert job.environment.image.startswith("a-")
    parsed = parse(tool, words(job.command))
    given = {value for value in vars(parsed).values() if isinstance(value, str) and value.startswith("/some/inputs.")}
    assert {name.removeprefix("/some/inputs.") for name in given} == set(job.inputs) - {"delete_endpoint"}
    used = set(references(job.command))
    assert used == {f"inputs.{name}" for name in job.inputs} | {f"outputs.{name}" for name in job.outputs}


@pytest.mark.parametrize("tool", TOOLS)
def test_components_load_and_their_command_lines_parse(filled: Path, tool: str) -> None:
    component = load_component(filled / "components" / f"{tool}.yml")
    assert component.name == tool
    optional = {name for name, entry in component.inputs.items() if entry.optional}
    for skipped in (set[str](), optional):
        given = frozenset(f"inputs.{name}" for name in component.inputs if name not in skipped)
        outputs = frozenset(f"outputs.{name}" for name in component.outputs)
        parse(tool, words(component.command, only=given | outputs))
    referred = {name.removeprefix("inputs.") for name in references(component.command) if name.startswith("inputs.")}
    assert set(component.inputs) - referred <= {"after"}, "an input that is there to wait for"


def test_a_component_gives_its_tool_every_input_of_the_job(filled: Path) -> None:
    for tool in TOOLS:
        job, component = load_job(filled / f"{tool}.yml"), load_component(filled / "components" / f"{tool}.yml")
        assert set(job.inputs) <= set(component.inputs), tool
        flags = {word for word in words(job.command) if word.startswith("--")}
        assert flags <= {word for word in words(component.command) if word.startswith("--")}, tool


@pytest.mark.parametrize("profiler", [tool for tool in TOOLS if tool.endswith("_profiler")])
def test_a_profiler_s_component_goes_on_from_the_runs_that_it_is_given(filled: Path, profiler: str) -> None:
    command = load_component(filled / "components" / f"{profiler}.yml").command
    given = frozenset({"inputs.config", "inputs.scoring_target", "outputs.report"})
    assert parse(profiler, words(command, only=given | {"inputs.runs"})).resume_path == "/some/inputs.runs"
    assert parse(profiler, words(command, only=given)).resume_path is None
    # A job has no such input; its comment tells what to add.
    text = (filled / f"{profiler}.yml").read_text()
    assert "#   --resume_path ${{inputs.runs}}" in text and "#   runs: {type: uri_folder, path: " in text


@pytest.mark.parametrize("profiler", [tool for tool in TOOLS if tool.endswith("_profiler")])
def test_the_pipeline_loads_with_each_profiler(filled: Path, tmp_path: Path, profiler: str) -> None:
    folder = tmp_path / "job-templates"
    shutil.copytree(filled, folder)
    (folder / "pipeline.yml").write_text(
        (folder / "pipeline.yml").read_text().replace("components/aml_wrk_profiler.yml", f"components/{profiler}.yml")
    )
    pipeline = load_job(folder / "pipeline.yml")
    assert list(pipeline.jobs) == ["optimize", "deploy", "profile", "delete", "gate"]
    assert f"python -m {profiler} " in pipeline.jobs["profile"].component.command
    pipeline._validate(raise_error=True)


def bindings(node: Mapping[str, Any]) -> Iterator[str]:
    for value in {**node.get("inputs", {}), **node.get("outputs", {})}.values():
        yield from references(str(value))


def test_the_pipeline_binds_what_is_there(filled: Path) -> None:
    document = yaml.safe_load((filled / "pipeline.yml").read_text())
    components = {
        name: load_component(filled / node["component"].removeprefix("file:"))
        for name, node in document["jobs"].items()
    }
    bound = {reference for node in document["jobs"].values() for reference in bindings(node)}
    known = {f"parent.{kind}.{name}" for kind in ("inputs", "outputs") for name in document[kind]}
    known |= {f"parent.jobs.{name}.outputs.{output}" for name in components for output in components[name].outputs}
    assert bound <= known
    assert {reference for reference in bound if not reference.startswith("parent.jobs.")} == {
        reference for reference in known if not reference.startswith("parent.jobs.")
    }, "every input and output of the pipeline is somebody's"


def test_deletion_waits_for_the_profile_and_the_gate_for_the_deletion(filled: Path) -> None:
    jobs = yaml.safe_load((filled / "pipeline.yml").read_text())["jobs"]
    assert jobs["delete"]["inputs"]["after"] == "${{parent.jobs.profile.outputs.report}}"
    assert jobs["gate"]["inputs"]["after"] == "${{parent.jobs.delete.outputs.deleted}}"


@pytest.mark.parametrize("profiler", [tool for tool in TOOLS if tool.endswith("_profiler")])
@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (3, 0), (1, 1), (2, 2), (70, 70)])
def test_a_missed_sla_alone_lets_the_step_succeed(
    filled: Path, tmp_path: Path, profiler: str, code: int, ends_with: int
) -> None:
    """The component's real shell line, with a profiler that ends with this exit code."""
    command = load_component(filled / "components" / f"{profiler}.yml").command
    report = tmp_path / "report"
    report.mkdir()
    values = {name: str(report) if name == "outputs.report" else "x" for name in references(command)}
    tail = END_OF_TOOL.search(resolve(command, values))
    assert tail is not None
    line = f"(exit {code}) {resolve(command, values)[tail.start() :]}"
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "report.json").write_text("{}")
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False)
    assert done.returncode == ends_with
    assert (report / "report.json").is_file()
