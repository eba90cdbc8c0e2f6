"""Sweep jobs: their search space, and the trials that sampling makes of it."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.durations import parse_duration_sec
from azureml_local.models.tracking import Objective, parse_objective

# https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters
PARAMETER_COUNT = {
    "choice": 1,
    "randint": 1,
    "uniform": 2,
    "loguniform": 2,
    "normal": 2,
    "lognormal": 2,
    "quniform": 3,
    "qloguniform": 3,
    "qnormal": 3,
    "qlognormal": 3,
}
# The names that a step of a pipeline gives the same parameters, in their order.
NAMED_PARAMETERS = ("values", "upper", "min_value", "max_value", "mu", "sigma", "q")
# https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-sweep: the bound, and what is taken without one.
MOST_TRIALS = 1000
SEARCH_SPACE = re.compile(r"\$\{\{\s*search_space\.")


@dataclass(frozen=True)
class Distribution:
    """What one parameter is drawn from."""

    kind: str
    parameters: tuple[Any, ...]


@dataclass(frozen=True)
class SweepSpec:
    """What a sweep asks for, checked; the trials are the parameters of each."""

    trials: tuple[Mapping[str, str], ...]
    max_concurrent_trials: int
    timeout_sec: float | None
    trial_timeout: str | None
    objective: Objective | None


def parse_sweep(properties: Mapping[str, Any]) -> SweepSpec:
    """Turn a sweep job's properties into a specification; raises InvalidRequestError."""
    if properties.get("earlyTermination"):
        raise InvalidRequestError("early_termination is not emulated: every trial runs to its end.", "NotSupported")
    trial = properties.get("trial") or {}
    if not trial.get("command"):
        raise InvalidRequestError("A sweep job needs a trial with a command.")
    limits = properties.get("limits") or {}
    most = _count("max_total_trials", limits.get("maxTotalTrials"))
    space = {name: _checked(name, entry) for name, entry in (properties.get("searchSpace") or {}).items()}
    if not space:
        raise InvalidRequestError("A sweep job needs a search_space.")
    algorithm = properties.get("samplingAlgorithm") or {}
    kind = str(algorithm.get("samplingAlgorithmType", "")).lower()
    if kind == "grid":
        trials = grid(space, most)
    elif kind == "random":
        if str(algorithm.get("rule") or "random").lower() != "random":
            raise InvalidRequestError(f"The sampling rule '{algorithm['rule']}' is not emulated.", "NotSupported")
        if limits.get("maxTotalTrials") is None:
            raise InvalidRequestError("Random sampling needs limits.max_total_trials: it has no end of its own.")
        trials = sample(space, most, algorithm.get("seed"))
    else:
        raise InvalidRequestError(
            f"The sampling algorithm '{kind}' is not emulated; grid and random are.", "NotSupported"
        )
    timeout = limits.get("timeout")
    return SweepSpec(
        trials=tuple(trials),
        max_concurrent_trials=_count("max_concurrent_trials", limits.get("maxConcurrentTrials")),
        timeout_sec=parse_duration_sec(str(timeout)) if timeout else None,
        trial_timeout=str(limits["trialTimeout"]) if limits.get("trialTimeout") else None,
        objective=parse_objective(properties.get("objective")),
    )


def grid(space: Mapping[str, Distribution], most: int) -> list[dict[str, str]]:
    """Return the first combinations of a space of choices, the last parameter varying fastest."""
    for name, distribution in space.items():
        if distribution.kind != "choice":
            raise InvalidRequestError(f"Grid sampling takes choices alone; '{name}' is {distribution.kind}.")
    values = [[text_of(value) for value in distribution.parameters[0]] for distribution in space.values()]
    combinations = itertools.islice(itertools.product(*values), most)
    return [dict(zip(space, combination, strict=True)) for combination in combinations]


def sample(space: Mapping[str, Distribution], count: int, seed: int | None) -> list[dict[str, str]]:
    """Draw trials at random, the same for the same seed; raises InvalidRequestError."""
    source = random.Random(seed)
    return [{name: text_of(_drawn(name, entry, source)) for name, entry in space.items()} for _ in range(count)]


