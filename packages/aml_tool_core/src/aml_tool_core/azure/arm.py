"""The few Resource Manager calls that the SDK does not offer whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from aml_tool_core import logs
from aml_tool_core.azure import cloud
from aml_tool_core.azure.failures import asking
from aml_tool_core.azure.workspace import Workspace
from aml_tool_core.errors import ToolError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_API_VERSION = "2024-10-01"
_TIMEOUT_SEC = (10, 60)  # connect, read
_RETRY = Retry(
    total=5,
    backoff_factor=0.5,
    backoff_jitter=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
    retry_after_max=60,  # a report waits for this answer; its default is six hours
)


def vcpus(workspace: Workspace, credential: TokenCredential, location: str, sku: str) -> int | None:
    """Return how many vCPUs a machine size has; None when the region does not tell. Raises ToolError.

    `MLClient.compute.list_sizes()` of azure-ai-ml 1.35 leaves the number out.
    """
    path = (
        f"/subscriptions/{workspace.subscription_id}/providers/Microsoft.MachineLearningServices"
        f"/locations/{location}/vmSizes"
    )
    for size in get(credential, path, f"machine sizes of {location}").get("value", []):
        if str(size.get("name", "")).lower() == sku.lower():
            count = size.get("vCPUs")
            return None if count is None else int(count)
    return None


def get(credential: TokenCredential, path: str, what: str) -> Any:
    """Return the JSON that Resource Manager answers to a GET; `what` starts the error line. Raises ToolError."""
    here = cloud.current()
    with asking(what):
        token = credential.get_token(here.scope).token
        logs.hide(token)
        with requests.Session() as session:
            session.mount(here.arm_url, HTTPAdapter(max_retries=_RETRY))
            answer = session.get(
                here.arm_url + path,
                params={"api-version": _API_VERSION},
                headers={"Authorization": f"Bearer {token}"},
                timeout=_TIMEOUT_SEC,
            )
        if not answer.ok:
            raise ToolError(f"{what}: Azure answered {answer.status_code}: {answer.text[:200]}")
        return answer.json()
