"""The script that submits a job: whatever ends it is one line, with its exit code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError, ServiceRequestError

ROOT = Path(__file__).parents[3]
JOB = "command: echo\nenvironment: {image: debian}\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_job_script", ROOT / "job-templates/run_job.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raising(error: BaseException) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


def sdks_own_interrupt() -> JobException:
    """Return what azure-ai-ml makes of an interrupt while it follows a job's log."""
    error = JobException(message="interrupted", no_personal_data_message="interrupted")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("text", "create", "stream", "code", "said"),
    [
        (b"command: [", None, None, 2, "job.yml"),
        (b"command: echo\nnonsense: 1\n", None, None, 2, "job.yml"),
        (b"\xff", None, None, 2, "job.yml: not UTF-8"),
        (JOB.encode(), HttpResponseError(message="no such compute"), None, 1, "no such compute"),
        (JOB.encode(), ServiceRequestError("nobody answers"), None, 1, "nobody answers"),
        (JOB.encode(), KeyboardInterrupt(), None, 130, "interrupted"),
        (JOB.encode(), None, KeyboardInterrupt(), 130, "az ml job cancel --name a-job"),
        (JOB.encode(), None, sdks_own_interrupt(), 130, "az ml job cancel --name a-job"),
    ],
)
def test_every_end_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: bytes,
    create: BaseException | None,
    stream: BaseException | None,
    code: int,
    said: str,
) -> None:
    path = tmp_path / "job.yml"
    path.write_bytes(text)
    jobs = SimpleNamespace(
        create_or_update=(lambda _: SimpleNamespace(name="a-job")) if create is None else raising(create),
        stream=(lambda _: None) if stream is None else raising(stream),
    )
    monkeypatch.setattr(script, "workspace", lambda: SimpleNamespace(jobs=jobs))
    assert script.main([str(path)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run_job: error: ") and said in line
