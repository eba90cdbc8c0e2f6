"""Translate configurations of the predecessor (Olive 0.2 and 0.3) into what Olive 0.9.3 takes. Pure functions.

Olive drops many a key that it does not know in silence. So nothing is passed through in hope: every legacy key is
translated, dropped or refused here, and each change is a line that says where and what. A configuration in the current
form has none of these keys and comes out as it went in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aml_tool_core import InputError
from aml_tool_core.documents import pointer

from aml_olive_optimizer import scripts
from aml_olive_optimizer.forced import EXHAUSTIVE, with_engine
from aml_olive_optimizer.refusals import Place, evaluators, passes
from aml_olive_optimizer.scripts import Script, UserFunction

PASS_TYPES = {"ortperftuning": "OrtSessionParamsTuning", "onnxmodeloptimizer": "OnnxPeepholeOptimizer"}
SAMPLERS = {"exhaustive": "sequential", "tpe": "tpe", "random": "random"}
# Quantization passes, and what of them Olive searches unless it is told a value.
_ANY_MODE = ("precision", "per_channel", "reduce_range", "quant_preprocess")
_STATIC_MODE = ("calibrate_method", "quant_format", "activation_type")
QUANTIZATIONS = {
    "onnxquantization": ("quant_mode", *_ANY_MODE, *_STATIC_MODE),
    "onnxdynamicquantization": _ANY_MODE,
    "onnxstaticquantization": (*_ANY_MODE, *_STATIC_MODE),
}
DEFAULT_VALUE = "DEFAULT_VALUE"  # Olive's word for "the default, and do not search it"
PRECISIONS = {
    "QInt8": "int8",
    "QUInt8": "uint8",
    "QInt16": "int16",
    "QUInt16": "uint16",
    "QInt4": "int4",
    "QUInt4": "uint4",
}
_COMPONENTS = {
    "load_dataset": "load_dataset_config",
    "pre_process_data": "pre_process_data_config",
    "post_process_data": "post_process_data_config",
    "dataloader": "dataloader_config",
}
_INPUT_KEYS = ("input_names", "input_shapes", "input_types")
_LOADER_KEYS = ("dataloader_func", "data_dir", "batch_size")
MODEL_DATA = "input_model_dataset"


@dataclass(frozen=True)
class Change:
    """One thing done to a configuration: where (a JSON pointer into the original), and what."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True)
class Translated:
    """A configuration in Olive's current form, what was changed for it, and the scripts that it needs."""

    configuration: dict[str, Any]
    changes: tuple[Change, ...]
    scripts: tuple[Script, ...]


def translate(configuration: Mapping[str, Any], source: str, cores: int) -> Translated:
    """Translate a configuration; `cores` bounds the thread counts that tuning tries. Raises InputError."""
    work = _translated(_Work(*with_engine(configuration), source, cores))
    if not work.changes:
        return Translated(copy.deepcopy(dict(configuration)), (), ())
    # What is ambiguous by itself (the signature of an evaluate_func, a search strategy left out) is now known.
    work = _translated(_Work(*with_engine(configuration), source, cores, is_legacy=True))
    _search_by_default(work)
    return Translated(work.configuration, tuple(work.changes), tuple(work.scripts))


def _translated(work: _Work) -> _Work:
    _engine(work)
    _data_configs(work)
    _input_model(work)
    _evaluators(work)
    _passes(work)
    return work


