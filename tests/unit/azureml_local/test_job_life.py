"""Jobs from their submission to their end, without an engine: what is undone, sent up and given up."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from azureml_local.exceptions import ConflictError, DeploymentError, InvalidRequestError, JobError
from azureml_local.models.jobs import parse_command
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.runtime.blobs import BlobPlace
from azureml_local.runtime.command_jobs import CANCELED, Outcome
from azureml_local.runtime.job_files import LIFECYCLE_LOG, JobFolder

COMMAND: dict[str, Any] = {
    "jobType": "Command",
    "command": "run ${{outputs.made}}",
    "environmentId": "/e",
    "outputs": {
        "made": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/workspaceblobstore/paths/made/"},
        "more": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/workspaceblobstore/paths/more/"},
    },
}
SWEEP: dict[str, Any] = {
    "jobType": "Sweep",
    "trial": {"command": "run ${{search_space.x}}", "environmentId": "/e"},
    "searchSpace": {"x": ["choice", [[1, 2]]]},
    "samplingAlgorithm": {"samplingAlgorithmType": "Grid"},
}
ARTIFACTS = "/devstoreaccount1.blob.local/azureml/ExperimentRun/dcid.j/"


def job_id(plane: Plane, name: str) -> str:
    return f"{plane.workspace_id}/jobs/{name}"


def serve(plane: Plane, answer: Callable[[httpx.Request], httpx.Response]) -> list[str]:
    """Let a plane's blob service answer so; return the paths that it is asked to put."""
    paths: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        paths.append(unquote(request.url.path))
        return answer(request)

    plane.blobs._client = httpx.Client(transport=httpx.MockTransport(note))
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """The folder of a job that has written into all its outputs."""
    made = JobFolder(tmp_path / "job", "j")
    made.make()
    (made.work_dir / "outputs" / "result").write_text("1")
    for name in ("made", "more"):
        (made.data_dir / name).mkdir()
        (made.data_dir / name / "file").write_text("1")
    made.note("the command runs")
    return made


def paths_of(folder: JobFolder) -> dict[str, str]:
    return {f"outputs.{name}": f"{folder.container_data_dir}/{name}" for name in ("made", "more")}


def test_a_job_that_has_not_begun_sends_its_lifecycle_log_up(plane: Plane, folder: JobFolder) -> None:
    paths = serve(plane, lambda _: httpx.Response(201))
    asyncio.run(plane.jobs.files.collect(parse_command(COMMAND), {}, [folder]))
    assert paths == [f"{ARTIFACTS}outputs/result", f"{ARTIFACTS}{LIFECYCLE_LOG}"]


def test_a_file_that_cannot_go_up_keeps_nothing_else_back(plane: Plane, folder: JobFolder) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder.data_dir / "made") + b"/a\xff")).write_text("1")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone: no file here has a name that is not")
    paths = serve(plane, lambda _: httpx.Response(201))
    with pytest.raises(JobError, match=r"output made: a\\udcff: a name that is not UTF-8") as caught:
        asyncio.run(plane.jobs.files.collect(parse_command(COMMAND), paths_of(folder), [folder]))
    assert caught.value.code == "OutputNotUploaded"
    root = "/devstoreaccount1.blob.local/azureml-blobstore"
    assert {f"{root}/made/file", f"{root}/more/file", f"{ARTIFACTS}{LIFECYCLE_LOG}"} <= set(paths)


def test_a_folder_that_may_not_be_read_is_named(
    plane: Plane, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.data_dir / "made" / "closed").mkdir()
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    paths = serve(plane, lambda _: httpx.Response(201))
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(JobError, match=r"^output made: closed: Permission denied"):
        asyncio.run(plane.jobs.files.collect(parse_command(COMMAND), paths_of(folder), [folder]))
    assert "/devstoreaccount1.blob.local/azureml-blobstore/made/file" in paths


def test_a_file_that_may_not_be_read_is_named(plane: Plane, folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who runs the tests may be allowed to read everything.
    opened = Path.open

    def refuse(path: Path, *words: Any, **options: Any) -> Any:
        if path.parent.name == "made":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *words, **options)

    paths = serve(plane, lambda _: httpx.Response(201))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(JobError, match=r"^output made: file: Permission denied$"):
        asyncio.run(plane.jobs.files.collect(parse_command(COMMAND), paths_of(folder), [folder]))
    assert "/devstoreaccount1.blob.local/azureml-blobstore/more/file" in paths


