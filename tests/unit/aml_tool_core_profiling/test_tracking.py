"""What a job's metrics are made from."""

from __future__ import annotations

from typing import Any

from aml_tool_core.profiling.tracking import figures


def test_the_cpu_of_minutes_that_are_only_touched_is_not_logged(measured: Any) -> None:
    document = measured(has_endpoint=True, has_usage=True)
    assert document["resource_usage_whole_minutes"] is True
    maximum = document["resource_usage"]["CpuUtilizationPercentage"]["maximum"]
    assert figures(document)["cpu_percent_max"] == maximum
    assert "cpu_percent_max" not in figures({**document, "resource_usage_whole_minutes": False})
