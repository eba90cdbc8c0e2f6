"""Scripts made for a translated configuration: they join the predecessor's user functions to what Olive calls now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aml_tool_core import outputs

from aml_olive_optimizer.places import GENERATED

_HEADER = (
    '"""Made by aml_olive_optimizer from {place} of the configuration."""\n\n'
    "from aml_olive_optimizer import user_code\n"
)


@dataclass(frozen=True)
class Script:
    """A generated module; its name holds its content's hash, so that Olive's cache knows it again."""

    stem: str
    text: str

    @property
    def file_name(self) -> str:
        return f"{self.stem}_{hashlib.sha256(self.text.encode()).hexdigest()[:8]}.py"

    @property
    def reference(self) -> str:
        """The path as it stands in a translated configuration."""
        return GENERATED + self.file_name


@dataclass(frozen=True)
class UserFunction:
    """A function of a user's script, as a configuration names it."""

    user_script: str
    script_dir: str | None
    name: str

    @property
    def expression(self) -> str:
        return f"user_code.function({self.user_script!r}, {self.script_dir!r}, {self.name!r})"


def write(folder: Path, scripts: tuple[Script, ...]) -> None:
    """Write generated scripts."""
    for script in scripts:
        outputs.write_text(folder / script.file_name, script.text)


def data(
    place: str,
    name: str,
    dataloader: UserFunction | None,
    data_dir: str | None,
    batch_size: int,
    post_process: UserFunction | None,
) -> Script:
    """Return a script that registers `<name>_dataloader` and `<name>_post_process`, as far as they are given."""
    text = _HEADER.format(place=place) + "from olive.data.registry import Registry\n"
    if dataloader is not None:
        text += (
            f'\n\n@Registry.register_dataloader("{name}_dataloader")\n'
            f"def dataloader(dataset, batch_size={batch_size}, **options):\n"
            f"    return {dataloader.expression}(user_code.place({data_dir!r}), batch_size)\n"
        )
    if post_process is not None:
        text += (
            f'\n\n@Registry.register_post_process("{name}_post_process")\n'
            f"def post_process(output, **options):\n    return {post_process.expression}(output)\n"
        )
    return Script(name, text)


def evaluation(place: str, name: str, evaluate: UserFunction, data_dir: str | None, batch_size: int) -> Script:
    """Return a script whose `evaluate(model, device, execution_providers)` calls the user's old-style function."""
    text = _HEADER.format(place=place) + (
        "\n\ndef evaluate(model, device, execution_providers):\n"
        f"    return user_code.evaluate({evaluate.expression}, model, {data_dir!r}, {batch_size}, device, "
        "execution_providers)\n"
    )
    return Script(name, text)


def model_loader(place: str) -> Script:
    """Return a script whose `load_model(model_path)` loads a whole module or TorchScript, whichever the file is."""
    text = _HEADER.format(place=place) + (
        "\n\ndef load_model(model_path):\n    return user_code.torch_model(model_path)\n"
    )
    return Script("load_model", text)
