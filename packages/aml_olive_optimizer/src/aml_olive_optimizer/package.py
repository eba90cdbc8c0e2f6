"""OutputModels: the candidates with their files, sample code, the runtime, and their ranking (also as a zip)."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_olive_optimizer import onnx_files
from aml_olive_optimizer.footprints import Candidate, Footprint, Measurement

SAMPLES = Path(__file__).parent / "sample_code"


@dataclass(frozen=True)
class Packaged:
    """One candidate in the package."""

    candidate: Candidate
    rank: int  # among all accelerators
    number: int  # within its accelerator: BestCandidateModel_<number>
    folder: Path  # absolute
    companions: tuple[str, ...]  # names of the files that travel with the model, e.g. its tokenizer's

    @property
    def name(self) -> str:
        """`<accelerator>_BestCandidateModel_<number>`, as in the names of the tool's outputs."""
        return f"{self.candidate.accelerator}_BestCandidateModel_{self.number}"

    @property
    def model(self) -> Path:
        """The candidate's model file."""
        return self.folder / "model.onnx"


def build(
    root: Path, best_first: Sequence[Candidate], footprints: Mapping[str, Footprint], wheel: Path | None
) -> list[Packaged]:
    """Write the package's files into `root`; return its candidates, best first."""
    numbers: dict[str, int] = {}
    packaged = []
    ranking = []
    for rank, candidate in enumerate(best_first, start=1):
        number = numbers[candidate.accelerator] = numbers.get(candidate.accelerator, 0) + 1
        folder = root / "CandidateModels" / candidate.accelerator / f"BestCandidateModel_{number}"
        folder.mkdir(parents=True)
        footprint = footprints[candidate.accelerator]
        config = dict(_config(candidate))
        onnx_files.copy(Path(config["model_path"]), folder, config.get("onnx_file_name"))
        attributes = dict(config.get("model_attributes") or {})
        companions = [Path(file) for file in attributes.get("additional_files") or ()]
        for file in companions:
            shutil.copyfile(file, folder / file.name)
        entry = Packaged(candidate, rank, number, folder, tuple(sorted(file.name for file in companions)))
        config["model_path"] = entry.model.relative_to(root).as_posix()
        if companions:
            files = [(folder / name).relative_to(root).as_posix() for name in entry.companions]
            config["model_attributes"] = {**attributes, "additional_files": files}
        config.pop("onnx_file_name", None)
        info = {
            "rank": rank,
            "model_config": {**(candidate.node.model_config or {}), "config": config},
            "metrics": _metrics(candidate.node.metrics),
        }
        ranking.append(info)
        _write(folder / "inference_config.json", inference_config(candidate))
        _write(folder / "configurations.json", _history(footprint, candidate))
        _write(
            folder / "metrics.json",
            {
                "input_model_metrics": _metrics(footprint.input_metrics) or None,
                "candidate_model_metrics": _metrics(candidate.node.metrics),
            },
        )
        _write(folder / "model_info.json", info)
        packaged.append(entry)
    _write(root / "models_rank.json", ranking)
    shutil.copytree(SAMPLES, root / "SampleCode", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ONNXRuntimePackages").mkdir()
    if wheel is not None:
        shutil.copy2(wheel, root / "ONNXRuntimePackages" / wheel.name)
    return packaged


def compress(root: Path, archive: Path) -> None:
    """Write the files under `root` to a zip, whose names are relative to `root`."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                stored = zipfile.ZIP_STORED if file.suffix == ".whl" else zipfile.ZIP_DEFLATED  # a wheel is a zip
                bundle.write(file, file.relative_to(root).as_posix(), compress_type=stored)


def inference_config(candidate: Candidate) -> dict[str, Any]:
    """Return how a candidate is to be run: what the tuning found, else what it was searched for."""
    settings = _config(candidate).get("inference_settings") or {}
    providers = settings.get("execution_provider") or [_provider(candidate.accelerator)]
    options = settings.get("provider_options") or []
    pairs = [
        [provider, dict(options[index] or {}) if index < len(options) else {}]
        if isinstance(provider, str)
        else [provider[0], dict(provider[1] or {})]
        for index, provider in enumerate(providers)
    ]
    session = settings.get("session_options") or {}
    keys = (
        "execution_mode",
        "graph_optimization_level",
        "extra_session_config",
        "inter_op_num_threads",
        "intra_op_num_threads",
    )
    return {
        "execution_provider": pairs,
        "session_options": {**{key: session.get(key) for key in keys}, **session},
        "io_bind": bool(settings.get("io_bind")),
    }


def _provider(accelerator: str) -> str:
    # Olive names an accelerator <device>-<provider, lower case, without ExecutionProvider>.
    known = {"cpu": "CPUExecutionProvider", "openvino": "OpenVINOExecutionProvider"}
    return known[accelerator.partition("-")[2] or "cpu"]


def _config(candidate: Candidate) -> Mapping[str, Any]:
    config: Mapping[str, Any] = (candidate.node.model_config or {})["config"]
    return config


def _history(footprint: Footprint, candidate: Candidate) -> dict[str, Any]:
    chain = list(footprint.chain(candidate.node.model_id))
    return {
        (f"{step}_{node.pass_type}-{node.model_id}" if node.pass_type else node.model_id): node.pass_config
        for step, node in enumerate(reversed(chain), start=-1)
    }


def _metrics(metrics: Mapping[str, Measurement]) -> dict[str, Any]:
    return {name: metric(found) for name, found in metrics.items() if found.is_number}


def metric(found: Measurement) -> dict[str, Any]:
    """Return a measurement as the outputs have it."""
    told = {"value": found.value, "priority": found.priority, "higher_is_better": found.higher_is_better}
    return {**told, "type": found.type} if found.type else told


def as_json(document: Any) -> str:
    """Return a document as text that every reader of JSON takes: null stands for NaN and the infinities."""
    return json.dumps(_finite(document), indent=4, allow_nan=False) + "\n"


def _finite(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _finite(below) for key, below in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(below) for below in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _write(path: Path, document: Any) -> None:
    path.write_text(as_json(document), encoding="utf-8")
