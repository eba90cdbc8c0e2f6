"""The supervisor: one process that runs the API and keeps everything else running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import psutil
import uvicorn
from starlette.applications import Starlette

from azureml_local.application import arm_application, identity_application
from azureml_local.certificates import TlsFiles, ensure_tls
from azureml_local.exceptions import PlaneError
from azureml_local.files import write_json
from azureml_local.home import Home, Secrets, Settings, load_secrets, load_settings, require_free_port
from azureml_local.models.store import Store
from azureml_local.plane import Plane
from azureml_local.processes import ProcessTable, identify
from azureml_local.runtime.azurite import DATASTORE_ACCOUNT, start_azurite
from azureml_local.runtime.blobs import DATASTORE_CONTAINERS, Blobs
from azureml_local.runtime.children import Child, Children
from azureml_local.runtime.confinement import Confinement, confine, group_name, write_folders
from azureml_local.runtime.gateway import Gateway
from azureml_local.runtime.haproxy_config import GatewayFiles
from azureml_local.runtime.service import Service
from azureml_local.telemetry.request_log import RequestLog
from azureml_local.telemetry.sampler import PERIOD_SEC, Sampler, Watched
from azureml_local.telemetry.series import MetricStore

LOGGER = logging.getLogger(__name__)

RESTORE_WAIT_SEC = 60.0


class QuietServer(uvicorn.Server):
    """A uvicorn server that leaves the signals to the supervisor, which runs two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change no signal handler."""
        yield


def report(home: Home, status: str, error: str | None = None, warnings: Sequence[str] = ()) -> None:
    """Tell `up` and `status` how far the supervisor is."""
    identity = identify(os.getpid())
    document = {
        "status": status,
        "error": error,
        "warnings": list(warnings),
        "identity": asdict(identity) if identity else None,
    }
    write_json(home.supervisor_path, document)


async def supervise(home: Home, azurite: str) -> None:
    """Run the plane until a signal ends it."""
    settings = load_settings(home)
    if settings is None:
        raise PlaneError(f"{home.settings_path}: not there; start with 'azureml-local up'")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    has_ports = False
    async with contextlib.AsyncExitStack() as stack:
        home.make_socket_dir()
        stack.callback(lambda: home.remove_socket_dir() if has_ports else None)  # else they may be another's
        # Made before and closed after everything that may stand in its groups.
        confinement = await asyncio.to_thread(confine, group_name(settings.home_id))
        stack.callback(confinement.close)
        write_folders(home.cgroups_path, confinement)
        if confinement.warning:
            LOGGER.warning("%s", confinement.warning)
        await _start(home, settings, load_secrets(home), azurite, confinement, stack)
        has_ports = True
        if not stop.is_set():
            report(home, "ready", warnings=[confinement.warning] if confinement.warning else [])
            LOGGER.info("ready: %s", settings.arm_url)
        await stop.wait()
        LOGGER.info("stopping")


async def _start(
    home: Home,
    settings: Settings,
    secrets: Secrets,
    azurite: str,
    confinement: Confinement,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Start everything in order; the stack stops it in reverse."""
    tls = ensure_tls(home.tls_dir)
    children = Children(settings.home_id, ProcessTable(home.processes_path))
    metrics = MetricStore(home.metrics_path)
    stack.callback(metrics.write_all)
    blobs = Blobs(settings.blob_port, secrets.storage_key, tls.ca)
    stack.callback(blobs.close)
    log_socket = home.socket_dir / "requests.sock"
    gateway = Gateway(
        home,
        children,
        GatewayFiles(tls.combined, home.socket_dir / "gateway.sock", log_socket, secrets.signing_key),
    )
    plane = Plane(home, settings, secrets, Store(home.state_path), blobs, gateway, metrics, children, confinement)

    def find_endpoint_id(name: str) -> str | None:
        found = plane.store.find(plane.endpoint_id(name))
        return found.id if found else None

    request_log = RequestLog(metrics, find_endpoint_id)
    await request_log.listen(log_socket)
    stack.callback(request_log.close)

    async def start_blobs() -> Child:
        return await start_azurite(azurite, home, settings, tls, secrets.storage_key, children)

    blob_service = Service("blobs", start_blobs)
    stack.push_async_callback(blob_service.stop)
    stack.push_async_callback(gateway.stop)
    # Each takes about half a second of its own; together, half a second.
    await asyncio.gather(blob_service.start(), gateway.start())
    for container in DATASTORE_CONTAINERS.values():
        await asyncio.to_thread(blobs.make_container, DATASTORE_ACCOUNT, container)

    await _serve(identity_application(plane), settings.identity_port, None, stack)
    await _serve(arm_application(plane), settings.arm_port, tls, stack)
    stack.push_async_callback(plane.stop)
    restoring = asyncio.create_task(plane.restore())
    stack.push_async_callback(_cancel, restoring)
    # A deployment that takes long to get ready, or never does, holds the rest up no longer than this.
    done, _ = await asyncio.wait({restoring}, timeout=RESTORE_WAIT_SEC)
    for task in done:
        task.result()
    sampling = asyncio.create_task(_sample(plane, Sampler(metrics, lambda: _watched(plane), home.root)))
    stack.push_async_callback(_cancel, sampling)


