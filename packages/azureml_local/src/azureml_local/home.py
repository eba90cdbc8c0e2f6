"""The home folder: where everything lies, and the settings and secrets made on the first start."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import socket
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from azureml_local.exceptions import PlaneError
from azureml_local.files import make_private_dir, write_json

HOME_VARIABLE = "AZUREML_LOCAL_HOME"
ENVIRONMENT_CACHE_VARIABLE = "AZUREML_LOCAL_ENV_CACHE"

DEFAULT_SUBSCRIPTION_ID = "11111111-1111-1111-1111-111111111111"
DEFAULT_RESOURCE_GROUP = "local-rg"
DEFAULT_WORKSPACE_NAME = "local-ws"
DEFAULT_LOCATION = "eastus"

# A Unix socket's path holds 107 bytes (unix(7)), and HAProxy binds to a longer temporary name first.
LONGEST_SOCKET_FOLDER = 70

LOWEST_PORT = 10_240


@dataclass(frozen=True)
class Home:
    """Paths below the home folder."""

    root: Path

    @property
    def settings_path(self) -> Path:
        return self.root / "settings.json"

    @property
    def secrets_path(self) -> Path:
        return self.root / "secrets.json"

    @property
    def state_path(self) -> Path:
        return self.root / "state.json"

    @property
    def metrics_path(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def tls_dir(self) -> Path:
        return self.root / "tls"

    @property
    def bundle_path(self) -> Path:
        return self.tls_dir / "bundle.pem"

    @property
    def logs_dir(self) -> Path:
        return self.root / "logs"

    @property
    def blobs_dir(self) -> Path:
        return self.root / "blobs"

    @property
    def azurite_dir(self) -> Path:
        return self.root / "azurite"

    @property
    def deployments_dir(self) -> Path:
        return self.root / "deployments"

    @property
    def jobs_dir(self) -> Path:
        return self.root / "jobs"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    @property
    def supervisor_path(self) -> Path:
        return self.run_dir / "supervisor.json"

    @property
    def processes_path(self) -> Path:
        return self.run_dir / "processes.json"

    @property
    def cgroups_path(self) -> Path:
        return self.run_dir / "cgroups.json"

    @property
    def lock_path(self) -> Path:
        return self.run_dir / "up.lock"

    @property
    def gateway_dir(self) -> Path:
        return self.root / "gateway"

    @property
    def socket_dir(self) -> Path:
        """A folder short enough for Unix sockets, private to this user."""
        if len(str(self.run_dir)) <= LONGEST_SOCKET_FOLDER:
            return self.run_dir
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"azureml_local-{os.getuid()}-{digest}"

    def environments_dir(self, environ: Mapping[str, str]) -> Path:
        """The folder of built environments; a shared one when the cache variable names it."""
        shared = environ.get(ENVIRONMENT_CACHE_VARIABLE)
        return Path(shared).expanduser().absolute() if shared else self.root / "environments"

    def make(self) -> None:
        """Create the folders, all of them for the owner alone."""
        for path in (
            self.root,
            self.tls_dir,
            self.logs_dir,
            self.blobs_dir,
            self.deployments_dir,
            self.jobs_dir,
            self.run_dir,
            self.gateway_dir,
        ):
            make_private_dir(path)

    def make_socket_dir(self) -> None:
        """Create the folder of the sockets, which may lie outside the home. Raises PlaneError where others own it."""
        make_private_dir(self.socket_dir)
        found = self.socket_dir.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PlaneError(f"{self.socket_dir}: not private to this user; remove it or choose a shorter --home")

    def remove_socket_dir(self) -> None:
        """Remove it where it lies outside the home, so that nothing is left there."""
        if self.socket_dir != self.run_dir:
            shutil.rmtree(self.socket_dir, ignore_errors=True)


def resolve_home(argument: str | None, environ: Mapping[str, str]) -> Home:
    """Return the home that the flag, the variable, or the default names."""
    chosen = argument or environ.get(HOME_VARIABLE) or "~/.azureml_local"
    return Home(Path(chosen).expanduser().absolute())


@dataclass(frozen=True)
class Settings:
    """What is chosen once, on the first start, and kept."""

    home_id: str
    subscription_id: str
    resource_group: str
    workspace_name: str
    location: str
    arm_port: int
    identity_port: int
    blob_port: int

    @property
    def arm_url(self) -> str:
        return f"https://127.0.0.1:{self.arm_port}"


@dataclass(frozen=True)
class Secrets:
    """What must not leave the home folder, save through the API calls that hand it out."""

    identity_secret: str
    signing_key: str
    storage_key: str


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: connections that have just ended are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a loopback port that nothing listens on now, and that no outgoing connection will be given.

    Ports are kept over restarts; one out of the kernel's ephemeral range could be any client's by then.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if ephemeral > LOWEST_PORT:
        for _ in range(100):
            port = LOWEST_PORT + secrets.randbelow(ephemeral - LOWEST_PORT)
            if port_is_free(port):
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, what: str) -> None:
    """Raise PlaneError when something else listens on a port that was chosen earlier."""
    if not port_is_free(port):
        raise PlaneError(
            f"127.0.0.1:{port}: in use, and it is the port of {what} since the first start; end what listens there"
        )


def load_settings(home: Home) -> Settings | None:
    """Read the settings; None before the first start."""
    if not home.settings_path.exists():
        return None
    try:
        document = json.loads(home.settings_path.read_text())
        return Settings(**{field.name: document[field.name] for field in fields(Settings)})
    except (ValueError, LookupError, TypeError) as error:
        raise PlaneError(
            f"{home.settings_path}: not what the first start wrote ({type(error).__name__}: {error}); "
            "restore it, or remove the home folder to begin anew"
        ) from None


def load_secrets(home: Home) -> Secrets:
    """Read the secrets, making them where there are none yet."""
    if not home.secrets_path.exists():
        made = Secrets(
            identity_secret=secrets.token_urlsafe(32),
            signing_key=secrets.token_urlsafe(48),
            storage_key=base64.b64encode(secrets.token_bytes(64)).decode(),
        )
        write_json(home.secrets_path, asdict(made))
        return made
    return Secrets(**json.loads(home.secrets_path.read_text()))


def ensure_settings(home: Home, wanted: Mapping[str, str | None]) -> Settings:
    """Return the kept settings, or make them; `wanted` may name what it should find, or create."""
    kept = load_settings(home)
    if kept is not None:
        for name, value in wanted.items():
            found = getattr(kept, name)
            if value is not None and value != found:
                raise PlaneError(
                    f"{home.settings_path}: {name} is {found!r}, not {value!r}; "
                    "it is fixed on the first start: use another --home for another workspace"
                )
        return kept
    ports = [free_port() for _ in range(3)]
    made = Settings(
        home_id=uuid.uuid4().hex,
        subscription_id=wanted.get("subscription_id") or DEFAULT_SUBSCRIPTION_ID,
        resource_group=wanted.get("resource_group") or DEFAULT_RESOURCE_GROUP,
        workspace_name=wanted.get("workspace_name") or DEFAULT_WORKSPACE_NAME,
        location=wanted.get("location") or DEFAULT_LOCATION,
        arm_port=ports[0],
        identity_port=ports[1],
        blob_port=ports[2],
    )
    write_json(home.settings_path, asdict(made))
    return made
