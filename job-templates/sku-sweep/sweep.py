#!/usr/bin/env python3
"""Run the same models on several machine sizes and limits, one after the other, and print one table.

For each model and size: deploy, load for some minutes, ask what was used, delete. Azure is the local control plane of
this machine unless --azure is given: then it is the workspace that the AZUREML_ARM_* variables name.

All deployments are of one endpoint, whose name is new each time: whatever stood before is left alone.

python job-templates/sku-sweep/sweep.py digits --size Standard_DS1_v2 Standard_F2s_v2 Local_0.5vCPU_256MiB
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import shutil
import signal
import string
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from azureml_local.models.vm_sizes import VmSize, find_vm_size

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from chain import Chain, StepFailed, local_control_plane, make_model  # noqa: E402

REPOSITORY = HERE.parents[1]
DELETER = "aml_online_endpoints_deleter"
# Azure's limit of an endpoint's name, and what this adds to the example's.
LONGEST_NAME = 32
ENDPOINT_SUFFIX_BYTES = 3
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


@dataclass
class Sweep:
    """What has come of the cases so far; whatever ends the loop, this stays."""

    measured: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    # The files that name what has been deployed and, as far as is known, not removed.
    standing: list[Path] = field(default_factory=list)
    undeleted: list[str] = field(default_factory=list)
    deleted: bool = False

    @property
    def remains(self) -> str:
        """Say what stands."""
        if self.standing:
            lines = "\n".join(
                f"    python -m {DELETER} --delete_endpoint True --config_path {p}" for p in self.standing
            )
            return f"not removed ({'; '.join(self.undeleted) or 'interrupted'}); remove it by:\n{lines}"
        return "what it had deployed is deleted" if self.deleted else "nothing had been deployed"


def endpoint_name(example: str) -> str:
    """Return a name that no endpoint has: the sweep deletes it whole at the end."""
    ending = f"-sizes-{secrets.token_hex(ENDPOINT_SUFFIX_BYTES)}"
    return f"{example[: LONGEST_NAME - len(ending)].rstrip('-')}{ending}"


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
    flags: dict[str, str | Path] = {
        "endpoint_yaml_path": folder / "endpoint.yml",
        "deployment_yaml_path": folder / "deployment.yml",
        "model_folder_path": case.folder,
        "environment_folder_path": chain.example / "environment",
        "code_folder_path": chain.example / "score",
    }
    chain.run_tool(f"{case.step}/deploy", "aml_online_endpoints_deployer", flags)
    return settings_path(chain, case)


def settings_path(chain: Chain, case: Case) -> Path:
    return chain.folder(f"{case.step}/deploy") / "outputs" / "deployment_settings.json"


def named(chain: Chain, case: Case, endpoint: str) -> Path | None:
    """Return the file that names what was deployed: the settings, or the note of a deployer that was cut short.

    None where there is none, or only one of an earlier sweep.
    """
    settings = settings_path(chain, case)
    for path in (settings, settings.with_suffix(".partial.json")):
        if path.exists() and json.loads(path.read_text())["deployment_settings"]["endpoint_name"] == endpoint:
            return path
    return None


def profile(chain: Chain, case: Case, settings: Path, duration_sec: int) -> Path:
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


def measure(chain: Chain, case: Case, endpoint: str, duration_sec: int) -> Path:
    """Deploy, load and ask; returns the folder with what was measured. Raises StepFailed."""
    results = chain.folder(f"{case.step}/results")
    shutil.rmtree(results, ignore_errors=True)
    settings = deploy(chain, case, endpoint)
    report = profile(chain, case, settings, duration_sec)
    results.mkdir(parents=True)
    shutil.copy(report, results / "report.json")
    words: list[str | Path] = [sys.executable, HERE / "usage.py", "--settings_path", settings]
    words += ["--report_path", report, "--model", case.model, "--output", results / "device_usage.json"]
    chain.run(f"{case.step}/usage", words)
    return results


def delete(chain: Chain, step: str, path: Path, *, whole_endpoint: bool) -> None:
    flags: dict[str, str | Path] = {"config_path": path, "delete_endpoint": str(whole_endpoint)}
    chain.run_tool(step, DELETER, flags)


def run(chain: Chain, cases: Sequence[Case], endpoint: str, duration_sec: int, sweep: Sweep) -> None:
    """Measure every case; one that fails, for lack of memory say, is told and does not keep the others from running.

    Raises StepFailed where a deployment cannot be removed: the next would share the machine that each is to have alone.
    """
    try:
        for number, case in enumerate(cases, start=1):
            print(f"\n[{number}/{len(cases)}] {case.model} on {case.size.name}", flush=True)
            try:
                sweep.measured.append(measure(chain, case, endpoint, duration_sec))
            except StepFailed as failure:
                sweep.failures.append(f"{case.model} on {case.size.name}: {failure}{reason(chain, failure)}")
            if (path := named(chain, case, endpoint)) is not None:
                delete(chain, f"{case.step}/delete", path, whole_endpoint=False)
    finally:
        clear(chain, cases, endpoint, sweep)


def clear(chain: Chain, cases: Sequence[Case], endpoint: str, sweep: Sweep) -> None:
    """Delete the endpoint with all that is left in it; what cannot be deleted is kept in mind."""
    found = [path for case in reversed(cases) if (path := named(chain, case, endpoint)) is not None]
    # Settings stand for the whole endpoint. A note stands only for what its run has made: the first one's goes last,
    # since it may be the one that made the endpoint.
    settings = [path for path in found if path.name == "deployment_settings.json"]
    sweep.standing = settings[:1] or found
    for path in tuple(sweep.standing):
        try:
            delete(chain, "delete", path, whole_endpoint=True)
        except StepFailed as failure:
            sweep.undeleted.append(f"{failure}{reason(chain, failure)}")
        else:
            sweep.standing.remove(path)
            sweep.deleted = True
    if not sweep.standing:
        for path in found:
            # What it names is gone; the next sweep's deployer would keep it under another name.
            path.unlink(missing_ok=True)


def reason(chain: Chain, failure: StepFailed) -> str:
    """Return the last error line of the step that failed."""
    step = str(failure).partition(": ")[0]
    log = chain.folder(step) / "log.txt"
    lines = [line for line in log.read_text().splitlines() if ": error: " in line] if log.exists() else []
    return f"\n    {lines[-1].strip()}" if lines else ""


def named_model(text: str) -> tuple[str, Path]:
    """Read NAME=FOLDER."""
    name, separator, folder = text.partition("=")
    if not separator or not name or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: NAME=FOLDER is wanted, with a folder that is there")
    return name, Path(folder).absolute()


def whole_seconds(text: str) -> int:
    """Read a duration as the profiler takes it: it would refuse any other, of each case, once it is deployed."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: whole seconds are wanted, at least 1")
    return int(text)


