"""Render blocks as one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from aml_tool_core.report_page.blocks import Measured, Section
from aml_tool_core.report_page.figures import Figure


def render_page(title: str, subtitle: str, sections: Sequence[Section], generator: str) -> str:
    """Return the HTML of a page. Every text in it is escaped; nothing in it is loaded from anywhere."""
    page = _environment().get_template("page.html.j2")
    return page.render(title=title, subtitle=subtitle, sections=sections, generator=generator) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aml_tool_core.report_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["figure"] = lambda cell: isinstance(cell, Figure)
    environment.tests["measured"] = lambda cell: isinstance(cell, Measured)
    return environment
