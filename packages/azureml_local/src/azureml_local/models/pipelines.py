"""Pipeline jobs: their steps, what binds them, and the job that each step becomes."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models import placeholders
from azureml_local.models.jobs import FILE_TYPES, FOLDER_TYPES, output_uri
from azureml_local.models.store import Store

DATA_TYPES = FILE_TYPES | FOLDER_TYPES
RESOURCES = {
    "instance_count": "instanceCount",
    "instance_type": "instanceType",
    "shm_size": "shmSize",
    "docker_args": "dockerArgs",
}
LIMITS = {
    "max_total_trials": "maxTotalTrials",
    "max_concurrent_trials": "maxConcurrentTrials",
    "timeout": "timeout",
    "trial_timeout": "trialTimeout",
}


@dataclass(frozen=True)
class Step:
    """A step: the job that it becomes, and the steps whose outputs it takes."""

    name: str
    job_name: str
    properties: Mapping[str, Any]
    after: frozenset[str]


def parse_pipeline(store: Store, job_name: str, properties: Mapping[str, Any]) -> tuple[Step, ...]:
    """Turn a pipeline's properties into its steps, each after those it needs; raises InvalidRequestError."""
    nodes = properties.get("jobs") or {}
    if not nodes:
        raise InvalidRequestError("A pipeline job needs jobs.")
    pipeline = _Pipeline(store, job_name, properties, nodes)
    steps = {name: pipeline.step(name) for name in nodes}
    try:
        order = list(graphlib.TopologicalSorter({name: steps[name].after for name in nodes}).static_order())
    except graphlib.CycleError as error:
        raise InvalidRequestError(
            f"The pipeline's steps wait for one another: {' <- '.join(error.args[1])}."
        ) from error
    return tuple(steps[name] for name in order)


def continues_on_failure(properties: Mapping[str, Any]) -> bool:
    """Say whether steps that do not need a failed one still run; they do unless settings say otherwise, as in Azure."""
    return bool((properties.get("settings") or {}).get("continue_on_step_failure", True))


