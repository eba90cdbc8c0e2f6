"""A control plane whose jobs run in real containers, and jobs in few words."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKER = str(REPOSITORY / "images" / "docker")
ROOT_IMAGE = os.environ.get("ROOT_IMAGE", "debian:bookworm-slim")
STATUS_LIMIT_SEC = 60
COMPUTE = "one-node"


@pytest.fixture(scope="session")
def client(client: Any) -> Any:
    """The SDK's client of a plane with two computes: of one node and of two."""
    from azure.ai.ml.entities import AmlCompute

    for name, nodes in ((COMPUTE, 1), ("two-nodes", 2)):
        compute = AmlCompute(name=name, size="Standard_F4s_v2", max_instances=nodes)
        client.compute.begin_create_or_update(compute).result()
    return client


@dataclass(frozen=True)
class Submitter:
    """Jobs, in the words of the tests."""

    client: Any
    scratch: Path

    def submit(self, shell: str, *, image: str = ROOT_IMAGE, compute: str = COMPUTE, **options: Any) -> Any:
        """Submit a command job and return at once."""
        from azure.ai.ml import command
        from azure.ai.ml.entities import Environment

        job = command(command=shell, environment=Environment(image=image), compute=compute, **options)
        return self.client.jobs.create_or_update(job)

    def run(self, shell: str, **options: Any) -> Any:
        """Run a command job to its end, whatever that is; returns the job as it is then."""
        return self.ended(self.submit(shell, **options))

    def ended(self, job: Any) -> Any:
        """Wait until a job has ended."""
        from azure.ai.ml.exceptions import JobException

        with contextlib.suppress(JobException):
            self.client.jobs.stream(job.name)
        return self.client.jobs.get(job.name)

    def status(self, job: Any) -> str:
        """Return a job's status now."""
        found = self.client.jobs.get(job.name).status
        return str(getattr(found, "value", found))

    def wait(self, job: Any, *statuses: str) -> str:
        """Wait until a job has one of the statuses."""
        deadline = time.monotonic() + STATUS_LIMIT_SEC
        while (status := self.status(job)) not in statuses:
            assert time.monotonic() < deadline, f"{job.name} is {status}, not one of {statuses}"
            time.sleep(0.1)
        return status

    def reason(self, job: Any) -> str:
        """Return why a job failed, as `stream` tells it."""
        from azure.ai.ml.exceptions import JobException

        # Of an ended job, too, the run's details tell the error.
        with pytest.raises(JobException) as raised:
            self.client.jobs.stream(job.name)
        return str(raised.value)

    def files(self, job: Any, **options: Any) -> dict[str, str]:
        """Download all of a job and return its files' texts by their paths."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        self.client.jobs.download(job.name, download_path=folder, **(options or {"all": True}))
        return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}

    def log(self, job: Any) -> str:
        """Return what a job's command has printed."""
        return self.files(job)["artifacts/user_logs/std_log.txt"]

    def load(self, text: str, files: Mapping[str, str] | None = None) -> Any:
        """Load a job from YAML, with the files that it names beside it."""
        from azure.ai.ml import load_job

        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        for name, content in {"job.yml": text, **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return load_job(folder / "job.yml")


@pytest.fixture
def jobs(client: Any, plane: Plane, tmp_path: Path) -> Iterator[Submitter]:
    """Submit jobs; none of their containers may be left."""
    made = Submitter(client, tmp_path)
    yield made
    left = plane.containers()
    # What a failed test leaves would keep the next ones waiting.
    for job in client.jobs.list():
        if made.status(job) not in ("Completed", "Failed", "Canceled"):
            client.jobs.begin_cancel(job.name).result()
    assert left == []


Wait = Callable[..., str]
