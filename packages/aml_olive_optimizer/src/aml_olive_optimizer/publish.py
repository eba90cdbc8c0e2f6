"""The job's artifacts and named outputs, under the names that users of the predecessor know."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aml_tool_core import ToolError, digests, documents, outputs
from aml_tool_core.optimized_parameters import FILE_NAME, SCHEMA

from aml_olive_optimizer import charts, onnx_files, package
from aml_olive_optimizer.footprints import Candidate, Footprint
from aml_olive_optimizer.package import Packaged

PACKAGE = "OutputModels"

log = logging.getLogger("aml_olive_optimizer")


def artifacts(
    folder: Path,
    footprints: Mapping[str, Footprint],
    candidates: Mapping[str, Sequence[Candidate]],
    best_first: Sequence[Candidate],
    units: Mapping[str, str],
    wheel: Path | None,
) -> list[Packaged]:
    """Write ./outputs: footprints, frontiers, charts, the package as a zip and unpacked. Returns what is in it."""
    with _told_of_full_disk(folder):
        outputs.make_folder(folder)
        _remove(folder, "*_footprints.json", "*_footprints_footprints_chart.html")
        for accelerator, footprint in footprints.items():
            found = candidates.get(accelerator, ())
            frontier = {candidate.node.model_id for candidate in found if candidate.on_frontier}
            _write(folder / f"{accelerator}_footprints.json", _documents(footprint, candidates.get(accelerator, ())))
            _write(
                folder / f"{accelerator}_pareto_frontier_footprints.json",
                _documents(footprint, candidates.get(accelerator, ()), only=frontier),
            )
            with outputs.atomic_file(
                folder / f"{accelerator}_pareto_frontier_footprints_footprints_chart.html"
            ) as temporary:
                charts.write(temporary, charts.figure(accelerator, found, units))
        with outputs.atomic_folder(folder / PACKAGE) as root:
            built = package.build(root, best_first, footprints, wheel)
            with outputs.atomic_file(folder / f"{PACKAGE}.zip") as temporary:
                package.compress(root, temporary)
        moved = [entry.folder.relative_to(root) for entry in built]
        return [
            dataclasses.replace(entry, folder=folder / PACKAGE / relative)
            for entry, relative in zip(built, moved, strict=True)
        ]


def models(folder: Path, packaged: Sequence[Packaged]) -> None:
    """Write the optimized_model output: every candidate under its own name; the best as model.onnx, with its files."""
    with _told_of_full_disk(folder), _staged(folder) as staging:
        for entry in packaged:
            onnx_files.copy(entry.model, staging, name=f"{entry.name}_model.onnx")
        best = packaged[0]
        onnx_files.copy(best.model, staging)
        for name in best.companions:
            shutil.copyfile(best.folder / name, staging / name)
        _move(staging, folder, "*_BestCandidateModel_*_model.onnx*", "model.onnx*")


def parameters(folder: Path, packaged: Sequence[Packaged], footprints: Mapping[str, Footprint]) -> None:
    """Write the optimized_parameters output: every candidate's inference configuration, and the best one's whole."""
    best = packaged[0]
    with _told_of_full_disk(folder):
        outputs.make_folder(folder)
        _remove(folder, "*_BestCandidateModel_*_inference_config.json")
        for entry in packaged:
            _write(folder / f"{entry.name}_inference_config.json", _for_deployment(entry))
        outputs.write_json(
            folder / FILE_NAME, optimized_parameters(best, footprints[best.candidate.accelerator]), SCHEMA
        )


def optimized_parameters(best: Packaged, footprint: Footprint) -> dict[str, Any]:
    """Return the document that chains the tools together."""
    baseline = footprint.input_metrics
    config = _for_deployment(best)
    return {
        "version": "1.0",
        "accelerator": best.candidate.accelerator,
        "rank": best.rank,
        "model_file": onnx_files.MODEL,
        "model_sha256": digests.sha256(best.model),
        "execution_provider": config["execution_provider"],
        "session_options": config["session_options"],
        "io_bind": config["io_bind"],
        "metrics": {
            name: {
                **package.metric(found),
                "input_model_value": baseline[name].value if name in baseline and baseline[name].is_number else None,
            }
            for name, found in best.candidate.node.metrics.items()
            if found.is_number
        },
    }


def _for_deployment(entry: Packaged) -> dict[str, Any]:
    """Return a candidate's inference configuration without the session options that our schema has no place for.

    The user's own configuration may set any; they stay in the package, beside the model.
    """
    config = package.inference_config(entry.candidate)
    known = documents.schemas()[SCHEMA]["properties"]["session_options"]["properties"]
    unknown = sorted(set(config["session_options"]) - set(known))
    if unknown:
        log.warning(
            "%s: a deployment cannot be given the session options %s; they are left out of its parameters",
            entry.name,
            ", ".join(unknown),
        )
    kept = {name: value for name, value in config["session_options"].items() if name in known}
    return {**config, "session_options": kept}


def _documents(
    footprint: Footprint, found: Sequence[Candidate], only: set[str] | None = None
) -> dict[str, Mapping[str, Any]]:
    """Return Olive's footprints with the goals and the frontier as they were worked out here."""
    judged = {candidate.node.model_id: candidate for candidate in found}
    written: dict[str, Mapping[str, Any]] = {}
    for model_id, node in footprint.nodes.items():
        if only is not None and model_id not in only:
            continue
        document = dict(node.document)
        if model_id in judged and document.get("metrics"):
            metrics = dict(document["metrics"])
            metrics["if_goals_met"] = judged[model_id].meets_goals
            metrics["cmp_direction"] = {
                name: 1 if measured.higher_is_better else -1
                for name, measured in node.metrics.items()
                if measured.priority > 0
            }
            document["metrics"] = metrics
            document["is_pareto_frontier"] = judged[model_id].on_frontier
        written[model_id] = document
    return written


def _write(path: Path, document: Any) -> None:
    outputs.write_text(path, package.as_json(document))


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    # On the same file system as the output, so that moving is atomic.
    outputs.make_folder(folder)
    staging = Path(tempfile.mkdtemp(dir=folder, prefix=".staging."))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(staging: Path, folder: Path, *patterns: str) -> None:
    new = sorted(path for path in staging.rglob("*") if path.is_file())
    names = {path.relative_to(staging).as_posix() for path in new}
    _remove(folder, *patterns, but=names)
    for path in new:
        target = folder / path.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def _remove(folder: Path, *patterns: str, but: set[str] | None = None) -> None:
    # What an earlier run left under our own names, and this one does not write again, would be taken for this one's.
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_file() and path.name not in (but or ()):
                path.unlink()


@contextmanager
def _told_of_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise ToolError(f"{place}: cannot be written: {error.strerror}; free space or choose another folder") from error
