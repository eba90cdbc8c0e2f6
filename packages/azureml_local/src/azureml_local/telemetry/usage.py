"""What an instance has used: one shape for control groups and for process trees."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Counters since an instance's start, and its memory now."""

    cpu_sec: float
    # Without file pages that the kernel can drop at once (what container runtimes call the working set).
    memory_bytes: int
    # None where it is not known.
    read_bytes: int | None
    written_bytes: int | None
