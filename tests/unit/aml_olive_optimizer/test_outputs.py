"""What is made of a search's findings: the package, the named outputs, the chart, the page and the table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aml_olive_optimizer import charts, footprints, package, publish, search, search_page, summary
from aml_olive_optimizer.footprints import Candidate, Footprint, Goal
from aml_olive_optimizer.search import Found
from aml_tool_core import ToolError, optimized_parameters
from aml_tool_core.documents import validate

ACCELERATORS = {"cpu-cpu": "CPUExecutionProvider", "cpu-openvino": "OpenVINOExecutionProvider"}

MS = {"latency": "ms"}


def measured(accuracy: float, latency: float) -> dict[str, Any]:
    value = {
        "accuracy": {"value": accuracy, "priority": 1, "higher_is_better": True},
        "latency": {"value": latency, "priority": 2, "higher_is_better": False},
    }
    return {"value": value, "cmp_direction": {}, "if_goals_met": False}


def footprint(folder: Path, accelerator: str, latencies: Sequence[float]) -> Footprint:
    """Return a footprint as Olive leaves it: an input model, its conversion, and a tuned model per latency."""
    model = folder / accelerator / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(accelerator.encode())
    config = {"model_path": str(model)}
    document: dict[str, Any] = {
        "input": {"model_config": None, "metrics": measured(0.98, 10.0), "parent_model_id": None, "from_pass": None},
        "converted": {
            "model_config": {"type": "onnxmodel", "config": config}, "metrics": None, "parent_model_id": "input",
            "from_pass": "onnxconversion", "pass_run_config": {"target_opset": 17}, "start_time": 1.0, "end_time": 3.0,
        },
    }  # fmt: skip
    for index, latency in enumerate(latencies):
        settings = {
            "execution_provider": [ACCELERATORS[accelerator]],
            "provider_options": [{}],
            "io_bind": False,
            "session_options": {"execution_mode": 0, "intra_op_num_threads": index + 1},
        }
        document[f"tuned{index}"] = {
            "model_config": {"type": "onnxmodel", "config": {**config, "inference_settings": settings}},
            "metrics": measured(0.98, latency), "parent_model_id": "converted", "from_pass": "ortsessionparamstuning",
            "pass_run_config": {"intra_thread_num_list": index + 1}, "start_time": 3.0, "end_time": 3.5,
        }  # fmt: skip
    return footprints.parse(accelerator, document)


@pytest.fixture(autouse=True)
def drawn_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write charts as their data: plotly is only where the search runs, and there the contract tests draw them."""

    def write(path: Path, drawing: dict[str, Any]) -> None:
        path.write_text(json.dumps(drawing), encoding="utf-8")

    monkeypatch.setattr(charts, "write", write)


@pytest.fixture
def found(tmp_path: Path) -> Found:
    both = {
        "cpu-cpu": footprint(tmp_path / "cache", "cpu-cpu", [5.0, 4.0]),
        "cpu-openvino": footprint(tmp_path / "cache", "cpu-openvino", [3.0, 6.0]),
    }
    return Found(tuple(both), both, {"cpu-openvino": ("a pass failed",)}, 12.0)


def judge(found: Found, goals: dict[str, Goal] | None = None) -> dict[str, list[Candidate]]:
    return {name: footprints.candidates(one, goals or {}) for name, one in found.footprints.items()}


