"""What the tool does not do, said by name and with what to do instead. Pure functions that raise InputError."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from aml_tool_core import InputError, documents
from aml_tool_core.documents import pointer

Place = tuple[str | int, ...]  # where something stands in a configuration

LOCAL = "localsystem"
# Engine keys of either form; whatever else stands there Olive would drop in silence, or fail at.
ENGINE_KEYS = frozenset(
    [
        "search_strategy",
        "host",
        "target",
        "evaluator",
        "plot_pareto_frontier",
        "no_artifacts",
        "evaluate_input_model",
        "output_dir",
        "packaging_config",
        "cache_config",
        "cache_dir",
        "clean_cache",
        "clean_evaluation_cache",
        "enable_shared_cache",
        "log_severity_level",
        "ort_log_severity_level",
        "ort_py_log_severity_level",
        "log_to_file",
        "execution_providers",
        "output_name",
    ]
)
TOP_LEVEL_KEYS = frozenset(
    ["workflow_id", "input_model", "systems", "data_configs", "evaluators", "engine", "passes", "verbose"]
)
_NO_LONGER = {
    "azureml_client": "the tool runs on this machine alone; remove it, and use local paths",
    "azureml_client_config": "the tool runs on this machine alone; remove it, and use local paths",
    "pass_flows": "gone from Olive; run the tool once per flow, or list alternatives under one pass",
    "auto_optimizer_config": "gone from Olive; list the passes, or give --model_path alone for the tool's own choice",
    "evaluation_only": "gone from Olive; leave out passes to evaluate, or set evaluate_input_model",
}
_DATALESS_METRICS = ("latency", "throughput")
# Data whose inputs' names the configuration states, and passes after which a model still has the inputs it had.
_NAMED_DATA = frozenset(["dummydatacontainer", "rawdatacontainer"])
_KEEP_INPUTS = frozenset(
    [
        "onnxpeepholeoptimizer",
        "onnxquantization",
        "onnxdynamicquantization",
        "onnxstaticquantization",
        "onnxfloattofloat16",
        "ortsessionparamstuning",
    ]
)


def refuse_what_runs_elsewhere(configuration: Mapping[str, Any], source: str) -> None:
    """Refuse systems other than the local one, AzureML clients, and engine keys that Olive does not know."""
    engine = _mapping(configuration.get("engine"))
    holders: tuple[tuple[Place, Mapping[str, Any]], ...] = (((), configuration), (("engine",), engine))
    for path, holder in holders:
        for key, remedy in _NO_LONGER.items():
            if key in holder:
                _refuse(source, (*path, key), f"not supported: {remedy}")
    for place, system in _systems(configuration):
        kind = str(system.get("type", "LocalSystem"))
        if kind.lower() != LOCAL:
            _refuse(source, (*place, "type"), f"{kind!r} is not supported; only LocalSystem is, so run on this machine")
    for key in sorted(set(engine) & set(configuration)):
        _refuse(source, (key,), f"stands in the engine too (/engine/{key}); give it once")
    for key in sorted(set(engine) - ENGINE_KEYS):
        _refuse(source, ("engine", key), f"unknown key; the engine takes {', '.join(sorted(ENGINE_KEYS))}")
    for key in sorted(set(configuration) - TOP_LEVEL_KEYS - ENGINE_KEYS):
        _refuse(source, (key,), f"unknown key; the keys here are {', '.join(sorted(TOP_LEVEL_KEYS))}")


def refuse_unrankable(configuration: Mapping[str, Any], source: str) -> None:
    """Refuse metrics that share a name, and priorities that are not 1 to N."""
    for place, evaluator in evaluators(configuration):
        path = (*place, "metrics")
        seen: set[str] = set()
        priorities = []
        for index, metric in enumerate(evaluator.get("metrics") or []):
            if metric.get("name") in seen:
                _refuse(
                    source, (*path, index, "name"), f"{metric['name']!r} stands twice; give each metric its own name"
                )
            seen.add(str(metric.get("name")))
            priorities += [int(one.get("priority", -1)) for one in metric.get("sub_types") or []]
        given = sorted(priority for priority in priorities if priority > 0)
        if given != list(range(1, len(given) + 1)):
            _refuse(
                source,
                path,
                f"the priorities are {given}; number them 1 to {len(given)}, each once (-1: only reported)",
            )
        if not given and priorities and configuration_searches(configuration):
            _refuse(
                source, path, "no metric has a priority, so nothing can be ranked; give the one to rank by priority 1"
            )


def refuse_without_data(configuration: Mapping[str, Any], source: str, *, has_open_inputs: bool = False) -> None:
    """Refuse metrics that need data and have none: accuracy always, latency where input shapes are open.

    `has_open_inputs` is what the model's file says, where it is one that can be asked.
    """
    is_open = has_open_inputs or _has_open_shapes(_mapping(configuration.get("input_model")))
    for place, evaluator in evaluators(configuration):
        for index, metric in enumerate(evaluator.get("metrics") or []):
            path = (*place, "metrics", index)
            if metric.get("data_config"):
                continue
            if metric.get("type") == "accuracy":
                _refuse(source, path, "accuracy needs data: name one of data_configs in its data_config")
            if metric.get("type") in _DATALESS_METRICS and is_open:
                _refuse(
                    source,
                    path,
                    f"{metric['type']} with dynamic axes needs data: name one of data_configs in its data_config "
                    "(type DummyDataContainer with input_names, input_shapes and input_types will do)",
                )
    for place, entry in passes(configuration):
        settings = _mapping(entry.get("config")) or entry
        if (
            str(entry.get("type", "")).lower() == "ortsessionparamstuning"
            and is_open
            and not settings.get("data_config")
        ):
            _refuse(
                source, place, "session tuning of a model with dynamic axes needs data: name one in its data_config"
            )


def refuse_other_inputs(configuration: Mapping[str, Any], source: str, inputs: Sequence[str]) -> None:
    """Refuse data that lacks an input of the model, which Olive would find out late and tell as a KeyError."""
    if any(str(entry.get("type", "")).lower() not in _KEEP_INPUTS for _, entry in passes(configuration)):
        return
    used = {
        holder.get("data_config")
        for holder in (
            *(metric for _, evaluator in evaluators(configuration) for metric in evaluator.get("metrics") or []),
            *(_mapping(entry.get("config")) or entry for _, entry in passes(configuration)),
        )
        if isinstance(holder.get("data_config"), str)
    }
    for place, data in _data_configs(configuration):
        if data.get("name", place[-1]) not in used or str(data.get("type", "")).lower() not in _NAMED_DATA:
            continue
        loading = _mapping(data.get("load_dataset_config"))
        path = (*place, "load_dataset_config", *(["params"] if "params" in loading else []), "input_names")
        named = (_mapping(loading.get("params")) or loading).get("input_names")
        if isinstance(named, list) and (missing := [name for name in inputs if name not in named]):
            _refuse(source, path, f"no {missing[0]!r} there; the model's inputs are {', '.join(inputs)}: name them all")


def refuse_old_imports(configuration: Mapping[str, Any], source: str, code: Path | None) -> None:
    """Refuse user scripts that are not there, or that use names of Olive that are gone and would fail late."""
    for script in sorted(set(_user_scripts(configuration, (), source, code))):
        try:
            tree = ast.parse(documents.read_text(script), str(script))
        except SyntaxError as error:
            raise InputError(f"{script}: line {error.lineno}: not Python: {error.msg}") from None
        for line, said in _old_names(tree):
            raise InputError(f"{script}: line {line}: {said}")


def configuration_searches(configuration: Mapping[str, Any]) -> bool:
    """Return whether a configuration has a search strategy."""
    return bool(_mapping(configuration.get("engine")).get("search_strategy") or configuration.get("search_strategy"))


def passes(configuration: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield every pass of a configuration with its place; a pass may be a list of alternatives.

    What is no object is left to the schema to refuse.
    """
    for name, value in _mapping(configuration.get("passes")).items():
        if isinstance(value, dict):
            yield ("passes", name), value
        for index, entry in enumerate(value if isinstance(value, list) else ()):
            if isinstance(entry, dict):
                yield ("passes", name, index), entry


