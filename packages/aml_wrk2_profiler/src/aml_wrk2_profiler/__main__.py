"""`python -m aml_wrk2_profiler`."""

from typing import NoReturn

from aml_tool_core import main

from aml_wrk2_profiler.command import TOOL


def run() -> NoReturn:
    """Run the tool (the console script's entry point)."""
    main(TOOL)


if __name__ == "__main__":
    run()
