"""The gateway's configuration: a pure function from routes to HAProxy's language."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from azureml_local import tokens

# The gateway's own; no endpoint can have this name, for the underscore.
OWN_FRONTEND = "_health"
# What HAProxy takes as a proxy's name; endpoint and deployment names are a subset of it.
SAFE_NAME = re.compile(r"[A-Za-z0-9-]+")
_WAITED_US = "date(0,us),sub(txn.start_us)"
_NOT_TAKEN = "No instance of the deployment took the request in time."


@dataclass(frozen=True)
class Server:
    """One scoring server of a deployment."""

    name: str
    port: int


@dataclass(frozen=True)
class Route:
    """One deployment as the gateway sees it."""

    deployment: str
    weight: int
    servers: tuple[Server, ...]
    max_concurrent_requests_per_instance: int
    max_queue_wait_ms: int
    request_timeout_ms: int


@dataclass(frozen=True)
class EndpointRoutes:
    """One endpoint: its port, how callers prove themselves, and its deployments."""

    name: str
    port: int
    auth_mode: str
    audience: str
    keys_path: Path
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class GatewayFiles:
    """What the configuration names outside itself."""

    certificate: Path
    admin_socket: Path
    request_log_socket: Path
    # Signs the bearer tokens that the token auth modes verify; the configuration is for its owner alone.
    signing_key: str


def error_body(code: str, message: str) -> str:
    """Return an error in the shape of the control plane's, quoted for HAProxy."""
    text = json.dumps({"error": {"code": code, "message": message}})
    return "'" + text.replace("'", "") + "'"


def render(endpoints: tuple[EndpointRoutes, ...], files: GatewayFiles, generation: int) -> str:
    """Return the whole configuration; the generation can be read back to know that it is in force."""
    parts = [_base(files, generation)]
    parts += [_frontend(endpoint, files) for endpoint in endpoints]
    parts += [_backend(endpoint, route) for endpoint in endpoints for route in endpoint.routes]
    return "\n".join(parts)


def _base(files: GatewayFiles, generation: int) -> str:
    return f"""\
global
    description generation-{generation}
    stats socket {files.admin_socket} mode 600 level admin expose-fd listeners
    hard-stop-after 190s
    ssl-default-bind-options ssl-min-ver TLSv1.2

# Sent in batches over a stream: no datagram per request, and none lost to a short socket queue.
ring requests
    format raw
    maxlen 1024
    size 4194304
    timeout connect 1s
    timeout server 10s
    server plane unix@{files.request_log_socket} log-proto octet-count

defaults
    mode http
    log ring@requests local0 info
    option dontlognull
    timeout connect 2s
    timeout client 190s
    timeout http-request 30s
    timeout http-keep-alive 120s
    timeout server 190s
    option redispatch 1
    http-error status 502 content-type application/json string {
        error_body("BadGateway", "The scoring server closed the connection without an answer.")
    }
    http-error status 503 content-type application/json string {error_body("NoInstanceAvailable", _NOT_TAKEN)}
    http-error status 504 content-type application/json string {
        error_body("RequestTimeout", "The request has taken longer than the deployment's request timeout.")
    }

# HAProxy refuses to start without a proxy, and there may be no endpoint yet.
frontend {OWN_FRONTEND}
    bind unix@{files.admin_socket}.health mode 600
    no log
    http-request return status 200 content-type text/plain string ok
"""


def _frontend(endpoint: EndpointRoutes, files: GatewayFiles) -> str:
    _check_names(endpoint)
    lines = [
        f"frontend {endpoint.name}",
        f"    bind 127.0.0.1:{endpoint.port} ssl crt {files.certificate} alpn http/1.1",
        '    log-format "%[var(txn.start_us)] %[date(0,us)] %f %[var(txn.deployment)] %ST %[var(txn.model_status)]'
        ' %U %B %ts"',
        "    http-request set-var(txn.start_us) date(0,us)",
        "    http-request set-var(txn.request_id) uuid()",
        "    http-request set-header x-request-id %[var(txn.request_id)]",
        "    http-after-response set-header x-request-id %[var(txn.request_id)]",
        "    http-after-response set-header x-ms-request-id %[var(txn.request_id)]",
        "    http-after-response set-header azureml-model-deployment %[var(txn.deployment)]"
        " if { var(txn.deployment) -m found }",
        *_authentication(endpoint, files),
        # What the caller proved itself with is no business of the scoring script.
        "    http-request del-header authorization",
        _refuse(404, "NotFound", "The path is not one of /score, / and /swagger.json.")
        + " unless { path / /score /swagger.json }",
    ]
    for route in endpoint.routes:
        lines.append(
            f"    http-request set-var(txn.deployment) str({route.deployment})"
            f" if {{ req.hdr(azureml-model-deployment) -m str {route.deployment} }}"
        )
    lines.append(
        _refuse(404, "DeploymentNotFound", "The endpoint has no deployment of the name in azureml-model-deployment.")
        + " if { req.hdr(azureml-model-deployment) -m found } !{ var(txn.deployment) -m found }"
    )
    lines.append("    http-request set-var(txn.roll) rand(100) unless { var(txn.deployment) -m found }")
    reached = 0
    for route in endpoint.routes:
        if route.weight <= 0:
            continue
        reached += route.weight
        lines.append(
            f"    http-request set-var(txn.deployment) str({route.deployment})"
            f" if !{{ var(txn.deployment) -m found }} {{ var(txn.roll) -m int lt {reached} }}"
        )
    lines.append(
        _refuse(404, "NoTraffic", "No deployment of this endpoint gets traffic, and the request names none.")
        + " unless { var(txn.deployment) -m found }"
    )
    lines.append(f"    use_backend {endpoint.name}.%[var(txn.deployment)]")
    return "\n".join(lines) + "\n"


