#!/usr/bin/env python3
"""Run the same models on several machine sizes and limits, one after the other, and print one table.

For each model and size: deploy, load for some minutes, ask what was used, delete. Azure is the local control plane of
this machine unless --azure is given: then it is the workspace that the AZUREML_ARM_* variables name.

python job-templates/sku-sweep/sweep.py digits --size Standard_DS1_v2 Standard_F2s_v2 Local_0.5vCPU_256MiB
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import string
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from azureml_local.models.vm_sizes import VmSize, find_vm_size

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from chain import Chain, StepFailed, local_control_plane, make_model  # noqa: E402

REPOSITORY = HERE.parents[1]
# Azure Monitor has a figure per clock minute, so a run of two holds a whole one wherever it begins.
DURATION_SEC = 120


@dataclass(frozen=True)
class Case:
    """One model on one size."""

    model: str
    folder: Path
    size: VmSize

    @property
    def step(self) -> str:
        return f"{self.model}/{self.size.name}"

    @property
    def workers(self) -> int:
        """One per vCPU, so that a size can use what it has."""
        return max(1, math.floor(self.size.vcpus))


def deploy(chain: Chain, case: Case, endpoint: str) -> Path:
    """Deploy one model on one size; returns the settings that the deployer wrote."""
    folder = chain.folder(f"{case.step}/deploy")
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        "ENDPOINT_NAME": endpoint,
        # Lower case, digits and dashes, and not too long.
        "DEPLOYMENT_NAME": case.size.name.lower().replace("_", "-").replace(".", "-")[:32],
        "INFERENCE_SERVICE_COMPUTE_SIZE": case.size.name,
    }
    for name in ("endpoint.yml", "deployment.yml"):
        document = yaml.safe_load(string.Template((chain.example / name).read_text()).safe_substitute(names))
        if name == "deployment.yml":
            variables = document.setdefault("environment_variables", {})
            variables["WORKER_COUNT"] = str(case.workers)
            # By itself the runtime counts the machine's cores, not the size's.
            variables.setdefault("INTRA_OP_NUM_THREADS", "1")
            document.setdefault("request_settings", {})["max_concurrent_requests_per_instance"] = case.workers
        (folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
    settings = folder / "outputs" / "deployment_settings.json"
    settings.unlink(missing_ok=True)
    flags: dict[str, str | Path] = {
        "endpoint_yaml_path": folder / "endpoint.yml",
        "deployment_yaml_path": folder / "deployment.yml",
        "model_folder_path": case.folder,
        "environment_folder_path": chain.example / "environment",
        "code_folder_path": chain.example / "score",
    }
    chain.run_tool(f"{case.step}/deploy", "aml_online_endpoints_deployer", flags)
    return settings


def profile(chain: Chain, case: Case, settings: Path, duration_sec: float) -> Path:
    """Load the deployment, as many requests at a time as it has workers; returns the report."""
    folder = chain.folder(f"{case.step}/profile")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    load = {"duration_sec": duration_sec, "connections": case.workers, "threads": 1}
    config.write_text(json.dumps({"version": 1.0, "profiler_config": load}, indent=2))
    flags: dict[str, str | Path] = {
        "config_path": config,
        "scoring_target_path": settings,
        "payload_path": chain.example / "payload.jsonl",
    }
    chain.run_tool(f"{case.step}/profile", "aml_wrk_profiler", flags)
    return folder / "outputs" / "report.json"


def measure(chain: Chain, case: Case, endpoint: str, duration_sec: float) -> Path:
    """Deploy, load, ask and delete; returns the folder with what was measured. Raises StepFailed."""
    results = chain.folder(f"{case.step}/results")
    shutil.rmtree(results, ignore_errors=True)
    settings = deploy(chain, case, endpoint)
    try:
        report = profile(chain, case, settings, duration_sec)
        results.mkdir(parents=True)
        shutil.copy(report, results / "report.json")
        words: list[str | Path] = [sys.executable, HERE / "usage.py", "--settings_path", settings]
        words += ["--report_path", report, "--model", case.model, "--output", results / "device_usage.json"]
        chain.run(f"{case.step}/usage", words)
    finally:
        # Alone, and before the next: two deployments would share the machine that both are to have.
        delete(chain, f"{case.step}/delete", settings, whole_endpoint=False)
    return results


def delete(chain: Chain, step: str, settings: Path, *, whole_endpoint: bool) -> None:
    flags: dict[str, str | Path] = {"config_path": settings, "delete_endpoint": str(whole_endpoint)}
    chain.run_tool(step, "aml_online_endpoints_deleter", flags)


def run(chain: Chain, cases: Sequence[Case], duration_sec: float) -> tuple[list[Path], list[str]]:
    """Measure every case; one that fails, for lack of memory say, is told and does not keep the others from running."""
    endpoint = f"{chain.example.name}-sizes"
    measured: list[Path] = []
    failures: list[str] = []
    last: Path | None = None
    try:
        for number, case in enumerate(cases, start=1):
            print(f"\n[{number}/{len(cases)}] {case.model} on {case.size.name}", flush=True)
            try:
                measured.append(measure(chain, case, endpoint, duration_sec))
            except StepFailed as failure:
                failures.append(f"{case.model} on {case.size.name}: {failure}{reason(chain, failure)}")
            settings = chain.folder(f"{case.step}/deploy") / "outputs" / "deployment_settings.json"
            # A deployer that failed has left its endpoint only if an earlier one had made it.
            last = settings if settings.exists() else last
    finally:
        if last is not None:
            print("\ndelete the endpoint", flush=True)
            delete(chain, "delete", last, whole_endpoint=True)
    return measured, failures


def reason(chain: Chain, failure: StepFailed) -> str:
    """Return the last error line of the step that failed."""
    step = str(failure).partition(": ")[0]
    log = chain.folder(step) / "log.txt"
    lines = [line for line in log.read_text().splitlines() if ": error: " in line] if log.exists() else []
    return f"\n    {lines[-1].strip()}" if lines else ""


def parse_models(given: Sequence[str], chain: Chain) -> dict[str, Path]:
    """Read NAME=FOLDER; without any, the example's own model, exported as it is."""
    models = {}
    for entry in given:
        name, separator, folder = entry.partition("=")
        if not separator or not Path(folder).is_dir():
            raise SystemExit(f"sweep: error: --model {entry}: NAME=FOLDER is wanted, with a folder that is there")
        models[name] = Path(folder).absolute()
    if not models:
        make_model(chain)
        models[chain.example.name] = chain.exported_model
    return models


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", help="a folder of job-templates: what its score, environment and YAML files are")
    parser.add_argument("--size", nargs="+", required=True, help="Azure's sizes, or limits: Local_0.5vCPU_256MiB")
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME=FOLDER", help="model folders to compare")
    parser.add_argument("--duration_sec", type=float, default=DURATION_SEC, help="of each load (default: %(default)s)")
    parser.add_argument("--work_folder", type=Path, help="where the files go (default: .demo/sku-sweep/EXAMPLE)")
    parser.add_argument("--olive_python", type=Path, default=REPOSITORY / ".venv/olive/bin/python")
    parser.add_argument("--plane_home", type=Path, default=REPOSITORY / ".azureml_local")
    parser.add_argument("--azure", action="store_true", help="use the workspace of AZUREML_ARM_*, not a local plane")
    given = parser.parse_args()
    example = HERE.parent / given.example
    if not (example / "deployment.yml").is_file():
        parser.error(f"{given.example}: no such example in {HERE.parent}")
    sizes = [find_vm_size(name) for name in given.size]
    if None in sizes:
        parser.error(f"--size {given.size[sizes.index(None)]}: not a known size, nor one like Local_0.5vCPU_256MiB")
    work = (given.work_folder or REPOSITORY / ".demo" / "sku-sweep" / given.example).absolute()
    work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was deployed must go then too
    started = time.monotonic()
    chain = Chain(example, work, given.olive_python.absolute())
    try:
        models = parse_models(given.model, chain)
        cases = [Case(model, folder, size) for model, folder in models.items() for size in sizes if size is not None]
        if given.azure:
            measured, failures = run(chain, cases, given.duration_sec)
        else:
            with local_control_plane(given.plane_home.absolute()) as variables:
                local = Chain(example, work, chain.olive_python, variables)
                measured, failures = run(local, cases, given.duration_sec)
        if measured:
            print()
            table: list[str | Path] = [sys.executable, "-m", "aml_report", "devices", *measured]
            chain.run("table", [*table, "--csv", work / "devices.csv"])
    except StepFailed as failure:
        print(f"\nsweep: error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsweep: error: interrupted; nothing that it deployed is left", file=sys.stderr)
        return 130
    for failure_text in failures:
        print(f"not measured: {failure_text}")
    print(f"\nfigures: {work / 'devices.csv'}; done in {time.monotonic() - started:.0f} s")
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
