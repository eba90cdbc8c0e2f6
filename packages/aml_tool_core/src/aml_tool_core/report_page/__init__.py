"""report.html: a report, or a comparison of reports, as one file that a browser shows without a network.

`render_report` is the page of one report; `render_page` takes any sections (the comparison's, for instance).
"""

from aml_tool_core.report_page.blocks import Banner, Cell, Drawing, Measured, Section, Table, Text, Tile, Tone
from aml_tool_core.report_page.page import render_page
from aml_tool_core.report_page.report import render_report

__all__ = [
    "Banner",
    "Cell",
    "Drawing",
    "Measured",
    "Section",
    "Table",
    "Text",
    "Tile",
    "Tone",
    "render_page",
    "render_report",
]
