"""The comparison's page in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from aml_report.comparison import compare, regressions
from aml_report.comparison_page import render_comparison
from selenium.webdriver.common.by import By


@pytest.fixture
def page(measured: Any, read: Any) -> str:
    base = read("unoptimized.json", measured(median_ms=28.0, has_endpoint=True, has_usage=True))
    others = [
        read("optimized.json", measured(seed=4, has_endpoint=True, has_usage=True)),
        read("<script>alert(1)<script>.json", measured(seed=5, status=((500, 900),))),
    ]
    compared = [compare(base, new, allow_different=False) for new in others]
    return render_comparison(compared, [line for one in compared for line in regressions(one, 5.0)])


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1100, "light")])
def test_nothing_is_loaded_logged_or_cut_off(page: str, open_page: Any, browser: Any, width: int, scheme: str) -> None:
    logged = open_page(page, width, scheme)
    assert logged["console"] == []
    assert [uri for uri in logged["requests"] if not uri.startswith("data:")] == [logged["uri"]]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.find_elements(By.TAG_NAME, "script") == []
    tables = browser.execute_script(
        "return [...document.querySelectorAll('[id^=metrics] .scroll')].map(one => [one.scrollWidth, one.clientWidth])"
    )
    assert len(tables) == 2
    assert all(whole <= seen for whole, seen in tables), "a table of metrics must be pushed aside to be read"


def test_the_verdict_and_the_figures(page: str, open_page: Any, browser: Any) -> None:
    open_page(page, 1100, "light")
    said = browser.find_element(By.ID, "verdict").text
    assert said.index("Regression: the gate is not passed") < said.index("<script>alert(1)<script>.json is not valid")
    assert "optimized.json: " in said and "metrics better, 0 worse, outside the noise" in said
    rows = {
        row.find_element(By.TAG_NAME, "th").text: [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in browser.find_elements(By.CSS_SELECTOR, "#metrics-1 tbody tr")
    }
    base, new, change = rows["Latency p50, ms"]
    figures = browser.find_elements(By.CSS_SELECTOR, "#metrics-1 tbody tr:first-child data")
    exact = [float(one.get_attribute("value")) for one in figures[:2]]
    assert [float(base), float(new)] == pytest.approx(exact, rel=5e-4)
    assert change.startswith(f"{100 * (exact[1] - exact[0]) / exact[0]:+.1f} %")
    assert "better, outside the noise (95 % intervals)" in change
    legend = browser.find_element(By.CSS_SELECTOR, "#latency .legend").text.splitlines()
    assert legend == ["unoptimized.json", "optimized.json", "<script>alert(1)<script>.json"]
