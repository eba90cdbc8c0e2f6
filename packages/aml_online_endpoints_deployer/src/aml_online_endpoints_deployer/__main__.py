"""Run the tool: `python -m aml_online_endpoints_deployer`, or the console script of the same name with dashes."""

from typing import NoReturn

from aml_tool_core import main

from aml_online_endpoints_deployer.command import TOOL


def run() -> NoReturn:
    """Run the tool from the command line."""
    main(TOOL)


if __name__ == "__main__":
    run()
