"""A straight line through a few models, and what it says of others."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from aml_report.command import execute
from aml_report.straight_line import Pair, fit, left_out, predict, ranks, student_quantile
from aml_tool_core import InputError

EXAMPLE = Path(__file__).parents[3] / "job-templates" / "sku-sweep" / "example"
CHECKED = "digits-64x6"

# F. Anscombe, Graphs in Statistical Analysis, The American Statistician 27 (1973), 17-21, data set 1.
ANSCOMBE = {
    10.0: 8.04, 8.0: 6.95, 13.0: 7.58, 9.0: 8.81, 11.0: 8.33, 14.0: 9.96, 6.0: 7.24, 4.0: 4.26, 12.0: 10.84, 7.0: 4.82,
    5.0: 5.68,
}  # fmt: skip


def pairs_of(values: dict[float, float]) -> list[Pair]:
    return [Pair(f"m{number}", local, device) for number, (local, device) in enumerate(values.items())]


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    # Student's table, as in any textbook.
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 3, 3.182), (0.99, 4, 4.604), (0.9, 5, 2.015), (0.95, 23, 2.069)],
)
def test_students_quantile(confidence: float, freedom: int, quantile: float) -> None:
    assert student_quantile(confidence, freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_published_line_and_its_error() -> None:
    line = fit(pairs_of(ANSCOMBE))
    assert (line.intercept, line.slope) == pytest.approx((3.0, 0.5), abs=5e-3)
    assert line.residual_deviation == pytest.approx(math.sqrt(13.75 / 9), abs=5e-3)
    assert line.r_squared == pytest.approx(0.667, abs=2e-3)


def test_two_pairs_have_a_line_and_no_error() -> None:
    line = fit(pairs_of({1.0: 10.0, 3.0: 14.0}))
    assert (line.intercept, line.slope, line.residual_deviation) == (8.0, 2.0, None)
    found = predict(line, 5.0, 0.95)
    assert (found.value, found.low, found.high) == (18.0, None, None)


@pytest.mark.parametrize("values", [{}, {1.0: 2.0}])
def test_fewer_pairs_have_no_line(values: dict[float, float]) -> None:
    with pytest.raises(ValueError, match="two pairs"):
        fit(pairs_of(values))


def test_equal_local_values_have_no_line() -> None:
    with pytest.raises(ValueError, match="all local values are the same"):
        fit([Pair("a", 1, 2), Pair("b", 1, 3)])


def test_the_interval_holds_as_often_as_it_says() -> None:
    """Of 2000 devices that scatter about a line, the fourth model lies in the interval of three in 95 % of cases."""
    chance = random.Random(4)
    inside = 0
    for _ in range(2000):
        device = {local: 2 + 3 * local + chance.gauss(0, 0.4) for local in (1.0, 2.0, 4.0)}
        found = predict(fit(pairs_of(device)), 3.0, 0.95)
        assert found.low is not None and found.high is not None
        inside += found.low <= 2 + 3 * 3.0 + chance.gauss(0, 0.4) <= found.high
    assert 0.93 <= inside / 2000 <= 0.97


def test_what_is_left_out_is_predicted_by_the_others() -> None:
    pairs = pairs_of({1.0: 3.0, 2.0: 5.0, 3.0: 7.0, 4.0: 10.0})
    found = {pair.local: value for pair, value in left_out(pairs)}
    assert found[4.0] == pytest.approx(9.0)


def test_ranks() -> None:
    kept = ranks([Pair("a", 1, 10), Pair("b", 2, 20), Pair("c", 3, 30)])
    assert (kept.alike, kept.opposite, kept.tied, kept.tau) == (3, 0, 0, 1.0)
    turned = ranks([Pair("a", 1, 30), Pair("b", 2, 20), Pair("c", 3, 10)])
    assert turned.tau == -1.0
    # By hand: 4 alike, 1 opposite, 1 tied locally: (4 - 1) / sqrt(5 * 6).
    mixed = ranks([Pair("a", 1, 1), Pair("b", 2, 3), Pair("c", 2, 2), Pair("d", 3, 2.5)])
    assert (mixed.alike, mixed.opposite, mixed.tied) == (4, 1, 1)
    assert mixed.tau == pytest.approx(3 / math.sqrt(30))
    assert ranks([Pair("a", 1, 5), Pair("b", 2, 5)]).tau is None


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that writes both files, runs fit, and returns what it printed."""

    def run(local: str, device: str, *flags: str) -> str:
        for name, text in (("local", local), ("device", device)):
            (tmp_path / f"{name}.csv").write_text(f"model,latency_p50_ms\n{text}")
        execute(["fit", str(tmp_path / "local.csv"), str(tmp_path / "device.csv"), *flags])
        return capsys.readouterr().out

    return run


FOUR = "a,1\nb,2\nc,3\nd,2.5\n"


def test_three_models_predict_a_fourth(said: Callable[..., str]) -> None:
    told = said(FOUR, "a,3.1\nb,4.9\nc,7.1\n")
    assert "latency_p50_ms on the device = 1.03333 + 2 x local" in told
    assert "order: 3 of 3 pairs of models" in told and "tau-b 1)" in told
    assert "each left out in turn" in told
    predicted = told.splitlines()[-1].split()
    assert predicted[:3] == ["d", "2.5", "6.0333"]
    assert float(predicted[3]) < 6.0333 < float(predicted[4])


def test_two_models_predict_without_an_error_and_that_is_said(said: Callable[..., str]) -> None:
    told = said(FOUR, "a,3\nc,7\n")
    assert "nothing shows its error; measure a third model" in told
    assert "not known" in told.splitlines()[-1]


def test_a_model_can_be_kept_back_to_check_the_line(said: Callable[..., str]) -> None:
    told = said(FOUR, "a,3\nb,5\nc,7\nd,6.6\n", "--check", "d")
    row = told.splitlines()[-1].split()
    assert row[0] == "d" and row[-2:] == ["6.6", "-9.09%"]


def test_what_lies_outside_of_the_measurements_is_said(said: Callable[..., str]) -> None:
    told = said("a,2\nb,3\nc,9\n", "a,3\nb,5\n")
    assert "c: lies outside of what was measured (2 to 3)" in told
    assert "c: the line gives no possible value there" in said("a,2\nb,3\nc,0.1\n", "a,1\nb,5\n")


def test_a_line_that_falls_is_warned_of(said: Callable[..., str]) -> None:
    assert "WARNING: what is more here is less there" in said(FOUR, "a,7\nb,5\nc,3\n")


@pytest.mark.parametrize(
    ("device", "flags", "message"),
    [
        ("a,3\n", (), "a line needs two pairs, there is 1; measure another model"),
        ("a,3\nx,4\n", (), "x is not among the local measurements (a, b, c, d)"),
        ("a,3\nb,4\n", ("--check", "c"), "--check c: both files must have it"),
        ("a,3\nb,4\n", ("--metric", "latency_p99_ms"), "no column latency_p99_ms"),
        ("a,3\nb,4\n", ("--confidence", "100"), "--confidence 100: must be"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    said: Callable[..., str], device: str, flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        said(FOUR, device, *flags)
    assert message in str(refused.value)


def test_the_example_s_figures_are_what_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (EXAMPLE.parent / "README.md").read_text()
    files = [str(EXAMPLE / name) for name in ("local.csv", "device.csv")]
    execute(["fit", *files, "--metric", "cpu_per_request_ms", "--check", CHECKED])
    assert capsys.readouterr().out.rstrip() in readme
    assert f"--metric cpu_per_request_ms --check {CHECKED}" in readme
