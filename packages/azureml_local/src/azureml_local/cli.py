"""The command line: up, down, status, env, fault."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from azureml_local import __version__, fault_command
from azureml_local.certificates import ensure_tls, write_bundle
from azureml_local.cloud import IDENTITY_PATH, client_environment
from azureml_local.exceptions import PlaneError
from azureml_local.files import tail_lines
from azureml_local.home import (
    HOME_VARIABLE,
    Home,
    Settings,
    ensure_settings,
    load_secrets,
    load_settings,
    resolve_home,
)
from azureml_local.models.resource_ids import workspace_id
from azureml_local.models.store import Store
from azureml_local.processes import ProcessIdentity, find_owned, is_alive, recorded, send, stop_all
from azureml_local.runtime.azurite import AZURITE_VARIABLE, find_azurite, install_azurite
from azureml_local.runtime.confinement import remove_stale
from azureml_local.runtime.containers import remove_containers
from azureml_local.runtime.gateway import find_haproxy

START_LIMIT_SEC = 300.0
STOP_LIMIT_SEC = 20.0
PROGRAM = "azureml-local"
_SUPERVISE = "supervise"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # What `up` starts in the background is no command of the user's, so usage never speaks of it.
    arguments = (_supervise_parser() if words[:1] == [_SUPERVISE] else _parser()).parse_args(words)
    home = resolve_home(arguments.home, os.environ)
    try:
        return int(arguments.run(home, arguments))
    except PlaneError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None or not Path(os.fsdecode(error.filename)).is_relative_to(home.root):
            raise
        print(f"{PROGRAM}: error: {error.filename}: {error.strerror}; choose another --home", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROGRAM}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="A local control plane for Azure ML online endpoints.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="{up,down,status,env,fault}")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument(
            "--home", metavar="DIR", help=f"where all is kept (default: ${HOME_VARIABLE}, ~/.azureml_local)"
        )
        made.set_defaults(run=run)
        return made

    up = command("up", run_up, "Start the control plane, if it does not run yet, and wait until it is ready.")
    up.add_argument("--foreground", action="store_true", help="stay in the foreground, with the log on stderr")
    up.add_argument(
        "--azurite", metavar="PATH", help=f"azurite-blob, or a folder it is installed in (${AZURITE_VARIABLE})"
    )
    for flag in ("subscription-id", "resource-group", "workspace-name", "location"):
        up.add_argument(f"--{flag}", metavar="NAME", help="fixed on the first start")
    command("down", run_down, "Stop the control plane and all that it started; what was deployed comes back with up.")
    status = command("status", run_status, "Show services, endpoints and deployments.")
    status.add_argument("--json", action="store_true", help="as JSON")
    command("env", run_env, f'Print the variables that point a shell at it, for: eval "$({PROGRAM} env)".')
    fault = command("fault", fault_command.run, "Let calls of the SDKs go wrong, to see what comes of it.")
    fault_command.add_arguments(fault)
    return parser


def _supervise_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM)
    parser.add_argument("command", choices=[_SUPERVISE])
    parser.add_argument("--home")
    parser.add_argument("--azurite", required=True)
    parser.set_defaults(run=run_supervise)
    return parser


# up


def run_up(home: Home, arguments: argparse.Namespace) -> int:
    """Start the supervisor and wait until it is ready."""
    find_haproxy()
    if not home.settings_path.exists():
        find_azurite(home, arguments.azurite, os.environ)  # a wrong one leaves no home behind
    home.make()
    with _lock(home):
        settings = _prepare(home, arguments)
        supervisor = _supervisor(home)
        if supervisor is not None and arguments.foreground:
            raise PlaneError(f"{home.root}: runs already, in the background; stop it first: {PROGRAM} down")
        azurite = ""
        if supervisor is None:
            _sweep(home, settings)
            home.supervisor_path.unlink(missing_ok=True)
            azurite = find_azurite(home, arguments.azurite, os.environ) or _install_azurite(home)
            if not arguments.foreground:
                _spawn(home, azurite)
        if not arguments.foreground:
            try:
                _wait_ready(home)
            except BaseException:
                # Interrupted, or it does not come up: what this call has started ends with it.
                if supervisor is None:
                    _stop(home, settings)
                raise
    for warning in _report(home).get("warnings", []):
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    if arguments.foreground:
        return _run_supervisor(home, azurite)
    print(_describe(home, settings))
    return 0


def _install_azurite(home: Home) -> str:
    print(f"{PROGRAM}: installing Azurite into {home.azurite_dir} (once)", file=sys.stderr)
    return install_azurite(home)


def _prepare(home: Home, arguments: argparse.Namespace) -> Settings:
    wanted = {
        name: getattr(arguments, name) for name in ("subscription_id", "resource_group", "workspace_name", "location")
    }
    settings = ensure_settings(home, wanted)
    load_secrets(home)
    tls = ensure_tls(home.tls_dir)
    write_bundle(home.bundle_path, tls.ca, os.environ)
    return settings


def _spawn(home: Home, azurite: str) -> None:
    """Start the supervisor; returns once it has made itself known, so that it can be found and stopped."""
    log = home.logs_dir / "supervisor.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        started = subprocess.Popen(
            [sys.executable, "-m", "azureml_local", _SUPERVISE, "--home", str(home.root), "--azurite", azurite],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            # A daemon that stays in the caller's folder keeps it from being removed or unmounted.
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + START_LIMIT_SEC
    try:
        while not _report(home):
            if started.poll() is not None or time.monotonic() > deadline:
                raise PlaneError(f"the supervisor has ended: {tail_lines(log, 1)}; see {log}")
            time.sleep(0.02)
    except BaseException:
        started.kill()
        raise


def _wait_ready(home: Home) -> None:
    log = home.logs_dir / "supervisor.log"
    deadline = time.monotonic() + START_LIMIT_SEC
    while time.monotonic() < deadline:
        report = _report(home)
        if report.get("status") == "ready":
            return
        if report.get("status") == "failed":
            raise PlaneError(str(report["error"]))
        if _supervisor(home) is None:
            raise PlaneError(f"the supervisor has ended: {tail_lines(log, 1)}; see {log}")
        time.sleep(0.05)
    raise PlaneError(f"not ready after {START_LIMIT_SEC:g} s; see {log}")


def run_supervise(home: Home, arguments: argparse.Namespace) -> int:
    """Be the supervisor."""
    return _run_supervisor(home, arguments.azurite)


def _run_supervisor(home: Home, azurite: str) -> int:
    # Here, because its imports (the web server) take longer than all that `status` and `env` do.
    from azureml_local.supervisor import run

    return run(home, azurite)


# down


def run_down(home: Home, arguments: argparse.Namespace) -> int:
    """Stop the supervisor and whatever of its children is left."""
    settings = load_settings(home)
    if settings is None:
        print(f"{PROGRAM}: nothing to stop in {home.root}")
        return 0
    home.make()
    with _lock(home):
        stopped = _stop(home, settings)
    print(f"{PROGRAM}: {'stopped' if stopped else 'was not running'}")
    return 0


def _stop(home: Home, settings: Settings) -> bool:
    """End the supervisor and its children; says whether there were any."""
    supervisor = _supervisor(home)
    if supervisor is not None:
        send(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT_SEC
        while is_alive(supervisor) and time.monotonic() < deadline:
            time.sleep(0.05)
        stop_all([supervisor], grace_sec=0)
    swept = _sweep(home, settings) + remove_containers(home.jobs_dir, settings.home_id)
    home.supervisor_path.unlink(missing_ok=True)
    home.remove_socket_dir()  # of a supervisor that was killed
    return supervisor is not None or swept > 0


def _sweep(home: Home, settings: Settings) -> int:
    """End the children of a supervisor that is gone; returns how many there were."""
    left = {identity for identity in recorded(home.processes_path) if is_alive(identity)}
    left |= set(find_owned(settings.home_id))
    stop_all(left, grace_sec=2)
    home.processes_path.unlink(missing_ok=True)
    remove_stale(home.cgroups_path)
    return len(left)


# status


def run_status(home: Home, arguments: argparse.Namespace) -> int:
    """Show what runs; the exit status is 0 when the plane is ready, 1 otherwise."""
    settings = load_settings(home)
    report = _report(home) if _supervisor(home) else {}
    ready = report.get("status") == "ready"
    if arguments.json:
        print(json.dumps(_status_document(home, settings, ready), indent=1))
    elif settings is None:
        print(f"{PROGRAM}: never started in {home.root}")
    else:
        print(_describe(home, settings) if ready else f"{PROGRAM}: {report.get('status', 'not running')} ({home.root})")
    return 0 if ready else 1


def _status_document(home: Home, settings: Settings | None, ready: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"home": str(home.root), "ready": ready, "services": [], "endpoints": []}
    if settings is None:
        return document
    document["services"] = [
        {"name": "control plane", "uri": settings.arm_url},
        {"name": "managed identity", "uri": f"http://127.0.0.1:{settings.identity_port}{IDENTITY_PATH}"},
        {"name": "blobs", "uri": f"https://127.0.0.1:{settings.blob_port}"},
    ]
    store = Store(home.state_path)
    workspace = _workspace_id(settings)
    for endpoint in store.children(f"{workspace}/onlineEndpoints"):
        traffic = endpoint.properties.get("traffic") or {}
        document["endpoints"].append(
            {
                "name": endpoint.name,
                "state": endpoint.provisioning_state,
                "scoring_uri": endpoint.properties["scoringUri"],
                "auth_mode": endpoint.properties["authMode"],
                "deployments": [
                    {
                        "name": deployment.name,
                        "state": deployment.provisioning_state,
                        "instance_type": deployment.properties.get("instanceType"),
                        "instance_count": (deployment.sku or {}).get("capacity"),
                        "traffic": traffic.get(deployment.name, 0),
                    }
                    for deployment in store.children(f"{endpoint.id}/deployments")
                ],
            }
        )
    return document


def _describe(home: Home, settings: Settings) -> str:
    document = _status_document(home, settings, True)
    lines = [f"home              {home.root}", f"workspace         {_workspace_id(settings)}"]
    lines += [f"{service['name']:<17} {service['uri']}" for service in document["services"]]
    if not document["endpoints"]:
        lines.append("no endpoints")
    for endpoint in document["endpoints"]:
        lines.append(f"endpoint          {endpoint['name']} ({endpoint['state']}) {endpoint['scoring_uri']}")
        for entry in endpoint["deployments"]:
            lines.append(
                f"  deployment      {entry['name']} ({entry['state']}) {entry['instance_count']} x "
                f"{entry['instance_type']}, traffic {entry['traffic']} %"
            )
    lines.append(f'To use it:        eval "$({PROGRAM} env --home {shlex.quote(str(home.root))})"')
    return "\n".join(lines)


def _workspace_id(settings: Settings) -> str:
    return workspace_id(settings.subscription_id, settings.resource_group, settings.workspace_name)


# env


def run_env(home: Home, arguments: argparse.Namespace) -> int:
    """Print shell lines that export the variables."""
    settings = load_settings(home)
    if settings is None:
        raise PlaneError(f"{home.root}: no control plane has been started there; run: {PROGRAM} up")
    for name, value in client_environment(home, settings, os.environ).items():
        quoted = value.replace("'", "'\\''")
        print(f"export {name}='{quoted}'")
    return 0


# What the commands share


def _report(home: Home) -> dict[str, Any]:
    if not home.supervisor_path.exists():
        return {}
    document = json.loads(home.supervisor_path.read_text())
    return document if isinstance(document, dict) else {}


def _supervisor(home: Home) -> ProcessIdentity | None:
    """Return the supervisor that runs."""
    written = _report(home).get("identity")
    identity = ProcessIdentity(**written) if written else None
    return identity if identity is not None and is_alive(identity) else None


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    """Let one `up` or `down` of a home work at a time."""
    # Made where it is missing, never replaced: two that each lock a file of their own would both go on.
    with home.lock_path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
