"""Where the requests go: a scoring target file, completed by what the endpoint says."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from aml_tool_core import logs
from aml_tool_core.errors import InputError

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Set by the generators for each request; a fixed value would contradict the body.
_FRAMING_HEADERS = {"content-length", "transfer-encoding"}
_FACTS = (
    "endpoint_name", "deployment_name", "sku", "location",
    "instance_count", "worker_count", "max_concurrent_requests_per_instance",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A scoring target that can be sent to. `uri` and `headers` may hold secrets; `shown_uri` does not."""

    uri: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint_name: str | None = None
    deployment_name: str | None = None
    sku: str | None = None
    location: str | None = None
    instance_count: int | None = None
    worker_count: int | None = None
    max_concurrent_requests_per_instance: int | None = None

    @property
    def has_endpoint(self) -> bool:
        """Tell whether endpoint information was given."""
        return self.endpoint_name is not None and self.deployment_name is not None

    @property
    def parts(self) -> SplitResult:
        """The URI, split."""
        return urlsplit(self.uri)

    @property
    def host(self) -> str:
        """Host name or address, without brackets."""
        return str(self.parts.hostname)

    @property
    def port(self) -> int:
        """Port, the scheme's own where none is given."""
        return self.parts.port or _DEFAULT_PORTS[self.parts.scheme]

    @property
    def authority(self) -> str:
        """`host[:port]` as it stands in the URI: what the Host header holds."""
        return self.parts.netloc

    @property
    def origin(self) -> str:
        """The URI without path and query: nothing secret, fit for a command line."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def request_path(self) -> str:
        """Path and query, as they stand in the request line."""
        return (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")

    @property
    def shown_uri(self) -> str:
        """The URI for logs and reports: a query may carry a key, so only its presence is shown."""
        return f"{self.origin}{self.parts.path or '/'}" + ("?***" if self.parts.query else "")


def target_of(settings: Mapping[str, Any], source: str) -> Target:
    """Build a target from settings that name a scoring_uri; every secret in them is hidden from logs.

    User name and password in the URI become a basic Authorization header (RFC 7617), so that the URI can be shown.
    Raises InputError where the URI or a header cannot be used.
    """
    place = f"{source}: /deployment_settings"
    headers = {str(name): str(value) for name, value in settings.get("scoring_headers", {}).items()}
    for name, value in headers.items():
        if name.lower() in _FRAMING_HEADERS:
            raise InputError(f"{place}/scoring_headers/{name}: is set for every request by its body; remove it")
        _hide_header(name, value)
    uri, userinfo = _checked_uri(str(settings["scoring_uri"]), f"{place}/scoring_uri")
    if userinfo and _header(headers, "authorization") is None:
        headers["Authorization"] = f"Basic {base64.b64encode(userinfo).decode('ascii')}"
        _hide_header("Authorization", headers["Authorization"])
    facts = {key: settings[key] for key in _FACTS if settings.get(key) is not None}
    return Target(uri=uri, headers=headers, **facts)


def _checked_uri(uri: str, place: str) -> tuple[str, bytes | None]:
    """Return the URI without user name, password and fragment, and the former as `user:password`."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{place}: not a usable URI: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise InputError(f"{place}: not a URI with a host name; begin it with http:// or https://")
    if not uri.isascii() or any(character <= " " or character == "\x7f" for character in uri):
        raise InputError(f"{place}: holds a blank or a non-ASCII character; percent-encode it (a host: punycode)")
    logs.hide(parts.query)
    userinfo = None
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        logs.hide(parts.password)
        logs.hide(password)
        userinfo = f"{user}:{password}".encode()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    return parts._replace(netloc=netloc, path=path, fragment="").geturl(), userinfo


def _hide_header(name: str, value: str) -> None:
    # Any header but the harmless few may be a key (Authorization, Ocp-Apim-Subscription-Key, Cookie, ...).
    if name.lower() not in {"content-type", "accept", "user-agent", "host", "connection", "azureml-model-deployment"}:
        logs.hide(value)
        for word in value.split()[1:]:  # the credential after its scheme: "Bearer <key>"
            logs.hide(word)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)