def models_of(given: Sequence[tuple[str, Path]], chain: Chain) -> dict[str, Path]:
    """Return the models that were named, else the example's own, exported as it is."""
    if given:
        return dict(given)
    make_model(chain)
    return {chain.example.name: chain.exported_model}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", help="a folder of job-templates: what its score, environment and YAML files are")
    parser.add_argument("--size", nargs="+", required=True, help="Azure's sizes, or limits: Local_0.5vCPU_256MiB")
    parser.add_argument(
        "--model", nargs="+", type=named_model, default=[], metavar="NAME=FOLDER", help="folders to compare"
    )
    parser.add_argument(
        "--duration_sec", type=whole_seconds, default=DURATION_SEC, help="of each load (default: %(default)s)"
    )
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
    if len(dict(given.model)) < len(given.model):
        parser.error("--model: two of the same name")
    work = (given.work_folder or REPOSITORY / ".demo" / "sku-sweep" / given.example).absolute()
    work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was deployed must go then too
    started = time.monotonic()
    chain = Chain(example, work, given.olive_python.absolute())
    sweep, endpoint = Sweep(), endpoint_name(example.name)
    code = 0
    try:
        models = models_of(given.model, chain)
        cases = [Case(model, folder, size) for model, folder in models.items() for size in sizes if size is not None]
        if given.azure:
            run(chain, cases, endpoint, given.duration_sec, sweep)
        else:
            with local_control_plane(given.plane_home.absolute()) as variables:
                run(Chain(example, work, chain.olive_python, variables), cases, endpoint, given.duration_sec, sweep)
    except StepFailed as failure:
        print(f"\nsweep: error: {failure}; endpoint {endpoint}: {sweep.remains}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(f"\nsweep: error: interrupted; endpoint {endpoint}: {sweep.remains}", file=sys.stderr)
        code = 130
    else:
        if sweep.standing:
            print(f"\nsweep: error: endpoint {endpoint}: {sweep.remains}", file=sys.stderr)
        if sweep.standing or not sweep.measured:
            code = 1
    return tell(chain, sweep, started) or code


def tell(chain: Chain, sweep: Sweep, started: float) -> int:
    """Print the table of what was measured, and what was not."""
    code = 0
    if sweep.measured:
        print()
        words: list[str | Path] = [sys.executable, "-m", "aml_report", "devices", *sweep.measured]
        try:
            chain.run("table", [*words, "--csv", chain.work / "devices.csv"])
        except StepFailed as failure:
            print(f"\nsweep: error: {failure}", file=sys.stderr)
            code = 1
    for text in sweep.failures:
        print(f"not measured: {text}")
    if sweep.measured and not code:
        print(f"\nfigures: {chain.work / 'devices.csv'}; done in {time.monotonic() - started:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
