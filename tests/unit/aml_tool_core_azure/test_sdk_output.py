"""The SDK's progress dots vanish, its words go to the log, its own handlers do not pass by the redaction."""

from __future__ import annotations

import logging
import sys

import pytest
from aml_tool_core.azure import sdk_output


def test_dots_are_dropped_and_words_are_logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aml_tool_core.azure")
    with sdk_output.diverted():
        print(".", end="", flush=True)
        print("..\n")
        print("...Your file exceeds 100 MB")
    print("ours")
    assert capsys.readouterr().out == "ours\n"
    assert caplog.messages == ["Your file exceeds 100 MB"]


def test_loggers_with_handlers_of_their_own_are_brought_back() -> None:
    logger = logging.getLogger("azure.ai.ml._something")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(sys.stderr))
    sdk_output.hush()
    assert logger.handlers == []
    assert logger.propagate
    assert not logger.isEnabledFor(logging.INFO)


def test_the_sdks_null_handlers_stay() -> None:
    logger = logging.getLogger("azure.ai.ml._quiet")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.propagate = False
    sdk_output.hush()
    assert logger.handlers == [handler]
    assert not logger.propagate
