"""A process and its descendants: what they have used. For machines whose control groups cannot be had."""

from __future__ import annotations

import psutil

from azureml_local.telemetry.usage import Usage

# Memory needs a walk over the page tables, and process trees seldom change: less often.
SLOW_EVERY = 5


class ProcessTree:
    """Adds up what the members use; what a member used before its first look or after its last is lost."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._members: dict[int, psutil.Process] = {}
        self._seen: dict[int, tuple[float, int, int]] = {}
        self._round = 0
        self._cpu_sec = 0.0
        self._read_bytes = 0
        self._written_bytes = 0
        self._memory_bytes = 0

    def usage(self) -> Usage:
        """Return the counters since the first look, and the members' memory."""
        slow = self._round % SLOW_EVERY == 0
        self._round += 1
        if slow:
            self.refresh()
        for pid, process in list(self._members.items()):
            try:
                times, moved = process.cpu_times(), process.io_counters()
            except psutil.Error:
                del self._members[pid]
                self._seen.pop(pid, None)
                continue
            now = (times.user + times.system, moved.read_bytes, moved.write_bytes)
            before = self._seen.get(pid, now)
            self._cpu_sec += max(0.0, now[0] - before[0])
            self._read_bytes += max(0, now[1] - before[1])
            self._written_bytes += max(0, now[2] - before[2])
            self._seen[pid] = now
        if slow:
            self._memory_bytes = self.memory_bytes()
        return Usage(self._cpu_sec, self._memory_bytes, self._read_bytes, self._written_bytes)

    def refresh(self) -> None:
        """Look for new descendants."""
        try:
            root = psutil.Process(self._root_pid)
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        self._members = {process.pid: self._members.get(process.pid, process) for process in found}

    def memory_bytes(self) -> int:
        """Return the proportional set size of all members: shared pages count once over those who share them."""
        total = 0
        for process in list(self._members.values()):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total

    def exceeds(self, limit_bytes: int) -> bool:
        """Say whether the members hold more than this; costs little as long as they hold much less."""
        self.refresh()
        resident = 0
        for process in list(self._members.values()):
            try:
                resident += process.memory_info().rss
            except psutil.Error:
                continue
        # The resident sizes count shared pages more than once, so they are never too small.
        return resident > limit_bytes and self.memory_bytes() > limit_bytes
