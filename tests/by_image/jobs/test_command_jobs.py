"""Command jobs: submitted by the unmodified SDK, run in real containers."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane
    from tests.by_image.jobs.conftest import Submitter

JOB = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
command: >
  cat ${{{{inputs.file}}}} ${{{{inputs.folder}}}}/deep/er.txt &&
  echo name $(basename ${{{{inputs.file}}}}) number ${{{{inputs.number}}}} flag ${{{{inputs.flag}}}} &&
  echo into named >${{{{outputs.named}}}}/n.txt &&
  echo into single >${{{{outputs.single}}}} &&
  mkdir -p outputs/sub && echo into outputs >outputs/sub/o.txt &&
  ! touch ${{{{inputs.folder}}}}/new 2>/dev/null
environment:
  image: {image}
compute: azureml:one-node
experiment_name: an-experiment
inputs:
  file:
    type: uri_file
    path: data/file name.json
  folder:
    type: uri_folder
    path: data
  number: 7
  flag: True
outputs:
  named:
    type: uri_folder
  single:
    type: uri_file
"""
FILES = {"data/file name.json": "the file\n", "data/deep/er.txt": "deeper\n"}


def input_of(kind: str, path: str) -> Any:
    from azure.ai.ml import Input

    return Input(type=kind, path=path)


def folder_output() -> Any:
    from azure.ai.ml import Output

    return Output(type="uri_folder")


def test_a_yaml_job_with_local_files(jobs: Submitter) -> None:
    from tests.by_image.jobs.conftest import ROOT_IMAGE

    # As a user must whose file's name has a blank: what is filled in is text, which the shell reads.
    text = JOB.format(image=ROOT_IMAGE).replace("${{inputs.file}}", "'${{inputs.file}}'")
    job = jobs.ended(jobs.client.jobs.create_or_update(jobs.load(text, FILES)))
    assert job.status == "Completed", jobs.reason(job)
    files = jobs.files(job)
    assert files["artifacts/user_logs/std_log.txt"] == ("the file\ndeeper\nname file name.json number 7 flag True\n")
    assert files["named-outputs/named/n.txt"] == "into named\n"
    assert files["named-outputs/single/single"] == "into single\n"
    assert files["artifacts/outputs/sub/o.txt"] == "into outputs\n"
    assert job.experiment_name == "an-experiment"
    # One output alone, by its name.
    assert jobs.files(job, output_name="named") == {"named-outputs/named/n.txt": "into named\n"}


def test_inputs_from_datastores_and_from_other_jobs(jobs: Submitter) -> None:
    first = jobs.run("echo one >${{outputs.made}}/a.txt; echo two >outputs/b.txt", outputs={"made": folder_output()})
    store = f"azureml://datastores/workspaceblobstore/paths/azureml/{first.name}/made"
    job = jobs.run(
        "cat ${{inputs.a}}/a.txt ${{inputs.b}} ${{inputs.c}}/b.txt $AZURE_ML_INPUT_d",
        inputs={
            "a": input_of("uri_folder", f"azureml://jobs/{first.name}/outputs/made"),
            "b": input_of("uri_file", f"{store}/a.txt"),
            "c": input_of("uri_folder", f"azureml://jobs/{first.name}/outputs/artifacts/paths/outputs/"),
            "d": input_of("uri_file", first.outputs["default"].path + "outputs/b.txt"),
        },
    )
    assert job.status == "Completed", jobs.reason(job)
    assert jobs.log(job) == "one\none\ntwo\ntwo\n"


