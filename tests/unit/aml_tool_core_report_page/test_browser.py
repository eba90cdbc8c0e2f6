"""report.html as a browser shows it: what it says, at both widths, in both colour schemes, by keyboard and on paper."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from aml_tool_core.report_page import render_report
from aml_tool_core.report_page.figures import at
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PHONE_PX, DESKTOP_PX = 360, 1100
Show = Callable[..., dict[str, Any]]


@pytest.fixture
def report(measured: Any) -> dict[str, Any]:
    document: dict[str, Any] = measured(
        duration_sec=300, has_usage=True, has_endpoint=True, status=((429, 12), (500, 3))
    )
    document["sla"] = {
        "met": False,
        "criteria": [
            {"metric": "latency_ms_99", "limit": 50, "value": 53.3, "met": False},
            {"metric": "error_percent", "limit": 0.1, "value": 0.02, "met": True},
            {"metric": "cpu_percent_max", "limit": 80, "value": None, "met": False},
        ],
    }
    return document


@pytest.fixture
def show(open_page: Any) -> Show:
    """Return a function that opens a report's page and returns what the browser logged meanwhile."""
    return lambda document, width=DESKTOP_PX, scheme="light": open_page(render_report(document), width, scheme)


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_no_console_message_and_no_request_but_the_page(report: dict[str, Any], show: Show, width: int) -> None:
    logged = show(report, width)
    assert logged["console"] == []
    assert [uri for uri in logged["requests"] if not uri.startswith("data:")] == [logged["uri"]]


def test_the_figures_on_the_page_are_those_of_the_report(report: dict[str, Any], show: Show, browser: Any) -> None:
    show(report)
    shown: dict[str, str] = {}
    for element in browser.find_elements(By.CSS_SELECTOR, "data[data-pointer]"):
        pointer = element.get_attribute("data-pointer")
        expected = at(report, pointer)
        given = element.get_attribute("value")
        assert given == (expected if isinstance(expected, str) else json.dumps(expected)), pointer
        shown[pointer] = element.text
        if isinstance(expected, int | float):
            assert_reads_as(element.text, expected, pointer)
        else:
            assert element.text == expected, pointer
    needed = {
        f"/result/{kind}/percentiles/{name}/{part}"
        for kind in ("latency_ms", "service_time_ms")
        for name in ("50", "75", "90", "95", "99", "99.9")
        for part in ("value", "ci95/0", "ci95/1")
    }
    needed |= {
        "/result/requests_per_sec", "/result/requests/succeeded", "/result/errors/status/429",
        "/result/errors/status/500", "/result/errors/timeout", "/cost/core_hour_per_million_requests",
        "/sla/criteria/0/value", "/sla/criteria/0/limit", "/resource_usage/CpuUtilizationPercentage/average",
        "/load/target_rps", "/load/connections", "/provenance/config_sha256", "/tool/engine/version",
    }  # fmt: skip
    assert needed <= set(shown)


def assert_reads_as(text: str, value: float, pointer: str) -> None:
    """Hold a shown number against the exact one: it may be rounded in its last digit, and not below four digits."""
    found = re.match(r"-?[\d,]+(?:\.(\d+))?(?:e[-+]\d+)?", text)
    assert found is not None, f"{pointer}: {text!r} is not a number"
    read = float(found[0].replace(",", ""))
    assert math.isclose(read, value, rel_tol=5e-4), f"{pointer}: {text!r} is not {value}"


def test_the_verdict_comes_first(report: dict[str, Any], show: Show, browser: Any) -> None:
    show(report)
    headings = [heading.text for heading in browser.find_elements(By.TAG_NAME, "h2")]
    assert headings == [
        "Verdict", "Figures", "Latency by percentile", "Timeline", "Resource usage", "Status codes and errors",
        "Configuration", "Provenance",
    ]  # fmt: skip
    said = browser.find_element(By.ID, "verdict").text
    assert said.index("Valid: this run may be believed") < said.index("SLA missed") < said.index("latency_ms_99")
    assert "refused with 429" in said


def test_an_invalid_run_says_why(measured: Any, show: Show, browser: Any) -> None:
    document = measured(duration_sec=4, rate=40.0, status=((500, 40),), has_timeline=False)
    show(document)
    said = browser.find_element(By.ID, "verdict").text
    assert "Not valid" in said
    for reason in document["verdict"]["reasons"]:
        assert reason in said
    assert "No SLA was set" in said
    assert "does not report the run second by second" in browser.find_element(By.ID, "timeline").text
    assert document["resource_usage_reasons"][0] in browser.find_element(By.ID, "resources").text
    assert document["cost"]["reason"] in browser.find_element(By.ID, "figures").text


@pytest.mark.parametrize("opened", [False, True], ids=["tables folded", "tables unfolded"])
def test_nothing_overflows_a_phone(report: dict[str, Any], show: Show, browser: Any, opened: bool) -> None:
    report["target"]["scoring_uri"] = f"https://{'a' * 200}.example.net/score"
    report["verdict"] = {"valid": False, "reasons": ["x" * 300], "notes": []}
    show(report, PHONE_PX)
    if opened:
        browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE_PX
    wide = browser.execute_script(
        "return [...document.body.querySelectorAll('*')].filter(one => !one.closest('.scroll, svg, .skip') && "
        "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 120))"
    )
    assert wide == []


