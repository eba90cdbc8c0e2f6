#!/usr/bin/env python3
"""Run the whole chain on an example: make the model, optimize, deploy, profile, compare, delete, each by its own tool.

The steps know each other by files alone, as they do when AzureML runs them: the optimizer's named outputs, the
deployer's deployment_settings.json, the profilers' report.json. Azure is the local control plane of this machine
unless --azure is given: then it is the workspace that the AZUREML_ARM_* variables name.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PROFILERS = ("wrk", "wrk2", "labench")
COMPARED = "wrk"  # its closed loop shows how much more, or less, the same machine serves
SKU = "Standard_F2s_v2"


class StepFailed(Exception):
    """A step of the chain ended with another exit code than 0."""


@dataclass(frozen=True)
class Chain:
    """Where one run of the chain finds its example and puts its files."""

    example: Path
    work: Path
    olive_python: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the tools' own, e.g. the control plane's
    # Ends the endpoint's name where others have endpoints too: what the chain deletes at the end is to be its own.
    endpoint_suffix: str = ""

    @property
    def endpoint(self) -> str:
        return f"{self.example.name}-endpoint{self.endpoint_suffix}"

    def folder(self, step: str) -> Path:
        """Return the folder a step runs in: its ./outputs is an AzureML job's."""
        return self.work / step

    @property
    def optimized_model(self) -> Path:
        return self.folder("optimize") / "optimized_model"

    @property
    def optimized_parameters(self) -> Path:
        return self.folder("optimize") / "optimized_parameters"

    @property
    def exported_model(self) -> Path:
        """The model as exported, without the optimizer: what the optimized one is compared with."""
        return self.work / "exported_model"

    @property
    def comparison(self) -> Path:
        return self.work / "comparison.html"

    def settings(self, deployment: str) -> Path:
        return self.folder(f"deploy_{deployment}") / "outputs" / "deployment_settings.json"

    def report(self, profiler: str, deployment: str = "optimized") -> Path:
        return self.folder(f"{profiler}_{deployment}") / "outputs" / "report.json"

    def run_tool(self, step: str, tool: str, flags: Mapping[str, str | Path], python: Path | None = None) -> None:
        """Run a tool by its module's name with its flags, by default in this script's own environment."""
        words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
        self.run(step, [python or sys.executable, "-m", tool, *words])

    def run(self, step: str, command: Sequence[str | Path]) -> None:
        """Run one tool in its step's folder; its log is shown and kept in log.txt. Raises StepFailed."""
        folder = self.folder(step)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    log.write(line)
                    print(f"    {line}", end="", flush=True)
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code:
            raise StepFailed(f"{step}: exit code {code}; its log is {folder / 'log.txt'}")


def make_model(chain: Chain) -> None:
    """Make the example's model, unless an earlier run made it: training is no part of what the chain measures."""
    model = chain.work / "model"
    with made_once(model) as folder:
        if folder is not None:
            chain.run("make_model", [chain.olive_python, chain.example / "train.py", "--output", folder])
    with made_once(chain.exported_model) as folder:
        if folder is not None:
            words: list[str | Path] = [
                chain.olive_python,
                HERE / "export.py",
                chain.example.name,
                "--model_path",
                model,
            ]
            chain.run("export", [*words, "--output", folder])


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Yield where to make a folder that is not there yet, else None; cut short, it leaves none that is half made."""
    if folder.exists():
        yield None
        return
    begun = folder.with_name(f".{folder.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    yield begun
    begun.rename(folder)


def optimize(chain: Chain) -> None:
    shutil.rmtree(chain.folder("optimize"), ignore_errors=True)  # Olive's cache too: each run measures anew
    flags = {
        "config_path": chain.example / "optimizer.json",
        "model_path": chain.work / "model",
        "code": chain.example / "code",
        "optimized_parameters_path": chain.optimized_parameters,
        "optimized_model_path": chain.optimized_model,
    }
    chain.run_tool("optimize", "aml_olive_optimizer", flags, chain.olive_python)


def deploy(chain: Chain, deployment: str = "optimized") -> None:
    """Deploy the optimized model with its parameters, or the exported one with the runtime's defaults."""
    optimized = deployment == "optimized"
    folders: dict[str, str | Path] = {
        "model_folder_path": chain.optimized_model if optimized else chain.exported_model,
        "environment_folder_path": chain.example / "environment",
        "code_folder_path": chain.example / "score",
    }
    if optimized:
        folders["optimized_parameters_path"] = chain.optimized_parameters
    deploy_folders(chain, deployment, folders)


