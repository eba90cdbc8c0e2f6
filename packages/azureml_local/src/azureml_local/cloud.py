"""How this cloud is named and found: the constants of its metadata and identity, and the variables that point at it."""

from __future__ import annotations

from collections.abc import Mapping

from azureml_local import tokens
from azureml_local.home import Home, Settings, load_secrets

CLOUD_NAME = "LocalCloud"
METADATA_PATH = "/metadata/endpoints"
METADATA_API_VERSION = "2019-05-01"
# The blob suffix; see runtime/azurite.py for how the blobs' host name comes out of it.
STORAGE_SUFFIX = "local"
IDENTITY_PATH = "/MSI/auth"
DISCOVERY_PATH = "/discovery"
# `jobs.stream` looks every minute at last, unless this tells it otherwise; here a look costs nothing.
STREAM_POLL_SEC = "5"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost")
# AzureML renews the token while a job runs; this one lasts as long as any job here.
TRACKING_TOKEN_LIFETIME_SEC = 7 * 24 * 3600


def client_environment(home: Home, settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which the unmodified SDKs find the plane."""
    variables = {
        "ARM_CLOUD_METADATA_URL": f"{settings.arm_url}{METADATA_PATH}?api-version={METADATA_API_VERSION}",
        "AZUREML_CURRENT_CLOUD": CLOUD_NAME,
        "REQUESTS_CA_BUNDLE": str(home.bundle_path),
        "SSL_CERT_FILE": str(home.bundle_path),
        "MSI_ENDPOINT": f"http://127.0.0.1:{settings.identity_port}{IDENTITY_PATH}",
        "MSI_SECRET": load_secrets(home).identity_secret,
        "AZUREML_ARM_SUBSCRIPTION": settings.subscription_id,
        "AZUREML_ARM_RESOURCEGROUP": settings.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": settings.workspace_name,
        "AZUREML_RUN_POLLING_INTERVAL_MAX": STREAM_POLL_SEC,
    }
    for name in ("NO_PROXY", "no_proxy"):
        proxied = any(environ.get(proxy) for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"))
        hosts = [host for host in environ.get(name, "").split(",") if host]
        if proxied and "*" not in hosts:
            variables[name] = ",".join([*hosts, *(host for host in LOOPBACK_HOSTS if host not in hosts)])
    return variables


def tracking_environment(home: Home, settings: Settings, workspace_id: str, job_name: str) -> dict[str, str]:
    """Return the variables by which MLflow's client in a job finds the run that the job is."""
    token = tokens.issue(load_secrets(home).signing_key, settings.arm_url, TRACKING_TOKEN_LIFETIME_SEC)
    return {
        "MLFLOW_TRACKING_URI": f"azureml://{settings.arm_url.partition('://')[2]}/mlflow/v1.0{workspace_id}",
        "MLFLOW_TRACKING_TOKEN": token.value,
        "MLFLOW_RUN_ID": job_name,
    }
