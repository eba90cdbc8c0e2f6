"""Rollouts: from a deployment's resource to servers that are ready, and from one generation to the next."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from azureml_local.exceptions import DeploymentError, JobError
from azureml_local.files import make_private_dir, tail_lines, write_atomic
from azureml_local.models.deployments import DeploymentSpec, parse_spec
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store, now_text
from azureml_local.runtime.blobs import BlobPlace, Blobs, discard
from azureml_local.runtime.children import Children
from azureml_local.runtime.confinement import Confinement
from azureml_local.runtime.environments import ensure_environment, parse_conda_file
from azureml_local.runtime.instances import Fleet, ServerFiles

LOGGER = logging.getLogger(__name__)


class Rollouts:
    """The fleets that serve, by deployment id."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        children: Children,
        deployments_dir: Path,
        environments_dir: Path,
        confinement: Confinement,
        changed: Callable[[], Awaitable[None]],
        struck: Callable[[DeploymentSpec], DeploymentSpec],
        place: Callable[[str], BlobPlace],
    ) -> None:
        self.fleets: dict[str, Fleet] = {}
        self._store = store
        self._blobs = blobs
        self._children = children
        self._deployments_dir = deployments_dir
        self._environments_dir = environments_dir
        self._confinement = confinement
        self._changed = changed
        self._struck = struck
        self._place = place

    def fleet(self, deployment_id: str) -> Fleet | None:
        """Return the fleet that serves a deployment."""
        return self.fleets.get(deployment_id.lower())

    def folder(self, deployment_id: str) -> Path:
        """Return a deployment's own folder."""
        endpoint, _, deployment = deployment_id.split("/")[-3:]
        return self._deployments_dir / endpoint.lower() / deployment.lower()

    async def roll(self, resource: Resource, properties: dict[str, Any], sku: dict[str, Any]) -> Fleet | None:
        """Bring a new generation up and let it serve; returns the one that it replaces, still running.

        Raises DeploymentError; then what served before serves on.
        """
        spec = self._struck(parse_spec(resource.id, properties, sku))
        folder = make_private_dir(self.folder(resource.id))
        log = folder / "storage-initializer.log"
        with log.open("a") as stream:
            try:
                files = await self._prepare(spec, folder, lambda line: _note(stream, line))
            except DeploymentError as error:
                _note(stream, f"{error.code}: {error.message}")
                resource.internal["log"] = str(log)
                raise
        fleet = Fleet(spec, files, self._children, self._confinement, self._changed)
        grant = self._confinement.grant(spec.size, spec.instance_count)
        resource.internal["log"] = str(fleet.instances[0].log)
        with fleet.instances[0].log.open("a") as stream:
            for line in (*files.environment.notes, f"{spec.size.name}: each instance gets {grant}", *grant.notes):
                _note(stream, line)
        key = resource.id.lower()
        replaced = self.fleets.get(key)
        if replaced is None:
            # Told of a first try that fails too; while an older generation serves on, its own limits are.
            resource.internal["limits"] = str(grant)
        await fleet.start()
        replaced = self.fleets.get(key)
        self.fleets[key] = fleet
        try:
            await self._changed()
        except BaseException:
            if self.fleets.get(key) is fleet:
                del self.fleets[key]
            if replaced is not None:
                self.fleets[key] = replaced
            await fleet.stop()
            raise
        resource.internal["limits"] = str(grant)
        fleet.keep()
        return replaced

    def tidy(self, resource: Resource) -> None:
        """Remove what earlier generations of a deployment have left behind; the newest try's log stays."""
        fleet = self.fleet(resource.id)
        if fleet is None:
            return
        folder = self.folder(resource.id)
        for content in folder.glob("content-*"):
            if content not in fleet.files.app_root.parents:
                discard(content)
        for path in fleet.files.work_dir.iterdir():
            current = any(path.name.startswith(f"{instance.name}.") for instance in fleet.instances)
            if not current and str(path) != resource.internal.get("log"):
                discard(path)

    async def _prepare(self, spec: DeploymentSpec, folder: Path, note: Callable[[str], None]) -> ServerFiles:
        environment_properties = self._asset(spec.environment_id).properties
        if environment_properties.get("build"):
            message = "An environment with a Docker build context cannot be built here; use a conda file."
            raise DeploymentError("EnvironmentNotSupported", message)
        note(f"environment {last_name(spec.environment_id)}: image {environment_properties.get('image')}: not used")
        conda = parse_conda_file(environment_properties.get("condaFile"))
        environment = await ensure_environment(conda, self._environments_dir, self._children, os.environ)
        for line in environment.notes:
            note(line)
        note(f"environment ready in {environment.folder}")
        digest = hashlib.sha256(f"{spec.code_id}\n{spec.model_id}".lower().encode()).hexdigest()[:16]
        content = folder / f"content-{digest}"
        complete = content / ".complete"
        code = self._place_of(str(self._asset(spec.code_id).properties["codeUri"]))
        app_root = content / "azureml-app" / code.name
        model_dir: Path | None = None
        if spec.model_id is not None:
            model_name, version = spec.model_id.split("/")[-3], last_name(spec.model_id)
            model_dir = content / "azureml-app" / "azureml-models" / model_name / version
        if not complete.exists():
            discard(content)
            make_private_dir(content)
            count = await asyncio.to_thread(self._blobs.download, code, app_root.parent)
            note(f"code: {count} files in {app_root}")
            if spec.model_id is not None and model_dir is not None:
                model = self._place_of(str(self._asset(spec.model_id).properties["modelUri"]))
                count = await asyncio.to_thread(self._blobs.download, model, model_dir)
                note(f"model: {count} files in {model_dir}")
            write_atomic(complete, "")
        if not (app_root / spec.scoring_script).is_file():
            raise DeploymentError("ScoringScriptNotFound", f"The code folder has no file {spec.scoring_script}.")
        return ServerFiles(environment, app_root, model_dir, make_private_dir(folder / "instances"))

    def _place_of(self, uri: str) -> BlobPlace:
        try:
            return self._place(uri)
        except JobError as error:
            raise DeploymentError(error.code, error.message) from error

    def _asset(self, asset_id: str) -> Resource:
        found = self._store.find(asset_id)
        if found is None:
            raise DeploymentError("AssetNotFound", f"{asset_id} does not exist any more.")
        return found

    async def remove(self, deployment_id: str) -> None:
        """Stop a deployment's servers and remove its folder."""
        fleet = self.fleets.pop(deployment_id.lower(), None)
        if fleet is not None:
            await self._changed()
            await fleet.stop()
        discard(self.folder(deployment_id))

    def logs(self, resource: Resource, tail: int, container: str) -> str:
        """Return the end of a container's log."""
        folder = self.folder(resource.id)
        fleet = self.fleet(resource.id)
        if container.lower() == "storageinitializer":
            return tail_lines(folder / "storage-initializer.log", tail)
        # The newest try's log, also when it failed and an older generation serves on.
        path = resource.internal.get("log") or (fleet.instances[0].log if fleet else None)
        return tail_lines(Path(path), tail) if path else ""

    async def stop(self) -> None:
        """Stop all servers."""
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()))
        self.fleets.clear()


def _note(stream: Any, line: str) -> None:
    stream.write(f"{now_text()} {line}\n")
    stream.flush()
