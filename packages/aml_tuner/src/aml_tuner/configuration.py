"""What is to be tuned: the configuration and the files that every trial is made from."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import Job, documents
from aml_tool_core.deployment_variant import CANDIDATE
from aml_tool_core.digests import sha256
from aml_tool_core.errors import InputError
from aml_tool_core.profiling.sla import stricter

from aml_tuner import accuracy, deployment, quick
from aml_tuner.accuracy import Excluded
from aml_tuner.space import Point, Space

SCHEMA = "tuning_config"
DEPLOYER = "aml_online_endpoints_deployer"
DELETER = "aml_online_endpoints_deleter"
WORKSPACE_FLAGS = ("subscription_id", "resource_group", "workspace_name")
_DEPLOYER_FOLDERS = (
    "model_folder_path",
    "environment_folder_path",
    "code_folder_path",
    "optimized_parameters_path",
)
_LONGEST_ENDPOINT_NAME = 32
_ID_CHARS = 10
_RUN_BYTES = 2
_SKU = "instance_type"
_PRICE = "price_per_million_requests"


@dataclass(frozen=True)
class Plan:
    """One tuning: the space, what is wanted, and what the tools are called with."""

    space: Space
    objective: Mapping[str, float]
    constraints: Mapping[str, float]  # of the load
    accuracy_limits: Mapping[str, float]
    excluded: tuple[Excluded, ...]  # candidates that miss those, so they are not in the space
    strategy: str  # "quick" or "grid"
    max_trials: int
    parallel: int
    top: int
    profiler: str
    profiler_config: Mapping[str, Any]
    profiler_source: str  # its file
    prices: Mapping[str, float]  # of an instance, per hour, by SKU
    endpoint_name: str
    sku: str | None  # the deployment's own, where it is not varied
    deployer_flags: Mapping[str, str]
    deploy_flags: Mapping[str, str]  # of the command that deploys the choice, as they were given
    deployment_yaml: str  # as it is to stand in the outputs, with the values that were given
    model_variable: Mapping[str, str]  # what the deployer sets by the model's folder, where the YAML names that
    profiler_flags: Mapping[str, str]
    workspace_flags: Mapping[str, str]
    inputs_sha256: str  # of all that makes trials comparable
    run: str  # of this start of the tuner alone: a part of its endpoints' names

    def trial_id(self, point: Point) -> str:
        """Return a trial's name: the same for the same variant of the same inputs, wherever it is run."""
        text = json.dumps([self.space.variant(point), self.inputs_sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARS]

    def trial_endpoint(self, point: Point) -> str:
        """Return the name of a trial's own endpoint: no two trials share one, of whatever tuner they are."""
        end = f"-{self.run}-{self.trial_id(point)}"
        return f"{self.endpoint_name[: _LONGEST_ENDPOINT_NAME - len(end)].rstrip('-')}{end}"

    @property
    def concurrency_key(self) -> str:
        """What the profiler calls the number of its connections."""
        schema = documents.schemas()[_profiler_schema(self.profiler)]
        return "clients" if "clients" in schema["properties"]["profiler_config"]["properties"] else "connections"

    def trial_config(self, point: Point) -> dict[str, Any]:
        """Return the profiler's configuration for a trial: its own, with the constraints and the SKU's price."""
        config = dict(self.profiler_config["profiler_config"])
        if self.constraints:
            config["sla"] = stricter(config.get("sla", {}), self.constraints)
        sku = self.space.variant(point).get(_SKU, self.sku)
        if sku is not None and sku in self.prices:
            config["instance_price_per_hour"] = self.prices[sku]
        return {"version": 1.0, "profiler_config": config}


def plan_of(job: Job) -> Plan:
    """Return the plan that the flags and their files make. Raises InputError."""
    config: Mapping[str, Any] = job.documents["config_path"]["tuning_config"]
    source = f"{job.path('config_path')}: /tuning_config"
    space = Space.of(config["parameters"])
    strategy = config.get("strategy", "quick")
    constraints, accuracy_limits = accuracy.limits_of(config.get("constraints", {}))
    profiler = config["profiler"]
    profiler_config = documents.read_json(job.path("profiler_config_path"), _profiler_schema(profiler))
    paths = {name: job.values[name] for name in ("endpoint_yaml_path", "deployment_yaml_path", *_DEPLOYER_FOLDERS)}
    given = {name: path.resolve() for name, path in paths.items() if path is not None}
    payload = job.values["payload_path"]
    if CANDIDATE in space.names and not {"model_folder_path", "optimized_parameters_path"} <= given.keys():
        raise InputError(
            f"{source}/parameters/{CANDIDATE}: looked for in what the optimizer wrote; give --model_folder_path and "
            "--optimized_parameters_path"
        )
    models = job.values["optimized_parameters_path"], job.values["candidates_path"]
    space, excluded = accuracy.kept(space, accuracy_limits, *models, f"{source}/constraints")
    whole = space.size if strategy == "grid" else quick.budget(space)
    objective = config.get("objective", {"succeeded_per_sec": 1.0})
    yaml_path = job.path("deployment_yaml_path")
    sku = _sku(documents.read_yaml(yaml_path))
    prices = config.get("instance_price_per_hour", {})
    load = profiler_config["profiler_config"]
    # Without any price, the profiler tells whether its own objective needs one.
    is_weighed = _PRICE in objective or (bool(prices) and load.get("objective") == _PRICE)
    _check_prices(source, prices, is_weighed, load, _skus(space), sku)
    workspace = {f"--{name}": job.values[name] for name in WORKSPACE_FLAGS if job.values[name] is not None}
    text = deployment.given(yaml_path, job.outputs)
    deployment.check(text, space.variant(space.middle()), yaml_path)
    return Plan(
        space=space,
        objective=objective,
        constraints=constraints,
        accuracy_limits=accuracy_limits,
        excluded=excluded,
        strategy=strategy,
        max_trials=min(config.get("max_trials", whole), space.size),
        parallel=config.get("parallel", 1),
        top=config.get("top", 5),
        profiler=profiler,
        profiler_config=profiler_config,
        profiler_source=str(job.path("profiler_config_path")),
        prices=prices,
        endpoint_name=_endpoint_name(job.path("endpoint_yaml_path")),
        sku=sku,
        deployer_flags={f"--{name}": str(path) for name, path in given.items()},
        deploy_flags={f"--{name}": str(path) for name, path in paths.items() if path is not None}
        | {"--deployment_yaml_path": str(job.outputs / deployment.FILE_NAME)}
        | workspace,
        deployment_yaml=text,
        model_variable=deployment.model_variable(text, job.values["model_folder_path"]),
        profiler_flags={} if payload is None else {"--payload_path": str(payload.resolve())},
        workspace_flags=workspace,
        inputs_sha256=_digest(
            [*given.values(), *([] if payload is None else [payload])],
            {
                # What keeps candidates from being tried changes no trial.
                "constraints": constraints or None,
                "profiler": profiler,
                "instance_price_per_hour": config.get("instance_price_per_hour"),
            },
            profiler_config,
        ),
        run=secrets.token_hex(_RUN_BYTES),
    )


def _profiler_schema(profiler: str) -> str:
    return f"{profiler.removeprefix('aml_').removesuffix('_profiler')}_profiler_config"


def _skus(space: Space) -> list[str | None]:
    return [str(sku) for name, skus in zip(space.names, space.values, strict=True) if name == _SKU for sku in skus]


def _check_prices(
    source: str,
    prices: Mapping[str, float],
    is_weighed: bool,
    load: Mapping[str, Any],
    tried: list[str | None],
    own: str | None,
) -> None:
    """Raise InputError where a price would be missing, or one price would be every machine size's."""
    has_one = "instance_price_per_hour" in load
    if not (tried if has_one else is_weighed):
        return
    unknown = [sku or "the deployment's instance_type" for sku in tried or [own] if sku is None or sku not in prices]
    if not unknown:
        return
    why = f"which the objective {_PRICE} needs"
    if has_one:
        why = "and the one instance_price_per_hour of the profiler's configuration would stand for every size"
    raise InputError(f"{source}/instance_price_per_hour: no price of {', '.join(unknown)}, {why}; state it")


def _endpoint_name(path: Path) -> str:
    """Return the endpoint's name; the deployer checks the rest of the file."""
    found = documents.read_yaml(path)
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name or name.startswith("$"):
        raise InputError(f"{path}: /name: no name of an endpoint is there; write it, e.g. `name: my-endpoint`")
    return name


def _sku(deployment: Any) -> str | None:
    return str(deployment[_SKU]) if isinstance(deployment, dict) and _SKU in deployment else None


def _digest(paths: list[Path], alike: Mapping[str, Any], profiler_config: Mapping[str, Any]) -> str:
    """Hash what trials must have in common to be compared: the files' contents, the constraints, the load."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(path) if path.is_dir() else ''}\0{sha256(file)}\0".encode())
    digest.update(json.dumps([alike, profiler_config], sort_keys=True).encode())
    return digest.hexdigest()
