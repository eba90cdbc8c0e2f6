"""What all tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from aml_tool_core.logs import RedactingFormatter


@pytest.fixture(autouse=True)
def _log_handlers_go_with_their_test() -> Iterator[None]:
    """A tool run in this process configures logging onto the stderr of its own test, which is closed afterwards."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, RedactingFormatter):
            root.removeHandler(handler)