@dataclass
class _Work:
    configuration: dict[str, Any]  # its engine's keys are in the engine
    at_top: frozenset[str]  # those that the user wrote at the top level
    source: str
    cores: int
    changes: list[Change] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    is_legacy: bool = False

    def changed(self, path: Place, what: str) -> None:
        self.changes.append(Change(self.pointer(path), what))

    def refuse(self, path: Place, what: str) -> NoReturn:
        raise InputError(f"{self.source}: {self.pointer(path)}: {what}")

    def pointer(self, path: Place) -> str:
        """Return where something stands in what the user wrote."""
        is_at_top = path[0] == "engine" and len(path) > 1 and path[1] in self.at_top
        return pointer(path[1:] if is_at_top else path)

    @property
    def has_model_data(self) -> bool:
        return any(one["name"] == MODEL_DATA for one in self.configuration.get("data_configs") or [])

    def take(self, settings: dict[str, Any], path: Place, key: str, what: str) -> None:
        """Remove a key, if it is there, and say what became of it."""
        if key in settings:
            value = settings.pop(key)
            self.changed((*path, key), f"{value!r} {what}")

    def add_script(self, script: Script) -> str:
        if script not in self.scripts:
            self.scripts.append(script)
        return script.reference

    def add_data(self, config: dict[str, Any]) -> str:
        """Add a data configuration and return its name; an equal one that is there already serves again."""
        known: list[dict[str, Any]] = self.configuration.setdefault("data_configs", [])
        rest = {key: value for key, value in config.items() if key != "name"}
        for entry in known:
            if {key: value for key, value in entry.items() if key != "name"} == rest:
                return str(entry["name"])
        taken = {entry["name"] for entry in known}
        name, number = config["name"], 2
        while name in taken:
            name, number = f"{config['name']}_{number}", number + 1
        known.append({**config, "name": name})
        return str(name)


# --- engine and systems


def _engine(work: _Work) -> None:
    engine = work.configuration.get("engine") or {}
    strategy = engine.get("search_strategy")
    if isinstance(strategy, dict):
        _search_strategy(work, strategy)
    providers = engine.pop("execution_providers", None)
    if providers is not None:
        work.changed(("engine", "execution_providers"), f"{providers} moved to the accelerators of the engine's system")
        if not engine.get("target") and not engine.get("host"):
            work.configuration.setdefault("systems", {}).setdefault("local_system", {"type": "LocalSystem"})
            engine["host"] = engine["target"] = "local_system"
            work.changed(("engine", "target"), "none was named: local_system, a LocalSystem")
    if "output_name" in engine:
        name = engine.pop("output_name")
        work.changed(("engine", "output_name"), f"{name!r} dropped: the names of the outputs are fixed")
    if "verbose" in work.configuration:
        work.configuration.pop("verbose")
        work.changed(("verbose",), "dropped: see log_severity_level")
    used = {engine[key] for key in ("host", "target") if isinstance(engine.get(key), str)}
    for name, system in (work.configuration.get("systems") or {}).items():
        _system(work, ("systems", name), system, providers if name in used else None)
    for key in ("host", "target"):
        if isinstance(engine.get(key), dict):
            _system(work, ("engine", key), engine[key], providers)


def _search_strategy(work: _Work, strategy: dict[str, Any]) -> None:
    path: Place = ("engine", "search_strategy")
    if "search_algorithm" in strategy:
        algorithm = strategy.pop("search_algorithm")
        if algorithm not in SAMPLERS:
            work.refuse((*path, "search_algorithm"), f"{algorithm!r} is unknown; give one of {', '.join(SAMPLERS)}")
        strategy["sampler"] = SAMPLERS[algorithm]
        work.changed((*path, "search_algorithm"), f"{algorithm!r} is now sampler {strategy['sampler']!r}")
    if "search_algorithm_config" in strategy:
        settings = dict(strategy.pop("search_algorithm_config") or {})
        if "num_samples" in settings:
            settings["max_samples"] = settings.pop("num_samples")
        strategy["sampler_config"] = settings
        work.changed(
            (*path, "search_algorithm_config"), f"is now sampler_config {settings} (num_samples is max_samples)"
        )


def _system(work: _Work, path: Place, system: dict[str, Any], providers: list[str] | None) -> None:
    settings = system.get("config") if isinstance(system.get("config"), dict) else system
    here = (*path, "config") if settings is not system else path
    assert isinstance(settings, dict)
    if "device" in settings:
        device = settings.pop("device")
        work.changed((*here, "device"), f"{device!r} is now an accelerator")
        settings.setdefault("accelerators", [device])
    named = settings.get("accelerators")
    if named and all(isinstance(one, str) for one in named):
        wanted = providers or ["CPUExecutionProvider"]
        settings["accelerators"] = [{"device": one.lower(), "execution_providers": list(wanted)} for one in named]
        said = f"{', '.join(named)} with {', '.join(wanted)}"
        work.changed((*here, "accelerators"), said + ("" if providers else " (no execution_providers were named)"))
    elif providers and not named:
        settings["accelerators"] = [{"device": "cpu", "execution_providers": list(providers)}]
        work.changed(here, f"accelerator cpu with {', '.join(providers)}")
    elif providers:
        for accelerator in named or []:
            accelerator.setdefault("execution_providers", list(providers))