def deploy_folders(chain: Chain, deployment: str, folders: Mapping[str, str | Path]) -> None:
    """Deploy what the folders hold, each under the deployer's flag for it, by the example's YAML files."""
    names = {
        "ENDPOINT_NAME": chain.endpoint,
        "DEPLOYMENT_NAME": deployment,
        "INFERENCE_SERVICE_COMPUTE_SIZE": SKU,
    }
    folder = chain.folder(f"deploy_{deployment}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("endpoint.yml", "deployment.yml"):
        filled = string.Template((chain.example / name).read_text()).safe_substitute(names)
        (folder / name).write_text(filled)
    flags = {
        "endpoint_yaml_path": folder / "endpoint.yml",
        "deployment_yaml_path": folder / "deployment.yml",
        **folders,
    }
    # The settings of an earlier run, which tell what that one has deployed, are set aside by the deployer itself.
    chain.run_tool(f"deploy_{deployment}", "aml_online_endpoints_deployer", flags)


def profile(chain: Chain, profiler: str, deployment: str = "optimized") -> None:
    flags = {
        "config_path": chain.example / f"{profiler}_config.json",
        "scoring_target_path": chain.settings(deployment),
        "payload_path": chain.example / "payload.jsonl",
    }
    chain.run_tool(f"{profiler}_{deployment}", f"aml_{profiler}_profiler", flags)


def compare(chain: Chain) -> None:
    words: list[str | Path] = [sys.executable, "-m", "aml_report", "compare", "--html", chain.comparison]
    chain.run("compare", [*words, chain.report(COMPARED, "exported"), chain.report(COMPARED)])


def delete(chain: Chain) -> None:
    """Delete the endpoint with all its deployments."""
    flags: dict[str, str | Path] = {"config_path": deployed(chain) or "", "delete_endpoint": "True"}
    chain.run_tool("delete", "aml_online_endpoints_deleter", flags)


def deployed(chain: Chain) -> Path | None:
    """Return the file that names what stands: the settings, or the note of a deployer that was cut short."""
    settings = chain.settings("optimized")
    return next((path for path in (settings, settings.with_suffix(".partial.json")) if path.exists()), None)


@contextmanager
def local_control_plane(home: Path) -> Iterator[dict[str, str]]:
    """Start the local control plane and yield the variables that point the SDKs at it.

    It is stopped at the end, unless it ran before.
    """

    def asked(command: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "azureml_local", command, "--home", str(home)]
        return subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)

    def azureml_local(command: str) -> str:
        done = asked(command)
        if done.returncode:
            raise StepFailed(f"azureml-local {command}: exit code {done.returncode}; its reason is above")
        return done.stdout

    ran_before = asked("status").returncode == 0
    print(azureml_local("up"), end="", flush=True)
    try:
        exports = (shlex.split(line)[1] for line in azureml_local("env").splitlines())
        yield dict(export.split("=", 1) for export in exports)
    finally:
        if not ran_before:
            azureml_local("down")


def run(chain: Chain, profilers: Sequence[str]) -> None:
    """Run every step; what was deployed is deleted whatever happens in between."""
    steps: list[tuple[str, Callable[[], None]]] = [
        ("make the model", partial(make_model, chain)),
        ("optimize (aml_olive_optimizer)", partial(optimize, chain)),
        ("deploy (aml_online_endpoints_deployer)", partial(deploy, chain)),
        *((f"profile (aml_{name}_profiler)", partial(profile, chain, name)) for name in profilers),
    ]
    if COMPARED in profilers:
        steps += [
            ("deploy the model as exported, to compare with", partial(deploy, chain, "exported")),
            ("profile it", partial(profile, chain, COMPARED, "exported")),
            ("compare (aml_report)", partial(compare, chain)),
        ]
    count = len(steps) + 1
    try:
        for number, (title, step) in enumerate(steps, 1):
            print(f"\n[{number}/{count}] {title}", flush=True)
            step()
    finally:
        # A step that fails before the first deployment, or a deployer that has removed what it made, leaves nothing.
        if deployed(chain) is not None:
            print(f"\n[{count}/{count}] delete (aml_online_endpoints_deleter)", flush=True)
            delete(chain)


def summary(chain: Chain, profilers: Sequence[str]) -> str:
    """Return the tables that answer what was won, how fast it is served, on what, at what cost, and what to believe."""
    parameters = json.loads((chain.optimized_parameters / "optimized_parameters.json").read_text())
    runs = [(profiler, "optimized") for profiler in profilers]
    if COMPARED in profilers:
        runs.insert(0, (COMPARED, "exported"))
    reports = [json.loads(chain.report(*run).read_text()) for run in runs]
    files = [chain.optimized_model / "model.onnx", chain.optimized_parameters / "optimized_parameters.json"]
    files += [chain.folder("optimize") / "outputs" / "optimization.html", chain.settings("optimized")]
    files += [chain.report(*run).with_suffix(suffix) for run in runs for suffix in (".json", ".html")]
    listed = "\n".join(f"  {_shown(path)}" for path in [*files, chain.comparison] if path.exists())
    tables = [_model_table(parameters), _session(parameters), "", _endpoint_table(runs, reports)]
    return "\n".join([*tables, *_footnotes(runs, reports), "", "files", listed])


def _model_table(parameters: Mapping[str, Any]) -> str:
    rows = [
        [f"{name}, ms" if name.startswith("latency") else name, *map(_number, _before_and_after(metric))]
        for name, metric in parameters["metrics"].items()
    ]
    headers = ["model, in process", "as given", "optimized"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "right", "right"))


def _before_and_after(metric: Mapping[str, Any]) -> tuple[float | None, float]:
    return metric.get("input_model_value"), metric["value"]