def text_of(value: Any) -> str:
    """Return a value as the command shows it."""
    return str(value)


def _drawn(name: str, distribution: Distribution, source: random.Random) -> Any:
    try:
        return _draw(distribution, source)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise _undrawable(name, distribution, error) from error


def _undrawable(name: str, distribution: Distribution, error: Exception) -> InvalidRequestError:
    asked = ", ".join(str(parameter) for parameter in distribution.parameters)
    return InvalidRequestError(f"search_space.{name}: nothing can be drawn from {distribution.kind}({asked}): {error}.")


def _draw(distribution: Distribution, source: random.Random) -> Any:
    kind, parameters = distribution.kind, distribution.parameters
    if kind == "choice":
        return source.choice(parameters[0])
    if kind == "randint":
        return source.randrange(int(parameters[0]))
    first, second = float(parameters[0]), float(parameters[1])
    return _shaped(distribution, source.uniform(first, second) if "uniform" in kind else source.gauss(first, second))


def _shaped(distribution: Distribution, drawn: float) -> float:
    """Return what a draw of the underlying uniform or normal distribution stands for."""
    kind, parameters = distribution.kind, distribution.parameters
    if "log" in kind:
        drawn = math.exp(drawn)
    return round(drawn / float(parameters[2])) * float(parameters[2]) if kind.startswith("q") else drawn


def _checked(name: str, entry: Any) -> Distribution:
    """Read a distribution, and try the ends of one that has ends: no draw is to fail in the midst of a sweep."""
    distribution = _distribution(name, entry)
    try:
        if distribution.kind == "randint" and int(distribution.parameters[0]) < 1:
            raise ValueError("its upper end must be above 0")
        if "uniform" in distribution.kind:
            for end in distribution.parameters[:2]:
                _shaped(distribution, float(end))
    except (ArithmeticError, ValueError, TypeError) as error:
        raise _undrawable(name, distribution, error) from error
    return distribution


def _distribution(name: str, entry: Any) -> Distribution:
    if isinstance(entry, Mapping):
        kind = str(entry.get("type", "")).lower()
        parameters = [entry[word] for word in NAMED_PARAMETERS if entry.get(word) is not None]
    elif isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list):
        kind, parameters = str(entry[0]).lower(), entry[1]
    else:
        raise InvalidRequestError(f"search_space.{name} is not a distribution: {entry!r}.")
    if PARAMETER_COUNT.get(kind) != len(parameters):
        raise InvalidRequestError(
            f"search_space.{name}: {kind or 'no type'} with {len(parameters)} parameters is unknown."
        )
    if kind == "choice" and not (isinstance(parameters[0], list) and parameters[0]):
        raise InvalidRequestError(f"search_space.{name}: a choice needs a list of values.")
    return Distribution(kind, tuple(parameters))


def _count(name: str, value: Any) -> int:
    if value is None:
        return MOST_TRIALS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_TRIALS:
        raise InvalidRequestError(f"limits.{name} must be a whole number from 1 to {MOST_TRIALS}, not {value!r}.")
    return value


def trial_properties(
    properties: Mapping[str, Any], spec: SweepSpec, number: int, *, display_name: str
) -> dict[str, Any]:
    """Return the command job that a trial is: the search space's values are inputs like all others."""
    trial = properties["trial"]
    literals = {name: {"jobInputType": "literal", "value": value} for name, value in spec.trials[number].items()}
    return {
        "jobType": "Command",
        "displayName": display_name,
        "experimentName": properties.get("experimentName"),
        "command": SEARCH_SPACE.sub("${{inputs.", str(trial["command"])),
        "environmentId": trial.get("environmentId"),
        "codeId": trial.get("codeId"),
        "distribution": trial.get("distribution"),
        "environmentVariables": trial.get("environmentVariables"),
        "resources": properties.get("resources") or trial.get("resources"),
        "computeId": properties.get("computeId"),
        "inputs": {**(properties.get("inputs") or {}), **literals},
        "outputs": properties.get("outputs") or {},
        "limits": {"timeout": spec.trial_timeout} if spec.trial_timeout else None,
        "tags": {**(properties.get("tags") or {}), **spec.trials[number]},
    }