def test_a_blob_service_that_does_not_answer_is_told_in_words(plane: Plane, folder: JobFolder, tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        if "/made/" in request.url.path or request.method == "GET":
            raise httpx.ReadTimeout("too slow", request=request)
        return httpx.Response(201)

    paths = serve(plane, refuse)
    with pytest.raises(JobError, match="output made: made/file: the blob service does not answer: too slow"):
        asyncio.run(plane.jobs.files.collect(parse_command(COMMAND), paths_of(folder), [folder]))
    assert f"{ARTIFACTS}{LIFECYCLE_LOG}" in paths
    with pytest.raises(DeploymentError, match="does not answer"):
        plane.blobs.fetch(BlobPlace("devstoreaccount1", "c", "p"), tmp_path / "p")


def test_a_submission_that_fails_leaves_no_job(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OverflowError("math range error")

    monkeypatch.setattr(plane.jobs, "_check", broken)
    with pytest.raises(OverflowError):
        plane.jobs.submit(job_id(plane, "j"), {"properties": COMMAND})
    assert plane.jobs.all() == []


def test_an_output_without_a_place_is_refused_before_the_command_runs(plane: Plane) -> None:
    elsewhere = {"jobOutputType": "uri_folder", "uri": "azureml://datastores/elsewhere/paths/o"}
    body = {"properties": {**COMMAND, "outputs": {"made": elsewhere}}}
    with pytest.raises(InvalidRequestError, match=r"outputs\.made: .*no datastore named elsewhere"):
        plane.jobs.submit(job_id(plane, "j"), body)
    assert plane.jobs.all() == []
    # One that an earlier release let in is not in the way of others' inputs.
    plane.store.put(Resource(id=job_id(plane, "old"), properties={"outputs": {"o": elsewhere}}))
    assert plane.jobs.files._is_output(BlobPlace("a", "c", "p")) is False


def stranger(plane: Plane, name: str) -> Resource:
    properties = {"jobType": "Command", "status": "Completed", "outputs": {}}
    return plane.store.put(Resource(id=job_id(plane, name), properties=properties))


def test_a_parent_takes_no_strangers_for_its_children(plane: Plane) -> None:
    stranger(plane, "s_1")
    with pytest.raises(ConflictError, match="child named 's_1'"):
        plane.jobs.submit(job_id(plane, "s"), {"properties": SWEEP})
    assert [job.name for job in plane.jobs.all()] == ["s_1"]


def test_a_parent_that_fails_cancels_its_children(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(plane, lambda _: httpx.Response(201))

    async def run(job: Resource, canceled: asyncio.Event, say: Callable[[str], None]) -> Outcome:
        await canceled.wait()
        return CANCELED

    monkeypatch.setattr(plane.jobs._commands, "run", run)

    async def scene() -> Resource:
        job = plane.jobs.submit(job_id(plane, "s"), {"properties": SWEEP})
        # Between the submission and the second trial.
        stranger(plane, "s_1")
        await plane.jobs.wait(job)
        return job

    job = asyncio.run(asyncio.wait_for(scene(), 60))
    assert job.properties["status"] == "Failed" and job.internal["error"]["code"] == "UserError"
    states = {entry.name: entry.properties["status"] for entry in plane.jobs.all()}
    assert states == {"s": "Failed", "s_0": "Canceled", "s_1": "Completed"}


def test_a_parents_log_that_cannot_be_written_is_no_reason_to_fail(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve(plane, lambda _: httpx.Response(503))

    async def run(job: Resource, canceled: asyncio.Event, say: Callable[[str], None]) -> Outcome:
        return Outcome("Completed")

    monkeypatch.setattr(plane.jobs._commands, "run", run)

    async def scene() -> Resource:
        job = plane.jobs.submit(job_id(plane, "s"), {"properties": SWEEP})
        await plane.jobs.wait(job)
        return job

    assert asyncio.run(asyncio.wait_for(scene(), 60)).properties["status"] == "Completed"
    assert "hyperdrive.txt" in caplog.text


def test_a_job_that_is_being_canceled_is_not_canceled_twice(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        job = plane.store.put(Resource(id=job_id(plane, "j"), properties={"status": "Running"}))
        begun = asyncio.Event()

        async def cancel(_: Resource) -> None:
            await begun.wait()

        monkeypatch.setattr(plane.jobs, "cancel", cancel)
        first, second = plane.cancel_job(job), plane.cancel_job(job)
        assert first is second
        begun.set()
        await plane._tasks[first.id]
        assert first.status == "Succeeded"

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_model_that_a_job_has_made_can_be_deployed(plane: Plane) -> None:
    stranger(plane, "train")
    place = plane.deployments._place_of("azureml://jobs/train/outputs/artifacts/paths/model/")
    assert (place.container, place.path) == ("azureml", "ExperimentRun/dcid.train/model")
    with pytest.raises(DeploymentError, match="'absent'"):
        plane.deployments._place_of("azureml://jobs/absent/outputs/artifacts/paths/model/")