def _search_by_default(work: _Work) -> None:
    # The predecessor searched every combination unless told not to; Olive now searches only when told to.
    engine = work.configuration.setdefault("engine", {})
    if engine.get("search_strategy") is None and engine.get("evaluator"):
        engine["search_strategy"] = dict(EXHAUSTIVE)
        work.changed(("engine", "search_strategy"), "none was given: every combination (joint, sequential)")


# --- input model


def _input_model(work: _Work) -> None:
    model = work.configuration.get("input_model")
    if not isinstance(model, dict):
        return
    settings = model.get("config") if isinstance(model.get("config"), dict) else model
    path: Place = ("input_model", "config") if settings is not model else ("input_model",)
    assert isinstance(settings, dict)
    for key in ("name", "version", "model_storage_kind", "is_file", "is_online"):
        if key in settings:
            value = settings.pop(key)
            work.changed((*path, key), f"{value!r} dropped: the model is the file or folder at model_path")
    if "hf_config" in settings:
        _hugging_face(work, model, settings, path)
        return
    is_file = str(model.get("type", "")).lower() == "pytorchmodel" and settings.get("model_path")
    if is_file and not settings.get("model_loader") and not settings.get("model_file_format"):
        script = scripts.model_loader(work.pointer((*path, "model_path")))
        settings.update(model_loader="load_model", model_script=work.add_script(script))
        work.changed((*path, "model_path"), "loaded as a whole module or as TorchScript, whichever the file is")


def _hugging_face(work: _Work, model: dict[str, Any], settings: dict[str, Any], path: Place) -> None:
    here: Place = (*path, "hf_config")
    config = dict(settings.pop("hf_config"))
    name = config.pop("model_name", None)
    local = settings.get("model_path")
    settings["model_path"] = local or name
    if not settings["model_path"]:
        work.refuse((*here, "model_name"), "missing; give the model's folder or its name on the hub")
    work.changed((*here, "model_name"), f"{name!r} dropped for model_path" if local else f"{name!r} is now model_path")
    if model.get("type") != "HfModel":
        work.changed(("input_model", "type"), f"{model.get('type')!r} is now 'HfModel'")
        model["type"] = "HfModel"
    if "task" in config:
        settings["task"] = config.pop("task")
        work.changed((*here, "task"), f"is now task {settings['task']!r} of the model")
    if "feature" in config:
        work.changed((*here, "feature"), f"{config.pop('feature')!r} dropped: it follows from the task")
    for key in ("from_pretrained_args", "loading_args"):
        if key in config:
            settings["load_kwargs"] = {**(settings.get("load_kwargs") or {}), **(config.pop(key) or {})}
            work.changed((*here, key), "is now load_kwargs of the model")
    if "dataset" in config:
        _model_dataset(work, dict(config.pop("dataset")), (*here, "dataset"))
    for key in config:
        work.refuse((*here, key), "has no equivalent; write a model_loader in a model_script of your own instead")
    for key in ("model_loader", "model_script", "script_dir", "model_file_format"):
        if key in settings:
            work.changed((*path, key), f"{settings.pop(key)!r} dropped: a Hugging Face model is loaded by its task")


