"""Jobs over the plane's death and return: taken up again or failed in words, and never a container left."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane
    from tests.by_image.jobs.conftest import Submitter


def test_a_job_survives_the_killing_of_the_plane(jobs: Submitter, plane: Plane) -> None:
    waiting = None
    job = jobs.submit("for i in 1 2 3 4 5 6; do echo tick $i; sleep 1; done; echo made >outputs/made.txt")
    jobs.wait(job, "Running")
    waiting = jobs.submit("echo it was queued")
    plane.kill()
    plane.command("up")
    assert jobs.ended(job).status == "Completed"
    files = jobs.files(job)
    assert files["artifacts/user_logs/std_log.txt"] == "".join(f"tick {i}\n" for i in range(1, 7))
    assert files["artifacts/outputs/made.txt"] == "made\n"
    assert jobs.ended(waiting).status == "Completed"


def test_a_job_that_ended_while_the_plane_was_dead(jobs: Submitter, plane: Plane) -> None:
    job = jobs.submit("sleep 2; echo done; exit 4")
    jobs.wait(job, "Running")
    plane.kill()
    time.sleep(4)
    plane.command("up")
    assert jobs.ended(job).status == "Failed"
    assert "status code 4" in jobs.reason(job)
    assert jobs.log(job) == "done\n"


def test_a_container_that_somebody_removed(jobs: Submitter, plane: Plane) -> None:
    from tests.by_image.jobs.conftest import DOCKER

    job = jobs.submit("sleep 300")
    jobs.wait(job, "Running")
    plane.kill()
    subprocess.run([DOCKER, "rm", "--force", *plane.containers()], check=True, capture_output=True)
    plane.command("up")
    assert jobs.ended(job).status == "Failed"
    assert "ContainerLost" in jobs.reason(job)


def test_down_leaves_no_container(jobs: Submitter, plane: Plane) -> None:
    job = jobs.submit("sleep 300")
    jobs.wait(job, "Running")
    plane.command("down")
    assert plane.containers() == []
    plane.command("up")
    assert jobs.status(job) == "Failed"
    assert "was stopped while the job ran" in jobs.reason(job)


def test_down_after_a_kill_leaves_no_container(jobs: Submitter, plane: Plane) -> None:
    job = jobs.submit("sleep 300")
    jobs.wait(job, "Running")
    plane.kill()
    assert len(plane.containers()) == 1
    plane.command("down")
    assert plane.containers() == []
    plane.command("up")
    assert jobs.ended(job).status == "Failed"


def test_a_pipeline_goes_on_after_the_killing_of_the_plane(jobs: Submitter, plane: Plane) -> None:
    from tests.by_image.jobs.test_parents import PIPELINE, pipeline

    job = jobs.client.jobs.create_or_update(jobs.load(pipeline(PIPELINE, first="sleep 4; "), {"word.txt": "word"}))
    time.sleep(2)
    plane.kill()
    plane.command("up")
    assert jobs.ended(job).status == "Completed"
    assert jobs.files(job)["named-outputs/result/two.txt"] == "word and 3\n"
