"""Rules of jobs, without an engine: placeholders, sampling, pipelines, what is refused."""

from __future__ import annotations

import asyncio
import copy
import math
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core.profiling.node_place import place_of
from azureml_local.exceptions import ConflictError, InvalidRequestError
from azureml_local.models import placeholders
from azureml_local.models.jobs import parse_command, put_job
from azureml_local.models.pipelines import parse_pipeline
from azureml_local.models.store import Resource, Store
from azureml_local.models.sweeps import Distribution, parse_sweep, sample, trial_properties
from azureml_local.runtime.command_jobs import node_variables
from azureml_local.runtime.containers import remove_containers
from azureml_local.runtime.slots import Slots
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("a ${{inputs.x}} b", {"inputs.x": "1"}, "a 1 b"),
        ("${{ inputs.x }}${{outputs.y}}", {"inputs.x": "1", "outputs.y": "2"}, "12"),
        ("a $[[--x ${{inputs.x}}]] b", {"inputs.x": "1"}, "a --x 1 b"),
        ("a $[[--x ${{inputs.x}}]] b", {}, "a  b"),
        ("$[[${{inputs.x}} ${{inputs.y}}]]", {"inputs.x": "1"}, ""),
        ("$HOME ${HOME} $(pwd)", {}, "$HOME ${HOME} $(pwd)"),
        ("${{inputs.x}}", {"inputs.x": "${{inputs.x}}"}, "${{inputs.x}}"),
    ],
)
def test_placeholders(text: str, values: dict[str, str], wanted: str) -> None:
    assert placeholders.resolve(text, values) == wanted


def test_a_placeholder_that_nothing_fills_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"\$\{\{inputs.absent\}\}"):
        placeholders.resolve("${{inputs.absent}}", {"inputs.there": "1"})


COMMAND: dict[str, Any] = {
    "jobType": "Command",
    "command": "run ${{inputs.a}} ${{outputs.o}}",
    "environmentId": "/e",
    "inputs": {"a": {"jobInputType": "uri_file", "uri": "azureml://datastores/workspaceblobstore/paths/a"}},
    "outputs": {"o": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/workspaceblobstore/paths/o"}},
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"command": ""}, "needs a command"),
        ({"command": "${{inputs.b}}"}, "inputs.b"),
        ({"environmentId": None}, "needs an environment"),
        ({"resources": {"instanceCount": 2}}, "nothing tells the nodes apart"),
        ({"resources": {"instanceCount": 0}}, "from 1 to 64"),
        ({"distribution": {"distributionType": "TensorFlow"}}, "'TensorFlow' is not emulated"),
        ({"distribution": {"distributionType": "PyTorch", "processCountPerInstance": 2}}, "process_count_per_instance"),
        ({"resources": {"dockerArgs": "'"}}, "docker_args"),
        ({"inputs": {"a": {"jobInputType": "uri_file"}}}, "no path"),
        ({"inputs": {"a b": {"jobInputType": "literal", "value": "1"}}}, "input name"),
        ({"inputs": {"a": {"jobInputType": "mltable2", "uri": "x"}}}, "not emulated"),
        ({"limits": {"timeout": "5 minutes"}}, "ISO 8601"),
        ({"inputs": {"a": "5"}}, "'a' is no object"),
        ({"inputs": {"a": {**COMMAND["inputs"]["a"], "mode": "EvalMount"}}}, "mode EvalMount: not emulated"),
        ({"outputs": {"o": {**COMMAND["outputs"]["o"], "mode": "Direct"}}}, "mode Direct: not emulated"),
    ],
)
def test_commands_that_are_refused(change: dict[str, Any], reason: str) -> None:
    parse_command(COMMAND)
    with pytest.raises(InvalidRequestError, match=reason):
        parse_command({**COMMAND, **change})


def test_an_input_that_is_passed_directly_is_its_uri() -> None:
    given = {**COMMAND["inputs"]["a"], "mode": "Direct"}
    spec = parse_command({**COMMAND, "inputs": {"a": given}})
    assert spec.literal_values == {"inputs.a": given["uri"]} and spec.data == ()
    assert parse_command({**COMMAND, "inputs": {"a": {**given, "mode": "ReadOnlyMount"}}}).data[0].uri == given["uri"]