def best_first(found: Found, count: int = 1) -> list[Candidate]:
    return footprints.ranked(one for some in judge(found).values() for one in footprints.chosen(some, count))


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_package(tmp_path: Path, found: Found) -> None:
    wheel = tmp_path / "onnxruntime-1.whl"
    wheel.write_bytes(b"wheel")
    outputs = tmp_path / "outputs"
    packaged = publish.artifacts(outputs, found.footprints, judge(found), best_first(found, 2), MS, wheel)
    assert [entry.name for entry in packaged] == [
        "cpu-openvino_BestCandidateModel_1",
        "cpu-cpu_BestCandidateModel_1",
        "cpu-cpu_BestCandidateModel_2",
        "cpu-openvino_BestCandidateModel_2",
    ]
    root = outputs / "OutputModels"
    with zipfile.ZipFile(outputs / "OutputModels.zip") as archive:
        assert set(archive.namelist()) == {
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
        }
        assert archive.testzip() is None
    ranking = load(root / "models_rank.json")
    assert [entry["rank"] for entry in ranking] == [1, 2, 3, 4]
    for entry, one in zip(ranking, packaged, strict=True):
        model = root / entry["model_config"]["config"]["model_path"]
        assert model == one.model
        assert model.read_bytes() == one.candidate.accelerator.encode()
        assert load(one.folder / "model_info.json") == entry
        assert load(one.folder / "metrics.json")["input_model_metrics"]["latency"]["value"] == 10.0
        history = load(one.folder / "configurations.json")
        assert list(history) == [
            "input", "0_onnxconversion-converted", f"1_ortsessionparamstuning-{one.candidate.node.model_id}",
        ]  # fmt: skip
        assert history["0_onnxconversion-converted"] == {"target_opset": 17}
    assert (root / "ONNXRuntimePackages" / wheel.name).read_bytes() == b"wheel"
    assert {path.parent.name for path in (root / "SampleCode").rglob("code_sample.*")} == {"python", "cpp", "cs"}


def test_footprints_are_written_with_our_judgement(tmp_path: Path, found: Found) -> None:
    goals = {"latency": Goal("threshold", 4.5)}
    publish.artifacts(tmp_path / "o", found.footprints, judge(found, goals), best_first(found), MS, None)
    whole = load(tmp_path / "o" / "cpu-cpu_footprints.json")
    assert set(whole) == {"input", "converted", "tuned0", "tuned1"}
    assert [whole[name]["metrics"]["if_goals_met"] for name in ("tuned0", "tuned1")] == [False, True]
    frontier = load(tmp_path / "o" / "cpu-cpu_pareto_frontier_footprints.json")
    assert set(frontier) == {"tuned1"}
    assert frontier["tuned1"]["is_pareto_frontier"] is True


def test_named_outputs(tmp_path: Path, found: Found) -> None:
    packaged = publish.artifacts(tmp_path / "o", found.footprints, judge(found), best_first(found), MS, None)
    publish.models(tmp_path / "m", packaged)
    publish.parameters(tmp_path / "p", packaged, found.footprints)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "model.onnx", "cpu-cpu_BestCandidateModel_1_model.onnx", "cpu-openvino_BestCandidateModel_1_model.onnx",
    }  # fmt: skip
    document = load(tmp_path / "p" / "optimized_parameters.json")
    validate(document, "optimized_parameters", "p")
    assert document["accelerator"] == "cpu-openvino"
    assert document["execution_provider"] == [["OpenVINOExecutionProvider", {}]]
    assert document["model_sha256"] == hashlib.sha256((tmp_path / "m" / "model.onnx").read_bytes()).hexdigest()
    assert document["metrics"]["latency"] == {
        "value": 3.0, "input_model_value": 10.0, "priority": 2, "higher_is_better": False,
    }  # fmt: skip
    assert optimized_parameters.read(tmp_path / "p")["session_options"]["intra_op_num_threads"] == 1


def with_more(found: Footprint, types: dict[str, str], metrics: dict[str, Any], options: dict[str, Any]) -> Footprint:
    """Return the footprint with more metrics of each measured model, and more session options of the tuned ones."""
    document = json.loads(json.dumps({name: node.document for name, node in found.nodes.items()}))
    for node in document.values():
        if node["metrics"]:
            node["metrics"]["value"] |= metrics
        settings = ((node["model_config"] or {}).get("config") or {}).get("inference_settings")
        if settings:
            settings["session_options"] |= options
    return footprints.parse(found.accelerator, document, types)


def test_what_is_no_number_is_in_no_output(tmp_path: Path, found: Found) -> None:
    nan = {"drift": {"value": float("nan"), "priority": -1, "higher_is_better": False}}
    alone = {"cpu-cpu": with_more(found.footprints["cpu-cpu"], {}, nan, {})}
    judged = {"cpu-cpu": footprints.candidates(alone["cpu-cpu"], {})}
    packaged = publish.artifacts(tmp_path / "o", alone, judged, footprints.chosen(judged["cpu-cpu"], 1), MS, None)
    publish.parameters(tmp_path / "p", packaged, alone)

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for path in [*(tmp_path / "o").rglob("*.json"), *(tmp_path / "p").iterdir()]:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)
    assert set(load(tmp_path / "p" / "optimized_parameters.json")["metrics"]) == {"accuracy", "latency"}
    assert set(load(packaged[0].folder / "metrics.json")["candidate_model_metrics"]) == {"accuracy", "latency"}
    assert load(tmp_path / "o" / "cpu-cpu_footprints.json")["tuned0"]["metrics"]["value"]["drift"]["value"] is None