def test_a_registered_data_asset(jobs: Submitter, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Data

    (tmp_path / "asset.txt").write_text("registered\n")
    data = jobs.client.data.create_or_update(
        Data(name="an-asset", version="3", type="uri_file", path=str(tmp_path / "asset.txt"))
    )
    assert (data.name, data.version) == ("an-asset", "3")
    job = jobs.run("cat ${{inputs.x}}", inputs={"x": input_of("uri_file", "azureml:an-asset:3")})
    assert jobs.log(job) == "registered\n"


def test_optional_parts_fall_away_without_their_input(jobs: Submitter) -> None:
    from azure.ai.ml import Input

    shell = "echo [ $[[--given ${{inputs.given}}]] $[[--absent ${{inputs.absent}}]] ]"
    job = jobs.run(shell, inputs={"given": "yes", "absent": Input(type="string", optional=True)})
    assert jobs.log(job) == "[ --given yes ]\n"


def test_code_is_the_working_folder(jobs: Submitter, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "say.sh").write_text("echo said; pwd\n")
    job = jobs.run("sh say.sh; ls", code=str(tmp_path / "src"))
    assert jobs.log(job).splitlines() == ["said", f"/mnt/azureml/cr/j/{job.name}/exe/wd", "logs", "outputs", "say.sh"]


ASK = """\
import json, os, ssl, urllib.request
e = os.environ
request = urllib.request.Request(
    e["MSI_ENDPOINT"] + "?api-version=2017-09-01&resource=" + e["AZUREML_SERVICE_ENDPOINT"],
    headers={"secret": e["MSI_SECRET"]},
)
token = json.load(urllib.request.urlopen(request))["access_token"]
request = urllib.request.Request(
    e["AZUREML_SERVICE_ENDPOINT"] + e["AZUREML_WORKSPACE_SCOPE"] + "/jobs/" + e["AZUREML_RUN_ID"] + "?api-version=1",
    headers={"Authorization": "Bearer " + token},
)
context = ssl.create_default_context(cafile=e["REQUESTS_CA_BUNDLE"])
print(json.load(urllib.request.urlopen(request, context=context))["properties"]["status"])
"""


def test_variables_and_identity(jobs: Submitter, plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "ask.py").write_text(ASK)
    job = jobs.run(
        "python ask.py && env",
        image="aml-wrk-profiler",
        code=str(tmp_path / "src"),
        environment_variables={"OWN": "a 'quoted' value", "PATH": "/opt/venv/bin:/usr/bin:/bin"},
    )
    assert job.status == "Completed", jobs.reason(job)
    first, *rest = jobs.log(job).splitlines()
    assert first == "Running", "the job's own status, which its identity may ask for"
    found = dict(line.split("=", 1) for line in rest if "=" in line)
    for name in ("ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD", "MSI_ENDPOINT", "MSI_SECRET"):
        assert found[name] == plane.variables[name]
    assert found["AZUREML_RUN_ID"] == job.name
    assert found["AZUREML_ARM_WORKSPACE_NAME"] == plane.variables["AZUREML_ARM_WORKSPACE_NAME"]
    assert (found["OWN"], found["PATH"]) == ("a 'quoted' value", "/opt/venv/bin:/usr/bin:/bin")


def test_no_secret_shows_in_ps(jobs: Submitter, plane: Plane) -> None:
    import psutil

    seen: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    seen.append(" ".join(process.cmdline()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        jobs.run("sleep 1")
    finally:
        stop.set()
        watcher.join()
    assert any("docker" in line and " create " in f" {line} " for line in seen), "the call that was to be seen"
    assert not [line for line in seen if plane.variables["MSI_SECRET"] in line]


def test_the_log_is_streamed_while_the_job_runs(jobs: Submitter) -> None:
    job = jobs.submit("echo early; sleep 12; echo late")
    jobs.wait(job, "Running")
    deadline = time.monotonic() + 8
    url = ""
    while not url and time.monotonic() < deadline:
        details = jobs.client.jobs._runs_operations.get_run_details(job.name)
        url = (details.log_files or {}).get("user_logs/std_log.txt", "")
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    text = ""
    while "early" not in text and time.monotonic() < deadline:
        with urllib.request.urlopen(url, context=context) as answer:
            text = answer.read().decode()
        time.sleep(0.2)
    assert text == "early\n"
    assert jobs.status(job) == "Running"
    jobs.ended(job)
    assert jobs.log(job) == "early\nlate\n"


def test_stream_prints_the_log(jobs: Submitter, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.run("for i in 1 2 3 4; do echo line $i; sleep 1; done; echo to stderr >&2")
    said = capsys.readouterr().out
    assert "Streaming user_logs/std_log.txt" in said
    assert said.index("line 1") < said.index("line 4") < said.index("to stderr") < said.index("Execution Summary")


def test_the_exit_status_is_in_the_error(jobs: Submitter) -> None:
    job = jobs.run("echo half >outputs/half.txt; echo the reason >&2; exit 3")
    assert job.status == "Failed"
    said = jobs.reason(job)
    assert "exited with status code 3" in said and "the reason" in said
    assert jobs.files(job)["artifacts/outputs/half.txt"] == "half\n", "what a failed job has written is kept"


@pytest.mark.parametrize(
    ("image", "outputs"), [("no-such-image:1", []), ("127.0.0.1:9/nowhere/image:1", []), ("no-such-image:1", ["made"])]
)
def test_an_image_that_is_not_there(jobs: Submitter, image: str, outputs: list[str]) -> None:
    job = jobs.run("true", image=image, outputs={name: folder_output() for name in outputs})
    assert job.status == "Failed"
    said = jobs.reason(job)
    assert "ImageNotFound" in said and f"The image {image} is not on this machine and cannot be pulled: " in said


def test_an_environment_that_would_have_to_be_built(jobs: Submitter, tmp_path: Path) -> None:
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment

    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]\n")
    environment = Environment(image="debian", conda_file=str(tmp_path / "conda.yml"))
    job = jobs.client.jobs.create_or_update(command(command="true", environment=environment, compute="one-node"))
    assert jobs.ended(job).status == "Failed"
    assert "has to be built" in jobs.reason(job)


def test_an_input_that_is_not_there(jobs: Submitter) -> None:
    job = jobs.run("true", inputs={"x": input_of("uri_file", "azureml://datastores/workspaceblobstore/paths/absent")})
    assert job.status == "Failed"
    assert "input x: azureml-blobstore/absent: there is nothing there" in jobs.reason(job)


def test_cancel_stops_the_container(jobs: Submitter, plane: Plane) -> None:
    job = jobs.submit("trap 'echo asked to stop; exit 1' TERM; echo begun >outputs/begun; sleep 300 & wait")
    jobs.wait(job, "Running")
    assert len(plane.containers()) == 1
    jobs.client.jobs.begin_cancel(job.name).result()
    assert jobs.status(job) == "Canceled"
    assert plane.containers() == []
    files = jobs.files(job)
    assert files["artifacts/outputs/begun"] == "begun\n", "what a canceled job has written is kept"
    assert files["artifacts/user_logs/std_log.txt"] == "asked to stop\n"
    # Once more is no error.
    jobs.client.jobs.begin_cancel(job.name).result()


def test_a_job_waits_for_a_node_and_may_be_canceled_meanwhile(jobs: Submitter) -> None:
    first = jobs.submit("sleep 300")
    jobs.wait(first, "Running")
    second = jobs.submit("sleep 300")
    time.sleep(1)
    assert jobs.status(second) == "Queued"
    jobs.client.jobs.begin_cancel(second.name).result()
    assert jobs.status(second) == "Canceled"
    third = jobs.submit("true")
    jobs.client.jobs.begin_cancel(first.name).result()
    assert jobs.ended(third).status == "Completed"


def test_the_time_limit(jobs: Submitter) -> None:
    from azure.ai.ml.entities import CommandJobLimits

    started = time.monotonic()
    job = jobs.run("sleep 300", limits=CommandJobLimits(timeout=2))
    assert job.status == "Canceled"
    assert time.monotonic() - started < 60


def test_links_do_not_lead_out_of_the_container(jobs: Submitter, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("of this machine")
    job = jobs.run(
        f"ln -s {secret} outputs/leak; ln -s {tmp_path} ${{{{outputs.o}}}}/leak; rm -r logs; ln -s {tmp_path} logs;"
        "echo fine >outputs/real; ln -s real outputs/inside",
        outputs={"o": folder_output()},
    )
    files = jobs.files(job)
    assert files["artifacts/outputs/inside"] == "fine\n"
    assert not [name for name, text in files.items() if "leak" in name or "of this machine" in text]


def test_list_shows_jobs_and_archive_hides_them(jobs: Submitter) -> None:
    job = jobs.run("true")
    assert job.name in [entry.name for entry in jobs.client.jobs.list()]
    jobs.client.jobs.archive(job.name)
    assert job.name not in [entry.name for entry in jobs.client.jobs.list()]
    updated = jobs.client.jobs.update(job.name, tags={"kept": "yes"})
    assert updated.tags["kept"] == "yes"
    with pytest.raises(Exception, match="exists already"):
        again = jobs.load(json.dumps({"command": "true", "environment": {"image": "x"}, "name": job.name}))
        jobs.client.jobs.create_or_update(again)
