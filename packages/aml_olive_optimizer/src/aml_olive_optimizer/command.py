"""The tool: its flags, and what it does with them."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aml_tool_core import Flag, Job, Kind, Tool, ToolError, outputs

from aml_olive_optimizer import (
    __version__,
    configuration,
    environment,
    footprints,
    forced,
    onnx_files,
    onnx_graphs,
    publish,
    refusals,
    runtime_wheel,
    scripts,
    search,
    search_page,
    summary,
)
from aml_olive_optimizer.footprints import Candidate
from aml_olive_optimizer.package import Packaged
from aml_olive_optimizer.places import Places
from aml_olive_optimizer.search import Found

NAME = "aml_olive_optimizer"
DEFAULT_CACHE = ".olive-cache"  # Olive's own default

log = logging.getLogger(NAME)


def run(job: Job) -> None:
    """Search, rank, package. Raises the errors of `aml_tool_core`."""
    code: Path | None = job.values["code"]
    prepared = configuration.prepared(job.values["config_path"], job.values["model_path"], code)
    wanted = [name for _, names in forced.accelerators(prepared.configuration) for name in names]
    environment.check_providers(wanted, prepared.source)
    with _work_folder() as work:
        if code is not None:
            environment.install_requirements(code, work / "constraints.txt")
        cache = Path(forced.cache_dir(prepared.configuration) or DEFAULT_CACHE).resolve()
        generated = cache / "generated"
        scripts.write(generated, prepared.scripts)
        places = Places(job.values["model_path"], code, generated)
        resolved = places.resolved(prepared.configuration, prepared.source)
        model = _onnx_input(resolved)
        inputs = [] if model is None else onnx_graphs.read(model)[0]
        has_open_inputs = any(entry.is_open for entry in inputs)
        refusals.refuse_without_data(resolved, prepared.source, has_open_inputs=has_open_inputs)
        refusals.refuse_other_inputs(resolved, prepared.source, [entry.name for entry in inputs])
        goals = footprints.goals(resolved)
        judged_by = [footprints.used_evaluators(resolved), resolved.get("data_configs"), resolved.get("systems")]
        parts = [json.dumps(part, sort_keys=True) for part in judged_by]
        weights = [model.parent / name for name in onnx_files.external_weights(model)] if model is not None else []
        seen = [path for path in (code, job.values["model_path"], *weights) if path is not None]
        workflow = f"{resolved.get('workflow_id', 'default_workflow')}-"
        workflow += environment.fingerprint(parts, seen, _written(job, cache))
        is_relative = any(goal.kind != "threshold" for goal in goals.values())
        for_olive = forced.for_olive(resolved, str(work / "olive"), str(cache), workflow, is_relative=is_relative)
        try:
            found = search.run(for_olive, prepared.source, work, code, cache)
            if pruned := summary.pruned(found):
                log.info("%s", pruned)
            packaged = _publish(job, found, resolved, cache)
            for line in summary.table(packaged, found.footprints, goals, footprints.units(resolved)):
                log.info("%s", line)
        finally:
            _keep_log(work / "olive.log", job.outputs / "olive.log")


def _onnx_input(configuration: Mapping[str, Any]) -> Path | None:
    """Return the input model's file where it is an ONNX one that is there."""
    model = configuration["input_model"]
    settings = {**(model.get("config") or {}), **model}
    path = Path(settings.get("model_path") or "")
    if str(model.get("type", "")).lower() != "onnxmodel" or not path.exists():
        return None
    return onnx_files.locate(path, settings.get("onnx_file_name"))


def _written(job: Job, cache: Path) -> list[Path]:
    named = (job.values["optimized_model_path"], job.values["optimized_parameters_path"])
    return [folder.resolve() for folder in (cache, job.outputs, *named) if folder is not None]


def _publish(job: Job, found: Found, resolved: Mapping[str, Any], cache: Path) -> list[Packaged]:
    """Rank what was found and write the outputs. Raises ToolError, with the reason, when there is nothing to write."""
    goals = footprints.goals(resolved)
    is_evaluated = bool(footprints.used_evaluators(resolved))
    judged = {
        name: footprints.candidates(footprint, goals, evaluated=is_evaluated)
        for name, footprint in found.footprints.items()
    }
    count = forced.output_model_num(resolved)
    chosen = {name: footprints.chosen(candidates, count) for name, candidates in judged.items()}
    best_first = footprints.ranked(candidate for candidates in chosen.values() for candidate in candidates)
    reasons = {
        name: _why_empty(name, found, judged.get(name, ())) for name in found.accelerators if not chosen.get(name)
    }
    with outputs.atomic_file(job.outputs / "optimization.html") as page:
        search_page.write(page, found, judged, best_first, goals, reasons, footprints.units(resolved))
    if not best_first:
        said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or _last_failure(found, "")
        raise ToolError(f"no output model: {said}; see optimization.html and olive.log in {job.outputs}")
    for name, reason in reasons.items():
        log.warning("%s: no output model: %s", name, reason)
    wheel = runtime_wheel.repack(runtime_wheel.folder(otherwise=cache))
    packaged = publish.artifacts(job.outputs, found.footprints, judged, best_first, footprints.units(resolved), wheel)
    if job.values["optimized_model_path"] is not None:
        publish.models(job.values["optimized_model_path"], packaged)
    if job.values["optimized_parameters_path"] is not None:
        publish.parameters(job.values["optimized_parameters_path"], packaged, found.footprints)
    return packaged


def _why_empty(accelerator: str, found: Found, candidates: Sequence[Candidate]) -> str:
    nearest = footprints.nearest_miss(candidates)
    if nearest is not None:
        misses = ", ".join(map(str, nearest.misses))
        return f"goal not met by any of {len(candidates)} candidates, nearest: {misses}"
    others = footprints.other_forms(found.footprints[accelerator]) if accelerator in found.footprints else []
    if others and not found.failures.get(accelerator):
        return f"the passes made {', '.join(others)}, not an ONNX model; add one that does, such as OnnxConversion"
    return _last_failure(found, accelerator)


def _last_failure(found: Found, accelerator: str) -> str:
    failures = found.failures.get(accelerator) or found.failures.get("") or ("no pass made a model",)
    return failures[-1]


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    try:
        work = Path(tempfile.mkdtemp(prefix="aml_olive_optimizer."))
    except OSError as error:
        raise ToolError(f"no temporary folder: {error}; free space, or name a folder in TMPDIR") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _keep_log(source: Path, target: Path) -> None:
    if source.is_file():
        with contextlib.suppress(OSError):  # on a full disk the reason is told already, the log is a comfort
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            log.info("all that Olive and the user's scripts said is in %s", target)


TOOL = Tool(
    name=NAME,
    version=__version__,
    summary="Search for the fastest form of a model that is still good enough, with Olive.",
    flags=(
        Flag("--config_path", "Olive configuration (JSON), current or legacy form", Kind.FILE),
        Flag(
            "--model_path",
            "folder in which the configuration's model is looked up, or of the model",
            Kind.FOLDER,
        ),
        Flag("--code", "folder of user scripts and data; its requirements.txt is installed first", Kind.FOLDER),
        Flag("--optimized_parameters_path", "folder for optimized_parameters.json", Kind.OUTPUT_FOLDER),
        Flag("--optimized_model_path", "folder for model.onnx", Kind.OUTPUT_FOLDER),
    ),
    run=run,
    epilog="Needs --config_path, --model_path or both. Artifacts go to ./outputs.",
)
