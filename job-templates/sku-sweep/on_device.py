#!/usr/bin/env python3
"""Measure models on a device, without a server: the example's scoring script in this process, over its payload.

To be run on the device, in an environment with what the scoring script imports; nothing else is needed. Prints a line
of CSV per model, for `aml_report fit`: CPU time and the median time per request, with one thread.

python on_device.py --score digits/score --payload digits/payload.jsonl --model small=models/small > device.csv
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("model", "cpu_per_request_ms", "latency_p50_ms")


def load(folder: Path) -> Callable[[str], Any]:
    """Load the scoring script anew, as a server does at its start; returns what answers a request."""
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"on_device: error: {folder / 'score.py'}: cannot be loaded")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.init()
    run: Callable[[str], Any] = module.run
    return run


def measure(answer: Callable[[str], Any], bodies: Sequence[str], rounds: int) -> tuple[float, float]:
    """Return the mean CPU time and the median time per request, in milliseconds; the first round is not counted."""
    for body in bodies:
        answer(body)
    took_ms = []
    cpu_began_sec = time.process_time()
    for body in [*bodies] * rounds:
        began_sec = time.perf_counter()
        answer(body)
        took_ms.append(1000 * (time.perf_counter() - began_sec))
    cpu_ms = 1000 * (time.process_time() - cpu_began_sec)
    return cpu_ms / len(took_ms), statistics.median(took_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--score", type=Path, required=True, help="the folder with score.py")
    parser.add_argument("--payload", type=Path, required=True, help="a body per line")
    parser.add_argument("--model", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=3, help="how often the whole payload (default: %(default)s)")
    given = parser.parse_args()
    # Not splitlines(): JSON has line separators of Unicode as they are, within a body.
    bodies = [line for line in given.payload.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not bodies or given.rounds < 1:
        parser.error("--payload, --rounds: there is nothing to send")
    # As the sweep has it: one thread per request.
    os.environ.setdefault("INTRA_OP_NUM_THREADS", "1")
    # What the scoring script prints is not the table.
    table, sys.stdout = sys.stdout, sys.stderr
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in given.model:
        name, separator, folder = entry.partition("=")
        if not separator or not Path(folder).is_dir():
            parser.error(f"--model {entry}: NAME=FOLDER is wanted, with a folder that is there")
        os.environ["AZUREML_MODEL_DIR"] = folder
        cpu_ms, median_ms = measure(load(given.score), bodies, given.rounds)
        writer.writerow([name, f"{cpu_ms:.4f}", f"{median_ms:.4f}"])
        table.flush()


if __name__ == "__main__":
    main()
