"""summary.json: the trials ranked, the front of what cannot be improved at once, what to take and why, and the gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aml_tool_core.deployment_variant import CANDIDATE
from aml_tool_core.profiling.sla import AT_LEAST

from aml_tuner import accuracy, deployment, objective
from aml_tuner.configuration import DEPLOYER, Plan
from aml_tuner.models import Model
from aml_tuner.space import Value
from aml_tuner.trial import shown

SCHEMA = "tuning_summary"
FILE_NAME = "summary.json"
PAGE_NAME = "summary.html"
_TELLING = 0.02  # a ratio nearer to 1 than this is not called a difference: every variant was deployed once
LATENCY = "latency_ms_99"
AXES = {"target_rps": "requests/s", "connections": "connections"}  # what a search searched, in words
COSTS = ("price_per_million_requests", "core_hour_per_million_requests")


@dataclass(frozen=True)
class Made:
    """All that the trials of a tuning have brought, in the order of their ends."""

    trials: Sequence[Mapping[str, Any]]
    finished_before: int
    models: Mapping[str, Model]  # by trial id
    started_at: str


def document(plan: Plan, made: Made, tool: str, version: str) -> dict[str, Any]:
    """Return the summary as its schema has it."""
    trials = [
        {
            **one,
            "score": objective.score(one["metrics"], plan.objective),
            "accuracy": dict(made.models[one["id"]].accuracy),
        }
        for one in made.trials
    ]
    ranked = ranking(trials)
    cost = cost_axis(ranked)
    return {
        "version": "1.0",
        "tool": {"name": tool, "version": version},
        "started_at": made.started_at,
        "strategy": plan.strategy,
        "objective": dict(plan.objective),
        "constraints": {**plan.constraints, **plan.accuracy_limits},
        "parameters": {name: list(values) for name, values in zip(plan.space.names, plan.space.values, strict=True)},
        "grid_size": plan.space.size,
        "excluded": [{"candidate": one.candidate, "misses": list(one.misses)} for one in plan.excluded],
        "finished_before": made.finished_before,
        "profiler": plan.profiler,
        "top": [one["id"] for one in ranked[: plan.top]],
        "pareto_front": [one["id"] for one in front(ranked, made.models, cost)],
        "pareto_axes": [
            *(["accuracy"] if any(one["accuracy"] for one in ranked) else []),
            LATENCY,
            *([cost] if cost else []),
        ],
        "choice": _choice(plan, ranked, trials, made.models) if ranked else None,
        "not_measured": not_measured(plan, trials, cost),
        "trials": trials,
    }


def ranking(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the trials that keep every constraint, the best objective first."""
    usable = [one for one in trials if one["feasible"] and one["score"] is not None]
    return sorted(usable, key=lambda one: float(one["score"]), reverse=True)


