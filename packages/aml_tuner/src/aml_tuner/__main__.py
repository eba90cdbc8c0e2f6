"""`python -m aml_tuner`."""

from typing import NoReturn

from aml_tool_core import main

from aml_tuner.command import TOOL


def run() -> NoReturn:
    """Run the tool (the console script's entry point)."""
    main(TOOL)


if __name__ == "__main__":
    run()