@pytest.mark.parametrize("kind", ["PyTorch", "Mpi"])
def test_the_nodes_of_a_distributed_job_know_their_places(kind: str) -> None:
    spec = parse_command({**COMMAND, "resources": {"instanceCount": 3}, "distribution": {"distributionType": kind}})
    assert spec.node_count == 3
    # As the profilers read them, with what every job is told besides.
    places = [place_of({"AZUREML_RUN_ID": "a-job", **node_variables(spec, rank, 4711)}) for rank in range(3)]
    assert [(place.rank, place.count, place.host, place.port) for place in places if place] == [
        (rank, 3, "127.0.0.1", 4711) for rank in range(3)
    ]


def test_a_job_waits_until_all_of_its_nodes_are_free() -> None:
    async def scene() -> list[str]:
        slots, canceled, order = Slots(), asyncio.Event(), []

        async def work(name: str, nodes: int, release: asyncio.Event) -> None:
            async with slots.hold("c", 3, canceled, nodes):
                order.append(name)
                await release.wait()

        first, second, third = (asyncio.Event() for _ in range(3))
        tasks = [asyncio.create_task(work("two", 2, first))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(work("other two", 2, second)), asyncio.create_task(work("one", 1, third))]
        for _ in range(20):
            await asyncio.sleep(0)
        # One node is free, but whoever waits longer comes first.
        assert order == ["two"]
        first.set()
        third.set()
        while len(order) < 3:
            await asyncio.sleep(0.001)
        second.set()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(asyncio.wait_for(scene(), 30)) == ["two", "other two", "one"]


def test_jobs_are_put_once_and_get_their_places(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.json")
    body = {
        "properties": {**COMMAND, "outputs": {"o": {"jobOutputType": "uri_folder"}, "f": {"jobOutputType": "uri_file"}}}
    }
    job = put_job(store, "/w/jobs/j", copy.deepcopy(body), {})
    root = "azureml://datastores/workspaceblobstore/paths/azureml/j"
    assert {name: output["uri"] for name, output in job.properties["outputs"].items()} == {
        "o": f"{root}/o/",
        "f": f"{root}/f",
    }
    with pytest.raises(ConflictError):
        put_job(store, "/w/jobs/J", body, {})
    for kind in ("AutoML", "Spark", None):
        with pytest.raises(InvalidRequestError, match="not emulated"):
            put_job(store, "/w/jobs/k", {"properties": {**COMMAND, "jobType": kind}}, {})
    assert [entry.name for entry in Store(tmp_path / "state.json").children("/w/jobs")] == ["j"]


SWEEP: dict[str, Any] = {
    "jobType": "Sweep",
    "trial": {"command": "run ${{search_space.x}} ${{inputs.a}}", "environmentId": "/e"},
    "searchSpace": {"x": ["choice", [[1, 2, "three"]]], "y": ["choice", [[0.5]]]},
    "samplingAlgorithm": {"samplingAlgorithmType": "Grid"},
    "limits": {"maxConcurrentTrials": 2, "trialTimeout": "PT1M"},
    "inputs": {"a": {"jobInputType": "literal", "value": "fixed"}},
}


def test_a_grid_is_all_combinations() -> None:
    spec = parse_sweep(SWEEP)
    assert spec.trials == ({"x": "1", "y": "0.5"}, {"x": "2", "y": "0.5"}, {"x": "three", "y": "0.5"})
    trial = trial_properties(SWEEP, spec, 2, display_name="t")
    assert trial["command"] == "run ${{inputs.x}} ${{inputs.a}}"
    assert {name: entry["value"] for name, entry in trial["inputs"].items()} == {"a": "fixed", "x": "three", "y": "0.5"}
    assert trial["limits"] == {"timeout": "PT1M"}
    parse_command({key: value for key, value in trial.items() if value is not None})
    assert len(parse_sweep({**SWEEP, "limits": {"maxTotalTrials": 2}}).trials) == 2
    spaced = {**SWEEP, "trial": {**SWEEP["trial"], "command": "run ${{ search_space.x }}"}}
    assert parse_command(trial_properties(spaced, spec, 0, display_name="t")).command == "run ${{inputs.x }}"


def test_of_a_grid_beyond_all_bounds_only_what_is_asked_for_is_made() -> None:
    vast = {f"x{number}": ["choice", [list(range(100))]] for number in range(12)}
    assert len(parse_sweep({**SWEEP, "searchSpace": vast, "limits": {"maxTotalTrials": 2}}).trials) == 2
    assert len(parse_sweep({**SWEEP, "searchSpace": vast, "limits": {}}).trials) == 1000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"searchSpace": {}}, "needs a search_space"),
        ({"searchSpace": {"x": ["uniform", [0, 1]]}}, "Grid sampling takes choices"),
        ({"searchSpace": {"x": ["choice", [[]]]}}, "needs a list"),
        ({"searchSpace": {"x": ["unheard", [1]]}}, "unheard"),
        ({"searchSpace": {"x": "choice"}}, "not a distribution"),
        ({"samplingAlgorithm": {"samplingAlgorithmType": "Bayesian"}}, "grid and random are"),
        ({"samplingAlgorithm": {"samplingAlgorithmType": "Random", "rule": "sobol"}}, "sobol"),
        ({"samplingAlgorithm": {"samplingAlgorithmType": "Random"}}, "max_total_trials"),
        ({"earlyTermination": {"policyType": "Bandit"}}, "early_termination"),
        ({"limits": {"maxTotalTrials": 0}}, "max_total_trials"),
        ({"limits": {"maxTotalTrials": 1001}}, "from 1 to 1000"),
        ({"searchSpace": {"x": ["loguniform", [1, 1000]]}}, r"search_space\.x: .*loguniform\(1, 1000\)"),
        ({"searchSpace": {"x": ["randint", [0]]}}, r"search_space\.x: .*randint\(0\)"),
        ({"searchSpace": {"x": ["quniform", [0, 1, 0]]}}, r"search_space\.x: .*quniform\(0, 1, 0\)"),
        ({"searchSpace": {"x": ["uniform", ["a", 1]]}}, r"search_space\.x: .*uniform\(a, 1\)"),
        (
            {
                "searchSpace": {"x": ["lognormal", [5000, 1]]},
                "samplingAlgorithm": {"samplingAlgorithmType": "Random"},
                "limits": {"maxTotalTrials": 1},
            },
            r"search_space\.x: .*lognormal\(5000, 1\)",
        ),
        ({"trial": {}}, "needs a trial"),
    ],
)
def test_sweeps_that_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        parse_sweep({**SWEEP, **change})


