"""Logs on stderr, in UTC, in which no registered secret ever appears."""

from __future__ import annotations

import logging
import re
import sys
import time

_secrets: set[str] = set()

# What is secret by its form, wherever it comes from: bearer values, JSON web tokens (RFC 7519; their header begins with
# `{"`), and the signature of a shared access signature.
_SECRET_FORMS = (
    (re.compile(r"(?i)\b(bearer\s+)[\w\-.~+/=]{8,}"), r"\1***"),
    (re.compile(r"\beyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]*"), "***"),
    (re.compile(r"(?i)([?&;]sig=)[^&\s\"']+"), r"\1***"),
    (re.compile(r"(?i)(AccountKey=)[^;\s\"']+"), r"\1***"),
)
_SHORTEST_SECRET = 4  # replacing shorter strings would garble ordinary words


def hide(secret: str | None) -> None:
    """Register a secret (a key, a token): from now on it is shown as `***` in logs and error lines."""
    if secret and len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def redacted(text: str) -> str:
    """Return `text` with every registered secret, and whatever looks like one, replaced by `***`."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    for form, replacement in _SECRET_FORMS:
        text = form.sub(replacement, text)
    return text


class RedactingFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO aml_x: message`, redacted, tracebacks included."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def configure() -> None:
    """Send every logger to stderr through the redacting formatter; libraries speak from WARNING up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("aml_tool_core").setLevel(logging.INFO)


def logger(tool: str) -> logging.Logger:
    """Return the tool's own logger, which speaks from INFO up."""
    log = logging.getLogger(tool)
    log.setLevel(logging.INFO)
    return log
