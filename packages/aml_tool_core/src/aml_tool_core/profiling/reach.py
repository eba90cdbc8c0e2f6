"""Ask, before the load, whether anything answers at all: one connection, with TLS verified, no request sent."""

from __future__ import annotations

import os
import socket
import ssl

from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling.target import Target

_TIMEOUT_SEC = 10.0


def check(target: Target) -> None:
    """Connect once. Raises ToolError where nothing listens, the name is unknown, or the certificate is not trusted."""
    where = target.origin
    try:
        with socket.create_connection((target.host, target.port), _TIMEOUT_SEC) as connection:
            if target.parts.scheme == "https":
                with tls_context().wrap_socket(connection, server_hostname=target.host):
                    return
    except ssl.SSLCertVerificationError as error:
        raise ToolError(
            f"{where}: its TLS certificate is not trusted: {error.verify_message}; "
            "if it should be, name the file of its authority in REQUESTS_CA_BUNDLE"
        ) from None
    except socket.gaierror as error:
        raise ToolError(f"{where}: the host name is not known: {error.strerror}; check scoring_uri") from None
    except TimeoutError:
        raise ToolError(f"{where}: no answer within {_TIMEOUT_SEC:.0f} s; check scoring_uri and the network") from None
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise ToolError(f"{where}: cannot be reached: {reason}; check scoring_uri and that the server runs") from None


def ca_file() -> str | None:
    """Return the file of trusted authorities that the environment names, None for the system's own."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or None


def tls_context() -> ssl.SSLContext:
    """Return the context that certificates are verified with. Raises InputError for an unusable authorities' file."""
    try:
        return ssl.create_default_context(cafile=ca_file())
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{ca_file()}: not a usable file of authorities: {error.strerror or error}") from None