def _session(parameters: Mapping[str, Any]) -> str:
    options = parameters["session_options"]
    providers = ", ".join(name for name, _ in parameters["execution_provider"])
    threads = f"{options['intra_op_num_threads']} intra-op and {options['inter_op_num_threads']} inter-op threads"
    return f"optimized: {providers}, {threads}, graph optimization level {options['graph_optimization_level']}"


def _endpoint_table(runs: Sequence[tuple[str, str]], reports: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        ["model", *(deployment for _, deployment in runs)],
        ["SKU", *(_machines(report) for report in reports)],
        ["load", *(_load(report) for report in reports)],
        ["requests per second", *(_number(report["result"]["requests_per_sec"]) for report in reports)],
        *([f"p{q} ms [95 % interval]", *(_percentile(report, q) for report in reports)] for q in ("50", "95", "99")),
        ["failed / 429", *(_failures(report) for report in reports)],
        ["CPU %, average", *(_cpu(report) for report in reports)],
        ["core-hours per million requests", *(_cost(report) for report in reports)],
        ["may be believed", *("yes" if report["verdict"]["valid"] else "no, see below" for report in reports)],
    ]
    headers = ["endpoint", *(profiler for profiler, _ in runs)]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * len(runs)))


def _footnotes(runs: Sequence[tuple[str, str]], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if any(report.get("resource_usage_reasons") for report in reports):
        notes.append("* of the whole minutes that the run lies in, which hold more than the run")
    if any(report["load"]["model"] == "open" for report in reports):
        notes.append("** at the rate that was asked for; what the machine could serve at most, the closed loop shows")
    for (profiler, deployment), report in zip(runs, reports, strict=True):
        notes += [f"{profiler}, {deployment}: {reason}" for reason in report["verdict"]["reasons"]]
    return notes


def _load(report: Mapping[str, Any]) -> str:
    load = report["load"]
    if load["model"] == "open":
        return f"open, {load['target_rps']:g}/s"
    return f"closed, {load['connections']} conn."


def _machines(report: Mapping[str, Any]) -> str:
    target = report["target"]
    return f"{target.get('instance_count') or '?'} x {target.get('sku') or '?'}"


def _percentile(report: Mapping[str, Any], q: str) -> str:
    if "latency_ms" not in report["result"]:
        return "-"  # nothing was answered
    percentile = report["result"]["latency_ms"]["percentiles"][q]
    low, high = percentile.get("ci95") or (None, None)
    bounds = f" [{_number(low)}, {_number(high)}]" if percentile.get("certified") else ""
    return f"{_number(percentile['value'])}{bounds}"


def _failures(report: Mapping[str, Any]) -> str:
    kinds = dict(report["result"]["errors"])
    # A load generator that does not tell the status codes cannot tell a 429 either.
    statuses = kinds.pop("status", None)
    limited = "-" if statuses is None else statuses.get("429", 0)
    answered = sum(count for status, count in (statuses or {}).items() if status != "429")
    return f"{sum(kinds.values()) + answered} / {limited}"


def _cpu(report: Mapping[str, Any]) -> str:
    usage = (report.get("resource_usage") or {}).get("CpuUtilizationPercentage") or {}
    partial = "*" if usage and report.get("resource_usage_reasons") else ""
    return _number(usage.get("average")) + partial


def _cost(report: Mapping[str, Any]) -> str:
    cost = _number((report.get("cost") or {}).get("core_hour_per_million_requests"))
    return cost + ("**" if report["load"]["model"] == "open" and cost != "-" else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", help="a folder beside this file, e.g. digits")
    parser.add_argument("--olive_python", type=Path, default=REPOSITORY / ".venv/olive/bin/python")
    parser.add_argument("--work_folder", type=Path, help="where the files go (default: .demo/EXAMPLE)")
    parser.add_argument("--plane_home", type=Path, default=REPOSITORY / ".azureml_local")
    parser.add_argument("--azure", action="store_true", help="use the workspace of AZUREML_ARM_*, not a local plane")
    parser.add_argument("--profilers", nargs="+", choices=PROFILERS, default=list(PROFILERS))
    given = parser.parse_args()
    example = HERE / given.example
    if not (example / "optimizer.json").is_file():
        known = ", ".join(sorted(path.parent.name for path in HERE.glob("*/optimizer.json")))
        parser.error(f"{given.example}: no such example; there are: {known}")
    work = (given.work_folder or REPOSITORY / ".demo" / given.example).absolute()
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was deployed must go then too
    # The venv's python must not be resolved: its link is what makes it the venv's.
    chain = Chain(example, work, given.olive_python.absolute())
    try:
        if given.azure:
            run(replace(chain, endpoint_suffix=f"-{secrets.token_hex(3)}"), given.profilers)
        else:
            with local_control_plane(given.plane_home.absolute()) as variables:
                run(replace(chain, environment=variables), given.profilers)
    except StepFailed as failure:
        print(f"\nchain: error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nchain: error: interrupted; the deleter's last line says what stands", file=sys.stderr)
        return 130
    print(f"\n{summary(chain, given.profilers)}\n\ndone in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