@given(st.integers(), st.floats(-5, 5), st.floats(0.1, 5), st.floats(0.01, 1))
def test_random_sampling_keeps_to_its_distributions(seed: int, low: float, span: float, step: float) -> None:
    space = {
        "choice": Distribution("choice", (["a", "b"],)),
        "randint": Distribution("randint", (4,)),
        "uniform": Distribution("uniform", (low, low + span)),
        "loguniform": Distribution("loguniform", (low, low + span)),
        "quniform": Distribution("quniform", (low, low + span, step)),
        "normal": Distribution("normal", (low, span)),
    }
    trials = sample(space, 5, seed)
    assert trials == sample(space, 5, seed)
    for trial in trials:
        assert trial["choice"] in ("a", "b")
        assert 0 <= int(trial["randint"]) < 4
        assert low <= float(trial["uniform"]) <= low + span
        assert math.exp(low) * 0.999999 <= float(trial["loguniform"]) <= math.exp(low + span) * 1.000001
        steps = float(trial["quniform"]) / step
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert low - step <= float(trial["quniform"]) <= low + span + step


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two components: one that makes a folder and one that takes it."""
    made = Store(tmp_path / "state.json")
    specs = {
        "maker": {
            "type": "command",
            "command": "make ${{inputs.n}} ${{outputs.made}}",
            "environment": "azureml:/e",
            "inputs": {"n": {"type": "integer", "default": "3"}},
            "outputs": {"made": {"type": "uri_folder"}},
        },
        "taker": {
            "type": "command",
            "command": "take ${{inputs.given}} $[[${{inputs.maybe}}]]",
            "environment": "azureml:/e",
            "inputs": {"given": {"type": "uri_folder"}, "maybe": {"type": "string", "optional": True}},
            "outputs": {},
        },
    }
    for name, spec in specs.items():
        made.put(Resource(id=f"/w/components/{name}/versions/1", properties={"componentSpec": spec}))
    return made


def node(component: str, **inputs: str) -> dict[str, Any]:
    return {
        "type": "command",
        "componentId": f"/w/components/{component}/versions/1",
        "inputs": {name: {"job_input_type": "literal", "value": value} for name, value in inputs.items()},
    }


def pipeline(**nodes: dict[str, Any]) -> dict[str, Any]:
    return {
        "jobType": "Pipeline",
        "inputs": {"n": {"jobInputType": "literal", "value": "8"}},
        "outputs": {"kept": {"jobOutputType": "uri_folder"}},
        "jobs": nodes,
    }


def test_steps_are_ordered_and_bound(store: Store) -> None:
    maker = node("maker", n="${{parent.inputs.n}}") | {"outputs": {"made": {"value": "${{parent.outputs.kept}}"}}}
    steps = parse_pipeline(store, "p", pipeline(b=node("taker", given="${{parent.jobs.a.outputs.made}}"), a=maker))
    assert [step.name for step in steps] == ["a", "b"]
    place = "azureml://datastores/workspaceblobstore/paths/azureml/p/kept/"
    assert steps[0].properties["inputs"] == {"n": {"jobInputType": "literal", "value": "8"}}
    assert steps[0].properties["outputs"]["made"]["uri"] == place
    assert steps[1].properties["inputs"] == {"given": {"jobInputType": "uri_folder", "uri": place}}
    assert steps[1].after == {"a"}
    for step in steps:
        parse_command(step.properties)


def test_defaults_and_parts_of_literals(store: Store) -> None:
    (step,) = parse_pipeline(store, "p", pipeline(a=node("maker")))
    assert step.properties["inputs"]["n"]["value"] == "3"
    (step,) = parse_pipeline(store, "p", pipeline(a=node("maker", n="1${{parent.inputs.n}}0")))
    assert step.properties["inputs"]["n"]["value"] == "180"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ({}, "needs jobs"),
        ({"a": node("absent")}, "does not exist here"),
        ({"a": node("taker")}, "not given its input 'given'"),
        ({"a": node("maker", other="1")}, "does not take"),
        ({"a": node("taker", given="${{parent.jobs.b.outputs.made}}")}, "an output that no step has"),
        ({"a": node("taker", given="${{parent.inputs.absent}}")}, "an input that the pipeline does not have"),
        ({"a": node("taker", given="${{parent.inputs.n}}")}, "is of type uri_folder, but is given a literal"),
        ({"a": node("taker", given="${{elsewhere.x}}")}, "neither the pipeline's nor a step's"),
        ({"a": node("maker") | {"type": "spark"}}, "of type spark"),
        (
            {"a": node("maker") | {"outputs": {"made": "${{parent.outputs.absent}}"}}},
            "which the pipeline does not have",
        ),
    ],
)
def test_pipelines_that_are_refused(store: Store, nodes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        parse_pipeline(store, "p", pipeline(**nodes))


def test_steps_that_wait_for_one_another(store: Store) -> None:
    spec = copy.deepcopy(store.get("/w/components/taker/versions/1").properties["componentSpec"])
    spec["outputs"] = {"made": {"type": "uri_folder"}}
    store.put(Resource(id="/w/components/both/versions/1", properties={"componentSpec": spec}))
    nodes = {
        "a": node("both", given="${{parent.jobs.b.outputs.made}}"),
        "b": node("both", given="${{parent.jobs.a.outputs.made}}"),
    }
    with pytest.raises(InvalidRequestError, match="wait for one another"):
        parse_pipeline(store, "p", pipeline(**nodes))


def test_nodes_are_given_in_order_and_given_back() -> None:
    async def scene() -> list[str]:
        slots, said = Slots(), list[str]()
        never = asyncio.Event()
        release = {name: asyncio.Event() for name in "abc"}

        async def job(name: str) -> None:
            async with slots.hold("cpu", 1, never) as held:
                assert held
                said.append(name)
                await release[name].wait()

        tasks = []
        for name in "abc":
            tasks.append(asyncio.create_task(job(name)))
            await asyncio.sleep(0.01)
        assert said == ["a"]
        for name in "abc":
            release[name].set()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        return said

    assert asyncio.run(scene()) == ["a", "b", "c"]


def test_a_canceled_job_leaves_the_queue() -> None:
    async def scene() -> None:
        slots, never, canceled = Slots(), asyncio.Event(), asyncio.Event()

        async def wait() -> bool:
            async with slots.hold("cpu", 1, canceled) as held:
                return held

        async with slots.hold("cpu", 1, never):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            canceled.set()
            await slots.wake()
            assert await asyncio.wait_for(waiting, 5) is False
        async with slots.hold("cpu", 1, never) as held:
            assert held

    asyncio.run(scene())


def test_without_jobs_the_engine_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "jobs").mkdir()
    assert remove_containers(tmp_path / "jobs", "some-home") == 0