class _Pipeline:
    """One pipeline while it is read."""

    def __init__(self, store: Store, job_name: str, properties: Mapping[str, Any], nodes: Mapping[str, Any]) -> None:
        self._store = store
        self._job_name = job_name
        self._properties = properties
        self._nodes = nodes

    def step(self, name: str) -> Step:
        """Read one step."""
        node = self._nodes[name]
        kind = str(node.get("type", "command")).lower()
        if kind not in ("command", "sweep"):
            raise InvalidRequestError(
                f"The step '{name}' is of type {kind}; command and sweep steps are emulated.", "NotSupported"
            )
        spec = self._component(name)
        inputs, after = self._inputs(name, spec, set(node.get("search_space") or {}))
        common = {
            "displayName": node.get("display_name") or name,
            "experimentName": self._properties.get("experimentName"),
            "computeId": self._compute(node),
            "inputs": inputs,
            "outputs": {
                output: {"jobOutputType": declared.get("type", "uri_folder"), "uri": self._output_uri(name, output)}
                for output, declared in (spec.get("outputs") or {}).items()
            },
            "tags": node.get("tags") or {},
        }
        body = self._command(node, spec) | common if kind == "command" else self._sweep(node, spec) | common
        if kind == "sweep":
            # Each trial has its own places.
            body["outputs"] = {
                output: {"jobOutputType": entry["jobOutputType"]} for output, entry in body["outputs"].items()
            }
        return Step(name, self._child(name), {key: value for key, value in body.items() if value}, frozenset(after))

    def _child(self, name: str) -> str:
        return f"{self._job_name}_{name}"

    def _component(self, name: str) -> Mapping[str, Any]:
        node = self._nodes.get(name) or {}
        asset_id = node.get("componentId") or (node.get("trial") or {}).get("componentId")
        component = self._store.find(str(asset_id)) if asset_id else None
        if component is None:
            raise InvalidRequestError(f"The step '{name}' names the component {asset_id}, which does not exist here.")
        spec: Mapping[str, Any] = component.properties["componentSpec"]
        if spec.get("type", "command") != "command":
            raise InvalidRequestError(
                f"The step '{name}': components of type {spec.get('type')} are not emulated.", "NotSupported"
            )
        return spec

    def _compute(self, node: Mapping[str, Any]) -> str | None:
        settings = self._properties.get("settings") or {}
        return node.get("computeId") or settings.get("default_compute") or self._properties.get("computeId")

    def _command(self, node: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        timeout = (node.get("limits") or {}).get("timeout")
        return {
            "jobType": "Command",
            **_trial(node, spec),
            "limits": {"timeout": _duration(timeout)} if timeout else None,
        }

    def _sweep(self, node: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        algorithm = node.get("sampling_algorithm") or {}
        if isinstance(algorithm, str):
            algorithm = {"type": algorithm}
        limits = {LIMITS[key]: value for key, value in (node.get("limits") or {}).items() if key in LIMITS}
        for key in ("timeout", "trialTimeout"):
            if key in limits:
                limits[key] = _duration(limits[key])
        return {
            "jobType": "Sweep",
            "trial": _trial(node, spec),
            "searchSpace": node.get("search_space"),
            "samplingAlgorithm": {
                "samplingAlgorithmType": algorithm.get("type"),
                "seed": algorithm.get("seed"),
                "rule": algorithm.get("rule"),
            },
            "objective": node.get("objective"),
            "limits": limits,
            "earlyTermination": node.get("early_termination"),
        }

    def _inputs(self, name: str, spec: Mapping[str, Any], swept: set[str]) -> tuple[dict[str, Any], set[str]]:
        given = self._nodes[name].get("inputs") or {}
        declared = spec.get("inputs") or {}
        for extra in set(given) - set(declared):
            raise InvalidRequestError(f"The step '{name}' is given '{extra}', which its component does not take.")
        inputs: dict[str, Any] = {}
        after: set[str] = set()
        for key, entry in declared.items():
            kind = str(entry.get("type", "string")).lower()
            if key in given:
                value, source = self._value(name, key, kind, given[key])
                if source is not None:
                    after.add(source)
                mode = (given[key].get("mode") if isinstance(given[key], Mapping) else None) or entry.get("mode")
                if value is not None and "uri" in value and mode:
                    value["mode"] = mode
                if value is not None:
                    inputs[key] = value
                    continue
            if entry.get("default") is not None:
                inputs[key] = {"jobInputType": "literal", "value": str(entry["default"])}
            elif not entry.get("optional") and key not in swept:
                raise InvalidRequestError(f"The step '{name}' is not given its input '{key}'.")
        return inputs, after

    def _value(self, step: str, key: str, kind: str, entry: Any) -> tuple[dict[str, Any] | None, str | None]:
        """Return an input's value, and the step that it comes from."""
        entry = entry if isinstance(entry, Mapping) else {"value": entry}
        if entry.get("uri"):
            return {"jobInputType": entry.get("job_input_type", kind), "uri": entry["uri"]}, None
        if entry.get("value") is None:
            return None, None
        text = str(entry["value"])
        reference = placeholders.sole_reference(text)
        if reference is None:
            literals = {
                f"parent.inputs.{name}": str(value["value"])
                for name, value in (self._properties.get("inputs") or {}).items()
                if value.get("value") is not None
            }
            return {"jobInputType": "literal", "value": placeholders.resolve(text, literals)}, None
        words = reference.split(".")
        if words[:2] == ["parent", "inputs"]:
            found = (self._properties.get("inputs") or {}).get(".".join(words[2:]))
            if found is None:
                raise InvalidRequestError(f"The step '{step}' takes {text}, an input that the pipeline does not have.")
            self._check_type(step, key, kind, str(found.get("jobInputType", "literal")).lower())
            return dict(found), None
        if words[:2] == ["parent", "jobs"] and len(words) == 5 and words[3] == "outputs":
            source, output = words[2], words[4]
            outputs = (self._component(source).get("outputs") or {}) if source in self._nodes else {}
            if output not in outputs:
                raise InvalidRequestError(f"The step '{step}' takes {text}, an output that no step has.")
            if str(self._nodes[source].get("type")).lower() == "sweep":
                raise InvalidRequestError(
                    f"The step '{step}' takes {text}: outputs of a sweep's best trial are not emulated.", "NotSupported"
                )
            self._check_type(step, key, kind, str(outputs[output].get("type", "uri_folder")).lower())
            return {"jobInputType": kind, "uri": self._output_uri(source, output)}, source
        raise InvalidRequestError(f"The step '{step}' takes {text}, which is neither the pipeline's nor a step's.")

    @staticmethod
    def _check_type(step: str, key: str, wanted: str, found: str) -> None:
        if (wanted in DATA_TYPES) != (found in DATA_TYPES) or (wanted in FILE_TYPES) != (found in FILE_TYPES):
            raise InvalidRequestError(
                f"The step '{step}': its input '{key}' is of type {wanted}, but is given a {found}."
            )

    def _output_uri(self, name: str, output: str) -> str:
        entry = (self._nodes[name].get("outputs") or {}).get(output)
        entry = entry if isinstance(entry, Mapping) else {"value": entry}
        declared = self._component(name)["outputs"][output]
        is_file = str(declared.get("type", "uri_folder")).lower() in FILE_TYPES
        reference = placeholders.sole_reference(str(entry.get("value") or ""))
        if reference is not None and reference.startswith("parent.outputs."):
            wanted = (self._properties.get("outputs") or {}).get(reference.removeprefix("parent.outputs."))
            if wanted is None:
                raise InvalidRequestError(
                    f"The step '{name}' binds its output '{output}' to {reference}, which the pipeline does not have."
                )
            outer = reference.removeprefix("parent.outputs.")
            return output_uri(self._job_name, outer, wanted.get("uri"), is_file=is_file)
        return output_uri(self._child(name), output, entry.get("uri"), is_file=is_file)


def _trial(node: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    resources = {**(spec.get("resources") or {}), **(node.get("resources") or {})}
    return {
        "command": spec.get("command"),
        "environmentId": _plain(node.get("environment") or spec.get("environment")),
        "codeId": _plain(spec.get("code")),
        "distribution": node.get("distribution") or spec.get("distribution"),
        "environmentVariables": {
            **(spec.get("environment_variables") or {}),
            **(node.get("environment_variables") or {}),
        },
        "resources": {RESOURCES[key]: value for key, value in resources.items() if key in RESOURCES},
    }


def _plain(asset: Any) -> str | None:
    return str(asset).removeprefix("azureml:") if asset else None


def _duration(value: Any) -> str:
    return value if isinstance(value, str) and value.startswith("P") else f"PT{value}S"