def _model_dataset(work: _Work, dataset: dict[str, Any], path: Place) -> None:
    loading: dict[str, Any] = {
        key: dataset.pop(key) for key in ("data_name", "subset", "split", "data_dir", "data_files") if key in dataset
    }
    before: dict[str, Any] = {}
    if "input_cols" in dataset:
        before["input_cols"] = dataset.pop("input_cols")
    if "label_cols" in dataset:
        labels = dataset.pop("label_cols")
        if len(labels) != 1:
            work.refuse((*path, "label_cols"), f"{len(labels)} columns; Olive takes one, label_col")
        before["label_col"] = labels[0]
    for key in ("max_samples", "model_name", "task"):
        if key in dataset:
            before[key] = dataset.pop(key)
    batch_size = dataset.pop("batch_size", 1)
    extra = dataset.pop("component_kwargs", None) or {}
    components: dict[str, dict[str, Any]] = {
        "load_dataset": loading,
        "pre_process_data": before,
        "post_process_data": {},
        "dataloader": {"batch_size": batch_size},
    }
    for component, options in extra.items():
        if component not in components:
            work.refuse((*path, "component_kwargs", component), f"unknown; give one of {', '.join(components)}")
        components[component].update(options)
    for key in dataset:
        work.refuse((*path, key), "unknown key of a dataset; Olive takes none like it")
    entry: dict[str, Any] = {"name": MODEL_DATA, "type": "HuggingfaceContainer"}
    entry.update({_COMPONENTS[name]: {"params": options} for name, options in components.items() if options})
    work.changed(
        path, f"is now data_configs entry {work.add_data(entry)!r}, used by every metric without data of its own"
    )


# --- data


def _data_configs(work: _Work) -> None:
    given = work.configuration.get("data_configs")
    if isinstance(given, dict):
        work.configuration["data_configs"] = [{"name": name, **entry} for name, entry in given.items()]
        work.changed(("data_configs",), "is now a list, each entry with its name")
    for index, entry in enumerate(work.configuration.get("data_configs") or []):
        place: Place = ("data_configs", entry["name"]) if isinstance(given, dict) else ("data_configs", index)
        _data_config(work, entry, place)


def _data_config(work: _Work, entry: dict[str, Any], path: Place) -> None:
    if "components" in entry:
        for name, component in (entry.pop("components") or {}).items():
            if name not in _COMPONENTS:
                work.refuse((*path, "components", name), f"unknown; give one of {', '.join(_COMPONENTS)}")
            entry[_COMPONENTS[name]] = component
        work.changed((*path, "components"), f"is now {', '.join(_COMPONENTS.values())}")
    if "params_config" in entry:
        options = dict(entry.pop("params_config") or {})
        if str(entry.get("type", "")).lower() == "dummydatacontainer":
            entry["load_dataset_config"] = {"params": options}
        elif options:
            work.refuse(
                (*path, "params_config"),
                f"move its keys to the component that takes them: {', '.join(_COMPONENTS.values())}",
            )
        work.changed((*path, "params_config"), "is now load_dataset_config")


def _data_of(work: _Work, settings: dict[str, Any], path: Place, stem: str) -> str | None:
    """Move the data keys of a metric's or a pass's settings to a data configuration; return its name."""
    name = _identifier(stem)
    entry = _loader_entry(work, settings, path, name)
    if entry is None:
        for key in (*_INPUT_KEYS, *_LOADER_KEYS):
            work.take(settings, path, key, "dropped: without dataloader_func or input_shapes it says nothing")
        return None
    made = work.add_data(entry)
    for key in ("post_processing_func", "dataloader_func"):
        work.take(settings, path, key, f"is now in data_configs entry {made!r}")
    used = _LOADER_KEYS if "dataloader_config" in entry else _INPUT_KEYS
    for key in (*_INPUT_KEYS, *_LOADER_KEYS):
        work.take(settings, path, key, f"{'is now in' if key in used else 'dropped: the data are those of'} {made!r}")
    return made


def _loader_entry(work: _Work, settings: dict[str, Any], path: Place, name: str) -> dict[str, Any] | None:
    script, folder = settings.get("user_script"), settings.get("script_dir")
    post = None
    if settings.get("post_processing_func") is not None:
        post = _user_function(work, (*path, "post_processing_func"), script, folder, settings["post_processing_func"])
    processing = {"post_process_data_config": {"type": f"{name}_post_process"}} if post is not None else {}
    if settings.get("dataloader_func"):
        load = _user_function(work, (*path, "dataloader_func"), script, folder, settings["dataloader_func"])
        batch_size = _batch_size(work, settings, path)
        made = scripts.data(work.pointer(path), name, load, settings.get("data_dir"), batch_size, post)
        loader = {"type": f"{name}_dataloader", "params": {"batch_size": batch_size}}
        reference = work.add_script(made)
        return {"name": f"{name}_data", "user_script": reference, "dataloader_config": loader, **processing}
    base: dict[str, Any] | None = None
    if settings.get("input_shapes"):
        params = {key: settings[key] for key in _INPUT_KEYS if settings.get(key) is not None}
        base = {"type": "DummyDataContainer", "load_dataset_config": {"params": params}}
    elif post is not None:
        known = work.configuration.get("data_configs") or []
        base = copy.deepcopy(next((one for one in known if one["name"] == MODEL_DATA), None))
        if base is None:
            work.refuse((*path, "post_processing_func"), "needs data to process: give dataloader_func too")
    if base is None:
        return None
    if post is not None:
        reference = work.add_script(scripts.data(work.pointer(path), name, None, None, 1, post))
        base = {**base, "user_script": reference, **processing}
    return {**base, "name": f"{name}_data"}


