"""Several sizes in one table: from report.json and device_usage.json to lines and to CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aml_report.command import execute
from aml_report.devices import MEGABYTE, as_csv, measured, read_csv, read_folder, size_text
from aml_tool_core import InputError
from aml_tool_core.outputs import write_json
from azureml_local.models.vm_sizes import find_vm_size
from azureml_local.runtime.cgroups import Group
from azureml_local.runtime.confinement import Confinement, Machine

DATA = Path(__file__).parents[2] / "data" / "valid"
Change = Callable[[dict[str, Any]], None]


def document(kind: str, name: str) -> dict[str, Any]:
    loaded = json.loads((DATA / kind / f"{name}.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture
def report() -> dict[str, Any]:
    return document("report", "open_loop_of_a_deployment")


@pytest.fixture
def usage(report: dict[str, Any]) -> dict[str, Any]:
    return {**document("device_usage", "a_size_of_azure"), "started_at": report["started_at"]}


def test_a_row_is_put_together_from_both_files(report: dict[str, Any], usage: dict[str, Any]) -> None:
    row = measured("folder", report, usage).row
    assert (row.model, row.size, row.instances, row.vcpus) == ("digits", "Standard_F2s_v2", 1, 2)
    assert (row.cpu_average_percent, row.cpu_peak_percent) == (81.5, 97.25)
    assert row.memory_limit_bytes == 4 * 1024**3
    assert (row.memory_average_bytes, row.memory_peak_bytes) == (171.8 * MEGABYTE, 193.3 * MEGABYTE)
    assert (row.network_in_bytes, row.network_out_bytes) == (18.5 * MEGABYTE, 6.25 * MEGABYTE)
    assert (row.block_read_bytes, row.block_written_bytes) == (0, 0.5 * MEGABYTE)
    rate = report["result"]["succeeded_per_sec"]
    assert row.core_hours_per_million_requests == pytest.approx(2 * 1e6 / (rate * 3600))
    assert row.cpu_per_request_ms == pytest.approx(1000 * 0.815 * 2 / rate)
    assert row.latency_p99_ms == report["result"]["latency_ms"]["percentiles"]["99"]["value"]


def test_azure_gives_percentages_alone(report: dict[str, Any], usage: dict[str, Any]) -> None:
    usage["metrics"] = {"CpuMemoryUtilizationPercentage": {"unit": "Percent", "average": 4.0, "maximum": 4.5}}
    found = measured("folder", report, usage)
    assert found.row.memory_average_bytes == pytest.approx(0.04 * 4 * 1024**3)
    assert found.row.network_in_bytes is None and found.row.cpu_average_percent is None


def test_a_size_that_the_machine_lacks_counts_with_what_it_got(report: dict[str, Any], usage: dict[str, Any]) -> None:
    whole = measured("folder", report, usage).row.core_hours_per_million_requests
    usage["metrics"]["CpuCapacityMillicores"]["maximum"] = 1000
    found = measured("folder", report, usage)
    assert found.row.vcpus == 1 and whole is not None
    assert found.row.core_hours_per_million_requests == pytest.approx(whole / 2)
    assert found.notes[0] == "got 1 of its 2 vCPUs: the machine has no more"


def test_without_usage_the_report_says_what_it_can(report: dict[str, Any]) -> None:
    found = measured("folder", report, None)
    assert found.row.model == "folder"
    assert found.row.cpu_average_percent == report["resource_usage"]["CpuUtilizationPercentage"]["average"]
    report["resource_usage"] = None
    assert "nothing is known" in measured("folder", report, None).notes[-1]


def test_figures_of_more_than_the_load_are_marked(report: dict[str, Any], usage: dict[str, Any]) -> None:
    assert not any("of more than the load" in note for note in measured("folder", report, usage).notes)
    usage["started_at"] = "2020-01-01T00:00:00Z"
    assert "of more than the load" in measured("folder", report, usage).notes[0]


@pytest.mark.parametrize("parent", [None, Group(1, {}), Group(2, {})], ids=["without", "v1", "v2"])
def test_a_size_that_was_held_without_control_groups_is_marked(
    report: dict[str, Any], usage: dict[str, Any], parent: Group | None
) -> None:
    """In the words that the control plane uses."""
    confinement = Confinement(Machine((0, 1), 2.0, 8 * 1024**3), parent)
    size = find_vm_size("Standard_F2s_v2")
    assert size is not None
    usage["held_by"] = str(confinement.grant(size, 1))
    expected = f"held to its size less strictly than by control groups: 2 vCPU, 4 GiB ({confinement.how})"
    found = measured("folder", report, usage).notes
    assert [note for note in found if "held to" in note] == ([] if parent else [expected])


def test_a_run_that_is_not_valid_says_so(report: dict[str, Any], usage: dict[str, Any]) -> None:
    report["verdict"] = {"valid": False, "reasons": ["the generator was late"]}
    assert measured("folder", report, usage).notes == ("NOT VALID: the generator was late",)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (256 * 1024**2, "256 MiB"), (7 * 1024**3, "7 GiB")],
)
def test_sizes_are_written_in_binary_units(size_bytes: float | None, text: str) -> None:
    assert size_text(size_bytes) == text


def test_the_command_prints_the_table_and_writes_what_fit_reads(
    tmp_path: Path, report: dict[str, Any], usage: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, model in (("one", "small"), ("two", "large")):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "report.json", report, "report")
        write_json(tmp_path / name / "device_usage.json", {**usage, "model": model}, "device_usage")
    out = tmp_path / "devices.csv"
    execute(["devices", str(tmp_path / "one"), str(tmp_path / "two"), "--csv", str(out)])
    head, *rows = capsys.readouterr().out.splitlines()
    for column in (
        "CPU avg",
        "CPU peak",
        "memory avg / limit",
        "memory peak",
        "network in / out",
        "block read / written",
    ):
        assert column in head
    for column in ("time", "requests/s", "p50", "p99", "core-h per million"):
        assert column in head
    assert [row.split()[0] for row in rows[:2]] == ["small", "large"]
    assert "163.8 MiB / 4 GiB" in rows[0]
    written = list(csv.DictReader(out.open()))
    assert written[0]["memory_limit_bytes"] == str(float(4 * 1024**3))
    value = report["result"]["latency_ms"]["percentiles"]["50"]["value"]
    assert read_csv(out, "latency_p50_ms", None) == {"small": value, "large": value}
    assert read_csv(out, "latency_p50_ms", "Standard_F4s_v2") == {}


def test_figures_that_are_not_known_are_left_empty(report: dict[str, Any], tmp_path: Path) -> None:
    report["resource_usage"] = None
    path = tmp_path / "devices.csv"
    path.write_text(as_csv([measured("folder", report, None)]))
    assert next(csv.DictReader(path.open()))["network_in_bytes"] == ""
    assert read_csv(path, "network_in_bytes", None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column model; there are none"),
        ("model,p50\na,1\n", "no column latency_p50_ms; there are model, p50"),
        ("model,latency_p50_ms\na,1\na,2\n", "line 3: a stands there twice"),
        ("model,latency_p50_ms\na,fast\n", "line 2: latency_p50_ms: 'fast' is not a number"),
        ("model,latency_p50_ms\na,1\nb,nan\n", "line 3: latency_p50_ms: 'nan' is not a number"),
        ("model,latency_p50_ms\na,-inf\n", "line 2: latency_p50_ms: '-inf' is not a number"),
        ("model,latency_p50_ms\na,1e200\n", "line 2: latency_p50_ms: '1e200' is not a number below 1e+30"),
        ("model,latency_p50_ms\na,1\n" + 140_000 * "x" + ",3\n", "line 3: not CSV: field larger than"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "local.csv"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_csv(path, "latency_p50_ms", None)
    assert str(refused.value).startswith(f"{path}: ") and message in str(refused.value)


def test_a_folder_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"report\.json: no such file"):
        read_folder(tmp_path)
