"""The measurement on a device: a process of its own, with a scoring script that takes a known CPU time."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from aml_report.devices import read_csv

SCRIPT = Path(__file__).parents[3] / "job-templates" / "sku-sweep" / "on_device.py"
SCORE = """\
import os
import time


def init():
    global burn_sec
    burn_sec = float(open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "burn_sec")).read())
    print("loaded with", os.environ["INTRA_OP_NUM_THREADS"], "thread")


def run(body):
    end = time.process_time() + burn_sec * len(body)
    while time.process_time() < end:
        pass
    time.sleep(0.002)
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "score.py").write_text(SCORE)
    (tmp_path / "payload.jsonl").write_text("a\nbbb\n\n")
    for name, burn_sec in (("small", "0.002"), ("large", "0.01")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "burn_sec").write_text(burn_sec)
    words = [sys.executable, str(SCRIPT), "--score", str(tmp_path / "score")]
    return [*words, "--payload", str(tmp_path / "payload.jsonl"), "--rounds", "5", "--model"]


def test_each_model_s_time_is_told_in_what_fit_reads(words: list[str], tmp_path: Path) -> None:
    models = [f"{name}={tmp_path / name}" for name in ("small", "large")]
    done = subprocess.run([*words, *models], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.count("loaded with 1 thread") == 2
    (tmp_path / "device.csv").write_text(done.stdout)
    cpu_ms = read_csv(tmp_path / "device.csv", "cpu_per_request_ms", None)
    # Two bodies, of one and of three characters: 2 x 2 ms and 2 x 10 ms each, on average; never less.
    assert 4 <= cpu_ms["small"] < cpu_ms["large"] and cpu_ms["large"] >= 20
    for row in csv.DictReader(done.stdout.splitlines()):
        assert float(row["latency_p50_ms"]) > float(row["cpu_per_request_ms"]) / 2


def test_a_body_may_hold_what_unicode_takes_for_the_end_of_a_line(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "payload.jsonl").write_text("a\u2028b\x85c\n", encoding="utf-8")
    (tmp_path / "score" / "score.py").write_text("def init():\n    pass\n\n\ndef run(body):\n    print(ascii(body))\n")
    done = subprocess.run(
        [*words, f"small={tmp_path / 'small'}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert set(done.stderr.splitlines()) == {r"'a\u2028b\x85c'"}


@pytest.mark.parametrize(("models", "line"), [(["x"], "NAME=FOLDER"), (["x=/no/such"], "a folder that is there")])
def test_models_that_are_refused(words: list[str], models: list[str], line: str) -> None:
    done = subprocess.run([*words, *models], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and line in done.stderr.splitlines()[-1]
