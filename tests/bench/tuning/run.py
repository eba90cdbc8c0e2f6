#!/usr/bin/env python3
"""The quick search against the full grid, on an example deployed to the local control plane.

    .venv/tools/bin/python tests/bench/tuning/run.py digits

Every combination of worker count, requests at a time and ONNX Runtime threads is deployed, profiled and deleted; then
the quick search does the same from an empty folder, with trials of its own. Printed are both answers, the quick one's
worth by the grid's own measurement, and the shares of trials and time that it took. The best of many noisy figures is
better than it is, so both answers are then deployed and measured again, in turn (--rounds). Nothing is asserted. Trials
that are done are kept in the work folder: an interrupted benchmark goes on where it was. For an otherwise idle machine;
on one that others use too, root can put all that takes part ahead of them: --ahead.

The model is what `make demo EXAMPLE=...` has left in .demo, or --model and --parameters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import string
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

REPOSITORY = Path(__file__).resolve().parents[3]
TEMPLATES = REPOSITORY / "job-templates"
sys.path.insert(0, str(TEMPLATES))
chain: Any = importlib.import_module("chain")


def tune(
    given: argparse.Namespace,
    strategy: str,
    environment: Mapping[str, str],
    folder: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run aml_tuner with one strategy, over the example's parameters or these; return its summary."""
    work = given.work / (folder or strategy)
    work.mkdir(parents=True, exist_ok=True)
    example, tuning = TEMPLATES / given.example, TEMPLATES / "tuning" / given.example
    names = {
        "ENDPOINT_NAME": f"{given.example}-{strategy}",
        "DEPLOYMENT_NAME": "tuned",
        "INFERENCE_SERVICE_COMPUTE_SIZE": given.sku,
    }
    for name in ("endpoint.yml", "deployment.yml"):
        (work / name).write_text(string.Template((example / name).read_text()).safe_substitute(names))
    config = json.loads((tuning / "config.json").read_text())
    config["tuning_config"] |= {"strategy": strategy, "objective": {"succeeded_per_sec": 1}}
    if parameters is not None:
        config["tuning_config"]["parameters"] = parameters
    (work / "config.json").write_text(json.dumps(config, indent=2))
    load = json.loads((tuning / "load.json").read_text())
    load["profiler_config"] |= {"duration_sec": given.duration_sec, "connections": given.connections}
    (work / "load.json").write_text(json.dumps(load, indent=2))
    flags = {
        "config_path": work / "config.json",
        "endpoint_yaml_path": work / "endpoint.yml",
        "deployment_yaml_path": work / "deployment.yml",
        "profiler_config_path": work / "load.json",
        "payload_path": example / "payload.jsonl",
        "model_folder_path": given.model,
        "environment_folder_path": example / "environment",
        "code_folder_path": example / "score",
        "optimized_parameters_path": given.parameters,
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    subprocess.run([sys.executable, "-m", "aml_tuner", *words], cwd=work, env={**os.environ, **environment}, check=True)
    summary: dict[str, Any] = json.loads((work / "outputs" / "summary.json").read_text())
    return summary


def again(given: argparse.Namespace, environment: Mapping[str, str], answers: Mapping[str, str]) -> str:
    """Deploy and measure the answers again, in turn; return what came of it."""
    if len(set(answers.values())) == 1 or given.rounds < 1:
        return "both answers are the same" if len(set(answers.values())) == 1 else "not measured again"
    found: dict[str, list[float]] = {name: [] for name in answers}
    for number in range(given.rounds):
        for name, variant in answers.items():
            parameters = {key: [value] for key, value in json.loads(variant).items()}
            summary = tune(given, "grid", environment, f"again/{number}-{name}", parameters)
            found[name].append(summary["trials"][0]["metrics"]["succeeded_per_sec"])
    means = {name: math.fsum(values) / len(values) for name, values in found.items()}
    told = "; ".join(f"{name} {', '.join(f'{value:.1f}' for value in values)}" for name, values in found.items())
    return (
        f"both answers measured again, {given.rounds} times each, in turn: {told} good/s; "
        f"quick to grid {100 * means['quick'] / means['grid']:.1f} %"
    )


def rates(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the good answers per second of each variant that keeps the constraints."""
    return {
        json.dumps(one["variant"]): one["metrics"]["succeeded_per_sec"] for one in summary["trials"] if one["feasible"]
    }


def chosen(summary: Mapping[str, Any]) -> str:
    """Return the variant that a summary says to take."""
    best = next(one for one in summary["trials"] if one["id"] == summary["choice"]["id"])
    return json.dumps(best["variant"])


def seconds(summary: Mapping[str, Any]) -> float:
    """Return what the trials took together."""
    return math.fsum(one["seconds"] for one in summary["trials"])


def table(grid: Mapping[str, Any], quick: Mapping[str, Any]) -> str:
    """Return the comparison."""
    by_grid, by_quick = rates(grid), rates(quick)
    rows = []
    for name, summary, own in (("grid", grid, by_grid), ("quick", quick, by_quick)):
        variant = chosen(summary)
        share = by_grid.get(variant, math.nan) / max(by_grid.values())
        rows.append(
            [
                name,
                len(summary["trials"]),
                f"{seconds(summary):.0f}",
                ", ".join(f"{key} {value}" for key, value in json.loads(variant).items()),
                f"{own[variant]:.1f}",
                f"{by_grid.get(variant, math.nan):.1f}",
                f"{100 * share:.1f}",
            ]
        )
    headers = ["strategy", "trials", "s", "answer", "its own good/s", "the grid's good/s", "% of the grid's best"]
    ratio = len(quick["trials"]) / len(grid["trials"])
    again = [by_quick[key] / by_grid[key] for key in by_quick if key in by_grid]
    noise = f"{100 * (min(again) - 1):+.1f} to {100 * (max(again) - 1):+.1f} %" if again else "not known"
    return (
        f"{tabulate(rows, headers=headers)}\n\nthe quick search took {100 * ratio:.1f} % of the trials; measured "
        f"twice, combinations differ by {noise}"
    )


def put_ahead(home: Path) -> None:
    """Give the instances' groups the largest weight there is."""
    for folder in json.loads((home / "run" / "cgroups.json").read_text()):
        for name, largest in (("cpu.shares", 262_144), ("cpu.weight", 10_000)):
            path = Path(folder) / name
            if path.exists():
                path.write_text(str(largest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("example", choices=("digits", "minilm"))
    parser.add_argument("--work", type=Path, help="folder of the trials (default: .demo/bench-tuning/EXAMPLE)")
    parser.add_argument("--model", type=Path, help="the optimized model's folder")
    parser.add_argument("--parameters", type=Path, help="the optimized parameters' folder")
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".azureml_local", help="of the control plane")
    parser.add_argument("--sku", default="Standard_F2s_v2")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--duration_sec", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3, help="how often both answers are measured again")
    parser.add_argument("--ahead", action="store_true", help="take precedence over whatever else runs (root)")
    given = parser.parse_args()
    made = REPOSITORY / ".demo" / given.example / "optimize"
    given.model = (given.model or made / "optimized_model").resolve()
    given.parameters = (given.parameters or made / "optimized_parameters").resolve()
    given.work = (given.work or REPOSITORY / ".demo" / "bench-tuning" / given.example).resolve()
    if given.ahead:
        # What it starts inherits it; the instances are in groups of their own, which weigh as a whole.
        os.nice(-15)
    with chain.local_control_plane(given.home) as environment:
        if given.ahead:
            put_ahead(given.home)
        grid = tune(given, "grid", environment)
        quick = tune(given, "quick", environment)
        more = again(given, environment, {"grid": chosen(grid), "quick": chosen(quick)})
    load = f"{given.connections} connections, closed loop"
    print(f"\n{given.example}, {load}, {given.sku}\n\n{table(grid, quick)}\n{more}")


if __name__ == "__main__":
    main()
