"""The machine's own wake-ups, as cyclictest sees them: what no open-loop generator that sleeps can do better than.

cyclictest (Debian: rt-tests) sleeps until the next tick of a clock and writes down how late it woke, without network,
requests or our code. It runs with a timer slack of 1 ns, as metronome does; the kernel's usual 50 us would hide what
is asked here.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import dataclass

PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30  # linux/prctl.h
TIMELY_US = 100
HIGHEST_US = 100_000


@dataclass(frozen=True)
class Wakeups:
    """How late `count` sleeps ended, in microseconds: `late_us` maps a lateness to how often it was seen."""

    count: int
    late_us: dict[int, int]

    def percentile(self, percent: float) -> int:
        seen = 0
        for late, times in sorted(self.late_us.items()):
            seen += times
            if seen >= self.count * percent / 100:
                return late
        return HIGHEST_US  # among the overflows

    @property
    def timely_percent(self) -> float:
        return 100 * sum(times for late, times in self.late_us.items() if late < TIMELY_US) / self.count


def parsed(text: str) -> Wakeups:
    """Read cyclictest's histogram (one thread): lines of lateness and count, and the overflows' total."""
    late_us = {int(late): int(times) for late, times in re.findall(r"^(\d{6}) (\d+)\s*$", text, re.MULTILINE)}
    over = re.search(r"^# Histogram Overflows: (\d+)", text, re.MULTILINE)
    if not late_us or over is None:
        raise ValueError("cyclictest printed no histogram")
    return Wakeups(sum(late_us.values()) + int(over[1]), {late: times for late, times in late_us.items() if times})


def wakeups(rate: float, duration_sec: float, *, prefix: tuple[str, ...] = ()) -> Wakeups | None:
    """Sleep `rate` times a second for `duration_sec`; None where cyclictest is not on PATH."""
    program = shutil.which("cyclictest")
    if program is None:
        return None
    realtime = ("--priority=50",) if prefix else ("--policy=other",)
    command = (
        program, "--quiet", "--threads=1", f"--interval={round(1e6 / rate)}", f"--loops={round(rate * duration_sec)}",
        f"--histogram={HIGHEST_US}", *realtime,
    )  # fmt: skip
    libc = ctypes.CDLL(None, use_errno=True)
    # The slack is inherited by a child and kept over its exec.
    usual = libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=duration_sec + 60, check=True)
    finally:
        libc.prctl(PR_SET_TIMERSLACK, usual, 0, 0, 0)
    return parsed(done.stdout)