def _batch_size(work: _Work, settings: Mapping[str, Any], path: Place) -> int:
    given = settings.get("batch_size")
    if given is None:
        return 1
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        work.refuse((*path, "batch_size"), f"{given!r} is not a number of rows; give an integer of 1 or more")
    return given


def _identifier(stem: str) -> str:
    # What Olive takes as a data configuration's name, and looks up in lower case.
    return re.sub(r"\W+", "_", stem).strip("_").lower()


def _user_function(work: _Work, path: Place, script: Any, folder: Any, name: Any) -> UserFunction:
    if not isinstance(script, str):
        work.refuse(path, f"{name!r} needs user_script, the file that it is in")
    return UserFunction(script, folder if isinstance(folder, str) else None, str(name))


# --- evaluators


def _evaluators(work: _Work) -> None:
    for path, evaluator in evaluators(work.configuration):
        name = str(path[-1]) if path[0] == "evaluators" else "_".join(map(str, path))
        for index, metric in enumerate(evaluator.get("metrics") or []):
            _metric(work, metric, (*path, "metrics", index), f"{name}_{metric.get('name')}")


def _metric(work: _Work, metric: dict[str, Any], path: Place, stem: str) -> None:
    inline = metric.get("data_config")
    if isinstance(inline, dict):
        entry = {"name": f"{stem}_data", **inline}
        _data_config(work, entry, (*path, "data_config"))
        metric["data_config"] = work.add_data(entry)
        work.changed((*path, "data_config"), f"is now data_configs entry {metric['data_config']!r}")
    settings = metric.get("user_config")
    if isinstance(settings, dict):
        _user_config(work, metric, settings, (*path, "user_config"), stem)
    if work.has_model_data and not metric.get("data_config") and metric.get("type") != "custom":
        metric["data_config"] = MODEL_DATA


def _user_config(work: _Work, metric: dict[str, Any], settings: dict[str, Any], path: Place, stem: str) -> None:
    evaluate = settings.get("evaluate_func")
    if isinstance(evaluate, str) and (work.is_legacy or any(key in settings for key in _LOADER_KEYS)):
        _old_evaluation(work, settings, path, stem, evaluate)
    made = _data_of(work, settings, path, stem)
    if made is not None:
        metric["data_config"] = made
    if not settings.get("evaluate_func") and not settings.get("metric_func"):
        for key in ("user_script", "script_dir"):
            work.take(settings, path, key, f"is used by {made!r}" if made else "dropped: no function of it is used")


def _old_evaluation(work: _Work, settings: dict[str, Any], path: Place, stem: str, evaluate: str) -> None:
    script, folder = settings.get("user_script"), settings.get("script_dir")
    user = _user_function(work, (*path, "evaluate_func"), script, folder, evaluate)
    data_dir, batch_size = settings.get("data_dir"), _batch_size(work, settings, path)
    made = scripts.evaluation(work.pointer(path), _identifier(stem), user, data_dir, batch_size)
    called = f"{evaluate}(model, data_dir, batch_size, device, execution_providers)"
    for key in ("evaluate_func", "user_script", "script_dir", "data_dir", "batch_size"):
        work.take(settings, path, key, f"is used by a generated script, which calls {called}")
    work.take(settings, path, "dataloader_func", "dropped: evaluate_func loads its own data")
    settings.update(evaluate_func="evaluate", user_script=work.add_script(made))


# --- passes


def _passes(work: _Work) -> None:
    for path, entry in passes(work.configuration):
        _pass(work, entry, path)


