"""Run metronome for a long time and watch its memory: `python tests/bench/engines/soak.py --duration 3600`.

Prints the resident memory once warmed up and at the end, and whether every request is in the histogram.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.bench.engines.truth import known_server


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=int, default=3600, help="seconds (3600)")
    parser.add_argument("--rate", type=int, default=200, help="requests per second (200)")
    parser.add_argument("--metronome", default="metronome", help="the binary")
    asked = parser.parse_args()
    samples: list[int] = []
    with tempfile.TemporaryDirectory() as folder, known_server("--delay-us", "2000") as server:
        out = Path(folder) / "out.json"
        flags = ["--rate", str(asked.rate), "--connections", "8", "--duration", str(asked.duration)]
        begun = time.monotonic()
        process = subprocess.Popen([asked.metronome, "--url", server.url, *flags, "--json", str(out)])
        while process.poll() is None:
            time.sleep(5)
            if process.poll() is None:
                samples.append(resident_kib(process.pid))
                if len(samples) % 60 == 0:
                    print(f"{time.monotonic() - begun:6.0f} s: {samples[-1]} KiB resident", flush=True)
        report = json.loads(out.read_text())
        served = server.stop()
    first, last = samples[min(11, len(samples) - 1)], samples[-1]
    print(f"resident memory: {first} KiB after a minute, {max(samples)} KiB at most, {last} KiB at the end")
    requests, histogram = report["requests"], report["latency"]["histogram"]
    recorded = sum(count for _, count in histogram)
    print(f"planned {requests['planned']}, sent {requests['sent']}, answered {requests['completed']}, "
          f"in the histogram {recorded}, seen by the server {served['requests']}")  # fmt: skip
    print(f"rate {report['requests_per_sec']:.4f}/s, timely sends {report['schedule']['timely_percent']:.3f} %, "
          f"CPU {report['cpu']['threads'][0]['percent_of_core']} % of a core")  # fmt: skip
    return 0 if recorded == requests["completed"] == served["requests"] else 1


if __name__ == "__main__":
    sys.exit(main())