def test_the_outputs_tell_the_metrics_types(tmp_path: Path, found: Found) -> None:
    alone = {"cpu-cpu": with_more(found.footprints["cpu-cpu"], {"latency": "latency"}, {}, {})}
    judged = {"cpu-cpu": footprints.candidates(alone["cpu-cpu"], {})}
    packaged = publish.artifacts(tmp_path / "o", alone, judged, footprints.chosen(judged["cpu-cpu"], 1), MS, None)
    publish.parameters(tmp_path / "p", packaged, alone)
    document = load(tmp_path / "p" / "optimized_parameters.json")
    validate(document, "optimized_parameters", "p")
    for metrics in (document["metrics"], load(packaged[0].folder / "metrics.json")["candidate_model_metrics"]):
        assert metrics["latency"]["type"] == "latency" and "type" not in metrics["accuracy"]


def test_session_options_that_no_deployment_takes_stay_in_the_package(
    tmp_path: Path, found: Found, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"enable_mem_pattern": False, "log_severity_level": 2}
    alone = {"cpu-cpu": with_more(found.footprints["cpu-cpu"], {}, {}, own)}
    judged = {"cpu-cpu": footprints.candidates(alone["cpu-cpu"], {})}
    packaged = publish.artifacts(tmp_path / "o", alone, judged, footprints.chosen(judged["cpu-cpu"], 1), MS, None)
    publish.parameters(tmp_path / "p", packaged, alone)
    assert load(packaged[0].folder / "inference_config.json")["session_options"]["enable_mem_pattern"] is False
    for file in ("optimized_parameters.json", "cpu-cpu_BestCandidateModel_1_inference_config.json"):
        options = optimized_parameters.read(tmp_path / "p" / file)["session_options"]
        assert "enable_mem_pattern" not in options and options["log_severity_level"] == 2
    assert "cannot be given the session options enable_mem_pattern" in caplog.text


def test_what_an_earlier_run_left_is_gone(tmp_path: Path, found: Found) -> None:
    packaged = publish.artifacts(tmp_path / "o", found.footprints, judge(found), best_first(found, 2), MS, None)
    publish.models(tmp_path / "m", packaged)
    publish.parameters(tmp_path / "p", packaged, found.footprints)
    (tmp_path / "m" / "mine.txt").write_text("kept", encoding="utf-8")
    alone = {"cpu-cpu": found.footprints["cpu-cpu"]}
    judged = {"cpu-cpu": judge(found)["cpu-cpu"]}
    packaged = publish.artifacts(tmp_path / "o", alone, judged, footprints.chosen(judged["cpu-cpu"], 1), MS, None)
    publish.models(tmp_path / "m", packaged)
    publish.parameters(tmp_path / "p", packaged, alone)
    assert not [path for folder in "omp" for path in (tmp_path / folder).rglob("*openvino*")]
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "model.onnx", "cpu-cpu_BestCandidateModel_1_model.onnx", "mine.txt",
    }  # fmt: skip
    assert not list((tmp_path / "o").glob(".*"))


def test_an_output_folder_that_cannot_be_written(tmp_path: Path, found: Found) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ToolError, match="cannot be"):
        publish.artifacts(tmp_path / "file" / "o", found.footprints, judge(found), best_first(found), MS, None)


