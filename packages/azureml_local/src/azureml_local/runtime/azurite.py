"""The blob service: a real Azurite, found or installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from azureml_local.certificates import TlsFiles
from azureml_local.exceptions import PlaneError
from azureml_local.home import Home, Settings, require_free_port
from azureml_local.runtime.children import Child, Children

AZURITE_VARIABLE = "AZUREML_LOCAL_AZURITE"
AZURITE_VERSION = "3.35.0"
INSTALL_LIMIT_SEC = 600
START_LIMIT_SEC = 60.0

ACCOUNT = "devstoreaccount1"
# The SDK builds https://{account}.blob.{suffix}/ from the datastore's account name; with the account name
# "127.0.0.1:PORT/devstoreaccount1" and the suffix "local" that is a path on loopback whose first segment is this
# second account's name, so no name has to be resolved.
DATASTORE_ACCOUNT = f"{ACCOUNT}.blob.local"


def find_azurite(home: Home, argument: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the path of azurite-blob: as told, on PATH, or in the home; None when it must be installed first."""
    told = argument or environ.get(AZURITE_VARIABLE)
    if told:
        path = Path(told).expanduser().absolute()
        candidate = path / "node_modules/.bin/azurite-blob" if path.is_dir() else path
        if not os.access(candidate, os.X_OK) or candidate.is_dir():
            raise PlaneError(f"{candidate}: not an azurite-blob executable; correct --azurite or {AZURITE_VARIABLE}")
        return str(candidate)
    own = home.azurite_dir / "node_modules/.bin/azurite-blob"
    return shutil.which("azurite-blob") or (str(own) if own.exists() else None)


def install_azurite(home: Home) -> str:
    """Install Azurite into the home folder with npm; raises PlaneError."""
    npm = shutil.which("npm")
    if npm is None:
        raise PlaneError(
            "npm: not found on PATH, and Azurite is needed for the blobs; install npm (Debian, Ubuntu: apt-get "
            f"install nodejs npm), or name an azurite-blob with --azurite or {AZURITE_VARIABLE}"
        )
    # Beside its final place, so that an interrupted installation is never taken for a whole one.
    staging = home.azurite_dir.with_name(".azurite-installing")
    shutil.rmtree(staging, ignore_errors=True)
    log = home.logs_dir / "azurite-install.log"
    command = [npm, "install", "--prefix", str(staging), f"azurite@{AZURITE_VERSION}", "--no-audit", "--no-fund"]
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command, stdout=stream, stderr=subprocess.STDOUT, timeout=INSTALL_LIMIT_SEC, check=False
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise PlaneError(f"npm install azurite: not done in {INSTALL_LIMIT_SEC} s; see {log}") from error
    if code != 0:
        raise PlaneError(f"npm install azurite@{AZURITE_VERSION}: failed with status {code}; see {log}")
    shutil.rmtree(home.azurite_dir, ignore_errors=True)
    staging.rename(home.azurite_dir)
    return str(home.azurite_dir / "node_modules/.bin/azurite-blob")


async def start_azurite(
    executable: str, home: Home, settings: Settings, tls: TlsFiles, storage_key: str, children: Children
) -> Child:
    """Start Azurite and wait until it listens."""
    require_free_port(settings.blob_port, "the blob service")
    child = await children.start(
        "blobs",
        [
            executable,
            *("--location", str(home.blobs_dir)),
            *("--blobHost", "127.0.0.1", "--blobPort", str(settings.blob_port)),
            *("--cert", str(tls.certificate), "--key", str(tls.key)),
            *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ],
        log=home.logs_dir / "blobs.log",
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home.blobs_dir),
            "AZURITE_ACCOUNTS": f"{ACCOUNT}:{storage_key};{DATASTORE_ACCOUNT}:{storage_key}",
        },
    )
    try:
        await _wait_listening(child, settings.blob_port, home.logs_dir / "blobs.log")
    except BaseException:
        await child.stop(grace_sec=0)
        raise
    return child


async def _wait_listening(child: Child, port: int, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + START_LIMIT_SEC
    while asyncio.get_running_loop().time() < deadline:
        if not child.running:
            raise PlaneError(f"azurite-blob: ended at once; see {log}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise PlaneError(f"azurite-blob: does not listen after {START_LIMIT_SEC:g} s; see {log}")