def cost_axis(trials: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the cost that every trial has; None where there is none."""
    return next((cost for cost in COSTS if trials and all(cost in one["metrics"] for one in trials)), None)


def front(trials: Sequence[dict[str, Any]], models: Mapping[str, Model], cost: str | None) -> list[dict[str, Any]]:
    """Return the trials that no other beats in accuracy, p99 and cost at once, by rising p99."""

    def axes(one: Mapping[str, Any]) -> tuple[float, ...]:
        costs = [one["metrics"][cost]] if cost else []
        return (*models[one["id"]].losses(), one["metrics"].get(LATENCY, math.inf), *costs)

    def beaten(one: Mapping[str, Any]) -> bool:
        own = axes(one)
        return any(
            len(other) == len(own) and other != own and all(a <= b for a, b in zip(other, own, strict=True))
            for other in map(axes, trials)
        )

    return sorted(
        (one for one in trials if not beaten(one)), key=lambda one: float(one["metrics"].get(LATENCY, math.inf))
    )


def _choice(
    plan: Plan, ranked: Sequence[dict[str, Any]], trials: Sequence[dict[str, Any]], models: Mapping[str, Model]
) -> dict[str, Any]:
    best = ranked[0]
    command = deployment.command(plan.deploy_flags, best["variant"], DEPLOYER)
    variables = {**models[best["id"]].variables, **plan.model_variable}
    return {
        "id": best["id"],
        "why": why(plan, ranked, trials, models),
        "deployment_yml": deployment.written(
            plan.deployment_yaml, best["variant"], variables, command, shown(best["variant"])
        ),
        "command": command,
    }


def why(
    plan: Plan, ranked: Sequence[dict[str, Any]], trials: Sequence[dict[str, Any]], models: Mapping[str, Model]
) -> str:
    """Return one paragraph on what to take and why, from the figures alone."""
    best = ranked[0]
    sentences = [f"Take {shown(best['variant'])}: {_figures(best, plan)}."]
    limits = [
        f"{name} {_limit(name)} {limit:g} (here {best['metrics'][name]:.4g})"
        for name, limit in plan.constraints.items()
        if name in best["metrics"]
    ]
    model = models[best["id"]]
    limits += [
        f"{accuracy.limit_words(name, limit, model)} (here {model.accuracy[name]:.4g})"
        for name, limit in plan.accuracy_limits.items()
    ]
    # Where the profiler's own configuration or its search has the limits, they are not known here by name.
    kept = " and ".join(limits) or ("every limit" if any(not one["feasible"] for one in trials) else "")
    if len(ranked) > 1:
        among = f"Of the {len(ranked)} trials{kept and f' that keep {kept}'}"
        sentences.append(f"{among}, it is the best by {_objective_words(plan.objective)}.")
    else:
        sentences.append(f"It is the only trial{kept and f' that keeps {kept}'}.")
    if len(ranked) > 1:
        gap = 1 - math.exp(ranked[1]["score"] - best["score"])
        near = f", which one more run of each might turn: {_how_often(plan)}" if gap < _TELLING else ""
        doubt = "" if ranked[1]["valid"] else f"; but its run is not valid: {ranked[1]['reasons'][0]}"
        worse = _worse(gap, plan.objective)
        sentences.append(f"The next, {shown(ranked[1]['variant'])}, is {worse}{near}{doubt}.")
    sentences += _more_accurate(plan, best, ranked, models)
    effects = _effects(best, trials)
    if effects:
        sentences.append(f"One setting changed, by {_measure(plan.objective)}: {'; '.join(effects)}.")
    if not best["valid"]:
        sentences.append(f"Its run may not be believed as it is: {best['reasons'][0]}.")
    return " ".join(sentences)


def _worse(gap: float, weights: Mapping[str, float]) -> str:
    return f"{100 * gap:.2g} % worse in {_measure(weights)}"


def _measure(weights: Mapping[str, float]) -> str:
    """Return what trials are compared by, in words."""
    return next(iter(weights)) if list(weights.values()) == [1.0] else "the weighed objective"


def _more_accurate(
    plan: Plan, best: Mapping[str, Any], ranked: Sequence[dict[str, Any]], models: Mapping[str, Model]
) -> list[str]:
    """Say what a more accurate model would cost, by the best trial of the most accurate one."""
    own = models[best["id"]]
    better = [one for one in ranked if models[one["id"]].is_more_accurate(own)]
    if not better:
        return []
    # Of those that no other of them is more accurate than, the one that costs least.
    most = [
        one for one in better if not any(models[other["id"]].is_more_accurate(models[one["id"]]) for other in better)
    ]
    other = max(most, key=lambda one: float(one["score"]))
    what = f"candidate {other['variant'][CANDIDATE]}" if CANDIDATE in other["variant"] else shown(other["variant"])
    accuracy = ", ".join(f"{name} {value:.4g}" for name, value in other["accuracy"].items())
    gap = 1 - math.exp(other["score"] - best["score"])
    at = "" if what == shown(other["variant"]) else f" at its best, {shown(other['variant'])},"
    return [f"A more accurate model is that of {what} ({accuracy}):{at} {_worse(gap, plan.objective)}."]


def _figures(one: Mapping[str, Any], plan: Plan) -> str:
    found = one["metrics"]
    words = [f"{found['succeeded_per_sec']:.4g} good answers per second{_load_words(one, plan)}"]
    if LATENCY in found:
        words.append(f"p99 {found[LATENCY]:.4g} ms")
    words += [f"{name} {value:.4g}" for name, value in one["accuracy"].items()]
    cost = cost_axis([one])
    if cost is not None:
        unit = "a price of" if cost.startswith("price") else "core-hours"
        words.append(
            f"{unit} {found[cost]:.4g} per million requests"
            if unit.startswith("a")
            else f"{found[cost]:.4g} {unit} per million requests"
        )
    return ", ".join(words)


def _load_words(one: Mapping[str, Any], plan: Plan) -> str:
    """Return the load, given or found by a search, and the payload class that the figures are of."""
    of_class = f" with payload class {one['payload_class']}, which is served worst" if "payload_class" in one else ""
    if (answer := one.get("answer")) is None:
        return f"{of_class}{_given_load(plan)}"
    low, high = answer.get("interval", (None, None))
    interval = ""
    if low is not None or high is not None:
        known = [f"{bound:.4g}" for bound in (low, high) if bound is not None]
        bounds = " to ".join(known) + (" or more" if high is None else " or less" if low is None else "")
        interval = f", 95 % interval {bounds}"
    return f"{of_class} at {answer['value']:g} {AXES[answer['axis']]} (the most that holds{interval})"


def _given_load(plan: Plan) -> str:
    """Return the one load that the profiler's configuration has; nothing where it has several, or leaves it open."""
    load = plan.profiler_config.get("profiler_config", {})
    rate, senders = load.get("target_rps"), load.get(plan.concurrency_key)
    known = [f"{rate:g} requests/s"] if isinstance(rate, (int, float)) else []
    if isinstance(senders, int):
        name = plan.concurrency_key
        known.append(f"{senders} {name.removesuffix('s') if senders == 1 else name}")
    loop = ", in a closed loop" if plan.profiler == "aml_wrk_profiler" else ""
    return f" at {', '.join(known)}{loop}" if known else ""


def _limit(name: str) -> str:
    return "at least" if name in AT_LEAST else "at most"


def _how_often(plan: Plan) -> str:
    load = plan.profiler_config.get("profiler_config", {})
    times = load.get("repeat", 1)
    often = "" if times == 1 else f" {times} times in a row"
    if "search" in load:
        return f"every variant was deployed and searched once{often and f', each load measured{often}'}"
    return f"every variant was deployed{'' if times == 1 else ' once'} and measured{often or ' once'}"


def _objective_words(weights: Mapping[str, float]) -> str:
    if len(weights) == 1:
        return next(iter(weights))
    return " and ".join(f"{name} (weight {weight:g})" for name, weight in weights.items())


def _effects(best: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what each setting does at the best trial: the trials that differ from it in that one alone."""
    told = []
    for name, value in best["variant"].items():
        others: list[tuple[Value, str]] = []
        for one in trials:
            differing = [key for key in best["variant"] if one["variant"][key] != best["variant"][key]]
            if differing == [name]:
                others.append((one["variant"][name], _effect(best, one)))
        if others:
            ordered = sorted(others, key=lambda pair: (isinstance(pair[0], str), pair[0]))
            told.append(f"{name} {', '.join(f'{other} instead of {value}: {effect}' for other, effect in ordered)}")
    return told


def _effect(best: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    if one["error"] is not None:
        return "failed"
    if one.get("unconfirmed") is not None:
        return "not confirmed"
    if not one["feasible"]:
        return "misses a constraint"
    if one["score"] is None:
        return "not comparable"
    ratio = math.exp(one["score"] - best["score"])
    told = "no telling difference" if 1 - ratio < _TELLING else f"{100 * (1 - ratio):.2g} % worse"
    return told if one["valid"] else f"{told} in a run that is not valid"


def not_measured(plan: Plan, trials: Sequence[Mapping[str, Any]], cost: str | None) -> list[str]:
    """Return what the summary does not rest on."""
    told = []
    untried = plan.space.size - len(trials)
    if untried:
        told.append(
            f"{untried} of the {plan.space.size} combinations: they were not tried, as the search did not expect them "
            "to be better or its trials were spent"
        )
    for excluded in plan.excluded:
        told.append(f"candidate {excluded.candidate} {', '.join(excluded.misses)}: it was not deployed")
    failed = [one for one in trials if one["error"] is not None]
    if failed:
        told.append(f"{len(failed)} trials failed: {failed[0]['error']}{' and others' if len(failed) > 1 else ''}")
    unconfirmed = [one for one in trials if one.get("unconfirmed") is not None]
    if unconfirmed:
        told.append(
            f"{len(unconfirmed)} of the {len(trials)} trials are not ranked, as no run of full length confirmed what "
            f"their searches found: {'; '.join(shown(one['variant']) for one in unconfirmed)}; the first: "
            f"{unconfirmed[0]['unconfirmed']}"
        )
    never = [
        f"{name} {value}"
        for name, values in zip(plan.space.names, plan.space.values, strict=True)
        for value in values
        if not any(one["variant"][name] == value for one in trials)
    ]
    if never:
        told.append(f"never tried: {', '.join(never)}")
    doubtful = [one for one in trials if one["error"] is None and not one["valid"]]
    if doubtful:
        told.append(
            f"{len(doubtful)} of the {len(trials)} runs are not valid by the profiler's own verdict, e.g. trial "
            f"{doubtful[0]['id']}: {doubtful[0]['reasons'][0]}"
        )
    if not any(one["accuracy"] for one in trials):
        told.append("accuracy: no file of the optimizer says it (--optimized_parameters_path, --candidates_path)")
    if cost is None:
        told.append("cost: the machine size or its vCPUs are not known, and no price is configured")
    told.append(f"what differs from machine to machine and from hour to hour: {_how_often(plan)}")
    told.append("cold start, scaling out, and any other payload or load than the profiler's configuration has")
    return told