def test_inference_settings_in_every_form() -> None:
    def of(settings: dict[str, Any] | None) -> dict[str, Any]:
        config = {"model_path": "m", **({"inference_settings": settings} if settings else {})}
        document = {"m": {"parent_model_id": "i", "model_config": {"type": "onnxmodel", "config": config}}}
        node = footprints.parse("cpu-openvino", document).nodes["m"]
        return package.inference_config(Candidate("cpu-openvino", node, (), True))

    assert of(None)["execution_provider"] == [["OpenVINOExecutionProvider", {}]]
    named = {"execution_provider": ["A"], "provider_options": [{"x": "1"}]}
    paired = {"execution_provider": [["A", {"x": "1"}]]}
    assert of(named)["execution_provider"] == of(paired)["execution_provider"] == [["A", {"x": "1"}]]
    assert of(paired)["session_options"] == {
        "execution_mode": None, "graph_optimization_level": None, "extra_session_config": None,
        "inter_op_num_threads": None, "intra_op_num_threads": None,
    }  # fmt: skip


def test_the_chart_has_every_candidate(found: Found) -> None:
    goals = {"latency": Goal("threshold", 4.5)}
    drawing = charts.figure("cpu-cpu", judge(found, goals)["cpu-cpu"], MS)
    points, frontier = drawing["data"]
    assert points["x"] == [0.98, 0.98]
    assert points["y"] == [5.0, 4.0]
    assert points["marker"]["symbol"] == ["x", "circle"]
    assert frontier["y"] == [4.0]
    assert drawing["layout"]["xaxis"]["title"]["text"] == "accuracy"
    assert drawing["layout"]["yaxis"]["title"]["text"] == "latency (ms)"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_chart_needs_no_second_metric(found: Found, kept: int) -> None:
    document = {name: dict(node.document) for name, node in found.footprints["cpu-cpu"].nodes.items()}
    for node in document.values():
        if node.get("metrics"):
            values = {name: value for name, value in node["metrics"]["value"].items() if name == "latency" and kept}
            node["metrics"] = {**node["metrics"], "value": values} if values else None
    candidates = footprints.candidates(footprints.parse("cpu-cpu", document), {}, evaluated=bool(kept))
    drawing = charts.figure("cpu-cpu", candidates, MS)
    assert drawing["data"][0]["y"] == ([5.0, 4.0] if kept else [])


def test_a_chart_of_metrics_that_are_only_reported(found: Found) -> None:
    document = {name: dict(node.document) for name, node in found.footprints["cpu-cpu"].nodes.items()}
    for node in document.values():
        if node.get("metrics"):
            values = {name: {**value, "priority": -1} for name, value in node["metrics"]["value"].items()}
            node["metrics"] = {**node["metrics"], "value": values}
    drawing = charts.figure("cpu-cpu", footprints.candidates(footprints.parse("cpu-cpu", document), {}), {})
    assert drawing["data"][0]["y"] == [5.0, 4.0]


def test_the_page_tells_of_candidates_settings_and_times(found: Found) -> None:
    context = search_page.context(found, judge(found), best_first(found), {"latency": Goal("threshold", 4.5)}, {}, MS)
    first = context["rows"][0]
    assert (first["rank"], first["accelerator"], first["is_packaged"]) == (1, "cpu-openvino", True)
    assert first["values"][1] == "3 (3.33 times faster than the input model)"
    assert [one["unit"] for one in context["metrics"]] == ["", "ms"]
    assert [row["settings"] for row in context["rows"][:2]] == [
        ["intra_thread_num_list = 1"], ["intra_thread_num_list = 2"],
    ]  # fmt: skip
    assert {(one["what"], one["value"], one["values"][1]) for one in context["settings"]} == {
        ("accelerator", "cpu-cpu", "4 / 4.5"),
        ("accelerator", "cpu-openvino", "3 / 4.5"),
        ("ortsessionparamstuning intra_thread_num_list", "1", "3 / 4"),
        ("ortsessionparamstuning intra_thread_num_list", "2", "4 / 5"),
    }
    assert context["times"] == [
        {"what": "onnxconversion", "count": "2", "seconds": "4.00"},
        {"what": "ortsessionparamstuning", "count": "4", "seconds": "2.00"},
        {"what": "measuring, loading, starting", "count": "", "seconds": "6.00"},
    ]
    assert context["failures"] == ["a pass failed"]
    assert context["nearest"] == ""


