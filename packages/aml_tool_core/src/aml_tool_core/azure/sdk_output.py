"""Keep the SDKs' chatter off the tool's stdout and stderr without losing an error."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator

_log = logging.getLogger("aml_tool_core.azure")

# They warn about the SDK's own classes being experimental, or repeat over many lines what is raised anyway.
_CHATTY = ("azure.ai.ml._utils._experimental", "azure.ai.ml._azure_environments", "azure.identity")
_ROOT = "azure.ai.ml"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # ECMA-48, section 8.3.117: select graphic rendition


def hush() -> None:
    """Let the chatty loggers speak from ERROR up, and the rest through our handler, from WARNING up.

    azure-ai-ml gives some of its loggers handlers of their own when it is imported: they would pass by the redaction.
    """
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith(_ROOT)]:
        logger = logging.getLogger(name)
        if any(type(handler) is logging.StreamHandler for handler in logger.handlers):
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.WARNING)


@contextlib.contextmanager
def diverted() -> Iterator[None]:
    """Take what the SDK prints: its progress dots and colours are dropped (the tools log progress), words are logged.

    Log handlers keep the stderr that they were made with, so logs still get there.
    """
    with contextlib.redirect_stdout(_Diverted()), contextlib.redirect_stderr(_Diverted()):
        yield


def uncoloured(text: str) -> str:
    """Return what the SDK wrote for a terminal without its colours."""
    return _COLOUR.sub("", text)


class _Diverted(io.TextIOBase):
    def write(self, text: str) -> int:
        line = uncoloured(text).strip().lstrip(".")
        if line:
            _log.info("%s", line)
        return len(text)
