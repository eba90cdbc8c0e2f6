"""outputs/nodes: what each node of several did in each run, a report of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from aml_tool_core import outputs
from aml_tool_core.profiling import deployment as deployments
from aml_tool_core.profiling import report, verdict
from aml_tool_core.profiling.cost import cost_of
from aml_tool_core.profiling.deployment import Deployment
from aml_tool_core.profiling.engine import Installed, Plan
from aml_tool_core.profiling.result import Result

FOLDER = "nodes"  # in ./outputs
_NAME = re.compile(r"node_\d+_run_(\d+)\.json")


@dataclass(frozen=True)
class NodeReports:
    """Where one node writes, and what its reports say of where they come from."""

    folder: Path
    rank: int
    tool: tuple[str, str]  # the profiler's name and version
    engine: Installed
    config_sha256: str
    deployment: Deployment

    def keep(self, number: int, plan: Plan, result: Result) -> None:
        """Write what this node alone did in one run, under a name that no other node's has."""
        clear(self.folder, number + 1)
        started_at = datetime.now(timezone.utc) - timedelta(seconds=plan.load.warmup_sec + plan.load.duration_sec)
        share = report.Report(
            report.Provenance(*self.tool, self.engine, started_at, self.config_sha256),
            self.deployment,
            plan.load,
            plan.payload,
            result,
            verdict.judge(plan.load, result),
            deployments.Usage(None, ("node 0 asks for it, for all nodes",)),
            cost_of(self.deployment.target, None, None, result.succeeded_per_sec),
        )
        outputs.write_json(self.folder / f"node_{self.rank}_run_{number}.json", share.document(), "report")


def clear(folder: Path, first: int) -> None:
    """Remove what an earlier measurement left of a run and those after it, whichever node's it is."""
    files = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("*.json")]
    outputs.remove(path for path, named in files if named is not None and int(named[1]) >= first)