def _authentication(endpoint: EndpointRoutes, files: GatewayFiles) -> list[str]:
    refuse = _refuse(401, "Unauthorized", "The key or token in the Authorization header is missing or wrong.")
    if endpoint.auth_mode == "Key":
        return [f"{refuse} unless {{ http_auth_bearer -m str -f {endpoint.keys_path} }}"]
    return [
        "    http-request set-var(txn.bearer) http_auth_bearer",
        f"{refuse} unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str {tokens.ALGORITHM} }}",
        f'{refuse} unless {{ var(txn.bearer),jwt_verify("{tokens.ALGORITHM}","{files.signing_key}") -m int 1 }}',
        f"{refuse} unless {{ var(txn.bearer),jwt_payload_query('$.aud') -m str {endpoint.audience} }}",
        "    http-request set-var(txn.now) date()",
        f"{refuse} unless {{ var(txn.bearer),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }}",
    ]


def _backend(endpoint: EndpointRoutes, route: Route) -> str:
    name = f"{endpoint.name}.{route.deployment}"
    limit = route.max_concurrent_requests_per_instance
    # Azure admits twice what runs at once, the other half waiting:
    # https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints (HTTP status codes, 429)
    queue_limit = limit * len(route.servers)
    limit_us = 1000 * max(1, route.max_queue_wait_ms)
    lines = [
        f"backend {name}",
        "    balance leastconn",
        # HAProxy reads 0 as "no limit", and the shortest time it knows is a millisecond.
        f"    timeout queue {max(1, route.max_queue_wait_ms)}ms",
        f"    timeout server {max(1, route.request_timeout_ms)}ms",
        # Another server is tried at once; the same one only after a second, which would be longer than the queue.
        f"    retries {1 if len(route.servers) > 1 else 0}",
    ]
    if not route.servers:
        unavailable = _refuse(503, "ServiceUnavailable", "No instance of the deployment is ready.")
        return "\n".join([*lines, unavailable]) + "\n"
    lines += [
        _refuse(429, "TooManyRequests", "Too many requests: the deployment's queue is full.")
        + f" if {{ queue({name}) ge {queue_limit} }}",
        "    http-response set-var(txn.model_status) status",
        "    http-response set-header ms-azureml-model-error-statuscode %[status] unless { status 200:299 }",
        "    http-response set-header ms-azureml-model-error-reason model_error unless { status 200:299 }",
        '    http-response set-status 424 reason "Failed Dependency" unless { status 200:299 }',
        # A 503 is HAProxy's own (a server's has become 424): either the time in the queue has passed, or, sooner than
        # that, the server could not be reached. Its body is made before its status is changed.
        "    http-error status 503 content-type application/json lf-string "
        + error_body(f"%[{_WAITED_US},div({limit_us}),bool,iif(TooManyRequests,NoInstanceAvailable)]", _NOT_TAKEN),
        f"    http-after-response set-var(txn.waited_us) {_WAITED_US} if {{ status 503 }}",
        '    http-after-response set-status 429 reason "Too Many Requests"'
        f" if {{ status 503 }} {{ var(txn.waited_us) -m int ge {limit_us} }}"
        " !{ var(txn.model_status) -m found }",
        '    http-after-response set-status 408 reason "Request Timeout"'
        " if { status 504 } !{ var(txn.model_status) -m found }",
    ]
    lines += [f"    server {server.name} 127.0.0.1:{server.port} maxconn {limit}" for server in route.servers]
    return "\n".join(lines) + "\n"


def _refuse(status: int, code: str, message: str) -> str:
    return f"    http-request return status {status} content-type application/json string {error_body(code, message)}"


def _check_names(endpoint: EndpointRoutes) -> None:
    for name in (endpoint.name, *(route.deployment for route in endpoint.routes)):
        if not SAFE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot stand in the gateway's configuration")


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, rounded up."""
    return math.ceil(seconds * 1000)
