"""Which Azure cloud the tools talk to, found the way azure-ai-ml finds it, but never guessed."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
from azure.core import AzureClouds
from azure.identity import AzureAuthorityHosts
from azure.mgmt.core.tools import get_arm_endpoints

from aml_tool_core.errors import ToolError

CLOUD_VARIABLE = "AZUREML_CURRENT_CLOUD"
METADATA_VARIABLE = "ARM_CLOUD_METADATA_URL"
_DEFAULT_METADATA_URL = "https://management.azure.com/metadata/endpoints?api-version=2019-05-01"
_TIMEOUT_SEC = (10, 30)  # connect, read

# azure-ai-ml's names of the clouds that need no metadata.
_BUILT_IN = {
    "AzureCloud": (AzureClouds.AZURE_PUBLIC_CLOUD, AzureAuthorityHosts.AZURE_PUBLIC_CLOUD),
    "AzureUSGovernment": (AzureClouds.AZURE_US_GOVERNMENT, AzureAuthorityHosts.AZURE_GOVERNMENT),
    "AzureChinaCloud": (AzureClouds.AZURE_CHINA_CLOUD, AzureAuthorityHosts.AZURE_CHINA),
}


@dataclass(frozen=True)
class Cloud:
    """An Azure cloud: where its Resource Manager and its token service are."""

    name: str
    arm_url: str  # without a slash at the end
    authority: str

    @property
    def scope(self) -> str:
        """The scope of a token for Resource Manager."""
        return f"{self.arm_url}/.default"


def current() -> Cloud:
    """Return the cloud that AZUREML_CURRENT_CLOUD and ARM_CLOUD_METADATA_URL name; public Azure when neither is set.

    azure-ai-ml falls back to public Azure in silence when ARM_CLOUD_METADATA_URL is set but cannot be read, or names no
    cloud that fits; here that is a ToolError.
    """
    name = os.environ.get(CLOUD_VARIABLE)
    url = os.environ.get(METADATA_VARIABLE)
    if name in _BUILT_IN or (name is None and url is None):
        return _built_in(name or "AzureCloud")
    known = _metadata(url or _DEFAULT_METADATA_URL)
    if name is not None:
        if name not in known:
            raise ToolError(
                f"{CLOUD_VARIABLE}={name}: unknown to {url or _DEFAULT_METADATA_URL}, which knows "
                f"{', '.join(sorted(known))}; correct one of the two variables"
            )
        return known[name]
    fitting = [cloud for cloud in known.values() if cloud.arm_url in (url or "")]
    if len(fitting) != 1:
        raise ToolError(f"{METADATA_VARIABLE}={url}: names {len(fitting)} clouds that fit; set {CLOUD_VARIABLE} too")
    return fitting[0]


def _built_in(name: str) -> Cloud:
    setting, authority = _BUILT_IN[name]
    return Cloud(name, str(get_arm_endpoints(setting)["resource_manager"]).rstrip("/"), f"https://{authority}")


@cache
def _metadata(url: str) -> Mapping[str, Cloud]:
    try:
        response = requests.get(url, timeout=_TIMEOUT_SEC)
        response.raise_for_status()
        entries: Any = response.json()
    except requests.JSONDecodeError:
        raise ToolError(f"{url}: the cloud metadata is not JSON; check {METADATA_VARIABLE}") from None
    except requests.RequestException as error:
        raise ToolError(f"{url}: the cloud metadata cannot be read: {_reason(error)}; {_remedy(url)}") from error
    try:
        return {
            entry["name"]: Cloud(
                entry["name"], entry["resourceManager"].rstrip("/"), entry["authentication"]["loginEndpoint"]
            )
            for entry in (entries if isinstance(entries, list) else [entries])
        }
    except (KeyError, TypeError, AttributeError):
        raise ToolError(f"{url}: is not Azure's cloud metadata; check {METADATA_VARIABLE}") from None


def _remedy(url: str) -> str:
    if _is_this_machine(urlsplit(url).hostname or ""):
        return (
            "it is on this machine: is the local control plane running? Start it and take its variables anew, or "
            f"unset {METADATA_VARIABLE} and {CLOUD_VARIABLE} for Azure itself"
        )
    return f"check {METADATA_VARIABLE}, the network and REQUESTS_CA_BUNDLE"


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


def _reason(error: requests.RequestException) -> str:
    """Return the innermost cause, which is the one that says what happened."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause) or type(cause).__name__
