"""What generated scripts call: the user's functions, found and called as the predecessor did. Runs in the worker."""

from __future__ import annotations

import inspect
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def place(path: str | None) -> str | None:
    """Return an absolute path for one that is relative to the user's code folder; others, and names, as they are."""
    if path is None:
        return None
    found = Path(os.environ["AML_OLIVE_OPTIMIZER_CODE"]) / path
    return str(found) if found.exists() else path


def function(user_script: str, script_dir: str | None, name: str) -> Callable[..., Any]:
    """Return a function of a user's script."""
    from olive.common.import_lib import import_user_module

    module = import_user_module(place(user_script), place(script_dir))
    try:
        found: Callable[..., Any] = getattr(module, name)
    except AttributeError:
        raise ValueError(f"{user_script} has no function {name!r}") from None
    return found


def evaluate(
    user_function: Callable[..., Any],
    model: Any,
    data_dir: str | None,
    batch_size: int,
    device: str,
    execution_providers: Any,
) -> Any:
    """Call `f(model, data_dir, batch_size, device[, execution_providers])`, the last one if `f` takes it."""
    arguments = [model, place(data_dir), batch_size, device]
    parameters = inspect.signature(user_function).parameters.values()
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(positional) > len(arguments) or any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return user_function(*arguments, execution_providers)
    return user_function(*arguments)


def torch_model(model_path: str) -> Any:
    """Return a PyTorch model from a file with a whole module or with TorchScript, ready for inference."""
    import torch

    if zipfile.is_zipfile(model_path):
        with zipfile.ZipFile(model_path) as archive:
            if any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist()):
                return _traceable(torch.jit.load(model_path, map_location="cpu").eval())
    model = torch.load(model_path, map_location="cpu", weights_only=False)
    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"{model_path}: holds {type(model).__name__}, not a module; give model_loader and model_script in the "
            "configuration to build the network and load these weights into it"
        )
    return model.eval()


def _traceable(script: Any) -> Any:
    """Return a module that computes what a TorchScript one does.

    The exporter cannot trace through a ScriptModule, and takes none with inputs by name; a function without `self` it
    traces, so the frozen graph is made one.
    """
    import torch

    graph = torch.jit.freeze(script).graph.copy()
    names = [argument.name for argument in script.forward.schema.arguments][1:]
    try:
        graph.eraseInput(0)  # self: unused, since freezing made constants of all it holds
    except RuntimeError as error:
        raise ValueError(f"the TorchScript module keeps state and cannot be converted: {error}") from None
    function = torch._C._create_function_from_graph("forward", graph)

    class Whole(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
        def forward(self, *arguments: Any, **named: Any) -> Any:
            return function(*arguments, *(named[name] for name in names[len(arguments) :] if name in named))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *names)]
    # The exporter matches inputs by the names in this signature.
    Whole.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Whole().eval()