@pytest.mark.parametrize(("width", "shape"), [(PHONE_PX, "narrow"), (DESKTOP_PX, "wide")])
def test_charts_are_drawn_for_the_screen(
    report: dict[str, Any], show: Show, browser: Any, width: int, shape: str
) -> None:
    show(report, width)
    charts = [one for one in browser.find_elements(By.CSS_SELECTOR, "svg.chart") if one.is_displayed()]
    assert len(charts) == len(browser.find_elements(By.TAG_NAME, "figure")) == 6
    assert all(shape in one.get_attribute("class") for one in charts)
    heights = browser.execute_script(
        "return [...document.querySelectorAll(`svg.${arguments[0]} .axis text`)].map(one => "
        "one.getBoundingClientRect().height)",
        shape,
    )
    assert min(heights) >= 10, "an axis label is too small to read"
    overlapping = browser.execute_script(
        """return [...document.querySelectorAll(`svg.${arguments[0]} .axis.x`)].flatMap(axis => {
             const boxes = [...axis.querySelectorAll('text')].map(one => one.getBoundingClientRect());
             return boxes.slice(1).filter((box, at) => box.left < boxes[at].right).length; })""",
        shape,
    )
    assert set(overlapping) == {0}


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_resource_usage_has_the_timelines_time_axis(
    report: dict[str, Any], show: Show, browser: Any, width: int
) -> None:
    show(report, width)
    places = browser.execute_script(
        """return [...document.querySelectorAll('#timeline svg.chart, #resources svg.chart')]
             .filter(chart => chart.checkVisibility())
             .map(chart => [...chart.querySelectorAll('.axis.x text')]
               .map(one => [one.textContent, Math.round(one.getBoundingClientRect().left)]))"""
    )
    assert len(places) == 5
    assert len(places[0]) >= 4
    assert all(each == places[0] for each in places)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(report: dict[str, Any], show: Show, browser: Any, scheme: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1 for text."""
    show(report, DESKTOP_PX, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    pairs = browser.execute_script(
        """const ground = one => { for (; one; one = one.parentElement) {
             const colour = getComputedStyle(one).backgroundColor;
             if (colour !== 'rgba(0, 0, 0, 0)') return colour; } return null; };
           const texts = [...document.body.querySelectorAll('*')].filter(one =>
             [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && one.checkVisibility());
           return texts.map(one => [one.closest('svg') ? getComputedStyle(one).fill : getComputedStyle(one).color,
             ground(one), one.textContent.slice(0, 40)])"""
    )
    assert len(pairs) > 100
    for colour, ground, text in pairs:
        assert contrast(rgb(colour), rgb(ground)) >= 4.5, f"{text!r}: {colour} on {ground}"
    is_dark = luminance(rgb(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))) < 0.1
    assert is_dark is (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_line_has_contrast(report: dict[str, Any], show: Show, browser: Any, scheme: str) -> None:
    """WCAG 2.2, success criterion 1.4.11: 3 to 1 for what a chart is read by."""
    show(report, DESKTOP_PX, scheme)
    strokes = browser.execute_script(
        "return [...document.querySelectorAll('svg.wide .series:not(.style-6)')]"
        ".map(one => getComputedStyle(one).stroke)"
    )
    ground = rgb(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(strokes) >= 8
    assert all(contrast(rgb(stroke), ground) >= 3 for stroke in strokes)


def rgb(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", text)[:3])
    return red, green, blue


def luminance(colour: tuple[float, float, float]) -> float:
    parts = [one / 255 for one in colour]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_keyboard_and_screen_reader(report: dict[str, Any], show: Show, browser: Any) -> None:
    show(report)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    first = browser.switch_to.active_element
    assert first.text == "Skip to the verdict"
    assert first.rect["x"] >= 0, "the focused link is out of sight"
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", first) == "solid"
    first.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"

    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    roles = [role for role, _ in named]
    assert {"banner", "navigation", "main", "contentinfo"} <= set(roles)
    # Chromium calls a drawing with role=img "image".
    for role in ("image", "table", "region"):
        names = [name for found, name in named if found == role]
        assert names and all(names), f"a {role} without a name"
    assert len(browser.find_elements(By.TAG_NAME, "h1")) == 1
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        assert browser.find_elements(By.ID, link.get_attribute("href").split("#")[1])
    for figure in browser.find_elements(By.TAG_NAME, "figure"):
        assert figure.find_elements(By.CSS_SELECTOR, "details table tbody tr"), "a chart without its table"
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_on_paper(report: dict[str, Any], show: Show, browser: Any) -> None:
    show(report, DESKTOP_PX, "dark")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    assert luminance(rgb(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))) > 0.9
    assert luminance(rgb(browser.execute_script("return getComputedStyle(document.body).color"))) < 0.1
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12


def test_hostile_text_stays_text(report: dict[str, Any], show: Show, browser: Any) -> None:
    hostile = "</style></title><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&amp;"
    report["target"]["deployment_name"] = hostile
    report["load"]["payload"]["source"] = hostile
    report["tool"]["name"] = hostile
    report["sla"]["criteria"][0]["metric"] = hostile
    report["verdict"] = {"valid": False, "reasons": [hostile], "notes": [hostile]}
    report["resource_usage"] = {hostile: report["resource_usage"]["CpuUtilizationPercentage"]}
    report["resource_usage"][hostile]["unit"] = hostile
    logged = show(report)
    assert logged["console"] == []
    assert browser.find_elements(By.CSS_SELECTOR, "script, img") == []
    assert browser.title.startswith("</style></title><script>")
    assert hostile in browser.find_element(By.ID, "verdict").text
    ids = browser.execute_script("return [...document.querySelectorAll('svg [id]')].map(one => one.id)")
    assert all(re.fullmatch(r"[\w-]+", one) for one in ids)
