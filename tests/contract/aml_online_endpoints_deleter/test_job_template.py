"""The job template calls the tool with flags that it has, and fills in inputs that it declares."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from aml_online_endpoints_deleter.command import TOOL
from aml_tool_core.documents import read_yaml
from aml_tool_core.main import parser

TEMPLATE = Path(__file__).parents[3] / "job-templates" / f"{TOOL.name}.yml"


def test_the_command_is_one_that_the_tool_takes() -> None:
    template: Any = read_yaml(TEMPLATE)
    python, module, name, *flags = shlex.split(template["command"])
    assert (python, module, name) == ("python", "-m", TOOL.name)
    given = vars(parser(TOOL).parse_args(flags))
    inputs = re.findall(r"\$\{\{inputs\.(\w+)\}\}", template["command"])
    assert sorted(inputs) == sorted(template["inputs"])
    assert sum(str(value).startswith("${{inputs.") for value in given.values()) == len(inputs)
