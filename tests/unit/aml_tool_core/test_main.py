"""Every outcome of a tool has its exit code and one line on stderr."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aml_tool_core import CriteriaMissed, Flag, InputError, Job, Kind, Tool, ToolError
from aml_tool_core.errors import Interrupted
from aml_tool_core.main import outcome


def tool(run: object = lambda job: None) -> Tool:
    flags = (
        Flag("--config_path", "the configuration", Kind.FILE, required=True, schema="wrk_profiler_config"),
        Flag("--folder", "a folder", Kind.FOLDER),
        Flag("--really", "a boolean", Kind.BOOLEAN, default=False),
        Flag("--age", "a duration", Kind.DURATION),
    )
    return Tool("aml_example", "1.2.3", "An example.", flags, run)  # type: ignore[arg-type]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text('{"version": 1.0, "profiler_config": {"connections": 2}}')
    return path


def test_run_gets_checked_values_and_documents(config: Path, tmp_path: Path) -> None:
    seen: list[Job] = []
    assert outcome(tool(seen.append), ["--config_path", str(config), "--folder", str(tmp_path), "--really", "1"]) == 0
    (job,) = seen
    assert job.path("config_path") == config
    assert job.documents["config_path"]["profiler_config"] == {"connections": 2}
    assert job.values["really"] is True


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "config.json: line 1, column 2: not JSON"),
        ('{"version": 1.0, "version": 1.0}', "'version' stands twice"),
        ('{"version": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not JSON"),
        ("[]", "config.json: /: [] is not of type 'object'"),
        ('{"version": 1.0}', "config.json: /: 'profiler_config' is a required property"),
        (
            '{"version": 1.0, "profiler_config": {"connections": 0}}',
            "config.json: /profiler_config/connections: 0 is less than the minimum of 1",
        ),
        (
            '{"version": 1.0, "profiler_config": {"connections": "2"}}',
            "/profiler_config/connections: '2' is not of type 'integer'",
        ),
        (
            '{"version": 1.0, "profiler_config": {"target_rps": 2}}',
            "/profiler_config: unknown key 'target_rps'; the keys here are connections,",
        ),
        ("\ufeff{", "not JSON"),
    ],
)
def test_a_bad_document_is_one_line_and_exit_2(
    config: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    config.write_text(content)
    assert outcome(tool(), ["--config_path", str(config)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aml_example: error: ")
    assert says in line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "the following arguments are required: --config_path"),
        (["--config_path", "absent.json"], "--config_path: absent.json: no such file"),
        (["--config_path", ""], "--config_path: the path is empty"),
        (["--config_path", "/"], "is a folder, a file is needed"),
        (["--config_path", "CONFIG", "--folder", "CONFIG"], "is a file, a folder is needed"),
        (["--config_path", "CONFIG/below"], "below: no such file or folder"),
        (["--config_path", "/dev/null"], "/dev/null: is a pipe or a device, a file is needed"),
        (["--config_path", "a" * 300], "cannot be read: File name too long"),
        (["--config_path", "CONFIG", "--really", "perhaps"], "'perhaps' is not a boolean; give True or False"),
        (["--config_path", "CONFIG", "--unknown", "x"], "unrecognized arguments: --unknown x"),
        (["--config", "CONFIG"], "required: --config_path; unrecognized arguments: --config; see aml_example --help"),
        (["--config=CONFIG"], "required: --config_path; unrecognized arguments: --config; see"),
        (["--folder", "."], "required: --config_path; see"),
        (["--config_path", "CONFIG", "--age", "9999999999d"], "--age: '9999999999d' is longer than ten years"),
        (["--config_path", "CONFIG", "--age", "9" * 400 + "s"], "is longer than ten years"),
    ],
)
def test_bad_flags_are_one_line_and_exit_2(
    config: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert outcome(tool(), [part.replace("CONFIG", str(config)) for part in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ToolError("the server said no"), 1),
        (InputError("payload.jsonl: line 3: not JSON"), 2),
        (CriteriaMissed(["latency_ms_99: 120 > 100", "error_percent: 2 > 0.1"]), 3),
    ],
)
def test_expected_failures(config: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int) -> None:
    def run(_job: Job) -> None:
        raise error

    assert outcome(tool(run), ["--config_path", str(config)]) == code
    lines = capsys.readouterr().err.splitlines()
    expected = list(error.criteria) if isinstance(error, CriteriaMissed) else [str(error)]
    assert lines == [f"aml_example: error: {said}" for said in expected]


def test_a_defect_is_70_with_a_redacted_traceback(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_job: Job) -> None:
        raise KeyError("Bearer abcdefghijklmnop")

    assert outcome(tool(run), ["--config_path", str(config)]) == 70
    said = capsys.readouterr().err
    assert "Traceback" in said and "KeyError" in said
    assert "abcdefghijklmnop" not in said


def fail(_job: Job) -> None:
    raise ToolError("the server said no")


@pytest.fixture
def left_by_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs"
    folder.mkdir()
    for name in ("report.json", "report.html", "mine.txt"):
        (folder / name).write_text('{"version": 1.0, "profiler_config": {"connections": 2}}')
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_failed_run_leaves_no_output_of_an_earlier_one(
    config: Path, left_by_an_earlier_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = replace(tool(fail), outputs=("report.json", "report.html", "absent.json"))
    assert outcome(failing, ["--config_path", str(config)]) == 1
    assert names(left_by_an_earlier_run) == {"mine.txt"}
    told, error = capsys.readouterr().err.splitlines()
    assert told.endswith("removed what an earlier run left: outputs/report.json, outputs/report.html")
    assert error == "aml_example: error: the server said no"


@pytest.mark.parametrize("argv", [["--unknown"], ["--config_path", "bad.json"], ["--config_path", "absent.json"]])
def test_refused_input_removes_nothing(argv: list[str], left_by_an_earlier_run: Path) -> None:
    Path("bad.json").write_text("{}")
    before = names(left_by_an_earlier_run)
    assert outcome(replace(tool(fail), outputs=("report.json",)), argv) == 2
    assert names(left_by_an_earlier_run) == before


def refuse(_job: Job) -> None:
    raise InputError("config.json: /profiler_config: no candidate keeps them")


def stop(_job: Job) -> None:
    raise Interrupted(signal.SIGINT)


@pytest.mark.parametrize(("end", "code"), [(refuse, 2), (stop, 130)])
@pytest.mark.parametrize("has_begun", [False, True])
def test_what_is_refused_or_stopped_before_it_began_removes_nothing(
    has_begun: bool, end: Callable[[Job], None], code: int, config: Path, left_by_an_earlier_run: Path
) -> None:
    def run(job: Job) -> None:
        if has_begun:
            job.begin()
            assert names(left_by_an_earlier_run) == {"mine.txt"}
        end(job)

    before = names(left_by_an_earlier_run)
    assert outcome(replace(tool(run), outputs=("report.json", "report.html")), ["--config_path", str(config)]) == code
    assert names(left_by_an_earlier_run) == ({"mine.txt"} if has_begun else before)


def test_what_a_run_has_written_itself_stays_when_it_fails_then(config: Path, left_by_an_earlier_run: Path) -> None:
    def run(job: Job) -> None:
        job.begin()
        (job.outputs / "report.json").write_text("{}")
        fail(job)

    assert outcome(replace(tool(run), outputs=("report.json", "report.html")), ["--config_path", str(config)]) == 1
    assert names(left_by_an_earlier_run) == {"mine.txt", "report.json"}


@pytest.mark.parametrize("obstacle", ["file", "link"])
def test_where_nothing_can_be_written_the_tool_does_not_begin(
    obstacle: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if obstacle == "file":
        Path("outputs").write_text("")
    else:
        Path("outputs").symlink_to("nowhere")
    seen: list[Job] = []
    assert outcome(replace(tool(seen.append), outputs=("report.json",)), ["--config_path", str(config)]) == 1
    assert seen == []
    assert "error: outputs: cannot be written: " in capsys.readouterr().err


def test_whether_something_can_be_written_leaves_no_trace(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[list[Path]] = []
    looking = replace(tool(lambda _: seen.append(list(tmp_path.iterdir()))), outputs=("report.json",))
    assert outcome(looking, ["--config_path", str(config)]) == 0
    assert seen == [[config]]


@pytest.mark.parametrize("given", ["outputs/report.json", "linked.json"])
def test_an_output_that_is_also_the_input_stays(given: str, left_by_an_earlier_run: Path) -> None:
    Path("linked.json").symlink_to(left_by_an_earlier_run / "report.json")
    both = replace(tool(fail), outputs=("report.json", "report.html"))
    assert outcome(both, ["--config_path", given]) == 1
    assert names(left_by_an_earlier_run) == {"report.json", "mine.txt"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_too_late_stops_nothing(tmp_path: Path, signum: int) -> None:
    script = textwrap.dedent("""
        import os, sys
        from aml_tool_core import Tool, main
        from aml_tool_core.processes import too_late_to_stop

        def run(job):
            with too_late_to_stop():
                os.kill(os.getpid(), signum)
                print("whole", flush=True)
            os.kill(os.getpid(), signum)

        signum = int(sys.argv.pop())
        main(Tool("aml_example", "1", "x", (), run))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(int(signum))], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "whole\n"
    assert done.returncode == 128 + signum, "afterwards it can be stopped as before"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_children_and_leaves_no_partial_output(tmp_path: Path, signum: int, code: int) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from aml_tool_core import Tool, main
        from aml_tool_core.outputs import atomic_file
        from aml_tool_core.processes import running

        def run(job):
            # The child ignores SIGTERM and has a child of its own: both must go.
            command = ["sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; sleep 600"]
            with atomic_file(Path("out.json")) as temporary, running(command) as child:
                temporary.write_text("half")
                print(child.pid, child.stdout.readline().decode().strip(), flush=True)
                time.sleep(600)

        main(Tool("aml_example", "1", "x", (), run))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.splitlines()[-1].startswith("aml_example: error: interrupted by SIG")
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_a_signal_after_the_outcome_changes_nothing() -> None:
    script = textwrap.dedent("""
        import atexit, time
        from aml_tool_core import Tool, main

        def run(job):
            atexit.register(lambda: (print("ending", flush=True), time.sleep(1)))

        main(Tool("aml_example", "1", "x", (), run))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as end:
            outcome(tool(), [flag])
        assert end.value.code == 0
    said = capsys.readouterr().out
    assert "--config_path FILE" in said and "aml_example 1.2.3" in said


def test_documents_of_another_schema_version_are_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(json.dumps({"version": 2, "profiler_config": {}}))
    assert outcome(tool(), ["--config_path", str(config)]) == 2
    assert "/version: 2 is not one of" in capsys.readouterr().err
