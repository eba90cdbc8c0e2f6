"""The page's parts: numbers as text, axes, the thinned timeline, the percentile curve; and its size."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys
import zlib
from typing import Any

import pytest
from aml_tool_core import InputError
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.report_page import render_report
from aml_tool_core.report_page.curve import by_percentile, decoded, percent_label, percent_ticks
from aml_tool_core.report_page.figures import at, escaped, figure, flattened, number
from aml_tool_core.report_page.scales import linear_ticks, log_ticks, time_label, time_ticks
from aml_tool_core.report_page.time_charts import resource_usage, timeline
from aml_tool_core.report_page.timeline import seconds_between, thinned
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12, "12"),
        (1234567, "1,234,567"),
        (50.0, "50"),
        (41.23456, "41.23"),
        (0.0412345, "0.04123"),
        (0.5, "0.5"),
        (1234.56, "1,235"),
        (-3.14159, "-3.142"),
        (1.5e-9, "1.500e-09"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=1e-3, max_value=1e12))
def test_numbers_keep_four_digits(value: float) -> None:
    assert math.isclose(float(number(value).replace(",", "")), value, rel_tol=5e-4)


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_linear_ticks_enclose(top: float) -> None:
    ticks = linear_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] >= top * (1 - 1e-6)
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))


@given(st.floats(min_value=1e-3, max_value=1e7), st.floats(min_value=1, max_value=1e6))
def test_log_ticks_enclose(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert ticks[0] <= low * (1 + 1e-5)
    assert ticks[-1] >= low * ratio * (1 - 1e-5)
    assert ticks == sorted(set(ticks)) and len(ticks) >= 2


@given(st.floats(min_value=1, max_value=1e6))
def test_time_ticks_stay_on_the_axis(end_sec: float) -> None:
    ticks = time_ticks(end_sec)
    assert ticks[0] == 0 and ticks[-1] <= end_sec
    assert len(ticks) <= 8


@pytest.mark.parametrize(
    ("t_sec", "label"), [(0, "0s"), (40, "40s"), (60, "1m"), (90, "1m30s"), (3600, "1h"), (3900, "1h05m")]
)
def test_time_labels(t_sec: float, label: str) -> None:
    assert time_label(t_sec) == label


def second(t_sec: int, rate: float, p50: float | None, p99: float | None, errors: int) -> dict[str, Any]:
    return {"t_sec": t_sec, "requests_per_sec": rate, "latency_ms_50": p50, "latency_ms_99": p99, "errors": errors}


def test_a_long_timeline_is_thinned_without_hiding_the_worst() -> None:
    seconds = [second(t, 10 + t % 2, 5.0, 900.0 if t == 777 else 8.0, int(t == 1234)) for t in range(3600)]
    moments, step = thinned(seconds, most=300)
    assert step == 12 and len(moments) == 300
    assert max(one.latency_ms_99 or 0 for one in moments) == 900
    assert sum(one.errors for one in moments) == 1
    assert sum(one.requests_per_sec for one in moments) / 300 == pytest.approx(10.5)


def test_a_short_timeline_stands_as_it_is() -> None:
    moments, step = thinned([second(0, 10, None, None, 0), second(1, 12, 3.0, 4.0, 1)])
    assert step == 1
    assert [(one.t_sec, one.requests_per_sec, one.latency_ms_50) for one in moments] == [(0, 10, None), (1, 12, 3.0)]


def test_times_of_a_report() -> None:
    assert seconds_between("2026-03-14T09:26:53.500Z", "2026-03-14T09:28:00Z") == 66.5
    assert seconds_between("2026-03-14T09:26:53.5Z", "2026-03-14T09:26:54.12345678Z") == pytest.approx(0.623457)


def test_pointers() -> None:
    document: dict[str, Any] = {"a/b": [{"c~d": 1.5}], "e": None, "f": {}}
    assert at(document, f"/{escaped('a/b')}/0/{escaped('c~d')}") == 1.5
    assert at(document, "/a~1b/1") is None and at(document, "/e/x") is None
    found = figure(document, "/a~1b/0/c~0d", "ms")
    assert found is not None and found.text == "1.5\N{NO-BREAK SPACE}ms"
    assert figure(document, "/e") is None and figure(document, "/f") is None
    assert [(name, one.value, one.pointer) for name, one in flattened(document, "")] == [
        ("a/b 0 c~d", 1.5, "/a~1b/0/c~0d")
    ]


counts = st.dictionaries(st.integers(1, 5_000_000), st.integers(1, 1000), min_size=1, max_size=200)


@given(counts)
def test_decoding_gives_back_the_histogram(pairs: dict[int, int]) -> None:
    histogram = Histogram.of(pairs.items())
    again = decoded(histogram.encoded(), "x")
    assert again.total == histogram.total
    assert again.encoded() == histogram.encoded()
    assert [again.percentile(p) for p in (50, 99, 99.9)] == [histogram.percentile(p) for p in (50, 99, 99.9)]


@given(counts)
def test_the_curve_rises_from_the_smallest_to_the_largest(pairs: dict[int, int]) -> None:
    histogram = Histogram.of(pairs.items())
    points = by_percentile(histogram)
    assert points[0][0] == 1
    assert points == sorted(points)
    assert points[-1] == (2 * histogram.total, histogram.counts[-1][0] / 1000)


def test_the_curve_goes_through_the_percentiles() -> None:
    histogram = Histogram.of((value, 1) for value in range(1000, 101_000))
    curve = by_percentile(histogram)
    for percent in (50.0, 90.0, 99.0, 99.9):
        x = 1 / (1 - percent / 100)
        reached = next(y for place, y in curve if place >= x)
        assert reached == pytest.approx(histogram.percentile(percent).value_us / 1000, rel=0.06)


def test_the_percentile_axis() -> None:
    assert [percent_label(x).replace("\N{NO-BREAK SPACE}", " ") for x in percent_ticks(20_000)] == [
        "0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "!!!!",
        base64.b64encode(b"nothing of the kind").decode(),
        base64.b64encode(b"\x1c\x84\x93\x14\x00\x00\x00\x10" + b"\0" * 16).decode(),
        base64.b64encode(b"\x1c\x84\x93\x14\x00\x00\x00\x09" + zlib.compress(b"\0")).decode(),
        Histogram.of([(5, 3)]).encoded()[:-8],
    ],
)
def test_what_is_no_histogram_is_bad_input(text: str) -> None:
    with pytest.raises(InputError, match=r"^report\.json: not an HdrHistogram"):
        decoded(text, "report.json")


@pytest.mark.parametrize("first", ["aml_tool_core.report_page", "aml_tool_core.profiling"])
def test_the_page_and_the_profilers_can_be_imported_in_either_order(first: str) -> None:
    code = f"import {first}; import aml_tool_core.profiling, aml_tool_core.report_page as p; p.render_report"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_hour_at_full_rate_stays_small(measured: Any) -> None:
    document = measured(duration_sec=3600, rate=100.0, target_rps=100.0, has_usage=True)
    page = render_report(document)
    assert len(page.encode()) < 500_000
    assert "Each point stands for 12 seconds" in page


def test_the_same_report_gives_the_same_page(measured: Any) -> None:
    document = measured(has_usage=True)
    before = json.dumps(document)
    assert render_report(document) == render_report(json.loads(before))
    assert json.dumps(document) == before, "rendering changed the report"


def test_nothing_answered(measured: Any) -> None:
    document = measured()
    del document["result"]["latency_ms"], document["result"]["service_time_ms"]
    document["result"]["histogram"] = {
        "encoding": document["result"]["histogram"]["encoding"], "unit": "us", "latency": Histogram(()).encoded(),
    }  # fmt: skip
    document["result"]["timeline"] = []
    page = render_report(document)
    assert "no request was answered" in page
    assert "No request was answered, so there is no latency." in page


def test_an_engine_that_tells_no_status_codes(measured: Any) -> None:
    document = measured(target_rps=None)
    del document["result"]["errors"]["status"]
    document["result"]["errors"]["unknown_status"] = 7
    page = render_report(document)
    assert "This engine does not tell status codes apart." in page
    assert "in a closed loop a request is sent when it is due" in page


def test_repeated_runs_are_listed_with_their_spread(measured: Any) -> None:
    document = measured(repeat=3)
    page = render_report(document)
    assert page.index("Repeated runs") < page.index('id="latency"')
    places = [f"/result/repeats/{index}/latency_ms/percentiles/99/value" for index in range(3)]
    places += [f"/result/spread/latency_ms_99/{key}" for key in ("minimum", "median", "maximum")]
    for place in places:
        assert f'value="{at(document, place)}" data-pointer="{place}"' in page


def test_every_cost_has_its_tile(measured: Any) -> None:
    page = render_report(measured(has_endpoint=True, price=0.34))
    assert "<dt>Price per million requests</dt>" in page and "<dt>Core-hours per million requests</dt>" in page


def test_errors_that_the_timeline_does_not_place_are_not_hidden(measured: Any) -> None:
    document = measured(status=((503, 500), (429, 20)))
    assert "the engine places no more" not in render_report(document)
    for second in document["result"]["timeline"]:
        second["errors"] = 0
    assert "Of 520 requests that went wrong, the timeline has 0" in render_report(document)


def with_minutes(document: dict[str, Any], *minutes: str) -> dict[str, Any]:
    """Give a report, which began at 09:26:53.589, the samples of some minutes."""
    for metric in document["resource_usage"].values():
        metric["series"] = [
            {"time": f"2026-03-14T{minute}:00Z", "average": 50.0, "maximum": 60.0, "minimum": 40.0}
            for minute in minutes
        ]
    return document


def places(document: dict[str, Any]) -> list[float]:
    """Return where on the time axis the samples of a report are drawn; the axis is that of the timeline."""
    ends = {drawing.chart.x_end for part in (timeline, resource_usage) for drawing in part(document).drawings}
    assert len(ends) == 1
    drawing = resource_usage(document).drawings[0]
    return [x for x, _ in drawing.chart.series[0].points]


def test_the_minutes_that_a_short_run_touches_are_drawn_within_it(measured: Any) -> None:
    document = with_minutes(measured(duration_sec=30, has_usage=True), "09:26", "09:27")
    document["resource_usage_whole_minutes"] = False
    section = resource_usage(document)
    assert section.drawings[0].chart.x_end == 30
    assert places(document) == pytest.approx([6.411 / 2, (6.411 + 30) / 2], abs=0.01)
    assert "Of its 2 minutes, 2 reach beyond the run" in section.intro
    assert section.tables[0].caption == "Over the minutes that the run touches"
    rows = section.drawings[0].table.rows
    assert [row[0] for row in rows] == ["09:26", "09:27"]


def test_whole_minutes_are_drawn_in_their_middle(measured: Any) -> None:
    document = with_minutes(measured(duration_sec=180, has_usage=True), "09:27", "09:28")
    assert places(document) == pytest.approx([36.411, 96.411], abs=0.01)
    assert "reach beyond" not in resource_usage(document).intro


def test_a_minute_of_the_warm_up_is_not_on_the_axis(measured: Any) -> None:
    document = with_minutes(measured(duration_sec=60, has_usage=True), "09:27", "09:28")
    document["load"]["warmup_sec"] = 70  # up to 09:28:03.589
    assert places(document) == pytest.approx([(60 - 3.589) / 2], abs=0.01)
    assert "Of its 2 minutes, 2 reach beyond the run" in resource_usage(document).intro


def test_minutes_of_repeated_runs_are_drawn_where_their_run_is(measured: Any) -> None:
    document = with_minutes(measured(duration_sec=60, repeat=3, has_usage=True), "09:27", "09:29")
    document["load"]["warmup_sec"] = 20
    # Behind the first warm-up 09:27:13.6, behind the second 09:28:33.6, behind the third 09:29:53.6.
    assert places(document) == pytest.approx([46.411 / 2, (60 + 26.411 + 126.411) / 2], abs=0.01)
