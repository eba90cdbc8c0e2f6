"""What the optimizer's files say of the model of each variant: how accurate it is, and what its sessions are to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aml_tool_core import documents, optimized_parameters, scoring_variables
from aml_tool_core.deployment_variant import CANDIDATE, CANDIDATE_PARAMETERS, candidate_files
from aml_tool_core.errors import InputError

_NOT_ACCURACY = ("latency", "throughput", "size_on_disk")


@dataclass(frozen=True)
class Model:
    """One model. Accuracy metrics are those that the optimizer measured, empty where it did not say."""

    accuracy: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()  # of those metrics
    variables: Mapping[str, str] = field(default_factory=dict)  # what the deployer sets for its sessions

    def losses(self) -> tuple[float, ...]:
        """Return the accuracy metrics so that less is better, in the order of their names."""
        found = sorted(self.accuracy.items())
        return tuple(value if name in self.lower_is_better else -value for name, value in found)

    def is_more_accurate(self, other: Model) -> bool:
        """Tell whether a model is better in a metric and worse in none; of models with other metrics it is not told."""
        if self.accuracy.keys() != other.accuracy.keys():
            return False
        own, others = self.losses(), other.losses()
        return own != others and all(a <= b for a, b in zip(own, others, strict=True))


def model_of(parameters: Path | None, candidates: Path | None, variant: Mapping[str, Any]) -> Model:
    """Return the model of a variant. Raises InputError where the optimizer's files contradict or cannot be read."""
    wanted = variant.get(CANDIDATE)
    file = parameters if wanted is None else _parameters_of(parameters, wanted)
    found = {} if file is None else optimized_parameters.read(file)
    metrics = found.get("metrics", {}) if wanted is None else _metrics_of(candidates, wanted)
    told = {name: one for name, one in metrics.items() if one.get("value") is not None and _says_how_good(name, one)}
    return Model(
        {name: float(one["value"]) for name, one in told.items()},
        frozenset(name for name, one in told.items() if not one.get("higher_is_better", True)),
        scoring_variables.variables(found) if found else {},
    )


def _says_how_good(name: str, metric: Mapping[str, Any]) -> bool:
    """Tell whether a metric is of the model's answers: users name those as they like, `agreement` or `retrieval`.

    Speed is measured by the profiler, on what is deployed. A custom metric has no telling type, and an earlier
    optimizer's file has none at all; there, the name must do.
    """
    return metric.get("type") not in _NOT_ACCURACY and not name.lower().startswith(_NOT_ACCURACY)


def _parameters_of(folder: Path | None, wanted: int | str) -> Path | None:
    if folder is None:
        return None
    files = candidate_files(folder, wanted, CANDIDATE_PARAMETERS) if folder.is_dir() else []
    if len(files) > 1:
        raise InputError(f"{folder}: candidate {wanted} of which accelerator? Write it as ACCELERATOR/{wanted}")
    if not files:
        raise InputError(f"{folder}: no parameters of candidate {wanted}; give the optimizer's folder of them")
    return files[0]


def _metrics_of(candidates: Path | None, wanted: int | str) -> Mapping[str, Any]:
    accelerator, _, rank = str(wanted).rpartition("/")
    pattern = f"**/{accelerator or '*'}/BestCandidateModel_{rank}/metrics.json"
    files = [] if candidates is None else sorted(candidates.glob(pattern))
    if len(files) > 1:
        raise InputError(f"{candidates}: candidate {wanted} of which accelerator? Write it as ACCELERATOR/{rank}")
    metrics: Mapping[str, Any] = documents.read_json(files[0])["candidate_model_metrics"] if files else {}
    return metrics
