"""The three forms of the model behind the local control plane's gateway, profiled in turns.

run.py starts it in the tools' environment: `endpoints.py WORK PAYLOAD --pytorch FOLDER --exported FOLDER --found FOLDER
--turns N --duration_sec S --held_out FILE`. WORK/endpoints.json is what comes of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import signal
import ssl
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parents[2] / "job-templates"
EXAMPLE = TEMPLATES / "minilm"
sys.path.insert(0, str(TEMPLATES))

chain: Any = importlib.import_module("chain")

DEPLOYMENTS = ("pytorch", "exported", "optimized")
REFERENCE = "pytorch"
CONNECTIONS = 1  # so that the answer's time is the model's and the server's, and nothing has to wait
WARMUP_SEC = 1


def deploy(run: Any, pytorch: Path) -> None:
    """Deploy all three on one endpoint; the first takes minutes when its environment is still to be built."""
    folders = {
        "model_folder_path": pytorch,
        "environment_folder_path": HERE / "pytorch" / "environment",
        "code_folder_path": HERE / "pytorch" / "score",
    }
    chain.deploy_folders(run, "pytorch", folders)
    chain.deploy(run, "exported")
    chain.deploy(run, "optimized")


def profile(run: Any, deployment: str, load: str, payload: Path, turn: int, duration_sec: float) -> dict[str, Any]:
    """Profile one deployment for one turn; return what its report says. Raises StepFailed."""
    step = f"wrk_{load}_{deployment}_{turn}"
    configuration = run.work / "wrk_config.json"
    profiler_config = {"duration_sec": duration_sec, "connections": CONNECTIONS, "warmup_sec": WARMUP_SEC}
    configuration.write_text(json.dumps({"version": "1.0", "profiler_config": profiler_config}))
    flags = {
        "config_path": configuration,
        "scoring_target_path": run.settings(deployment),
        "payload_path": payload,
    }
    run.run_tool(step, "aml_wrk_profiler", flags)
    result = json.loads((run.folder(step) / "outputs" / "report.json").read_text())["result"]
    requests = result["requests"]
    if requests["succeeded"] == 0 or requests["succeeded"] != requests["completed"]:
        raise chain.StepFailed(
            f"{step}: {requests['succeeded']} of {requests['completed']} answers are good ({result['errors']}): "
            "no measure of the model; where none came, the machine is too busy or --endpoint_sec too short"
        )
    return {
        "requests_per_sec": result["requests_per_sec"],
        "p50_ms": result["latency_ms"]["percentiles"]["50"]["value"],
        "p99_ms": result["latency_ms"]["percentiles"]["99"]["value"],
        "requests": requests["completed"],
    }


def embeddings(run: Any, deployments: Sequence[str], texts: Sequence[str]) -> dict[str, list[list[float]]]:
    """Ask each deployment for the texts' embeddings, one text at a time."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    workspace = ("SUBSCRIPTION", "RESOURCEGROUP", "WORKSPACE_NAME")
    client = MLClient(DefaultAzureCredential(), *(os.environ[f"AZUREML_ARM_{name}"] for name in workspace))
    uri = client.online_endpoints.get(run.endpoint).scoring_uri
    key = client.online_endpoints.get_keys(run.endpoint).primary_key
    trusted = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])

    def ask(deployment: str, text: str) -> list[float]:
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "azureml-model-deployment": deployment,
        }
        request = urllib.request.Request(uri, json.dumps({"texts": [text]}).encode(), headers)
        with urllib.request.urlopen(request, timeout=30, context=trusted) as response:
            answer: dict[str, list[list[float]]] = json.load(response)
        return answer["embeddings"][0]

    return {deployment: [ask(deployment, text) for text in texts] for deployment in deployments}


def mean_cosine(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Return the mean cosine between corresponding rows."""
    cosines = [
        math.fsum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
        for one, other in zip(ours, theirs, strict=True)
    ]
    return math.fsum(cosines) / len(cosines)


def measure(run: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Deploy, ask, profile in turns; return all of it."""
    deploy(run, given.pytorch)
    answers = embeddings(run, DEPLOYMENTS, given.held_out.read_text(encoding="utf-8").splitlines())
    loads = {"full_length": given.payload, "mixed": EXAMPLE / "payload.jsonl"}
    turns: dict[str, dict[str, list[dict[str, Any]]]] = {
        load: {deployment: [] for deployment in DEPLOYMENTS} for load in loads
    }
    for turn in range(1, given.turns + 1):
        for load, payload in loads.items():
            for deployment in DEPLOYMENTS:
                measured = profile(run, deployment, load, payload, turn, given.duration_sec)
                turns[load][deployment].append(measured)
    cosines = {deployment: mean_cosine(answers[deployment], answers[REFERENCE]) for deployment in DEPLOYMENTS}
    return {"turns": turns, "mean_cosine": cosines}


def environment(plane: Mapping[str, str]) -> dict[str, str]:
    """Return the control plane's variables after setting them here too, for the SDK."""
    os.environ.update(plane)
    return dict(plane)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("payload", type=Path)
    for flag in ("--pytorch", "--exported", "--found", "--held_out"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--duration_sec", type=int, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started must end then too
    work: Path = given.work
    # The chain's own layout, so that its steps find what was exported and found.
    (work / "optimize").mkdir(parents=True)
    (work / "exported_model").symlink_to(given.exported)
    for name in ("optimized_model", "optimized_parameters"):
        (work / "optimize" / name).symlink_to(given.found / name)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-plane-") as home,
            chain.local_control_plane(Path(home)) as plane,
        ):
            run = chain.Chain(EXAMPLE, work, Path(sys.executable), environment(plane))
            measured = measure(run, given)
    except chain.StepFailed as failure:
        print(f"endpoints: error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("endpoints: error: interrupted; the control plane is stopped", file=sys.stderr)
        return 130
    (work / "endpoints.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
