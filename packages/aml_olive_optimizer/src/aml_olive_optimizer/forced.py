"""The engine keys that the tool itself decides, whatever a configuration says about them. Pure functions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

FORCED: Mapping[str, Any] = {
    "packaging_config": {"type": "Zipfile", "name": "OutputModels"},
    "plot_pareto_frontier": True,
    "output_dir": "./outputs",
}
# Fields of a run configuration of either form; whatever else stands at the top level belongs to the engine.
TOP_LEVEL = ("workflow_id", "input_model", "systems", "data_configs", "evaluators", "engine", "passes", "verbose")
EXHAUSTIVE = {"execution_order": "joint", "sampler": "sequential"}


def forced(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a current-form configuration with the tool's own engine keys set, and a line per value overridden."""
    result, _ = with_engine(configuration)
    engine = result["engine"]
    warnings = []
    for key, value in FORCED.items():
        if key in engine and not _same(key, engine[key], value):
            warnings.append(f"/engine/{key}: {engine[key]!r} is overridden: always {value!r}")
        engine[key] = copy.deepcopy(value)
    strategy = engine.get("search_strategy")
    if strategy is True:
        strategy = dict(EXHAUSTIVE)
        warnings.append("/engine/search_strategy: true is taken as every combination (joint, sequential)")
    if isinstance(strategy, dict):
        engine["search_strategy"] = {"output_model_num": 1, **_without_none(strategy)}
    return result, warnings


def with_engine(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return a configuration whose engine keys all stand in the engine, and those that stood at the top level."""
    result = copy.deepcopy(dict(configuration))
    moved = [key for key in result if key not in TOP_LEVEL]
    result["engine"] = {**(result.get("engine") or {}), **{key: result.pop(key) for key in moved}}
    return result, frozenset(moved)


def _same(key: str, given: Any, forced_value: Any) -> bool:
    if key == "output_dir":
        return str(given).rstrip("/").removeprefix("./") == "outputs"
    return bool(given == forced_value)


def _without_none(strategy: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in strategy.items() if not (key == "output_model_num" and value is None)}


def output_model_num(configuration: Mapping[str, Any]) -> int:
    """Return how many candidates per accelerator a configuration asks for."""
    strategy = (configuration.get("engine") or {}).get("search_strategy")
    return int(strategy["output_model_num"]) if isinstance(strategy, dict) else 1


def cache_dir(configuration: Mapping[str, Any]) -> str | None:
    """Return the folder for intermediate results that a configuration names."""
    engine = configuration.get("engine") or {}
    return (engine.get("cache_config") or {}).get("cache_dir") or engine.get("cache_dir")


def for_olive(
    configuration: Mapping[str, Any], output_dir: str, cache_dir: str, workflow_id: str, *, is_relative: bool = False
) -> dict[str, Any]:
    """Return the configuration as Olive gets it: it searches, this tool packages and draws.

    `is_relative` says whether a goal is relative to the input model.

    Olive's own packaging builds its zip in the current directory, keeps only the frontier and leaves out the sample
    code and the runtime; its chart needs two metrics and a met goal.
    """
    result = copy.deepcopy(dict(configuration))
    engine = result["engine"]
    engine.update(
        packaging_config=None,
        plot_pareto_frontier=False,
        output_dir=output_dir,
        cache_dir=cache_dir,
        log_severity_level=min(int(engine.get("log_severity_level", 1)), 1),
        # Olive overlooks a goal that is relative to it behind a sub type without one; unmeasured it would count as met.
        evaluate_input_model=bool(engine.get("evaluate_input_model", True)) or is_relative,
    )
    if engine.get("cache_config"):  # it would win over the rest
        engine["cache_config"] = {**engine["cache_config"], "cache_dir": cache_dir}
    result["workflow_id"] = workflow_id
    return result


def accelerators(configuration: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the devices and execution providers that will be searched; Olive's defaults where none are named."""
    engine = configuration.get("engine") or {}
    target = engine.get("target")
    system = (configuration.get("systems") or {}).get(target) if isinstance(target, str) else target
    system = system or {}
    named = (system.get("config") or {}).get("accelerators") or system.get("accelerators") or [{"device": "cpu"}]
    found = []
    for accelerator in named:
        device = str(accelerator.get("device") or "cpu").lower()
        providers = accelerator.get("execution_providers") or [
            "CUDAExecutionProvider" if device == "gpu" else "CPUExecutionProvider"
        ]
        found.append((device, [entry if isinstance(entry, str) else entry[0] for entry in providers]))
    return found
