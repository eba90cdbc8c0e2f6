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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aml_olive_optimizer.events import Channel

NEEDED = ("psutil", "olive", "onnxruntime", "torch")
FAILURES = (
    "Pass run failed",
    "Pass run_pass failed",
    "FAILED.",
    "Failed to run Olive",
    "Optimization failed",
    "Baseline",
)


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
    _export_as_configured()
    _watch_log(channel)
    _watch_engine(folder / "footprints", channel)
    _forget_failures(Path(os.environ["AML_OLIVE_OPTIMIZER_CACHE"]))

    from olive.workflows import run

    refused = _unknown_pass_keys(configuration) or _invalid(configuration)
    if refused:
        channel.send("refused", text=refused)
        return 1
    try:
        run(configuration)
    except (Exception, SystemExit) as error:  # reported, with its traceback in the log, and the tool decides
        logging.getLogger("olive").exception("the search ended early")
        channel.send("failure", text=_said(error))
    channel.send("done")
    return 0


def _export_as_configured() -> None:
    # torch's exporter is the dynamo one unless told otherwise, and Olive 0.9.3 does not tell it: opset 13 would
    # silently become 18, and the fusion of transformer graphs nearly vanish. OnnxConversion's use_dynamo_exporter
    # still asks for it by name.
    import torch

    export = torch.onnx.export

    @functools.wraps(export)
    def explicit(*arguments: Any, dynamo: bool = False, **options: Any) -> Any:
        return export(*arguments, dynamo=dynamo, **options)

    torch.onnx.export = explicit


def _unknown_pass_keys(configuration: dict[str, Any]) -> str | None:
    """Return what to say about a pass, or a key of one, that Olive does not know: it would drop it in silence."""
    from olive.hardware.accelerator import AcceleratorSpec
    from olive.package_config import OlivePackageConfig

    package = OlivePackageConfig.load_default_config()
    known_passes = {name.lower(): name for name in package.passes}
    spec = AcceleratorSpec("cpu", "CPUExecutionProvider")
    for name, entries in (configuration.get("passes") or {}).items():
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
                return f"{place}: unknown key {', '.join(map(repr, sorted(given - known)))}; {entry['type']} takes " + (
                    ", ".join(sorted(known))
                )
    return None


def _invalid(configuration: dict[str, Any]) -> str | None:
    """Return why Olive does not take the configuration, in one line."""
    from olive.workflows.run.config import RunConfig

    try:
        RunConfig.parse_obj(json.loads(json.dumps(configuration)))  # it changes what it is given
    except (ValueError, AssertionError, KeyError) as error:  # pydantic's ValidationError is a ValueError
        logging.getLogger("olive").exception("the configuration is not valid")
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return "Olive does not take it: " + "; ".join(lines[1:] or lines or [type(error).__name__])
    return None


def _forget_failures(cache: Path) -> None:
    # Olive remembers a failed pass as an empty model and never tries it again; the reason may have been a full disk.
    for model in cache.glob("*/runs/*/model.json"):
        if model.stat().st_size <= len("{}") + 1:
            for file in (model, model.with_name("run.json")):
                file.unlink(missing_ok=True)


class _LogEvents(logging.Handler):
    """Send Olive's warnings and failures as events."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            self._channel.send("failure", text=f"{text.rstrip('. ')}: {_said(record.exc_info[1])}")
        elif any(mark in text for mark in FAILURES):
            self._channel.send("failure", text=text)
        else:
            self._channel.send("warning", text=text)


def _watch_log(channel: Channel) -> None:
    logging.getLogger("olive").addHandler(_LogEvents(channel))


def _watch_engine(footprints: Path, channel: Channel) -> None:
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
            self.footprints[spec].to_file(footprints / f"{spec}.json")

    def run_passes(original: Callable[..., Any], self: Any, *arguments: Any) -> Any:
        nonlocal number
        number += 1
        channel.send("step", accelerator=accelerator, number=number)
        pruned, signal, model_ids = original(self, *arguments)
        metrics = {name: result["value"] for name, result in signal.to_json().items()} if signal is not None else {}
        channel.send("measured", number=number, metrics=metrics, pruned=pruned)
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
    return f"{type(error).__name__}: {error}".strip().rstrip(":")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
