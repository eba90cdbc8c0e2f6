"""The process that Olive runs in: `python -m aml_olive_optimizer.worker FOLDER`.

It is a process of its own so that an interrupted search leaves nothing running, that a crash of a native library ends
in an error instead of ending the tool, and that the user's requirements are installed before anything is imported.
FOLDER holds configuration.json; footprints/<accelerator>.json are written there. Events go to stdout, everything that
Olive, its libraries and the user's scripts print goes to stderr.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aml_tool_core import documents

from aml_olive_optimizer import repairs
from aml_olive_optimizer.events import Channel

NEEDED = ("psutil", "olive", "onnxruntime", "torch")
FAILURES = ("failed", "FAILED", "Failed")
# The tool says these itself, with the reason.
_SAID_BY_US = ("There is no expected candidates", "There is no pareto frontier", "No output model", "was pruned")
_INVALID = "Invalid config, pruned"


def main(folder: Path) -> int:
    """Run the search that `folder` describes; 0 unless it could not even start."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        channel = Channel(stream)
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            channel.send("refused", text=f"the optimizer's environment lacks {', '.join(missing)}")
            return 1
        return _search(folder, json.loads((folder / "configuration.json").read_text(encoding="utf-8")), channel)


def _search(folder: Path, configuration: dict[str, Any], channel: Channel) -> int:
    repairs.apply()
    log = _LogEvents(channel)
    logging.getLogger("olive").addHandler(log)
    _watch_engine(folder / "footprints", channel, log)
    _forget_failures(Path(os.environ["AML_OLIVE_OPTIMIZER_CACHE"]))

    from olive.workflows import run

    reason = refused(configuration)
    if reason:
        channel.send("refused", text=reason)
        return 1
    try:
        run(configuration)
    except (Exception, SystemExit):  # reported as a failure, with its traceback in the log; the tool decides
        logging.getLogger("olive").exception("the search ended early")
    channel.send("done")
    return 0


def refused(configuration: dict[str, Any]) -> str | None:
    """Return why Olive does not take the configuration, in one line, with its place."""
    from olive.workflows.run.config import RunConfig

    unknown = _unknown_pass_keys(configuration)
    if unknown:
        return unknown
    try:
        parsed = RunConfig.parse_obj(json.loads(json.dumps(configuration)))  # it changes what it is given
    except KeyError as error:  # Olive's registries of what data is loaded and processed by
        logging.getLogger("olive").exception("the configuration is not valid")
        return _unregistered(configuration, str(error.args[0]))
    except (ValueError, AssertionError) as error:  # pydantic's ValidationError is a ValueError
        logging.getLogger("olive").exception("the configuration is not valid")
        return f"Olive does not take it: {_reasons(error)}"
    package, spec = _package_and_accelerator()
    for name, entries in parsed.passes.items():
        for entry in entries:
            try:
                package.import_pass_module(entry.type).get_config_params(
                    spec, entry.config, not parsed.engine.search_strategy
                )
            except ValueError as error:
                return f"/passes/{name}: {entry.type} does not take it: {_reasons(error)}"
    return None


def _unregistered(configuration: dict[str, Any], name: str) -> str:
    """Return what to say about a name that Olive looked up in vain: it tells the name alone, in lower case."""
    # Only here: the rest of the configuration may use the same word for something else.
    parts = {key: configuration[key] for key in ("data_configs", "evaluators") if key in configuration}
    places = [documents.pointer(keys) for keys, value in _texts(parts, ()) if value.lower() == name]
    if not places:
        return f"Olive does not take it: it looked for {name!r} in vain"
    return (
        f"{', '.join(places)}: Olive 0.9.3 knows no {name!r}: correct the name, or register it in the data "
        "configuration's user_script (Registry.register_dataset(), register_pre_process(), ...)"
    )


