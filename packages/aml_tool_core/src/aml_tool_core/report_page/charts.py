"""Line charts as inline SVG: drawn by pygal, coloured by the page's own style sheet, no script in them.

Every chart is drawn twice, wide and narrow, and the style sheet shows one: an SVG that is merely scaled down to a phone
has unreadable labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

from aml_tool_core.report_page.figures import number

Point = tuple[float, float | None]

_SMALLEST = 1e-3  # what a logarithmic axis shows of 0: the histograms' resolution in ms
_LABEL_SIZE_PX = 12
_LABEL_CHARS = 8  # every y label is filled up to this, so that charts below one another share their time axis
_GEOMETRY = {"d", "x", "y", "cx", "cy", "width", "height"}  # a tenth of a pixel is enough for these
_SVG = "{http://www.w3.org/2000/svg}"
_X_LABEL_ROOM_PX = 52
_Y_LABEL_ROOM_PX = 30
_FRACTION = re.compile(r"-?\d+\.\d{2,}")


@dataclass(frozen=True)
class Series:
    """One line, or dots, or both. A None breaks the line. `style` is the number of its colour and dash."""

    name: str
    points: Sequence[Point]
    style: int
    dots: bool = False
    line: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis: its ticks with their labels, its range, and whether it is logarithmic."""

    ticks: Sequence[float]
    label: Callable[[float], str] = number
    logarithmic: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """The first and the last tick."""
        return self.ticks[0], self.ticks[-1]


@dataclass(frozen=True)
class Chart:
    """A chart with its words: `summary` is what it shows in a sentence, for those who do not see it."""

    key: str  # an HTML id
    title: str
    summary: str
    series: Sequence[Series]
    x: Axis
    y: Axis
    x_title: str
    y_title: str
    x_end: float | None = None  # where the x axis ends, if not at its last tick

    @property
    def wide(self) -> Markup:
        """The drawing for a desktop screen and for paper."""
        return _svg(self, "wide", 920, 280)

    @property
    def narrow(self) -> Markup:
        """The drawing for a phone."""
        return _svg(self, "narrow", 344, 230)


def _svg(chart: Chart, shape: str, width: int, height: int) -> Markup:
    drawing = pygal.XY(
        width=width,
        height=height,
        classes=["chart", shape],
        css=[],
        js=[],
        no_prefix=True,
        show_legend=False,
        margin=6,
        margin_right=14,
        spacing=6,
        truncate_label=-1,
        allow_interruptions=True,
        dots_size=3.5,
        style=Style(label_font_size=_LABEL_SIZE_PX, major_label_font_size=_LABEL_SIZE_PX),
        range=[_projected(chart.y, edge) for edge in chart.y.range],
        xrange=[_projected(chart.x, chart.x.range[0]), _projected(chart.x, chart.x_end or chart.x.range[1])],
        no_data_text="",
    )
    for series in chart.series:
        points = [(_projected(chart.x, x), None if y is None else _projected(chart.y, y)) for x, y in series.points]
        drawing.add(series.name, points, show_dots=series.dots, stroke=series.line)
    drawing.x_labels = _labels(chart.x, _spaced(chart.x, chart.x_end, width, _X_LABEL_ROOM_PX))
    drawing.y_labels = _labels(chart.y, _spaced(chart.y, None, height, _Y_LABEL_ROOM_PX), fill=_LABEL_CHARS)
    root = ElementTree.fromstring(drawing.render())
    _tidy(root, chart, shape)
    # The tree holds nothing but what was drawn here; ElementTree escapes every text in it.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _projected(axis: Axis, value: float) -> float:
    """Place a value on the axis. pygal has one switch for both axes' logarithm; so the logarithm is taken here."""
    return math.log10(max(value, _SMALLEST)) if axis.logarithmic else float(value)


def _labels(axis: Axis, ticks: Sequence[float], fill: int = 0) -> list[dict[str, object]]:
    return [
        {"value": _projected(axis, tick), "label": axis.label(tick).rjust(fill, "\N{NO-BREAK SPACE}")} for tick in ticks
    ]


def _spaced(axis: Axis, end: float | None, length_px: int, room_px: int) -> list[float]:
    """Return the ticks whose labels have room, from the last one back."""
    first, last = (_projected(axis, edge) for edge in (axis.range[0], end or axis.range[1]))
    kept: list[float] = []
    for tick in reversed(axis.ticks):
        apart = math.inf if not kept else _projected(axis, kept[-1]) - _projected(axis, tick)
        if apart / (last - first) * length_px >= room_px:
            kept.append(tick)
    return kept[::-1]


def _tidy(root: ElementTree.Element, chart: Chart, shape: str) -> None:
    """Take out what a page without scripts has no use for, and say what the drawing shows."""
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    key = f"{chart.key}-{shape}"
    root.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{key}-title {key}-summary")
    root.set("preserveAspectRatio", "xMinYMin meet")
    for parent in list(root.iter()):
        for child in list(parent):
            unwanted = child.tag in (f"{_SVG}defs", f"{_SVG}desc", f"{_SVG}title") or "tooltip-overlay" in child.get(
                "class", ""
            )
            if unwanted or not isinstance(child.tag, str):
                parent.remove(child)
    by_order = {f"serie-{index}": series for index, series in enumerate(chart.series)}
    for node in root.iter():
        for name in _GEOMETRY.intersection(node.keys()):
            node.set(name, _FRACTION.sub(lambda match: f"{float(match[0]):.1f}", node.attrib[name]))
        classes = node.get("class", "").split()
        found = next((by_order[name] for name in classes if name in by_order), None)
        if found is not None:
            node.set("class", f"series style-{found.style}")
            for dot, (x, y) in zip(node.iter(f"{_SVG}circle"), _drawn(found), strict=False):
                # A title is what a browser shows on hover.
                hover = ElementTree.SubElement(dot, f"{_SVG}title")
                hover.text = f"{found.name}, {chart.x.label(x)}: {number(y)}"
    for position, (name, text) in enumerate((("title", chart.title), ("desc", chart.summary))):
        node = ElementTree.Element(f"{_SVG}{name}")
        node.set("id", f"{key}-{'title' if name == 'title' else 'summary'}")
        node.text = text
        root.insert(position, node)


def _drawn(series: Series) -> list[tuple[float, float]]:
    return [(x, y) for x, y in series.points if y is not None]
