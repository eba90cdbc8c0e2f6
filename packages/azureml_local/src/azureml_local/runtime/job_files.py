"""A job's files: inputs down from the blobs, outputs and logs up to them, and where each lies in the container."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from azureml_local.exceptions import DeploymentError, JobError
from azureml_local.files import make_private_dir
from azureml_local.models.jobs import CommandSpec, artifact_uri
from azureml_local.models.store import Resource, Store, now_text
from azureml_local.runtime.blobs import BlobPlace, Blobs, place_of

STD_LOG = "user_logs/std_log"
LIFECYCLE_LOG = "system_logs/lifecycle.log"
LOG_PERIOD_SEC = 1.0
OUTPUT_NOT_UPLOADED = "OutputNotUploaded"
JOB_URI = re.compile(r"azureml://(?:.*/)?jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/paths/(?P<path>.*))?/?")
ASSET_ID = re.compile(r"(?i)/subscriptions/.+/(?:data|models)/[^/]+/versions/[^/]+")
WEB_URL = re.compile(r"(?i)(?:https?|wasbs?|abfss?|adl)://.*")


@dataclass(frozen=True)
class JobFolder:
    """A job's own folder on this machine, and its places in the container, which are laid out as AzureML does.

    Of a job with several nodes, each has its own working folder, home and log; inputs and named outputs are one.
    """

    root: Path
    job_name: str
    node: int | None = None  # None of a job with one

    @property
    def _own(self) -> Path:
        return self.root / f"node_{self.node}" if self.node else self.root

    @property
    def work_dir(self) -> Path:
        return self._own / "wd"

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def home_dir(self) -> Path:
        return self._own / "home"

    @property
    def log_name(self) -> str:
        """The name of what the command prints among the job's logs."""
        return f"{STD_LOG}.txt" if self.node is None else f"{STD_LOG}_process_{self.node}.txt"

    @property
    def std_log(self) -> Path:
        return self._own / "std_log.txt"

    @property
    def lifecycle_log(self) -> Path:
        return self.root / "lifecycle.log"

    @property
    def container_root(self) -> str:
        return f"/mnt/azureml/cr/j/{self.job_name}"

    @property
    def container_work_dir(self) -> str:
        return f"{self.container_root}/exe/wd"

    @property
    def container_data_dir(self) -> str:
        return f"{self.container_root}/cap/data-capability/wd"

    @property
    def container_home(self) -> str:
        return f"{self.container_root}/home"

    @property
    def container_bundle(self) -> str:
        return f"{self.container_root}/ca-bundle.pem"

    def make(self) -> None:
        """Create the folders; ./outputs and ./logs are there when the command starts, as in AzureML."""
        for path in (self.root, self._own, self.work_dir, self.data_dir, self.home_dir):
            make_private_dir(path)
        for name in ("outputs", "logs"):
            (self.work_dir / name).mkdir(exist_ok=True)

    def note(self, line: str) -> None:
        """Write a line to the lifecycle log."""
        with self.lifecycle_log.open("a", encoding="utf-8") as stream:
            stream.write(f"{now_text()} {line}\n")


