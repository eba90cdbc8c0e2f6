"""Sweeps and pipelines in real containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.by_image.jobs.conftest import Submitter

SWEEP = """\
$schema: https://azuremlschemas.azureedge.net/latest/sweepJob.schema.json
type: sweep
trial:
  command: >
    echo $(cat ${{inputs.file}}) ${{search_space.size}} ${{search_space.kind}} ${{inputs.fixed}}
    >${{outputs.made}}/t.txt;
    date +%s.%N >>${{outputs.made}}/times.txt; sleep 2; date +%s.%N >>${{outputs.made}}/times.txt;
    test ${{search_space.size}} != 4
  environment:
    image: IMAGE
inputs:
  file:
    type: uri_file
    path: word.txt
  fixed: same
outputs:
  made:
    type: uri_folder
compute: azureml:two-nodes
sampling_algorithm: grid
search_space:
  size:
    type: choice
    values: [1, 2, 4]
  kind:
    type: choice
    values: [a]
objective:
  goal: maximize
  primary_metric: none
limits:
  max_total_trials: 3
  max_concurrent_trials: CONCURRENT
"""
PIPELINE = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
settings:
  default_compute: azureml:two-nodes
  continue_on_step_failure: CONTINUE
inputs:
  word:
    type: uri_file
    path: word.txt
  number: 3
outputs:
  result:
    type: uri_folder
jobs:
  two:
    type: command
    command: FIRSTcat ${{inputs.made}}/one.txt >${{outputs.result}}/two.txt
    environment:
      image: IMAGE
    inputs:
      made: ${{parent.jobs.one.outputs.made}}
    outputs:
      result: ${{parent.outputs.result}}
  one:
    type: command
    command: FIRSTecho $(cat ${{inputs.word}}) and ${{inputs.number}} >${{outputs.made}}/one.txt; BROKEN
    environment:
      image: IMAGE
    inputs:
      word: ${{parent.inputs.word}}
      number: ${{parent.inputs.number}}
    outputs:
      made:
        type: uri_folder
  other:
    type: command
    command: sleep 3; touch outputs/ran
    environment:
      image: IMAGE
"""


def filled(text: str, **values: str) -> str:
    from tests.by_image.jobs.conftest import ROOT_IMAGE

    for name, value in {"IMAGE": ROOT_IMAGE, **values}.items():
        text = text.replace(name, value)
    return text


def pipeline(text: str, *, first: str = "", broken: str = "true", go_on: str = "true") -> str:
    return filled(text, FIRST=first, BROKEN=broken, CONTINUE=go_on)


def statuses(jobs: Submitter, job: Any) -> dict[str, str]:
    children = jobs.client.jobs.list(parent_job_name=job.name)
    return {child.name.removeprefix(f"{job.name}_"): child.status for child in children}


