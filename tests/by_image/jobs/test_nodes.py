"""Jobs on several nodes: as many containers, one status, a log of each; and a profile that both of two nodes make."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aml_report.merge import merge
from aml_report.reading import read_reports

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane
    from tests.by_image.jobs.conftest import Submitter

SERVER = Path(__file__).parents[2] / "contract" / "profilers" / "scoring_server.py"
PYTORCH = {"type": "pytorch", "process_count_per_instance": 1}
# So far apart that a busy machine, on which a request is some milliseconds late, cannot be taken for nodes in step.
RATE, INTERVAL_MS = 4, 250
WHO = 'echo "$RANK of $WORLD_SIZE, $NODE_RANK, $AZUREML_NODE_COUNT, $MASTER_ADDR, $(( MASTER_PORT > 0 ))"'


def log_of(files: dict[str, str], node: int) -> str:
    return files[f"artifacts/user_logs/std_log_process_{node}.txt"]


def test_each_node_knows_its_place_and_has_a_log_and_a_working_folder(jobs: Submitter) -> None:
    job = jobs.run(
        f'{WHO}; test -z "$(ls outputs)" && echo own >outputs/$RANK.txt; echo $RANK >outputs/same.txt',
        compute="two-nodes",
        instance_count=2,
        distribution=PYTORCH,
    )
    assert job.status == "Completed", jobs.reason(job)
    files = jobs.files(job)
    for node in range(2):
        assert log_of(files, node) == f"{node} of 2, {node}, 2, 127.0.0.1, 1\n"
        assert files[f"artifacts/outputs/{node}.txt"] == "own\n"
    assert files["artifacts/outputs/same.txt"] == "0\n", "of two files of one name, node 0's"


def test_a_node_that_fails_ends_the_job(jobs: Submitter, plane: Plane) -> None:
    job = jobs.run(
        "if [ $RANK = 1 ]; then echo no luck; exit 5; fi; exec sleep 300",
        compute="two-nodes",
        instance_count=2,
        distribution=PYTORCH,
    )
    assert job.status == "Failed"
    said = jobs.reason(job)
    assert "status code 5 on node 1; see user_logs/std_log_process_1.txt. Its last line: no luck" in said
    assert plane.containers() == []


def test_both_containers_of_a_job_go_when_it_is_canceled(jobs: Submitter, plane: Plane) -> None:
    job = jobs.submit("exec sleep 300", compute="two-nodes", instance_count=2, distribution=PYTORCH)
    jobs.wait(job, "Running")
    assert len(plane.containers()) == 2
    other = jobs.submit("true", compute="two-nodes")
    jobs.client.jobs.begin_cancel(job.name).result()
    assert jobs.status(job) == "Canceled"
    assert not [name for name in plane.containers() if job.name in name]
    assert jobs.ended(other).status == "Completed", "both of the compute's nodes are free again"


def test_a_job_on_two_nodes_survives_the_killing_of_the_plane(jobs: Submitter, plane: Plane) -> None:
    shell = "for i in 1 2 3 4 5 6; do echo $RANK tick $i; sleep 1; done"
    job = jobs.submit(shell, compute="two-nodes", instance_count=2, distribution=PYTORCH)
    jobs.wait(job, "Running")
    plane.kill()
    plane.command("up")
    assert jobs.ended(job).status == "Completed"
    files = jobs.files(job)
    for node in range(2):
        assert log_of(files, node) == "".join(f"{node} tick {i}\n" for i in range(1, 7))


def test_a_profile_from_two_nodes(jobs: Submitter, tmp_path: Path) -> None:
    server = subprocess.Popen([sys.executable, str(SERVER), "--arrivals"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        uri = f"http://127.0.0.1:{int(server.stdout.readline())}/score"
        config = {"duration_sec": 5, "connections": 4, "target_rps": RATE}
        target = {"version": 1.0, "deployment_settings": {"scoring_uri": uri}}
        made = {"config.json": {"version": 1.0, "profiler_config": config}, "target.json": target}
        (tmp_path / "code").mkdir()
        for name, document in made.items():
            (tmp_path / "code" / name).write_text(json.dumps(document))
        job = jobs.run(
            "python -m aml_wrk2_profiler --config_path config.json --scoring_target_path target.json",
            image="aml-wrk2-profiler",
            code=str(tmp_path / "code"),
            compute="two-nodes",
            instance_count=2,
            distribution=PYTORCH,
        )
        assert job.status == "Completed", jobs.reason(job)
    finally:
        server.terminate()
        out, _ = server.communicate(timeout=30)

    # What the server saw: the nodes in turn, one request every 250 ms. Were they to send together, every second would
    # come 250 ms before its time.
    arrivals = json.loads(out)["arrivals"]
    assert len(arrivals) == 5 * RATE
    late_ms = [1e3 * (at - arrivals[0]) - INTERVAL_MS * number for number, at in enumerate(arrivals)]
    assert abs(statistics.median(late_ms[::2]) - statistics.median(late_ms[1::2])) < INTERVAL_MS / 2

    files = jobs.files(job)
    report = json.loads(files["artifacts/outputs/report.json"])
    assert [node["rank"] for node in report["nodes"]] == [0, 1]
    shares = []
    for node in range(2):
        shares.append(tmp_path / f"node_{node}.json")
        shares[-1].write_text(files[f"artifacts/outputs/nodes/node_{node}_run_1.json"])
    merged = merge(read_reports(shares))
    assert merged["result"]["requests"] == report["result"]["requests"]
    assert merged["result"]["histogram"] == report["result"]["histogram"]
    assert merged["result"]["latency_ms"]["percentiles"] == report["result"]["latency_ms"]["percentiles"]
    assert "node 1 of 2 is here" in log_of(files, 0) and "node 0 has all it needs" in log_of(files, 1)
