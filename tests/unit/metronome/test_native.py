"""The C++ unit tests, so that they count here too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NOUNS = sorted(path.name.removesuffix("_test.cpp") for path in (Path(__file__).parent / "native").glob("*_test.cpp"))


@pytest.mark.parametrize("noun", NOUNS)
def test_unit(build: Path, noun: str) -> None:
    command = [str(build / "tests" / "unit_tests"), f"--test-suite={noun}", "--no-intro"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 passed" not in done.stdout, f"no test case in suite {noun}"