def evaluators(configuration: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield every evaluator of a configuration with its place: those with a name, and those written where used."""
    for name, evaluator in _mapping(configuration.get("evaluators")).items():
        yield ("evaluators", name), evaluator
    holders: list[tuple[Place, Mapping[str, Any]]] = [
        ((), configuration),
        (("engine",), _mapping(configuration.get("engine"))),
        *passes(configuration),
    ]
    for place, holder in holders:
        if isinstance(holder.get("evaluator"), dict):
            yield (*place, "evaluator"), holder["evaluator"]


def _data_configs(configuration: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    found = configuration.get("data_configs")
    entries = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list) else ()
    for name, data in entries:
        yield ("data_configs", name), _mapping(data)


def _systems(configuration: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    for name, system in _mapping(configuration.get("systems")).items():
        yield ("systems", name), _mapping(system)
    holders: list[tuple[Place, Mapping[str, Any]]] = [
        (("engine",), _mapping(configuration.get("engine"))),
        ((), configuration),
        *passes(configuration),
    ]
    for path, holder in holders:
        for key in ("host", "target"):
            if isinstance(holder.get(key), Mapping):
                yield (*path, key), holder[key]


def _has_open_shapes(model: Mapping[str, Any]) -> bool:
    settings = {**_mapping(model.get("config")), **model}
    io_config = _mapping(settings.get("io_config"))
    sizes = [size for shape in io_config.get("input_shapes") or [] for size in shape or []]
    return bool(io_config.get("dynamic_axes") or any(not isinstance(size, int) for size in sizes))


def _user_scripts(value: Any, path: Place, source: str, code: Path | None) -> Iterator[Path]:
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        if key in ("user_script", "model_script") and isinstance(entry, str):
            folders = [folder for folder in (code, Path.cwd()) if folder is not None]
            found = next((folder / entry for folder in folders if (folder / entry).is_file()), None)
            if found is None:
                hint = f"not in {code}" if code else "give --code"
                _refuse(source, (*path, key), f"{entry}: no such file or folder; {hint}")
            yield found
        else:
            yield from _user_scripts(entry, (*path, key), source, code)


def _old_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    measures = False
    made: set[str] = set()  # names that hold an AccuracyScore or one of its kind
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _makes_measure(node.value):
            made |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.ImportFrom) and node.module == "olive.model":
            for alias in node.names:
                if alias.name == "OliveModel":
                    yield node.lineno, "olive.model.OliveModel is now called OliveModelHandler; rename it"
        if isinstance(node, ast.Attribute) and node.attr == "OliveModel":
            yield node.lineno, "olive.model.OliveModel is now called OliveModelHandler; rename it"
        if isinstance(node, ast.ImportFrom) and node.module == "olive.evaluator.olive_evaluator":
            measures = measures or any(alias.name == "OliveModelOutput" for alias in node.names)
    for node in ast.walk(tree):
        if not measures and isinstance(node, ast.Call) and _is_accuracy_measure(node, made) and len(node.args) == 2:
            yield (
                node.lineno,
                "measure(preds, target) now takes the model's output as its first argument; pass "
                "OliveModelOutput(preds=preds, logits=None), from olive.evaluator.olive_evaluator",
            )


def _is_accuracy_measure(call: ast.Call, made: set[str]) -> bool:
    # AccuracyScore(...).measure(preds, target), at once or by a name that it was given
    function = call.func
    if not (isinstance(function, ast.Attribute) and function.attr == "measure"):
        return False
    owner = function.value
    return _makes_measure(owner) or (isinstance(owner, ast.Name) and owner.id in made)


def _makes_measure(value: ast.expr) -> bool:
    made = value.func if isinstance(value, ast.Call) else None
    name = made.id if isinstance(made, ast.Name) else made.attr if isinstance(made, ast.Attribute) else ""
    return name in ("AccuracyScore", "F1Score", "Precision", "Recall", "AUROC", "Perplexity")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _refuse(source: str, path: Place, said: str) -> NoReturn:
    raise InputError(f"{source}: {pointer(path)}: {said}")