class JobFiles:
    """Moves files between a job's folder and the blobs."""

    def __init__(self, store: Store, blobs: Blobs, workspace_id: str) -> None:
        self._store = store
        self._blobs = blobs
        self._workspace_id = workspace_id

    def place(self, uri: str) -> BlobPlace:
        """Find out what the URI of an input or output names; raises JobError."""
        if ASSET_ID.fullmatch(uri):
            asset = self._store.find(uri)
            if asset is None:
                raise JobError("DataNotFound", f"{uri} does not exist in this workspace.")
            return self.place(str(asset.properties.get("dataUri") or asset.properties.get("modelUri")))
        match = JOB_URI.fullmatch(uri)
        if match:
            return self._job_output(match["job"], match["output"], match["path"] or "")
        if WEB_URL.fullmatch(uri) and not uri.startswith(f"{self._blobs.root}/"):
            raise JobError(
                "InputNotSupported", f"{uri}: only files and folders of this workspace's datastores come down."
            )
        try:
            return place_of(uri)
        except DeploymentError as error:
            raise JobError(error.code, error.message) from error

    def _job_output(self, job_name: str, output: str, path: str) -> BlobPlace:
        job = self._store.find(f"{self._workspace_id}/jobs/{job_name}")
        if job is None:
            raise JobError("JobNotFound", f"The job '{job_name}', whose output is asked for, does not exist.")
        if output in ("artifacts", "default"):
            base = artifact_uri(job.name)
        elif "uri" in job.properties["outputs"].get(output, {}):
            base = str(job.properties["outputs"][output]["uri"])
        else:
            raise JobError("OutputNotFound", f"The job '{job_name}' has no output named '{output}'.")
        place = self.place(base)
        return BlobPlace(place.account, place.container, f"{place.path}/{path}".strip("/"))

    async def stage(self, spec: CommandSpec, code: Resource | None, nodes: Sequence[JobFolder]) -> dict[str, str]:
        """Bring code and inputs down and make the outputs' folders; return what fills the command's placeholders."""
        folder = nodes[0]
        if code is not None:
            place = self.place(str(code.properties["codeUri"]))
            for node in nodes:
                count = await self._fetch("code", place, node.work_dir)
                node.note(f"code: {count} files")
        paths = container_paths(spec, folder, {entry.name: self.place(entry.uri).name for entry in spec.data})
        for entry in spec.data:
            place = self.place(entry.uri)
            target = host_path(folder, paths[f"inputs.{entry.name}"])
            target.parent.mkdir(parents=True, exist_ok=True)
            count = await self._fetch(f"input {entry.name}", place, target, empty_is_fine=not entry.is_file)
            if entry.is_file and not target.is_file():
                raise JobError("InputNotAFile", f"The input '{entry.name}' is a uri_file, but {entry.uri} is a folder.")
            folder.note(f"input {entry.name}: {count} files from {entry.uri}")
        for output in spec.outputs:
            target = host_path(folder, paths[f"outputs.{output.name}"])
            (target.parent if output.is_file else target).mkdir(parents=True, exist_ok=True)
        return paths

    async def _fetch(self, what: str, place: BlobPlace, target: Path, *, empty_is_fine: bool = False) -> int:
        try:
            return await asyncio.to_thread(self._blobs.fetch, place, target)
        except DeploymentError as error:
            # Blobs know no empty folders: what a step has left empty is one.
            if error.code == "BlobNotFound" and empty_is_fine and self._is_output(place):
                target.mkdir(parents=True, exist_ok=True)
                return 0
            raise JobError("InputNotFound", f"{what}: {error.message}") from error

    def _is_output(self, place: BlobPlace) -> bool:
        """Say whether a job has promised this place as an output."""
        return any(
            _names(str(output["uri"]), place)
            for job in self._store.children(f"{self._workspace_id}/jobs")
            for output in job.properties["outputs"].values()
            if "uri" in output
        )

    async def collect(self, spec: CommandSpec, paths: Mapping[str, str], nodes: Sequence[JobFolder]) -> None:
        """Send every node's ./outputs and ./logs, the named outputs and the lifecycle log up.

        Of files of one name, the first node's stays, as it goes last. What cannot go up keeps nothing else back: it is
        told at the end. A job that failed before its inputs were there has no paths, and no named outputs.
        """
        folder = nodes[0]
        artifacts = artifact_uri(folder.job_name)
        missed: list[str] = []

        async def send(what: str, source: Path, uri: str, name: str = "") -> None:
            try:
                place = self.place(uri)
                count = await asyncio.to_thread(self._blobs.upload, source, below(place, name) if name else place)
            except (DeploymentError, JobError) as error:
                missed.append(f"{what}: {error.message}")
                folder.note(missed[-1])
            else:
                folder.note(f"{what}: {count} files to {uri}{name}")

        for node in reversed(nodes):
            for name in ("outputs", "logs"):
                if (node.work_dir / name).exists():
                    await send(f"./{name}", node.work_dir / name, artifacts, name)
        for output in spec.outputs:
            if (path := paths.get(f"outputs.{output.name}")) is None:
                continue
            if (source := host_path(folder, path)).exists():
                await send(f"output {output.name}", source, output.uri)
            else:
                folder.note(f"output {output.name}: nothing was written")
        if folder.lifecycle_log.exists():
            await send("the lifecycle log", folder.lifecycle_log, artifacts, LIFECYCLE_LOG)
        if missed:
            raise JobError(OUTPUT_NOT_UPLOADED, "; ".join(missed))

    async def stream_log(self, folder: JobFolder, ended: asyncio.Event) -> None:
        """Append what the command prints to its log in the blobs, until all of it is there."""
        place = below(place_of(artifact_uri(folder.job_name)), folder.log_name)
        try:
            await self._stream_log(folder, place, ended)
        except DeploymentError as error:
            raise JobError("LogNotUploaded", error.message) from error

    async def _stream_log(self, folder: JobFolder, place: BlobPlace, ended: asyncio.Event) -> None:
        await asyncio.to_thread(self._blobs.begin_log, place)
        sent = 0
        while True:
            last = ended.is_set()
            with folder.std_log.open("rb") as stream:
                stream.seek(sent)
                content = stream.read()
            if content:
                await asyncio.to_thread(self._blobs.append, place, content)
                sent += len(content)
            if last:
                return
            try:
                await asyncio.wait_for(ended.wait(), LOG_PERIOD_SEC)
            except asyncio.TimeoutError:
                continue

    async def write_log(self, job_name: str, name: str, lines: list[str]) -> None:
        """Replace one of a job's logs."""
        place = below(place_of(artifact_uri(job_name)), name)
        await asyncio.to_thread(self._blobs.write, place, "".join(f"{line}\n" for line in lines).encode())

    def log_url(self, job_name: str, name: str) -> str:
        """Return a URL with which a client reads one of a job's logs."""
        return self._blobs.readable_url(below(place_of(artifact_uri(job_name)), name))


def _names(uri: str, place: BlobPlace) -> bool:
    """Say whether a URI names a place; one that names none at all is somebody else's trouble."""
    try:
        return place_of(uri) == place
    except DeploymentError:
        return False


def below(place: BlobPlace, name: str) -> BlobPlace:
    """Return a place below another."""
    return BlobPlace(place.account, place.container, f"{place.path}/{name}")


def container_paths(spec: CommandSpec, folder: JobFolder, file_names: Mapping[str, str]) -> dict[str, str]:
    """Return where each input and output lies in the container; an input file keeps its own name."""
    paths = {}
    for entry in spec.data:
        path = f"{folder.container_data_dir}/INPUT_{entry.name}"
        paths[f"inputs.{entry.name}"] = f"{path}/{file_names[entry.name]}" if entry.is_file else path
    for output in spec.outputs:
        path = f"{folder.container_data_dir}/{output.name}"
        paths[f"outputs.{output.name}"] = f"{path}/{output.name}" if output.is_file else path
    return paths


def host_path(folder: JobFolder, container_path: str) -> Path:
    """Return where a path of the data folder in the container lies on this machine."""
    return folder.data_dir / Path(container_path).relative_to(folder.container_data_dir)
