"""Two hundred random fault sequences of deploy and delete, and every step killed both ways; prints what became of them.

    python tests/bench/faults/run.py [--sequences 200] [--seed 1]

It is the tests of tests/contract/faults with bigger numbers. With AZUREML_LOCAL_ENV_CACHE and AZUREML_LOCAL_AZURITE the
local control plane need not install anything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve()
TESTS = HERE.parents[2] / "contract" / "faults"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first sequence")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        files = [str(TESTS / f"test_{name}.py") for name in ("sequences", "killed")]
        command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        environment = {
            "AML_FAULTS": "all",
            "AML_FAULT_SEQUENCES": str(given.sequences),
            "AML_FAULT_SEED": str(given.seed),
        }
        done = subprocess.run(command, env={**os.environ, **environment}, check=False)
        # pytest, of our own environment, has written it.
        cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    counts: Counter[tuple[str, str]] = Counter()
    for case in cases:
        outcome = "failed" if case.find("failure") is not None or case.find("error") is not None else "held"
        counts[str(case.get("classname")).rpartition(".")[2], outcome] += 1
    for (name, outcome), count in sorted(counts.items()):
        print(f"{name}: {count} {outcome}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
