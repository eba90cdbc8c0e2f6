"""Where a configuration's relative paths are looked up.

Models in --model_path; scripts in --code; data in --code, else in --model_path: a tokenizer lies beside its model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import InputError
from aml_tool_core.documents import pointer

# Written in front of the name of a generated script; see `scripts`.
GENERATED = "@generated/"
_DATA = ("data_dir", "data_files")
_SCRIPTS = ("user_script", "script_dir", "model_script")


@dataclass(frozen=True)
class Places:
    """The folders that relative paths are looked up in."""

    model: Path | None
    code: Path | None
    generated: Path

    def resolved(self, configuration: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return the configuration with absolute paths. Raises InputError for a script or a folder that is missing."""
        result = copy.deepcopy(dict(configuration))
        self._walk(result, (), source)
        return result

    def _walk(self, value: Any, path: tuple[str | int, ...], source: str) -> None:
        if isinstance(value, list):
            for index, entry in enumerate(value):
                self._walk(entry, (*path, index), source)
        if not isinstance(value, dict):
            return
        for key, entry in value.items():
            here = (*path, key)
            if key == "model_path" and isinstance(entry, str):
                value[key] = self._model(entry, path, source)
            elif key == "additional_files" and isinstance(entry, list):
                value[key] = [self._beside_model(str(name), (*here, index), source) for index, name in enumerate(entry)]
            elif key in _SCRIPTS and isinstance(entry, str):
                value[key] = self._script(entry, here, source)
            elif key in _DATA:
                value[key] = self._data(entry)
            else:
                self._walk(entry, here, source)

    def _data(self, value: Any) -> Any:
        """Return where data are: one name, or several in a list or by their splits, as datasets takes them."""
        if isinstance(value, list):
            return [self._data(entry) for entry in value]
        if isinstance(value, dict):
            return {split: self._data(entry) for split, entry in value.items()}
        if not isinstance(value, str):
            return value
        for folder in (self.code, self.model, Path.cwd()):
            if folder is not None and (folder / value).exists():
                return str((folder / value).resolve())
        return value  # may be a name that only the user's script understands

    def _model(self, name: str, path: tuple[str | int, ...], source: str) -> str:
        for folder in (self.model, self.code):
            if folder is not None and (folder / name).exists():
                return str((folder / name).resolve())
        if Path(name).exists():
            return str(Path(name).resolve())
        if path[:1] == ("input_model",) and self.model is not None and Path(name).suffix:
            raise InputError(f"{source}: {pointer((*path, 'model_path'))}: {name}: not in {self.model}")
        return name  # a model hub's name, or something Olive itself will complain about

    def _beside_model(self, name: str, path: tuple[str | int, ...], source: str) -> str:
        for folder in (self.model, self.code, Path.cwd()):
            if folder is not None and (folder / name).is_file():
                return str((folder / name).resolve())
        hint = f"not in {self.model}" if self.model else "give --model_path"
        raise InputError(f"{source}: {pointer(path)}: {name}: no such file; {hint}")

    def _script(self, name: str, path: tuple[str | int, ...], source: str) -> str:
        if name.startswith(GENERATED):
            return str(self.generated / name.removeprefix(GENERATED))
        for folder in (self.code, Path.cwd()):
            if folder is not None and (folder / name).exists():
                return str((folder / name).resolve())
        hint = f"not in {self.code}" if self.code else "give --code"
        raise InputError(f"{source}: {pointer(path)}: {name}: no such file or folder; {hint}")
