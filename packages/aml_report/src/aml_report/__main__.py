"""`python -m aml_report`."""

import sys
from typing import NoReturn

from aml_tool_core.main import finish

from aml_report.command import NAME, execute


def run() -> NoReturn:
    """Run the program (the console script's entry point)."""
    finish(NAME, lambda: execute(sys.argv[1:]))


if __name__ == "__main__":
    run()
