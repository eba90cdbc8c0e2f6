"""The tuning from outside: trials, resumption, and that nothing stays deployed."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import yaml
from aml_tuner.command import figures

if TYPE_CHECKING:
    from tests.unit.aml_tuner.conftest import World

WAIT_SEC = 60.0


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SEC
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_a_grid_is_deployed_profiled_deleted_and_ranked(world: World) -> None:
    world.config |= {"constraints": {"latency_ms_99": 25}, "top": 2, "parallel": 2}
    code, said = world.run()
    assert code == 0, said
    assert world.endpoints == []
    assert len(world.calls("deploy")) == len(world.calls("profile")) == len(world.calls("delete")) == 4
    assert len(set(world.calls("delete"))) == 4, "each trial has an endpoint of its own"
    assert all(len(name) <= 32 for name in world.calls("delete"))
    summary = world.summary()
    by_id = {one["id"]: one for one in summary["trials"]}
    # 100, 182, 211 and 136 requests/s at 5, 10, 20 and 40 ms.
    assert [by_id[key]["variant"]["worker_count"] for key in summary["top"]] == [4, 2]
    assert by_id[summary["choice"]["id"]]["variant"] == {"worker_count": 4}
    (missed,) = [one for one in summary["trials"] if not one["feasible"]]
    assert missed["variant"] == {"worker_count": 8} and missed["misses"] == ["latency_ms_99 is 40, its limit is 25"]
    assert [by_id[key]["variant"]["worker_count"] for key in summary["pareto_front"]] == [1, 2, 4]
    written = (world.work / "outputs" / "deployment.yml").read_text()
    assert written == summary["choice"]["deployment_yml"]
    given = {"name": "blue", "instance_type": "Standard_F2s_v2"}
    assert yaml.safe_load(written) == {**given, "environment_variables": {"WORKER_COUNT": "4"}}
    assert summary["choice"]["command"].split() == [
        "python", "-m", "aml_online_endpoints_deployer", "\\", "--endpoint_yaml_path", "endpoint.yml", "\\",
        "--deployment_yaml_path", "outputs/deployment.yml",
    ]  # fmt: skip
    assert f"to deploy it:\n{summary['choice']['command']}" in said
    why = summary["choice"]["why"]
    assert why.startswith(
        "Take worker_count 4: 210.5 good answers per second at 2 connections, in a closed loop, p99 20 ms"
    )
    assert "Of the 3 trials that keep latency_ms_99 at most 25 (here 20)" in why
    assert "worker_count 2, is 14 % worse in succeeded_per_sec" in why
    assert (
        "worker_count 1 instead of 4: 52 % worse, 2 instead of 4: 14 % worse, 8 instead of 4: misses a constraint"
        in why
    )
    page = (world.work / "outputs" / "summary.html").read_text()
    assert "<script" not in page and why in page.replace("&#39;", "'")


def test_a_trial_that_fails_is_a_result_and_is_tried_again_by_the_next_run(world: World) -> None:
    world.rules["fail"] = [{"worker_count": 4}]
    code, said = world.run()
    assert code == 0, said
    assert world.endpoints == [], "what a failed deployment left is deleted as well"
    summary = world.summary()
    (failed,) = [one for one in summary["trials"] if one["error"]]
    assert failed["error"].endswith("deploy: no quota for it; ask for more (exit code 1)")
    assert any("1 trials failed" in gap for gap in summary["not_measured"])
    world.rules["fail"] = []
    code, said = world.run()
    assert code == 0, said
    assert world.summary()["finished_before"] == 3
    assert world.calls("deploy").count('{"worker_count": 4}') == 2
    assert len(world.calls("profile")) == 4, "no finished trial is repeated"


def test_nothing_that_holds_is_exit_code_3_with_a_summary(world: World) -> None:
    world.config["constraints"] = {"latency_ms_99": 4}
    code, said = world.run()
    assert code == 3, said
    assert "none of 4 trials keeps every constraint; the nearest, worker_count 1: latency_ms_99 is 5" in said
    assert world.summary()["choice"] is None
    assert not (world.work / "outputs" / "deployment.yml").exists()
    assert "No combination keeps every constraint" in (world.work / "outputs" / "summary.html").read_text()


def test_all_failed_is_exit_code_1(world: World) -> None:
    world.rules["fail"] = [{"worker_count": count} for count in (1, 2, 4, 8)]
    code, said = world.run()
    assert code == 1
    assert "all 4 trials failed; the last one: " in said and "no quota for it" in said
    assert world.endpoints == []


def test_an_endpoint_that_cannot_be_deleted_stops_the_tuning_and_is_deleted_by_the_next(world: World) -> None:
    world.rules["undeletable"] = True
    code, said = world.run()
    assert code == 1
    assert "to remove it: python -m aml_online_endpoints_deleter --config_path " in said
    assert len(world.calls("deploy")) == 1 == len(world.endpoints)
    world.rules["undeletable"] = False
    code, said = world.run()
    assert code == 0, said
    assert "was cut short; deleting what it deployed" in said
    assert world.endpoints == []


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("seed", range(2))
def test_interrupted_at_a_random_point_it_goes_on_and_repeats_nothing(
    world: World, sent: signal.Signals, seed: int
) -> None:
    source = random.Random(seed)
    world.config |= {"parameters": {"worker_count": [1, 2, 3, 4, 5, 6]}, "parallel": 2}
    world.rules |= {"deploy_sec": 0.2, "profile_sec": 0.2, "delete_sec": 0.1}
    process = world.start()
    deployed, later_sec = source.randint(1, 5), source.uniform(0, 0.6)
    wait_for(lambda: len(world.calls("deploy")) >= deployed)
    time.sleep(later_sec)
    process.send_signal(sent)
    _, said = process.communicate(timeout=WAIT_SEC)
    if process.returncode == 128 + signal.SIGTERM:
        assert world.endpoints == [], said
    time.sleep(0.3)  # what was killed with it has ended
    finished = {path.parent.name for path in (world.work / "outputs" / "trials").glob("*/trial.json")}
    profiled = len(world.calls("profile"))
    code, said = world.run()
    assert code == 0, said
    assert world.endpoints == []
    summary = world.summary()
    assert summary["finished_before"] == len(finished)
    assert len(world.calls("profile")) - profiled == 6 - len(finished)
    rates = {one["variant"]["worker_count"]: one["metrics"]["succeeded_per_sec"] for one in summary["trials"]}
    assert rates == {count: pytest.approx(100 * count / (1 + 0.1 * (count - 1) ** 2)) for count in range(1, 7)}


def test_it_goes_on_on_another_machine(world: World) -> None:
    assert world.run()[0] == 0
    moved = world.folder / "moved"
    (world.work / "outputs" / "trials").rename(moved)
    code, said = world.run("--trials_path", str(moved))
    assert code == 0, said
    assert world.summary()["finished_before"] == 4 and len(world.calls("deploy")) == 4
    assert "not used" not in said
    # Other inputs are another tuning.
    world.config["constraints"] = {"latency_ms_99": 1000}
    code, said = world.run("--trials_path", str(moved))
    assert code == 0, said
    assert world.summary()["finished_before"] == 0 and len(world.calls("deploy")) == 8
    assert f"4 finished trials in {moved} are not used, as they were made of other inputs" in said


def test_it_goes_on_from_a_folder_that_can_only_be_read(world: World) -> None:
    world.config["parameters"] = {"worker_count": [4]}
    assert world.run()[0] == 0
    world.config["parameters"] = {"worker_count": [1, 2, 4]}
    world.rules["deploy_sec"] = 3600
    killed = world.start()
    wait_for(lambda: world.endpoints)
    killed.kill()
    killed.communicate(timeout=WAIT_SEC)
    world.rules["deploy_sec"] = 0
    brought = world.folder / "brought"
    (world.work / "outputs" / "trials").rename(brought)
    there = {path: path.read_bytes() for path in brought.rglob("*") if path.is_file()}
    deployed = len(world.calls("deploy"))
    code, said = world.run("--resume_path", str(brought))
    assert code == 0, said
    assert said.count("was cut short; deleting what it deployed") == 1
    assert world.endpoints == []
    assert world.summary()["finished_before"] == 1
    assert len(world.calls("deploy")) == deployed + 2
    assert {path: path.read_bytes() for path in brought.rglob("*") if path.is_file()} == there
    assert len(list((world.work / "outputs" / "trials").glob("*/trial.json"))) == 3, "it is all in the outputs"
    # The same command once more, as after a second interruption.
    code, said = world.run("--resume_path", str(brought))
    assert code == 0, said
    assert world.summary()["finished_before"] == 3 and len(world.calls("deploy")) == deployed + 2


def test_what_was_begun_in_both_places_is_deleted_in_both(world: World) -> None:
    world.config["parameters"] = {"worker_count": [1]}
    world.rules["deploy_sec"] = 3600
    brought = world.folder / "brought"

    def start_and_kill(endpoints: int) -> None:
        killed = world.start()
        wait_for(lambda: len(world.endpoints) == endpoints)
        killed.kill()
        killed.communicate(timeout=WAIT_SEC)

    start_and_kill(1)
    (world.work / "outputs" / "trials").rename(brought)
    start_and_kill(2)
    world.rules["deploy_sec"] = 0
    code, said = world.run("--resume_path", str(brought))
    assert code == 0, said
    assert world.endpoints == []


def test_a_folder_without_trials_is_no_folder_to_go_on_from(world: World) -> None:
    (world.work / "empty").mkdir()
    code, said = world.run("--resume_path", "empty")
    assert code == 2 and "--resume_path: empty: holds no trials; give the outputs/trials of an earlier" in said
    assert world.calls("deploy") == []


def test_a_folder_of_trials_that_cannot_be_written_is_said(world: World) -> None:
    code, said = world.run("--trials_path", "/proc/self")  # nobody may write there, whoever runs this
    assert code == 1 and "error: /proc/self/.lock: " in said and "name a folder that can be written" in said
    assert world.calls("deploy") == []


def test_the_quick_search_is_the_default_and_keeps_to_its_budget(world: World) -> None:
    world.config |= {"parameters": {"worker_count": list(range(1, 31))}}
    del world.config["strategy"]
    code, said = world.run()
    assert code == 0, said
    summary = world.summary()
    assert (summary["strategy"], len(summary["trials"]), summary["grid_size"]) == ("quick", 6, 30)
    best = next(one for one in summary["trials"] if one["id"] == summary["choice"]["id"])
    rates = [100 * count / (1 + 0.1 * (count - 1) ** 2) for count in range(1, 31)]
    assert best["metrics"]["succeeded_per_sec"] >= 0.95 * max(rates)
    assert any("24 of the 30 combinations" in gap for gap in summary["not_measured"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": {}}, "/tuning_config/parameters"),
        ({"parameters": {"candidate": [1, 2]}}, "give --model_folder_path and --optimized_parameters_path"),
        ({"strategy": "guess"}, "/tuning_config/strategy"),
        (
            {"objective": {"price_per_million_requests": 1}},
            "/tuning_config/instance_price_per_hour: no price of Standard_F2s_v2, which the objective",
        ),
        (
            {
                "objective": {"price_per_million_requests": 1},
                "parameters": {"instance_type": ["Standard_F2s_v2", "Standard_F4s_v2"]},
                "instance_price_per_hour": {"Standard_F2s_v2": 0.1},
            },
            "no price of Standard_F4s_v2, which",
        ),
        ({"constraints": {"accuracy-f1": 0.9}}, "/tuning_config/constraints/accuracy-f1: not known of the model: the"),
        ({"constraints": {"latency_s_99": 1}}, "unknown key 'latency_s_99'"),
    ],
)
def test_bad_input_is_exit_code_2_before_anything_is_deployed(
    world: World, change: dict[str, object], said: str
) -> None:
    world.config |= change
    code, stderr = world.run()
    assert code == 2 and said in stderr
    assert world.calls("deploy") == []


def test_what_is_refused_leaves_the_answer_and_what_is_interrupted_says_what_is_kept(world: World) -> None:
    world.config |= {"parameters": {"worker_count": [1, 2]}}
    assert world.run()[0] == 0
    answer = world.work / "outputs" / "summary.json"
    before = answer.read_bytes()
    world.config["constraints"] = {"accuracy-f1": 0.9}
    assert world.run()[0] == 2
    assert answer.read_bytes() == before, "bad input has changed nothing"
    del world.config["constraints"]
    world.config["parameters"] = {"worker_count": [1, 2, 4, 8]}
    world.rules["profile_sec"] = WAIT_SEC
    deployed = len(world.calls("deploy"))
    process = world.start()
    wait_for(lambda: len(world.calls("deploy")) > deployed or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_SEC)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith("2 finished trials are kept in outputs/trials, start again to go on")
    assert not answer.exists(), "it had begun"


def test_the_weights_decide(world: World) -> None:
    world.config["objective"] = {"succeeded_per_sec": 1, "latency_ms_99": 1}
    assert world.run()[0] == 0
    summary = world.summary()
    best = next(one for one in summary["trials"] if one["id"] == summary["choice"]["id"])
    assert best["variant"] == {"worker_count": 1}, "twice the rate at twice the latency is no gain"
    assert json.dumps(summary["objective"]) == '{"succeeded_per_sec": 1, "latency_ms_99": 1}'


def test_what_the_profiler_refuses_is_known_before_anything_is_deployed(world: World) -> None:
    world.rules["refuse"] = "config"
    code, said = world.run()
    assert code == 2
    assert "error: wrk.json: /profiler_config/search: constraints: missing (exit code 2)" in said
    assert world.calls("deploy") == []


def test_what_the_profiler_refuses_of_a_deployment_ends_the_tuning_at_once(world: World) -> None:
    world.rules["refuse"] = "endpoint"
    code, said = world.run()
    assert code == 2
    assert ": profile: " in said and "constraints: missing (exit code 2)" in said
    assert len(world.calls("deploy")) == 1 and world.endpoints == []


def test_an_objective_that_is_never_known_is_said(world: World) -> None:
    world.config["objective"] = {"service_time_ms_99": 1}
    report = json.loads((world.folder / "report.json").read_text())
    report["result"].pop("service_time_ms", None)
    (world.folder / "report.json").write_text(json.dumps(report))
    code, said = world.run()
    assert code == 3, said
    assert "4 of 4 trials keep every constraint, but the objective is not known of any: service_time_ms_99 is" in said


def test_two_tuners_do_not_share_a_folder_and_share_no_endpoint(world: World) -> None:
    world.rules |= {"deploy_sec": 3600}
    first = world.start()
    try:
        wait_for(lambda: world.endpoints)
        code, said = world.run()
        assert code == 1 and "another tuner is at work there" in said
        code, said = world.run("--resume_path", "outputs", "--trials_path", str(world.folder / "new"))
        assert code == 1 and "--resume_path: outputs/trials: another tuner is at work there" in said
        (mine,) = world.endpoints  # what the first has deployed stands
        world.config["parameters"] = {"worker_count": [1]}
        world.rules["deploy_sec"] = 0
        code, said = world.run("--trials_path", str(world.folder / "other"))
        assert code == 0, said
        assert world.endpoints == [mine]
        (theirs,) = world.calls("delete")
        assert theirs[-10:] == mine[-10:] and theirs != mine, "the same trial, and another endpoint"
    finally:
        first.terminate()
        first.communicate(timeout=WAIT_SEC)
    assert world.endpoints == []


def test_a_note_of_somebody_elses_endpoint_is_not_followed(world: World) -> None:
    note = world.work / "outputs" / "trials" / "0123456789" / "deploy" / "outputs" / "deployment_settings.json"
    note.parent.mkdir(parents=True)
    (world.folder / "endpoints" / "production").touch()
    settings = {"endpoint_name": "production", "deployment_name": "blue"}
    settings |= {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
    note.write_text(json.dumps({"version": "1.0", "deployment_settings": settings}))
    code, said = world.run()
    assert code == 2, said
    assert "names endpoint 'production', which is not trial 0123456789's; remove that file" in said
    assert world.endpoints == ["production"] and world.calls("delete") == []


def test_the_metrics_tab_has_the_choice_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # A store of files needs no server, and is what MLflow warns of.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = f"file://{world.folder}/mlflow"
    client = MlflowClient(store)
    chosen, none = (client.create_run("0").info.run_id for _ in range(2))
    world.env = {"MLFLOW_TRACKING_URI": store, "MLFLOW_RUN_ID": chosen}
    code, said = world.run()
    assert code == 0, said
    logged = client.get_run(chosen).data.metrics
    assert logged["choice_succeeded_per_sec"] == pytest.approx(400 / 1.9)
    assert logged["choice_latency_ms_99"] == 20
    assert all(name.startswith("choice_") for name in logged)
    world.env["MLFLOW_RUN_ID"] = none
    world.config["constraints"] = {"latency_ms_99": 4}
    code, said = world.run()
    assert code == 3, said
    assert client.get_run(none).data.metrics == {}, "a variant that misses is no sweep's best"


def candidates(world: World, **scores: float) -> list[str]:
    """Write what the optimizer leaves of two candidates, with the f1 of each; return the flags that name it."""
    (world.work / "model").mkdir()
    for rank in (1, 2):
        file = world.work / "parameters" / f"cpu-cpu_BestCandidateModel_{rank}_inference_config.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"execution_provider": [["CPUExecutionProvider", {}]], "session_options": {}}))
        metrics = world.work / "candidates" / "cpu-cpu" / f"BestCandidateModel_{rank}" / "metrics.json"
        metrics.parent.mkdir(parents=True)
        found = {"accuracy-f1": {"value": scores[f"f1_{rank}"], "higher_is_better": True}}
        metrics.write_text(json.dumps({"candidate_model_metrics": found}))
    world.config["parameters"] = {"candidate": [1, 2], "worker_count": [1, 2]}
    flags = ["--model_folder_path", "model", "--optimized_parameters_path", "parameters"]
    return [*flags, "--candidates_path", "candidates"]


def test_a_candidate_that_is_not_accurate_enough_is_not_deployed(world: World) -> None:
    flags = candidates(world, f1_1=0.8, f1_2=0.9)
    world.config["constraints"] = {"accuracy-f1": 0.85, "latency_ms_99": 8}
    code, said = world.run(*flags)
    assert code == 0, said
    assert world.calls("deploy") == [
        '{"candidate": 2, "worker_count": 1}', '{"candidate": 2, "worker_count": 2}'
    ]  # fmt: skip
    summary = world.summary()
    misses = ["has accuracy-f1 0.8, less than the 0.85 demanded"]
    assert summary["excluded"] == [{"candidate": 1, "misses": misses}]
    assert summary["grid_size"] == 2 and summary["parameters"]["candidate"] == [2]
    assert "accuracy-f1 at least 0.85 (here 0.9)" in summary["choice"]["why"]
    assert summary["choice"]["command"].endswith("""--variant '{"candidate": 2}'""")
    # Which candidates are tried changes no trial: what is finished stays so.
    world.config["constraints"] = {"accuracy-f1": 0.7, "latency_ms_99": 8}
    code, said = world.run(*flags)
    assert code == 0, said
    assert world.summary()["finished_before"] == 2 and len(world.calls("deploy")) == 4
    world.config["constraints"] = {"accuracy-f1": 0.95}
    code, said = world.run(*flags)
    assert code == 2 and "no candidate keeps them, so there is nothing to try: candidate 1 has accuracy-f1 0.8" in said
    world.config["constraints"] = {"accuracy-f2": 0.95}
    code, said = world.run(*flags)
    assert code == 2 and "/constraints/accuracy-f2: not known of candidate 1: the files that --candidates_path" in said
    assert len(world.calls("deploy")) == 4


def test_one_price_is_not_every_machine_sizes(world: World) -> None:
    world.config["parameters"] = {"instance_type": ["Standard_F2s_v2", "Standard_F8s_v2"]}
    world.load["instance_price_per_hour"] = 0.1
    for objective in ({"price_per_million_requests": 1}, {"succeeded_per_sec": 1}):
        world.config["objective"] = objective
        code, said = world.run()
        assert code == 2, said
        assert "/instance_price_per_hour: no price of Standard_F2s_v2, Standard_F8s_v2, and the one" in said
    assert world.calls("deploy") == []
    world.config["instance_price_per_hour"] = {"Standard_F2s_v2": 0.1, "Standard_F8s_v2": 0.4}
    code, said = world.run()
    assert code == 0, said
    configs = (world.work / "outputs" / "trials").glob("*/profiler_config.json")
    prices = [json.loads(path.read_text())["profiler_config"]["instance_price_per_hour"] for path in configs]
    assert sorted(prices) == [0.1, 0.4]


def test_trials_of_a_sweep_become_one_summary(world: World) -> None:
    brought = world.folder / "sweep"
    brought.mkdir()
    for workers in (1, 2, 4):
        world.config["parameters"] = {"worker_count": [workers]}
        assert world.run()[0] == 0
        (world.work / "outputs").rename(brought / f"sweep_{workers}")
    world.config["parameters"] = {"worker_count": [1, 2, 4]}
    code, said = world.run("--resume_path", str(brought))
    assert code == 0, said
    assert world.summary()["finished_before"] == 3 and len(world.calls("deploy")) == 3
    assert world.summary()["grid_size"] == 3


def test_payload_files_of_several_classes_are_taken(world: World) -> None:
    (world.work / "payloads").mkdir()
    (world.work / "payloads" / "small.jsonl").write_text("{}\n")
    world.config["parameters"] = {"worker_count": [1]}
    code, said = world.run("--payload_path", "payloads")
    assert code == 0, said
    (world.work / "payloads" / "small.jsonl").write_text("[]\n")
    code, said = world.run("--payload_path", "payloads")
    assert code == 0 and len(world.calls("deploy")) == 2, "another payload is another tuning"


def test_a_folder_of_payload_classes_goes_through_the_real_profilers_check(world: World) -> None:
    payloads = world.work / "payloads"
    payloads.mkdir()
    (payloads / "small.jsonl").write_text("{}\n")
    (payloads / "large.jsonl").write_text("no json\n")
    world.rules["real_check"] = True
    world.config["parameters"] = {"worker_count": [1]}
    code, said = world.run("--payload_path", "payloads")
    assert code == 2 and "is a folder; name a file, or set payload_classes to file" in said, said
    world.load["payload_classes"] = "file"
    code, said = world.run("--payload_path", "payloads")
    assert code == 2 and f"{payloads}/large.jsonl: line 1: column 1: not JSON" in said, said
    assert world.calls("deploy") == []
    (payloads / "large.jsonl").write_text("[]\n")
    code, said = world.run("--payload_path", "payloads")
    assert code == 0, said
    assert len(world.calls("profile")) == 1


@pytest.mark.parametrize("cost", ["price_per_million_requests", "core_hour_per_million_requests"])
def test_a_sweep_for_the_cheapest_load_is_not_refused(world: World, cost: str) -> None:
    world.rules["real_check"] = True
    world.config |= {"parameters": {"worker_count": [1]}, "instance_price_per_hour": {"Standard_F2s_v2": 0.1}}
    world.load |= {"connections": [1, 2], "objective": cost}
    code, said = world.run()
    assert code == 0, said
    (path,) = (world.work / "outputs" / "trials").glob("*/profiler_config.json")
    assert json.loads(path.read_text())["profiler_config"]["objective"] == cost, "only the check goes without"


def test_a_sweeps_objective_that_needs_a_price_is_refused_before_anything_is_deployed(world: World) -> None:
    world.rules["real_check"] = True
    world.load |= {"connections": [1, 2], "objective": "price_per_million_requests"}
    code, said = world.run()
    assert code == 2, said
    assert "wrk.json: /profiler_config/objective: price_per_million_requests needs instance_price_per_hour" in said
    # A price of one machine size is none of another's.
    world.config["instance_price_per_hour"] = {"Standard_F4s_v2": 0.2}
    world.config["parameters"] = {"instance_type": ["Standard_F2s_v2", "Standard_F4s_v2"]}
    code, said = world.run()
    assert code == 2 and "no price of Standard_F2s_v2, which the objective price_per_million_requests needs" in said
    assert world.calls("deploy") == []


def test_the_metrics_of_a_search_are_told() -> None:
    best = {"metrics": {"succeeded_per_sec": 9.0}, "answer": {"value": 12, "interval": [None, 13.5]}}
    assert figures(best) == {"succeeded_per_sec": 9.0, "search_answer": 12, "search_answer_high": 13.5}
    assert figures({"metrics": {"succeeded_per_sec": 9.0}}) == {"succeeded_per_sec": 9.0}
