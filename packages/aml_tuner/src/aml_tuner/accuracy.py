"""Limits of the models' accuracy: known before anything is deployed, so what misses them needs no trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aml_tool_core.deployment_variant import CANDIDATE
from aml_tool_core.errors import InputError

from aml_tuner.models import Model, model_of
from aml_tuner.space import Space, Value

_MARK = "-"  # between a metric and its kind in the optimizer's names of them; no profiler's metric has one


@dataclass(frozen=True)
class Excluded:
    """A candidate that is not tried, and the limits that it misses, in words."""

    candidate: Value
    misses: tuple[str, ...]


def limits_of(constraints: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the limits of a load, and those of accuracy."""
    accuracy = {name: limit for name, limit in constraints.items() if _MARK in name}
    return {name: limit for name, limit in constraints.items() if name not in accuracy}, accuracy


def kept(
    space: Space, limits: Mapping[str, float], parameters: Path | None, candidates: Path | None, place: str
) -> tuple[Space, tuple[Excluded, ...]]:
    """Return the space without the candidates whose model misses a limit, and those.

    `place` names the constraints in errors. Raises InputError where an accuracy is not known, or no model keeps all.
    """
    if not limits:
        return space, ()
    if CANDIDATE not in space.names:
        model = model_of(parameters, candidates, {})
        misses = _misses(model, limits, place, "the model", "--optimized_parameters_path")
        if misses:
            raise InputError(f"{place}: the model {'; '.join(misses)}, so there is nothing to try")
        return space, ()
    index = space.names.index(CANDIDATE)
    excluded = []
    for value in space.values[index]:
        model = model_of(parameters, candidates, {CANDIDATE: value})
        misses = _misses(model, limits, place, f"candidate {value}", "--candidates_path")
        if misses:
            excluded.append(Excluded(value, misses))
    out = {one.candidate for one in excluded}
    left = tuple(value for value in space.values[index] if value not in out)
    if not left:
        told = "; ".join(f"candidate {one.candidate} {', '.join(one.misses)}" for one in excluded)
        raise InputError(f"{place}: no candidate keeps them, so there is nothing to try: {told}")
    return Space(space.names, (*space.values[:index], left, *space.values[index + 1 :])), tuple(excluded)


def limit_words(name: str, limit: float, model: Model) -> str:
    """Return a limit in words."""
    return f"{name} {'at most' if name in model.lower_is_better else 'at least'} {limit:g}"


def _misses(model: Model, limits: Mapping[str, float], place: str, which: str, flag: str) -> tuple[str, ...]:
    misses = []
    for name, limit in limits.items():
        if name not in model.accuracy:
            there = ", ".join(model.accuracy) or "no accuracy at all"
            raise InputError(f"{place}/{name}: not known of {which}: the files that {flag} names tell {there}")
        value = model.accuracy[name]
        if (value > limit) if name in model.lower_is_better else (value < limit):
            side = "more" if name in model.lower_is_better else "less"
            misses.append(f"has {name} {value:.6g}, {side} than the {limit:g} demanded")
    return tuple(misses)