def _texts(tree: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(tree, str):
        yield path, tree
    for key, below in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from _texts(below, (*path, key))


def _unknown_pass_keys(configuration: dict[str, Any]) -> str | None:
    """Return what to say about a pass, or a key of one, that Olive does not know: it would drop it in silence."""
    package, spec = _package_and_accelerator()
    known_passes = {name.lower() for name in package.passes}
    for name, entries in configuration["passes"].items():
        for entry in entries if isinstance(entries, list) else [entries]:
            place = f"/passes/{name}"
            if entry["type"].lower() not in known_passes:
                return f"{place}/type: Olive 0.9.3 has no pass {entry['type']!r}"
            given = set(entry.get("config") or {}) | (set(entry) - {"type", "config", "host", "evaluator"})
            try:
                known = set(package.import_pass_module(entry["type"])._default_config(spec))
            except ImportError as error:
                return f"{place}/type: {entry['type']} needs a package that is not installed here: {error}"
            if given - known:
                unknown = ", ".join(map(repr, sorted(given - known)))
                return f"{place}: unknown key {unknown}; {entry['type']} takes {', '.join(sorted(known))}"
    return None


def _package_and_accelerator() -> tuple[Any, Any]:
    from olive.hardware.accelerator import AcceleratorSpec
    from olive.package_config import OlivePackageConfig

    return OlivePackageConfig.load_default_config(), AcceleratorSpec("cpu", "CPUExecutionProvider")


def _reasons(error: Exception) -> str:
    # The first line of pydantic's text counts the errors, the next ones are place and reason.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3] or lines or [type(error).__name__])


def _forget_failures(cache: Path) -> None:
    # Olive remembers a failed pass as an empty model and never tries it again; the reason may have been a full disk.
    for model in cache.glob("*/runs/*/model.json"):
        if model.stat().st_size <= len("{}") + 1:
            for file in (model, model.with_name("run.json")):
                file.unlink(missing_ok=True)


class _LogEvents(logging.Handler):
    """Send Olive's warnings and failures as events, and keep why it pruned the point that it is at."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel
        self._said_by_pass = ""
        self.pruned_because = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _INVALID in text:  # the engine's own words; why, the pass has said just before, mostly as a mere information
            self.pruned_because = self._said_by_pass or "a pass does not take them together"
            return
        self._said_by_pass = text.removeprefix("[Ignored] ") if record.name.startswith("olive.passes.") else ""
        if record.levelno < logging.WARNING:
            return
        if any(mark in text for mark in _SAID_BY_US):
            return
        if record.exc_info and record.exc_info[1] is not None:
            # "Step 3 search point SearchPoint(...) ... FAILED": the step is told of by itself
            what = "evaluation failed" if text.startswith("Step ") else text.rstrip(". ")
            self.pruned_because = f"{what}: {_said(record.exc_info[1])}"
            self._channel.send("failure", text=self.pruned_because)
        elif any(mark in text for mark in FAILURES):
            self.pruned_because = text
            self._channel.send("failure", text=text)
        else:
            self._channel.send("warning", text=text)


def _watch_engine(footprints: Path, channel: Channel, log: _LogEvents) -> None:
    from olive.engine.engine import Engine
    from olive.search.search_strategy import SearchStrategy

    footprints.mkdir()
    accelerator, number = "", 0

    def run(original: Callable[..., Any], self: Any, model: Any, specs: Any, *more: Any, **options: Any) -> Any:
        channel.send("accelerators", names=[str(spec) for spec in specs])
        return original(self, model, specs, *more, **options)

    def run_accelerator(
        original: Callable[..., Any], self: Any, model: Any, folder: Any, evaluate: Any, spec: Any
    ) -> Any:
        nonlocal accelerator, number
        accelerator, number = str(spec), 0
        try:
            return original(self, model, folder, evaluate, spec)
        finally:  # also what an interrupted or failed search has found so far
            # Whole or not at all: the process may be ended while it writes.
            written = footprints / f".{spec}.part"
            self.footprints[spec].to_file(written)
            written.replace(footprints / f"{spec}.json")

    def run_passes(original: Callable[..., Any], self: Any, *arguments: Any) -> Any:
        nonlocal number
        number += 1
        log.pruned_because = ""
        channel.send("step", accelerator=accelerator, number=number)
        pruned, signal, model_ids = original(self, *arguments)
        metrics = {name: result["value"] for name, result in signal.to_json().items()} if signal is not None else {}
        reason = log.pruned_because if pruned else ""
        channel.send("measured", number=number, metrics=metrics, pruned=pruned, reason=reason)
        return pruned, signal, model_ids

    def run_pass(original: Callable[..., Any], self: Any, name: str, *arguments: Any) -> Any:
        channel.send("pass", name=name, type=self.computed_passes_configs[name].type)
        return original(self, name, *arguments)

    def initialize(original: Callable[..., Any], self: Any, *arguments: Any) -> Any:
        result = original(self, *arguments)
        limit = getattr(self.config.sampler_config, "max_samples", 0) or self.max_samples
        limits = (limit, self.max_samples, self.config.max_iter or self.max_samples)
        channel.send("points", accelerator=accelerator, count=min(limits))
        return result

    for owner, name, replacement in (
        (Engine, "run", run),
        (Engine, "run_accelerator", run_accelerator),
        (Engine, "_run_passes", run_passes),
        (Engine, "_run_pass", run_pass),
        (SearchStrategy, "initialize", initialize),
    ):
        setattr(owner, name, functools.partialmethod(_wrapped, replacement, getattr(owner, name)))


def _wrapped(
    self: Any, replacement: Callable[..., Any], original: Callable[..., Any], *more: Any, **options: Any
) -> Any:
    return replacement(original, self, *more, **options)


def _said(error: BaseException) -> str:
    cause = error.__cause__ or error  # Olive wraps what a pass raised
    return " ".join(f"{type(cause).__name__}: {cause}".split()).rstrip(":")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
