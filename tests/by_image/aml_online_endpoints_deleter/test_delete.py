"""The deleter, in its image, on the local control plane."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane, TrackedContainer

NAME = "image-to-delete"
COMMAND = (
    "python",
    "-m",
    "aml_online_endpoints_deleter",
    "--config_path",
    "settings.json",
    "--delete_endpoint",
    "True",
)


@pytest.fixture
def endpoint(client: Any, work: Path) -> Iterator[str]:
    """An endpoint, and the settings that name it."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=NAME, auth_mode="key")).result()
    settings = {"version": 1.0, "deployment_settings": {"endpoint_name": NAME, "deployment_name": "blue"}}
    (work / "settings.json").write_text(json.dumps(settings))
    yield NAME
    if NAME in _names(client):
        client.online_endpoints.begin_delete(name=NAME).result()


def _names(client: Any) -> list[str]:
    return [endpoint.name for endpoint in client.online_endpoints.list()]


@pytest.mark.parametrize("flags", [(), ("--user", "0:0"), ("--read-only",)], ids=["default", "root", "read-only"])
def test_deletes_the_endpoint(
    container: TrackedContainer, plane: Plane, client: Any, endpoint: str, work: Path, flags: tuple[str, ...]
) -> None:
    assert endpoint in _names(client)
    finished = container.run(*COMMAND, work=work, flags=flags, limit_sec=120, **plane.for_containers)
    assert finished.exit_code == 0, finished.stderr
    assert endpoint not in _names(client)


def test_a_dry_run_deletes_nothing(
    container: TrackedContainer, plane: Plane, client: Any, endpoint: str, work: Path
) -> None:
    finished = container.run(*COMMAND, "--dry_run", work=work, limit_sec=120, **plane.for_containers)
    assert finished.exit_code == 0, finished.stderr
    assert endpoint in finished.stdout
    assert endpoint in _names(client)
