#!/opt/venv/bin/python
"""Print which tool is in this image and how to call it: what `docker run IMAGE` without a command shows."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import Distribution, distributions

CORE = "aml-tool-core"


def main() -> int:
    """Print the tools of this image, their versions and their command lines."""
    # An image's own tool comes first, before those that it runs.
    own = os.environ.get("IMAGE_TOOL")
    tools = sorted(filter(_is_tool, distributions()), key=lambda tool: (tool.name != own, tool.name))
    for tool in tools:
        module = tool.name.replace("-", "_")
        print(f"{tool.name} {tool.version}: {tool.metadata['Summary']}\n")
        print("Call it with your files mounted; what it writes appears in ./outputs:\n")
        print(f'  docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/job" IMAGE python -m {module} FLAGS...\n')
        print(f"or as {tool.name}. In AzureML jobs, `python -m {module} FLAGS...` is the command.\n", flush=True)
        subprocess.run([sys.executable, "-m", module, "--help"], check=True)
        print()
    print("Inside: " + ", ".join([f"Python {platform.python_version()}", *_natives(), *_packages()]))
    return 0 if tools else 1


def _is_tool(distribution: Distribution) -> bool:
    needs_core = any(requirement.startswith(CORE) for requirement in distribution.requires or [])
    return needs_core and any(point.group == "console_scripts" for point in distribution.entry_points)


def _natives() -> list[str]:
    """Return the first line that each native program of the image says of itself."""
    said = []
    for program in os.environ.get("IMAGE_NATIVE_PROGRAMS", "").split():
        # wrk prints its version with an exit status of 1.
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        lines = (answer.stdout or answer.stderr).splitlines()
        said.append(lines[0].split("Copyright")[0].strip() if lines else f"{program} (version not told)")
    return said


def _packages() -> list[str]:
    return sorted(f"{distribution.name} {distribution.version}" for distribution in distributions())


if __name__ == "__main__":
    sys.exit(main())
