"""A plane in process: no Azurite, no HAProxy, no servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from azureml_local.certificates import ensure_tls
from azureml_local.home import Home, ensure_settings, load_secrets
from azureml_local.models.store import Store
from azureml_local.plane import Plane
from azureml_local.processes import ProcessTable
from azureml_local.runtime.blobs import Blobs
from azureml_local.runtime.cgroups import own_mounts
from azureml_local.runtime.children import Children
from azureml_local.runtime.confinement import Confinement, this_machine
from azureml_local.runtime.gateway import Gateway
from azureml_local.runtime.haproxy_config import GatewayFiles
from azureml_local.telemetry.series import MetricStore


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    home = Home(tmp_path / "home")
    home.make()
    settings = ensure_settings(home, {})
    secrets, tls = load_secrets(home), ensure_tls(home.tls_dir)
    children = Children(settings.home_id, ProcessTable(home.processes_path))
    files = GatewayFiles(tls.combined, home.socket_dir / "a.sock", home.socket_dir / "r.sock", secrets.signing_key)
    blobs = Blobs(settings.blob_port, secrets.storage_key, tls.ca)
    gateway = Gateway(home, children, files)
    store, metrics = Store(home.state_path), MetricStore(home.metrics_path)
    confinement = Confinement(this_machine(own_mounts()))
    return Plane(home, settings, secrets, store, blobs, gateway, metrics, children, confinement)
