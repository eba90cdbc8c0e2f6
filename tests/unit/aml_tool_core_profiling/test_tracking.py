"""What a job's metrics are made from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core.profiling.tracking import RUN_VARIABLE, URI_VARIABLE, figures, log_metrics


def test_the_cpu_of_minutes_that_are_only_touched_is_not_logged(measured: Any) -> None:
    document = measured(has_endpoint=True, has_usage=True)
    assert document["resource_usage_whole_minutes"] is True
    maximum = document["resource_usage"]["CpuUtilizationPercentage"]["maximum"]
    assert figures(document)["cpu_percent_max"] == maximum
    assert "cpu_percent_max" not in figures({**document, "resource_usage_whole_minutes": False})


def test_what_a_search_found_is_among_the_figures(measured: Any) -> None:
    answer = {"value": 700.0, "interval": [690.0, None], "confirmed": True, "run": 5}
    found = figures({**measured(), "search": {"answer": answer}})
    assert {name: value for name, value in found.items() if name.startswith("search_")} == {
        "search_answer": 700.0, "search_answer_low": 690.0, "search_confirmed": 1.0,
    }  # fmt: skip
    answer |= {"interval": [690.0, 740.0], "confirmed": False}
    found = figures({**measured(), "search": {"answer": answer}})
    assert (found["search_answer_high"], found["search_confirmed"]) == (740.0, 0.0)
    nothing = figures({**measured(), "search": {"answer": None}})
    assert nothing["search_confirmed"] == 0.0 and "search_answer" not in nothing
    assert not [name for name in figures(measured()) if name.startswith("search_")]


def test_without_room_for_a_temporary_file_the_figures_are_missed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(URI_VARIABLE, "http://127.0.0.1:1")
    monkeypatch.setenv(RUN_VARIABLE, "a-run")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    log_metrics({"requests_sent": 1.0})
    assert "the figures are not on the Metrics tab, but in the report: the temporary folder" in caplog.text


def test_shares_of_no_requests_are_not_logged_and_none_is_above_all_of_them(measured: Any) -> None:
    document = measured()
    result = document["result"]
    nothing = {**result, "requests": {"sent": 0, "completed": 0, "succeeded": 0}}
    assert not {"error_percent", "refused_percent"} & set(figures({**document, "result": nothing}))
    refused_connections = {**nothing, "errors": {**result["errors"], "connect": 48}}
    assert figures({**document, "result": refused_connections})["error_percent"] == 100