# Of two at a time, a busy machine may start the second much later.
@pytest.mark.parametrize(("concurrent", "each_sec"), [(1, 1), (2, 10)])
def test_a_grid_sweep(jobs: Submitter, concurrent: int, each_sec: int) -> None:
    text = filled(SWEEP, CONCURRENT=str(concurrent)).replace("sleep 2", f"sleep {each_sec}")
    job = jobs.ended(jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"})))
    assert job.status == "Completed"
    assert statuses(jobs, job) == {"0": "Completed", "1": "Completed", "2": "Failed"}
    spans = []
    for number, size in enumerate((1, 2, 4)):
        files = jobs.files(jobs.client.jobs.get(f"{job.name}_{number}"))
        assert files["named-outputs/made/t.txt"] == f"word {size} a same\n"
        start, end = map(float, files["named-outputs/made/times.txt"].split())
        spans.append((start, end))
    together = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
    assert together == concurrent
    journal = jobs.files(job)["hd-artifacts/azureml-logs/hyperdrive.txt"]
    assert f"{job.name}_2: Failed" in journal
    assert job.name in [entry.name for entry in jobs.client.jobs.list()]
    assert f"{job.name}_0" not in [entry.name for entry in jobs.client.jobs.list()], "children are the parent's alone"


def test_a_sweep_without_a_completed_trial_fails(jobs: Submitter) -> None:
    text = filled(SWEEP, CONCURRENT="2").replace("values: [1, 2, 4]", "values: [4]")
    job = jobs.ended(jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"})))
    assert job.status == "Failed"
    assert "None of the sweep's 1 trials has completed" in jobs.reason(job)


def test_a_random_sweep_over_a_commands_inputs(jobs: Submitter) -> None:
    """As the SDK's builders make it: a command whose inputs become the search space."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment
    from azure.ai.ml.sweep import Uniform

    from tests.by_image.jobs.conftest import ROOT_IMAGE

    base = command(
        command="echo ${{inputs.rate}} >outputs/rate.txt",
        inputs={"rate": 0.5},
        environment=Environment(image=ROOT_IMAGE),
        compute="two-nodes",
    )
    sweep = base(rate=Uniform(min_value=1, max_value=2)).sweep(
        sampling_algorithm="random", primary_metric="none", goal="minimize", compute="two-nodes"
    )
    sweep.set_limits(max_total_trials=3, max_concurrent_trials=2)
    job = jobs.ended(jobs.client.jobs.create_or_update(sweep))
    assert job.status == "Completed"
    rates = [
        float(jobs.files(jobs.client.jobs.get(f"{job.name}_{number}"))["artifacts/outputs/rate.txt"])
        for number in range(3)
    ]
    assert len(set(rates)) == 3 and all(1 <= rate <= 2 for rate in rates)


def test_cancel_ends_all_trials(jobs: Submitter) -> None:
    text = filled(SWEEP, CONCURRENT="2").replace("sleep 2", "sleep 300")
    job = jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"}))
    jobs.wait(job, "Running")
    first = jobs.client.jobs.get(f"{job.name}_0")
    jobs.wait(first, "Running")
    jobs.client.jobs.begin_cancel(job.name).result()
    assert jobs.status(job) == "Canceled"
    assert set(statuses(jobs, job).values()) == {"Canceled"}
    assert "2" not in statuses(jobs, job), "none is begun any more"


def test_a_pipeline_binds_outputs_to_inputs(jobs: Submitter) -> None:
    text = pipeline(PIPELINE)
    job = jobs.ended(jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"})))
    assert job.status == "Completed"
    assert statuses(jobs, job) == {"one": "Completed", "two": "Completed", "other": "Completed"}
    files = jobs.files(job)
    assert files["named-outputs/result/two.txt"] == "word and 3\n"
    assert "step two: Completed" in files["artifacts/logs/azureml/executionlogs.txt"]
    # A step is a job of its own, too.
    child = jobs.client.jobs.get(f"{job.name}_one")
    assert jobs.files(child)["named-outputs/made/one.txt"] == "word and 3\n"


@pytest.mark.parametrize(("go_on", "other"), [("true", "Completed"), ("false", "Canceled")])
def test_a_failed_step_fails_the_pipeline(jobs: Submitter, go_on: str, other: str) -> None:
    text = pipeline(PIPELINE, broken="exit 5", go_on=go_on)
    job = jobs.ended(jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"})))
    assert job.status == "Failed"
    assert "step one: Failed: Execution failed. The command exited with status code 5" in jobs.reason(job)
    assert statuses(jobs, job) == {"one": "Failed", "other": other}, "what needs the failed step is not run"


def test_a_pipeline_is_refused_before_anything_runs(jobs: Submitter) -> None:
    from azure.core.exceptions import HttpResponseError

    text = pipeline(PIPELINE).replace("${{parent.jobs.one.outputs.made}}", "${{parent.jobs.two.outputs.result}}")
    with pytest.raises(HttpResponseError, match="steps wait for one another: two <- two"):
        jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"}))
    text = pipeline(PIPELINE).replace("azureml:two-nodes", "azureml:nowhere")
    with pytest.raises(Exception, match="nowhere"):
        jobs.client.jobs.create_or_update(jobs.load(text, {"word.txt": "word"}))