def _watched(plane: Plane) -> Iterator[Watched]:
    for deployment_id, fleet in plane.deployments.fleets.items():
        for instance in fleet.instances:
            cell = instance.cell
            if instance.ready and instance.child is not None and cell is not None:
                grant = cell.grant
                yield Watched(
                    deployment_id, instance.name, instance.child.pid, grant.vcpus, grant.memory_bytes, cell.usage
                )


async def _sample(plane: Plane, sampler: Sampler) -> None:
    before: dict[str, tuple[int, int, int]] = {}
    before_at = time.monotonic()
    while True:
        await asyncio.sleep(PERIOD_SEC)
        try:
            sampler.sample()
            counters = await plane.gateway.frontend_counters()
            sampler.sample_network(await plane.gateway.server_counters())
        except (OSError, asyncio.TimeoutError, psutil.Error) as error:
            LOGGER.warning("no sample of the processes or of the gateway's counters: %s", error)
            continue
        now, at = time.monotonic(), time.time()
        record_gateway(plane, before, counters, now - before_at, at)
        before, before_at = counters, now


def record_gateway(
    plane: Plane,
    before: dict[str, tuple[int, int, int]],
    counters: dict[str, tuple[int, int, int]],
    elapsed_sec: float,
    at: float,
) -> None:
    """Record the endpoints' connections and bytes since the last look."""
    for name, (active, connections, total_bytes) in counters.items():
        resource = plane.endpoint_id(name).lower()
        plane.metrics.gauge(resource, "ConnectionsActive", (), active, at)
        _, last_connections, last_bytes = before.get(name, (0, connections, total_bytes))
        # A reload begins the counters anew.
        if connections >= last_connections and total_bytes >= last_bytes:
            rate = (connections - last_connections) / elapsed_sec
            plane.metrics.gauge(resource, "NewConnectionsPerSecond", (), rate, at)
            plane.metrics.gauge(resource, "NetworkBytes", (), (total_bytes - last_bytes) / elapsed_sec, at)


async def _serve(application: Starlette, port: int, tls: TlsFiles | None, stack: contextlib.AsyncExitStack) -> None:
    require_free_port(port, "the control plane")
    listener = socket.create_server(("127.0.0.1", port))
    stack.callback(listener.close)
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ssl_keyfile=str(tls.key) if tls else None,
        ssl_certfile=str(tls.certificate) if tls else None,
        timeout_graceful_shutdown=2,
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))

    async def end() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(end)
    while not server.started:
        if task.done():
            task.result()
            raise PlaneError(f"127.0.0.1:{port}: the server has ended at once")
        await asyncio.sleep(0.01)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def run(home: Home, azurite: str) -> int:
    """Run the supervisor; returns its exit status."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s")
    # At INFO it writes every URL, and a blob's URL holds its signature.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    report(home, "starting")
    try:
        asyncio.run(supervise(home, azurite))
    except PlaneError as error:
        LOGGER.error("%s", error)
        report(home, "failed", str(error))
        return 1
    except Exception as error:  # the last place that can tell `up` why there will be no plane
        LOGGER.exception("a defect")
        report(home, "failed", f"{type(error).__name__}: {error}; see {home.logs_dir / 'supervisor.log'}")
        return 70
    home.supervisor_path.unlink(missing_ok=True)
    return 0