def test_the_page_says_worse_where_it_is(tmp_path: Path) -> None:
    alone = {"cpu-cpu": footprint(tmp_path / "cache", "cpu-cpu", [20.0])}
    slow = Found(("cpu-cpu",), alone, {}, 1.0)
    (row,) = search_page.context(slow, judge(slow), [], {}, {}, MS)["rows"]
    assert row["values"][1] == "20 (2 times slower than the input model)"
    (row,) = search_page.context(slow, judge(slow), [], {}, {}, {})["rows"]
    assert row["values"][1] == "20 (2 times worse than the input model)"


def test_the_page_tells_the_nearest_miss(found: Found) -> None:
    goals = {"latency": Goal("threshold", 1.0)}
    context = search_page.context(found, judge(found, goals), [], goals, {"cpu-cpu": "goal not met"}, MS)
    assert context["nearest"] == "cpu-openvino tuned0: latency 3, needed ≤ 1"
    assert context["reasons"] == ["cpu-cpu: goal not met"]
    assert not any(row["is_packaged"] for row in context["rows"])


def test_the_table(tmp_path: Path, found: Found) -> None:
    packaged = publish.artifacts(tmp_path / "o", found.footprints, judge(found), best_first(found), MS, None)
    header, first, second = summary.table(
        packaged, found.footprints, {"latency": Goal("percent-min-improvement", 20)}, MS
    )
    assert header.split() == ["rank", "candidate", "accuracy", "latency", "(ms)"]
    assert first.startswith("1     cpu-openvino_BestCandidateModel_1")
    assert first.endswith("0.98 (input 0.98)  3 (input 10, goal ≤ 8)")
    assert second.startswith("2")


def test_a_footprint_that_is_cut_short_is_a_failure_of_its_accelerator(
    tmp_path: Path, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search's process, here a stand-in, dies while it writes; what another accelerator's search found counts."""
    whole = json.dumps({name: node.document for name, node in found.footprints["cpu-openvino"].nodes.items()})
    (tmp_path / "whole.json").write_text(whole, encoding="utf-8")
    worker = tmp_path / "worker"
    worker.write_text(
        '#!/bin/sh\nmkdir "$3/footprints" && cd "$3/footprints" && printf \'{"a": {"par\' >cpu-cpu.json\n'
        f"cp '{tmp_path}/whole.json' cpu-openvino.json\n"
        'echo \'{"kind": "accelerators", "names": ["cpu-openvino", "cpu-cpu"]}\'\nkill -KILL $$\n',
        encoding="utf-8",
    )
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))
    work = tmp_path / "work"
    work.mkdir()
    result = search.run({"passes": {}}, "config.json", work, None, tmp_path / "cache")
    assert set(result.footprints) == {"cpu-openvino"}
    (said,) = result.failures["cpu-cpu"]
    assert said.startswith("what its search found cannot be read: ")
    assert result.failures[""] == ("the search's process was ended by SIGKILL",)


def test_what_olive_pruned_is_one_line(found: Found) -> None:
    assert summary.pruned(found) == ""
    reasons = {"a": 1, "io_bind needs a GPU": 30, "b": 2, "c": 1, "d": 1}
    told = summary.pruned(dataclasses.replace(found, tried=64, pruned=reasons))
    assert told == (
        "35 of 64 combinations were pruned by Olive: 30 x io_bind needs a GPU; 2 x b; 1 x a; and 2 more reasons"
    )


def test_candidates_of_other_passes_tell_them(tmp_path: Path, found: Found) -> None:
    cpu = found.footprints["cpu-cpu"]
    quantized = dataclasses.replace(
        cpu.nodes["tuned1"], model_id="quantized", parent_id="input", pass_type="onnxquantization", pass_config={"a": 1}
    )
    alone = {"cpu-cpu": dataclasses.replace(cpu, nodes={**cpu.nodes, "quantized": quantized})}
    judged = {"cpu-cpu": footprints.candidates(alone["cpu-cpu"], {})}
    assert search_page.searched_settings(alone, judged) == {
        ("cpu-cpu", "tuned0"): ["onnxconversion + ortsessionparamstuning", "intra_thread_num_list = 1"],
        ("cpu-cpu", "tuned1"): ["onnxconversion + ortsessionparamstuning", "intra_thread_num_list = 2"],
        ("cpu-cpu", "quantized"): ["onnxquantization"],
    }
