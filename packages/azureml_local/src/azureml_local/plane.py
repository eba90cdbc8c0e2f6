"""The control plane: its verbs, carried out in the background and resumed after a restart."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from azureml_local import tokens
from azureml_local.exceptions import DeploymentError, InvalidRequestError, OperationCanceledError
from azureml_local.home import Home, Secrets, Settings, require_free_port
from azureml_local.models.deployments import DeploymentSpec
from azureml_local.models.faults import Faults, Queued
from azureml_local.models.resource_ids import endpoint_id, workspace_id
from azureml_local.models.store import Operation, Resource, Store
from azureml_local.runtime.blobs import Blobs
from azureml_local.runtime.children import Children
from azureml_local.runtime.command_jobs import CommandJobs
from azureml_local.runtime.confinement import Confinement
from azureml_local.runtime.containers import Engine
from azureml_local.runtime.gateway import Gateway
from azureml_local.runtime.haproxy_config import EndpointRoutes, Route, milliseconds
from azureml_local.runtime.instances import Fleet
from azureml_local.runtime.job_files import JobFiles
from azureml_local.runtime.jobs import Jobs
from azureml_local.runtime.launcher import FAULT_VARIABLE
from azureml_local.runtime.rollout import Rollouts
from azureml_local.telemetry.series import MetricStore

LOGGER = logging.getLogger(__name__)

DRAIN_MARGIN_SEC = 2.0
OPERATION_CANCELED = "OperationCanceled"
DELETED_MEANWHILE = "The resource was deleted meanwhile."
# The request that begins an operation, by its verb: faults are queued for requests.
METHODS = {
    "endpoint": "PUT",
    "deployment": "PUT",
    "delete-endpoint": "DELETE",
    "delete-deployment": "DELETE",
    "cancel-job": "POST",
}


class Plane:
    """What the API's responses act upon."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        secrets: Secrets,
        store: Store,
        blobs: Blobs,
        gateway: Gateway,
        metrics: MetricStore,
        children: Children,
        confinement: Confinement,
    ) -> None:
        self.home = home
        self.settings = settings
        self.secrets = secrets
        self.store = store
        self.blobs = blobs
        self.gateway = gateway
        self.metrics = metrics
        self.faults = Faults()
        self.workspace_id = workspace_id(settings.subscription_id, settings.resource_group, settings.workspace_name)
        files = JobFiles(store, blobs, self.workspace_id)
        self.deployments = Rollouts(
            store,
            blobs,
            children,
            home.deployments_dir,
            home.environments_dir(os.environ),
            confinement,
            self.apply_gateway,
            self._struck,
            files.place,
        )
        engine = Engine(settings.home_id, children)
        commands = CommandJobs(home, settings, self.workspace_id, store, files, engine)
        self.jobs = Jobs(store, files, commands, self.workspace_id)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False

    def endpoints(self) -> list[Resource]:
        """Return all endpoints."""
        return self.store.children(f"{self.workspace_id}/onlineEndpoints")

    def deployments_of(self, endpoint: str) -> list[Resource]:
        """Return an endpoint's deployments, by the endpoint's id."""
        return self.store.children(f"{endpoint}/deployments")

    # Verbs of the API: each begins an operation and returns it at once.

    def apply_endpoint(self, resource: Resource) -> Operation:
        """Put a new or changed endpoint into force."""
        return self._begin("endpoint", resource.id)

    def apply_deployment(self, resource: Resource) -> Operation:
        """Roll a new or changed deployment out."""
        return self._begin("deployment", resource.id)

    def delete_endpoint(self, resource: Resource) -> Operation:
        """Delete an endpoint with its deployments."""
        operation = self.store.start_operation("delete-endpoint", resource.id)
        resource.properties["provisioningState"] = "Deleting"
        self._run(operation)
        return operation

    def delete_deployment(self, resource: Resource) -> Operation:
        """Delete a deployment; refused while it gets traffic."""
        endpoint = self.store.get(resource.id.rsplit("/", 2)[0])
        if (endpoint.properties.get("traffic") or {}).get(resource.name, 0) > 0:
            raise InvalidRequestError(
                f"Deployment '{resource.name}' has live traffic; set its traffic to 0 before it is deleted."
            )
        operation = self.store.start_operation("delete-deployment", resource.id)
        resource.properties["provisioningState"] = "Deleting"
        self._run(operation)
        return operation

    def cancel_job(self, job: Resource) -> Operation:
        """Cancel a job; one that is being canceled already goes on being so."""
        under_way = self._under_way(job.id)
        return under_way[0] if under_way else self._begin("cancel-job", job.id)

    def _under_way(self, resource_id: str) -> list[Operation]:
        """Return what works on a resource."""
        key = resource_id.lower()
        return [entry for entry in self.store.operations_in_progress() if entry.resource_id.lower() == key]

    def _begin(self, verb: str, resource_id: str) -> Operation:
        operation = self.store.start_operation(verb, resource_id)
        self._run(operation)
        return operation

    def _run(self, operation: Operation) -> None:
        work: dict[str, Callable[[Operation], Awaitable[None]]] = {
            "endpoint": self._do_endpoint,
            "deployment": self._do_deployment,
            "delete-endpoint": self._do_delete_endpoint,
            "delete-deployment": self._do_delete_deployment,
            "cancel-job": self._do_cancel_job,
        }
        self._tasks[operation.id] = asyncio.create_task(self._attend(operation, work[operation.verb]))

    async def _attend(self, operation: Operation, work: Callable[[Operation], Awaitable[None]]) -> None:
        error: dict[str, str] | None = None
        canceled = False
        try:
            fault = self.faults.of_operation(METHODS[operation.verb], operation.resource_id)
            if fault is not None:
                await self._suffer(fault, operation, work)
            await work(operation)
        except asyncio.CancelledError:
            if self._stopping:
                # Stays in progress on disk, and is resumed by the next start.
                raise
            error = {"code": OPERATION_CANCELED, "message": DELETED_MEANWHILE}
        except DeploymentError as failure:
            error = {"code": failure.code, "message": failure.message}
            canceled = isinstance(failure, OperationCanceledError)
        except Exception as failure:  # the top of a background task: whatever happens must end the operation
            LOGGER.error("operation %s (%s): %s", operation.id, operation.verb, traceback.format_exc())
            error = {"code": "InternalServerError", "message": f"{type(failure).__name__}: {failure}"}
        finally:
            self._tasks.pop(operation.id, None)
        resource = self.store.find(operation.resource_id)
        # What a deletion has overtaken no longer says how the resource is.
        overtaken = any(entry.id != operation.id for entry in self._under_way(operation.resource_id))
        if resource is not None and operation.verb != "cancel-job" and not overtaken:
            ended = "Canceled" if canceled else "Failed"
            resource.properties["provisioningState"] = ended if error else "Succeeded"
        self.store.end_operation(operation, error, canceled=canceled)

    async def _suffer(self, queued: Queued, operation: Operation, work: Callable[[Operation], Awaitable[None]]) -> None:
        """Let a fault strike an operation: return when it may go on, raise DeploymentError when it may not."""
        fault = queued.fault
        await queued.delay()
        if fault.operation == "slow":
            return
        if fault.operation == "hang":
            await queued.lifted.wait()
            return
        if fault.operation == "fail_midway":
            await self._do_half(operation, work)
        kind = OperationCanceledError if fault.operation == "cancel" else DeploymentError
        raise kind(fault.code, fault.message)

    async def _do_half(self, operation: Operation, work: Callable[[Operation], Awaitable[None]]) -> None:
        if operation.verb == "delete-endpoint":
            await self._cancel_others(operation)
            for deployment in self.deployments_of(operation.resource_id):
                await self.deployments.remove(deployment.id)
                self.store.remove(deployment.id)
            await self.apply_gateway()
        elif operation.verb == "delete-deployment":
            await self._cancel_others(operation)
            await self.deployments.remove(operation.resource_id)
        else:
            await work(operation)

    def _struck(self, spec: DeploymentSpec) -> DeploymentSpec:
        """Return the specification with the fault, if one is queued, that its containers are to have."""
        queued = self.faults.of_container(spec.id)
        if queued is None:
            return spec
        fault = f"{queued.fault.container}:{queued.fault.delay_sec:g}"
        return replace(spec, environment_variables=(*spec.environment_variables, (FAULT_VARIABLE, fault)))

    async def _do_endpoint(self, operation: Operation) -> None:
        await self.apply_gateway()

    async def _do_deployment(self, operation: Operation) -> None:
        resource = self.store.get(operation.resource_id)
        serving = {"properties": _without_state(resource), "sku": dict(resource.sku or {})}
        replaced = await self.deployments.roll(resource, resource.properties, resource.sku or {})
        if self.store.find(resource.id) is None:
            # Its endpoint went meanwhile: no deletion is to come that would stop these servers.
            if replaced is not None:
                await replaced.stop()
            await self.deployments.remove(resource.id)
            raise DeploymentError(OPERATION_CANCELED, DELETED_MEANWHILE)
        resource.internal["serving"] = serving
        self.store.save()
        if replaced is None:
            self.deployments.tidy(resource)
        else:
            self._keep_task(self._replace(replaced, resource))

    async def _do_delete_deployment(self, operation: Operation) -> None:
        await self._cancel_others(operation)
        await self.deployments.remove(operation.resource_id)
        endpoint = self.store.find(operation.resource_id.rsplit("/", 2)[0])
        if endpoint is not None:
            traffic = endpoint.properties.get("traffic") or {}
            endpoint.properties["traffic"] = {
                name: weight for name, weight in traffic.items() if name != operation.resource_id.rsplit("/", 1)[-1]
            }
        self.store.remove(operation.resource_id)
        await self.apply_gateway()

    async def _do_delete_endpoint(self, operation: Operation) -> None:
        await self._cancel_others(operation)
        for deployment in self.deployments_of(operation.resource_id):
            await self.deployments.remove(deployment.id)
        self.store.remove(operation.resource_id)
        await self.apply_gateway()

    async def _do_cancel_job(self, operation: Operation) -> None:
        await self.jobs.cancel(self.store.get(operation.resource_id))

    async def _cancel_others(self, operation: Operation) -> None:
        """Cancel what still works on the resource, or below it, that is about to go."""
        key = operation.resource_id.lower()
        others = [
            task
            for entry in self.store.operations_in_progress()
            if entry.id != operation.id
            and (entry.resource_id.lower() == key or entry.resource_id.lower().startswith(f"{key}/"))
            and (task := self._tasks.get(entry.id)) is not None
        ]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _replace(self, fleet: Fleet, resource: Resource) -> None:
        """Stop a replaced generation once the gateway's earlier configuration has no request left."""
        limit_sec = fleet.spec.max_queue_wait_sec + fleet.spec.request_timeout_sec + DRAIN_MARGIN_SEC
        deadline = asyncio.get_running_loop().time() + limit_sec
        try:
            while self.gateway.old_workers() > 0 and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.1)
        finally:
            # Nobody else knows these servers any more, so they go also when the plane itself stops meanwhile.
            await fleet.stop()
        # A newer generation may be on its way by now; it tidies up when it serves.
        busy = {operation.resource_id for operation in self.store.operations_in_progress()}
        if resource.id not in busy and self.store.find(resource.id) is not None:
            self.deployments.tidy(resource)

    def _keep_task(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Gateway

    async def apply_gateway(self) -> None:
        """Put the present endpoints, keys, traffic and servers into force."""
        endpoints = self.endpoints()
        keys = {
            self._keys_path(endpoint.name): (
                self.store.keys(endpoint.id).primary,
                self.store.keys(endpoint.id).secondary,
            )
            for endpoint in endpoints
        }
        await self.gateway.apply(tuple(self._routes(endpoint) for endpoint in endpoints), keys)

    def _keys_path(self, endpoint_name: str) -> Path:
        return self.home.gateway_dir / f"{endpoint_name}.keys"

    def _routes(self, endpoint: Resource) -> EndpointRoutes:
        traffic = endpoint.properties.get("traffic") or {}
        mode = str(endpoint.properties["authMode"])
        audience = tokens.SCORING_AUDIENCE if mode == "AADToken" else tokens.scoring_audience(endpoint.id)
        routes = []
        for deployment in self.deployments_of(endpoint.id):
            fleet = self.deployments.fleet(deployment.id)
            routes.append(
                Route(
                    deployment=deployment.name,
                    weight=int(traffic.get(deployment.name, 0)),
                    servers=fleet.servers if fleet else (),
                    max_concurrent_requests_per_instance=(
                        fleet.spec.max_concurrent_requests_per_instance if fleet else 1
                    ),
                    max_queue_wait_ms=milliseconds(fleet.spec.max_queue_wait_sec) if fleet else 1,
                    request_timeout_ms=milliseconds(fleet.spec.request_timeout_sec) if fleet else 1,
                )
            )
        return EndpointRoutes(
            name=endpoint.name,
            port=self.store.port(endpoint.id),
            auth_mode=mode,
            audience=audience,
            keys_path=self._keys_path(endpoint.name),
            routes=tuple(routes),
        )

    # Life of the whole

    async def restore(self) -> None:
        """Start again what served before, and resume what was in progress."""
        for endpoint in self.endpoints():
            require_free_port(self.store.port(endpoint.id), f"endpoint {endpoint.name}")
        await self.apply_gateway()
        serving = [
            deployment
            for endpoint in self.endpoints()
            for deployment in self.deployments_of(endpoint.id)
            if "serving" in deployment.internal and deployment.provisioning_state != "Deleting"
        ]
        await self.jobs.restore()
        await asyncio.gather(*(self._restore_deployment(deployment) for deployment in serving))
        for operation in self.store.operations_in_progress():
            if self.store.find(operation.resource_id) is None:
                self.store.end_operation(operation)
            else:
                self._run(operation)

    async def _restore_deployment(self, resource: Resource) -> None:
        serving = resource.internal["serving"]
        # After a failed update the resource shows what was asked for, not what serves.
        current = serving["properties"] == _without_state(resource)
        try:
            await self.deployments.roll(resource, serving["properties"], serving["sku"])
            state = "Succeeded"
        except DeploymentError as error:
            LOGGER.error("%s: not restored: %s: %s", resource.id, error.code, error.message)
            state = "Failed"
        except Exception:  # whatever is wrong with one deployment must not keep the plane from starting
            LOGGER.exception("%s: not restored", resource.id)
            state = "Failed"
        if self.store.find(resource.id) is None:
            # Deleted meanwhile: restoring is no operation that a deletion could have cancelled.
            await self.deployments.remove(resource.id)
            return
        if current:
            resource.properties["provisioningState"] = state
        self.store.save()

    async def stop(self) -> None:
        """Stop all that works and serves."""
        self._stopping = True
        tasks = [*self._tasks.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(self.jobs.stop(), self.deployments.stop())

    def endpoint_id(self, name: str) -> str:
        """Return the id of the endpoint of this name."""
        return endpoint_id(self.workspace_id, name)


def _without_state(resource: Resource) -> dict[str, Any]:
    properties = copy.deepcopy(resource.properties)
    properties.pop("provisioningState", None)
    return properties
