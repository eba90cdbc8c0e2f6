from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aml_report.reading import Report, read_reports
from aml_tool_core.outputs import write_json

Read = Callable[..., Report]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, dict[str, Any]], Path]:
    """Return a function that writes a report, held against its schema, and returns its path."""

    def write(name: str, document: dict[str, Any]) -> Path:
        path = tmp_path / name
        write_json(path, document, "report")
        return path

    return write


@pytest.fixture
def read(written: Callable[[str, dict[str, Any]], Path]) -> Read:
    """Return a function that writes a report and reads it as the program does."""
    return lambda name, document: read_reports([written(name, json.loads(json.dumps(document)))])[0]
