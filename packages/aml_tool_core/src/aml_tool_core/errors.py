"""The ways a tool can end other than well; `aml_tool_core.main` alone turns them into exit codes."""

from __future__ import annotations

import signal
from collections.abc import Sequence


class ToolError(Exception):
    """An expected failure: the target, Azure or a native binary said no. Exit code 1.

    The message is one line: what failed, where, and what to do about it.
    """

    exit_code = 1


class InputError(ToolError):
    """A flag or an input file is unusable. Exit code 2.

    The message names the file (or flag) first, then the place in it, then the remedy.
    """

    exit_code = 2


class CriteriaMissed(ToolError):
    """The run finished and its report is written, but its SLA is missed or it cannot be judged. Exit code 3."""

    exit_code = 3

    def __init__(self, criteria: Sequence[str]) -> None:
        super().__init__("; ".join(criteria))
        self.criteria = tuple(criteria)


class Interrupted(BaseException):
    """A signal asked the tool to stop. Exit code 128 + the signal's number.

    Not an `Exception`, so that no library's broad `except` keeps a tool from stopping.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum
        self.left = "no partial output is left"  # a tool that leaves something for others says what

    @property
    def exit_code(self) -> int:
        """The shell's convention for a process ended by a signal."""
        return 128 + self.signum
