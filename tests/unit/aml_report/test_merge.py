"""Merging: the parts' sum is the whole."""

from __future__ import annotations

import copy
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from aml_report.merge import merge
from aml_report.reading import Report, read_reports
from aml_tool_core import InputError
from aml_tool_core.documents import validate
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.report_page import render_report
from aml_tool_core.report_page.curve import decoded


def latencies_us(document: dict[str, Any], key: str = "latency") -> list[int]:
    counts = decoded(document["result"]["histogram"][key], "x").counts
    return [value for value, count in counts for _ in range(count)]


def halves_of(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Deal a run's requests out to two machines that had half its rate each."""
    parts = []
    for index in range(2):
        part = copy.deepcopy(whole)
        result = part["result"]
        for kind in ("latency", "service_time"):
            dealt = latencies_us(whole, kind)[index::2]
            result["histogram"][kind] = Histogram.of((one, 1) for one in dealt).encoded()
            result[f"{kind}_ms"] |= {
                "count": len(dealt), "min": min(dealt) / 1000, "max": max(dealt) / 1000,
                "mean": statistics.fmean(dealt) / 1000, "stdev": statistics.stdev(dealt) / 1000,
            }  # fmt: skip
        result["requests"] = {key: value // 2 for key, value in result["requests"].items()}
        for key in ("requests_per_sec", "succeeded_per_sec"):
            result[key] /= 2
        for one in result["timeline"]:
            one["requests_per_sec"] /= 2
        part["load"] |= {"target_rps": whole["load"]["target_rps"] / 2, "connections": 2}
        parts.append(part)
    return parts


def merged(read: Any, documents: list[dict[str, Any]]) -> dict[str, Any]:
    whole = merge([read(f"machine-{index}.json", one) for index, one in enumerate(documents, 1)])
    validate(whole, "report", "merged")
    return whole


def test_two_halves_equal_the_whole(measured: Any, read: Any) -> None:
    whole = measured(has_endpoint=True, has_usage=True)
    again = merged(read, halves_of(whole))
    for kind in ("latency_ms", "service_time_ms"):
        # The buckets are added, so nothing is lost: not within one bucket, but the very same.
        assert again["result"][kind]["percentiles"] == whole["result"][kind]["percentiles"]
        values = latencies_us(whole, kind.removesuffix("_ms"))
        assert again["result"][kind]["count"] == len(values)
        assert again["result"][kind]["mean"] == pytest.approx(statistics.fmean(values) / 1000, abs=1e-6)
        assert again["result"][kind]["stdev"] == pytest.approx(statistics.stdev(values) / 1000, abs=1e-6)
        assert again["result"][kind]["max"] == max(values) / 1000
    assert again["result"]["histogram"] == whole["result"]["histogram"]
    assert again["load"] == {**whole["load"], "threads": 2}
    assert again["result"]["requests"] == whole["result"]["requests"]
    assert again["result"]["requests_per_sec"] == pytest.approx(whole["result"]["requests_per_sec"])
    assert again["cost"] == pytest.approx(whole["cost"])
    assert again["verdict"]["valid"] is True
    assert again["resource_usage"] == whole["resource_usage"]
    assert [one["requests_per_sec"] for one in again["result"]["timeline"]] == pytest.approx(
        [one["requests_per_sec"] for one in whole["result"]["timeline"]]
    )


def test_percentiles_of_single_seconds_are_left_out_and_said_so(measured: Any, read: Any) -> None:
    again = merged(read, halves_of(measured()))
    assert {one["latency_ms_99"] for one in again["result"]["timeline"]} == {None}
    assert any("percentiles of single seconds cannot be added" in note for note in again["verdict"]["notes"])
    assert "Latency over time" not in render_report(again)


def test_seconds_are_added_up_on_one_clock(measured: Any, read: Any) -> None:
    early, late = halves_of(measured())
    late["started_at"] = "2026-03-14T09:26:56.600Z"  # three seconds later
    again = merged(read, [late, early])
    assert again["started_at"] == early["started_at"]
    rates = {one["t_sec"]: one["requests_per_sec"] for one in again["result"]["timeline"]}
    assert [rates[t] for t in (0, 2, 3, 119, 122)] == [25, 25, 50, 50, 25]


def test_errors_are_added_by_kind_and_status(measured: Any, read: Any) -> None:
    parts = halves_of(measured())
    for part, errors in zip(
        parts,
        (
            {"connect": 1, "read": 2, "write": 0, "timeout": 3, "status": {"429": 5, "500": 1}},
            {"connect": 4, "read": 0, "write": 1, "timeout": 1, "status": {"429": 2, "503": 7}},
        ),
        strict=True,
    ):
        part["result"]["errors"] = errors
    assert merged(read, parts)["result"]["errors"] == {
        "connect": 5, "read": 2, "write": 1, "timeout": 4, "status": {"429": 7, "500": 1, "503": 7},
    }  # fmt: skip


def test_too_few_requests_apart_can_be_enough_together(measured: Any, read: Any) -> None:
    parts = halves_of(measured(duration_sec=8))  # 400 requests, 200 each, and p99 needs 299
    for part in parts:
        few = "200 requests were measured, too few for p99, which needs 299; let the run last longer"
        part["verdict"] = {"valid": False, "reasons": [few], "notes": []}
    assert merged(read, parts)["verdict"]["valid"] is True


def test_a_spoiled_part_spoils_the_whole(measured: Any, read: Any) -> None:
    starved, told = halves_of(measured()), halves_of(measured())
    starved[1]["result"]["generator"]["cpu_percent_of_threads"] = 99.0
    (reason,) = merged(read, starved)["verdict"]["reasons"]
    assert "load generator" in reason and "99 %" in reason
    told[1]["verdict"] = {"valid": False, "reasons": ["the run was stopped early"], "notes": []}
    assert merged(read, told)["verdict"]["reasons"] == ["machine-2.json: the run was stopped early"]


def test_late_sends_of_one_machine_show_in_the_whole(measured: Any, read: Any) -> None:
    parts = halves_of(measured())
    parts[0]["result"]["schedule"] = {"timely_sends_percent": 99.0, "late": 30, "missed": 0, "max_delay_ms": 12.0}
    again = merged(read, parts)
    assert again["result"]["schedule"] == {
        "timely_sends_percent": 99.5, "late": 30, "missed": 0, "max_delay_ms": 12.0,
    }  # fmt: skip
    assert any("99.50 % of the requests were sent on time" in reason for reason in again["verdict"]["reasons"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one["provenance"].update(payload_sha256="0" * 64), "hashes of configuration, payload and model"),
        (lambda one: one["target"].update(scoring_uri="http://127.0.0.1:1/"), "target differ"),
        (lambda one: one["tool"]["engine"].update(name="wrk"), "engine differ"),
        (lambda one: one.update(started_at="2026-03-14T09:28:54Z"), "began 120 s after"),
    ],
)
def test_what_is_no_part_of_the_run_is_refused(measured: Any, read: Any, change: Any, says: str) -> None:
    parts = halves_of(measured())
    change(parts[1])
    with pytest.raises(InputError) as refusal:
        merged(read, parts)
    assert "machine-2.json" in str(refusal.value) and says in str(refusal.value)


def test_a_sweep_is_refused_and_not_cut_down_to_one_run(measured: Any) -> None:
    """The reports are valid as far as merge looks: what is refused is never read further."""
    parts = halves_of(measured())
    parts[1]["runs"] = [{"number": 1}, {"number": 2}]
    histogram = Histogram.of([(1, 1)])
    reports = [Report(f"{n}", Path(f"machine-{n}.json"), part, histogram, None) for n, part in enumerate(parts, 1)]
    with pytest.raises(InputError, match=r"machine-2\.json: /runs: 2 runs of a sweep or a search; merge takes"):
        merge(reports)


def test_an_sla_is_judged_on_the_whole(measured: Any, read: Any) -> None:
    whole = measured(sla=(("latency_ms_99", 60.0), ("requests_per_sec", 49.0), ("latency_ms_50", 1.0)))
    parts = halves_of(whole)
    for part in parts:  # half the rate misses what the whole reaches
        part["sla"]["met"], part["sla"]["criteria"][1] = (
            False,
            {**part["sla"]["criteria"][1], "value": 25, "met": False},
        )
    assert merged(read, parts)["sla"] == whole["sla"]


def test_machines_that_had_too_few_requests_for_a_percentile_may_have_enough_together(measured: Any, read: Any) -> None:
    whole = measured(rate=40.0, target_rps=40.0, sla=(("latency_ms_99.9", 500.0), ("latency_ms_99.99", 500.0)))
    parts = halves_of(whole)
    for part in parts:
        few = "2400 requests were measured, too few for latency_ms_99.99, which needs 29956; let the run last longer"
        part["verdict"] |= {"valid": False, "reasons": [few]}
        for criterion in part["sla"]["criteria"]:
            criterion["certified"] = False
    again = merged(read, parts)
    assert again["sla"] == whole["sla"]
    assert [one["certified"] for one in again["sla"]["criteria"]] == [True, False]
    assert again["verdict"]["reasons"] == [
        "4800 requests were measured, too few for latency_ms_99.99, which needs 29956; let the run last longer"
    ]


def test_a_price_is_computed_from_the_whole(measured: Any, read: Any) -> None:
    whole = measured(has_endpoint=True, price=0.34)
    assert merged(read, halves_of(whole))["cost"] == pytest.approx(whole["cost"])


def test_repeated_runs_are_refused(measured: Any, read: Any) -> None:
    with pytest.raises(InputError, match=r"machine-1.json: /result/repeats: "):
        merge([read(f"machine-{index}.json", measured(repeat=2)) for index in (1, 2)])


def test_a_histogram_that_does_not_fit_its_report_is_refused(measured: Any, written: Any) -> None:
    document = measured()
    document["result"]["latency_ms"]["count"] += 1
    with pytest.raises(InputError, match=r"/result/histogram/latency: holds 6000 requests, but .* says 6001"):
        read_reports([written("a.json", document)])


def test_files_of_one_name_are_told_apart(measured: Any, written: Any, tmp_path: Any) -> None:
    paths = [written(f"{folder}/report.json", measured()) for folder in ("one", "two")]
    assert [report.name for report in read_reports(paths)] == ["one/report.json", "two/report.json"]
    with pytest.raises(InputError, match="given twice"):
        read_reports([paths[0], tmp_path / "one" / ".." / "one" / "report.json"])


def test_the_whole_of_three(measured: Any, read: Any) -> None:
    parts = [measured(seed=seed) for seed in (1, 2, 3)]
    again = merged(read, parts)
    assert again["load"]["target_rps"] == 150
    assert again["result"]["latency_ms"]["count"] == 18_000
    assert math.isclose(again["result"]["requests_per_sec"], 150)


def test_minutes_that_are_only_touched_do_not_stand_for_whole_ones(measured: Any, read: Any) -> None:
    whole = measured(has_endpoint=True, has_usage=True, sla=(("cpu_percent_max", 100),))
    whole["resource_usage_whole_minutes"] = True
    touched = copy.deepcopy(whole)
    touched["resource_usage_whole_minutes"] = False
    for metric in touched["resource_usage"].values():
        metric["series"] *= 2
    again = merged(read, [touched, whole])
    assert again["resource_usage"] == whole["resource_usage"]
    assert again["resource_usage_whole_minutes"] is True
    assert again["sla"]["met"]
    again = merged(read, [touched, touched])
    assert again["resource_usage_whole_minutes"] is False
    why = "the run covers no whole clock minute, so other traffic is in the minutes' figures"
    assert again["sla"] == {
        "met": False,
        "criteria": [{"metric": "cpu_percent_max", "limit": 100, "value": None, "met": False, "reason": why}],
    }


def test_the_whole_keeps_the_schedule_of_its_parts(measured: Any, read: Any) -> None:
    parts = halves_of(measured(median_ms=90.0))
    for part in parts:
        part["load"] |= {"schedule": "clock", "connections": 1}
        for key in ("requests_per_sec", "succeeded_per_sec"):
            part["result"][key] /= 2
        part["result"]["requests"]["completed"] //= 2
    whole = merged(read, parts)
    assert whole["load"]["schedule"] == "clock"
    assert whole["verdict"]["reasons"][0].startswith("2 clients carry at most ")