def _pass(work: _Work, entry: dict[str, Any], path: Place) -> None:
    kind = str(entry.get("type", ""))
    renamed = PASS_TYPES.get(kind.lower())
    if renamed is not None:
        entry["type"] = renamed
        work.changed((*path, "type"), f"{kind!r} is now {renamed!r}")
    nested = isinstance(entry.get("config"), dict)
    settings: dict[str, Any] = entry["config"] if nested else entry
    here: Place = (*path, "config") if nested else path
    if isinstance(entry.get("host"), dict):
        _system(work, (*path, "host"), entry["host"], None)
    fixed = False
    for holder, place in ((entry, path), (settings, here)):
        fixed = fixed or bool(holder.get("disable_search"))
        work.take(holder, place, "disable_search", "is now in the values: DEFAULT_VALUE is not searched, a list is")
        work.take(holder, place, "clean_run_cache", "dropped: see clean_cache of the engine")
        work.take(holder, place, "output_name", "dropped: the names of the outputs are fixed")
    stem = "_".join(str(part) for part in path[1:])
    made = _data_of(work, settings, here, stem)
    if made is not None:
        settings["data_config"] = made
        for key in ("user_script", "script_dir"):
            work.take(settings, here, key, f"is used by {made!r}")
    if isinstance(settings.get("data_config"), dict):
        config = {"name": f"{_identifier(stem)}_data", **settings["data_config"]}
        _data_config(work, config, (*here, "data_config"))
        settings["data_config"] = work.add_data(config)
        work.changed((*here, "data_config"), f"is now data_configs entry {settings['data_config']!r}")
    if kind.lower() in QUANTIZATIONS:
        _quantization(work, settings, here, QUANTIZATIONS[kind.lower()] if fixed else ())
    if kind.lower() == "ortperftuning":
        _tuning(work, settings, here)


def _quantization(work: _Work, settings: dict[str, Any], path: Place, fixed: tuple[str, ...]) -> None:
    for old, new in (("weight_type", "precision"), ("activation_type", "activation_type")):
        value = settings.get(old)
        if isinstance(value, str) and value in PRECISIONS:
            settings.pop(old)
            settings[new] = PRECISIONS[value]
            work.changed((*path, old), f"{value!r} is now {new} {PRECISIONS[value]!r}")
    for old, new in (("ActivationSymmetric", "activation_symmetric"), ("WeightSymmetric", "weight_symmetric")):
        if old in settings:
            settings[new] = settings.pop(old)
            work.changed((*path, old), f"is now {new}")
    for old in ("MatMulConstBOnly", "AddQDQPairToWeight", "DedicatedQDQPair", "QDQOpTypePerChannelSupportToAxis"):
        if old in settings:
            settings.setdefault("extra_options", {})[old] = settings.pop(old)
            work.changed((*path, old), "is now in extra_options")
    for key in fixed:
        # uint8 weights go with uint8 activations alone, and Olive's default of the latter is int8
        follows = key == "activation_type" and settings.get("precision", DEFAULT_VALUE) != DEFAULT_VALUE
        settings.setdefault(key, settings["precision"] if follows else DEFAULT_VALUE)


def _tuning(work: _Work, settings: dict[str, Any], path: Place) -> None:
    """Give session tuning what the predecessor's searched by itself: Olive's own defaults now search nothing."""
    work.take(settings, path, "providers_list", "dropped: each accelerator tunes its own provider")
    settings["providers_list"] = DEFAULT_VALUE
    for key, values in (
        ("execution_mode_list", [0, 1]),
        ("opt_level_list", [99]),
        ("inter_thread_num_list", [1]),
        ("intra_thread_num_list", thread_counts(work.cores)),
    ):
        given = settings.get(key)
        if not given or given == [None]:
            settings[key] = values
            work.changed((*path, key), f"nothing was listed: {values}")
    if not settings.get("data_config") and work.has_model_data:
        settings["data_config"] = MODEL_DATA
        work.changed((*path, "data_config"), f"none was named: {MODEL_DATA!r}")


def thread_counts(cores: int) -> list[int]:
    """Return the thread counts worth trying: the powers of two up to the cores, and the cores."""
    counts = {1, cores}
    power = 2
    while power < cores:
        counts.add(power)
        power *= 2
    return sorted(counts)
