"""A process that has imported the tools and forks for each run: importing azure-ai-ml takes seconds, a fork none.

It reads a run a line, as JSON, starts it and writes its process id; or a process id to wait for, and writes its exit
code, null while it runs. A run is a process like any other: it has its own folder, its own stdout and stderr, exits by
itself, and can be killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from typing import Any, NoReturn

from aml_labench_profiler.command import TOOL as LABENCH
from aml_online_endpoints_deleter.command import TOOL as DELETER
from aml_online_endpoints_deployer.command import TOOL as DEPLOYER
from aml_tool_core import Flag, Job, Kind, Tool, main
from aml_tool_core.azure import credential, workspace
from aml_tool_core.profiling import deployment
from aml_wrk2_profiler.command import TOOL as WRK2
from aml_wrk_profiler.command import TOOL as WRK


def resolve(job: Job) -> None:
    """Resolve a scoring target as a profiler does, and print where the requests would go."""
    settings = job.documents["scoring_target_path"]["deployment_settings"]
    found = deployment.resolve(settings, str(job.path("scoring_target_path")), concurrency_given=False)
    print(found.target.shown_uri)


# The part of the profilers that talks to Azure before a load is generated.
RESOLVER = Tool(
    name="profiler",
    version="1",
    summary="Resolve a scoring target.",
    flags=(Flag("--scoring_target_path", "where to", Kind.FILE, required=True, schema="deployment_settings"),),
    run=resolve,
)
TOOLS = {
    **{"deployer": DEPLOYER, "deleter": DELETER, "profiler": RESOLVER},
    **{"wrk": WRK, "wrk2": WRK2, "labench": LABENCH},
}


def run(asked: dict[str, Any]) -> NoReturn:
    """Be the tool."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    random.seed()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        opened = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 70
    try:
        main(TOOLS[asked["tool"]], asked["flags"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without what the parent would do at its own end.
        os._exit(code)


def serve() -> None:
    """Warm up, then do what is asked until the input ends."""
    workspace.client(workspace.resolve(), credential.credential())
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            found, status = os.waitpid(asked, os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if found else None), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            run(asked)
        print(json.dumps(pid), flush=True)


if __name__ == "__main__":
    serve()
