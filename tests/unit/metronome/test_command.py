"""The command line: exit codes, signals, files, secrets."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[..., tuple[str, Callable[[], dict[str, Any]]]]
Checked = Callable[[dict[str, Any]], None]
Measure = Callable[..., dict[str, Any]]


def run(binary: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(binary), *flags], capture_output=True, text=True, timeout=60)


def test_help_and_version(binary: Path) -> None:
    shown = run(binary, "--help")
    assert shown.returncode == 0
    for flag in (
        "--url", "--header", "--header-file", "--method", "--payload", "--rate", "--connections", "--threads",
        "--duration", "--warmup", "--timeout", "--schedule", "--insecure", "--ca", "--json", "--progress",
        "--start-at",
    ):  # fmt: skip
        assert f"{flag} " in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 120
    assert run(binary, "--version").stdout.startswith("metronome ")


def test_the_installed_package_carries_the_same_program(binary: Path) -> None:
    import metronome

    assert metronome.__version__ == version("metronome")
    shown = run(metronome.binary_path(), "--version").stdout
    assert shown == f"metronome {metronome.__version__}\n" == run(binary, "--version").stdout


@pytest.mark.parametrize(("flags", "place"), [
    (("--rate", "5"), "--url"),
    (("--url", "http://127.0.0.1:9/"), "--rate"),
    (("--url", "http://127.0.0.1:9/", "--rate", "0"), "--rate"),
    (("--url", "http://user:hunter2@127.0.0.1:9/", "--rate", "5"), "--url"),
    (("--url", "http://127.0.0.1:9/", "--rate", "5", "--payload", "/no/such/file"), "/no/such/file"),
    (("--url", "http://127.0.0.1:9/", "--rate", "5", "--json", "/no/such/folder/out.json"), "/no/such/folder/out.json"),
    (("--url", "https://127.0.0.1:9/", "--rate", "5", "--ca", "/no/such/ca.pem"), "/no/such/ca.pem"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(binary: Path, flags: tuple[str, ...], place: str) -> None:
    done = run(binary, *flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("metronome: error: ")
    assert done.stderr.count("\n") == 1
    assert place in done.stderr
    assert "hunter2" not in done.stderr


def test_an_unknown_host_is_exit_code_1(binary: Path, tmp_path: Path) -> None:
    written = tmp_path / "out.json"
    done = run(binary, "--url", "http://no-such-host.invalid/", "--rate", "5", "--json", str(written))
    assert done.returncode == 1
    assert done.stderr.startswith("metronome: error: cannot resolve host 'no-such-host.invalid'")
    assert list(tmp_path.iterdir()) == []


def test_secrets_come_from_a_file_and_go_nowhere_else(serve: Serve, binary: Path, tmp_path: Path) -> None:
    secret = "Bearer 4b1d-secret"
    headers = tmp_path / "headers.txt"
    headers.write_text(f"Authorization: {secret}\nazureml-model-deployment: blue\n")
    url, figures = serve()
    written = tmp_path / "out.json"
    flags = ["--rate", "50", "--duration", "1", "--header-file", str(headers), "--header", "X-Plain: 1"]
    done = run(binary, "--url", url, *flags, "--json", str(written), "--progress")
    assert done.returncode == 0
    for text in (done.stdout, done.stderr, written.read_text()):
        assert "secret" not in text
    request = figures()["last_request"]
    for line in (f"Authorization: {secret}", "azureml-model-deployment: blue", "X-Plain: 1"):
        assert line in request


def test_a_key_in_the_query_of_a_url_file_is_shown_nowhere(serve: Serve, binary: Path, tmp_path: Path) -> None:
    url, figures = serve()
    file = tmp_path / "url.txt"
    file.write_text(f"{url}/?code=4b1d-secret\n")
    flags = ["--url-file", str(file), "--rate", "50", "--duration", "1"]
    summary = run(binary, *flags)
    report = run(binary, *flags, "--json", "-")
    assert json.loads(report.stdout)["target"]["url"] == f"{url}/"
    for text in (summary.stdout, summary.stderr, report.stdout, report.stderr):
        assert "secret" not in text
    assert "GET /?code=4b1d-secret HTTP/1.1" in figures()["last_request"]
    assert run(binary, *flags, "--url", url).returncode == 2
    file.write_text("")
    refused = run(binary, *flags)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert str(file) in refused.stderr


@pytest.mark.parametrize("schedule", ["connection", "clock", "none"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_drains_and_still_writes(
    serve: Serve, binary: Path, checked: Checked, tmp_path: Path, schedule: str, number: signal.Signals
) -> None:
    url, _ = serve("--delay-us", "100000")
    written = tmp_path / "out.json"
    rate = [] if schedule == "none" else ["--rate", "100"]
    process = subprocess.Popen(
        [str(binary), "--url", url, *rate, "--schedule", schedule, "--connections", "20", "--duration", "60",
         "--json", str(written)],
    )  # fmt: skip
    time.sleep(1.5)
    process.send_signal(number)
    assert process.wait(timeout=15) == 128 + number
    report = json.loads(written.read_text())
    checked(report)
    assert report["interrupted"] is True
    assert report["signal"] == number
    assert 0.3 < report["window_sec"] < 15
    assert report["requests"]["completed"] == report["requests"]["sent"] > 20  # what was on the wire was waited for
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out.json"]


def test_a_second_signal_does_not_wait_for_answers(
    serve: Serve, binary: Path, checked: Checked, tmp_path: Path
) -> None:
    url, _ = serve()
    written = tmp_path / "out.json"
    flags = ["--rate", "20", "--connections", "20", "--duration", "60", "--timeout", "60", "--json", str(written)]
    process = subprocess.Popen([str(binary), "--url", url + "/hang", *flags])
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # still hoping
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    report = json.loads(written.read_text())
    checked(report)
    assert report["errors"]["timeout"] == report["requests"]["sent"] > 0


def test_a_signal_in_the_warmup_leaves_an_empty_report(
    serve: Serve, binary: Path, checked: Checked, tmp_path: Path
) -> None:
    url, _ = serve()
    written = tmp_path / "out.json"
    flags = ["--rate", "50", "--duration", "5", "--warmup", "60", "--json", str(written)]
    process = subprocess.Popen([str(binary), "--url", url, *flags])
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    report = json.loads(written.read_text())
    checked(report)
    assert report["requests"] == {"planned": 0, "sent": 0, "completed": 0, "succeeded": 0}
    assert report["requests_per_sec"] == 0


def test_a_generator_without_cpu_says_so(serve: Serve, binary: Path, checked: Checked, tmp_path: Path) -> None:
    url, _ = serve()
    written = tmp_path / "out.json"
    flags = ["--rate", "200", "--connections", "8", "--duration", "3", "--json", str(written)]
    process = subprocess.Popen([str(binary), "--url", url, *flags])
    time.sleep(1.5)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=20) == 0
    report = json.loads(written.read_text())
    checked(report)
    kept = report["schedule"]
    assert kept["late_generator"] >= 80  # 100 were due meanwhile
    assert kept["max_delay_generator_us"] > 400_000
    assert kept["late_generator"] > kept["late_busy"]
    assert report["latency"]["max_us"] > 400_000


def test_progress_is_one_json_object_per_second(serve: Serve, binary: Path) -> None:
    url, _ = serve()
    done = run(binary, "--url", url, "--rate", "100", "--duration", "3", "--progress", "--json", "/dev/null")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["elapsed_sec"] for line in lines][:2] == [1, 2]
    assert set(lines[0]) == {
        "elapsed_sec", "completed", "errors", "not_2xx", "requests_per_sec", "latency_us_p50", "latency_us_p99",
        "latency_us", "service_time_us",
    }  # fmt: skip
    assert lines[1]["completed"] == pytest.approx(200, abs=3)
    for kind in ("latency_us", "service_time_us"):
        assert sum(count for _, count in lines[1][kind]) == lines[1]["requests_per_sec"]


def test_answers_that_are_not_2xx_are_in_their_second(measure: Measure, serve: Serve, binary: Path) -> None:
    url, _ = serve()
    flags = ("--rate", "100", "--duration", "2", "--progress")
    report = measure(url + "/status/503", *flags)
    rows = report["timeline"]
    assert [row["not_2xx"] for row in rows] == [{"503": row["completed"]} for row in rows if row["completed"]]
    assert sum(row["completed"] for row in rows) == report["status"]["503"] == 200
    assert all(row["errors"] == 0 for row in rows)
    done = run(binary, "--url", url + "/status/429", *flags, "--json", "/dev/null")
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["not_2xx"] == {"429": last["completed"]}
    assert all("not_2xx" in row and row["not_2xx"] == {} for row in measure(url, *flags)["timeline"])


def test_without_json_it_prints_a_summary(serve: Serve, binary: Path) -> None:
    url, _ = serve()
    done = run(binary, "--url", url + "/status/429", "--rate", "50", "--duration", "1")
    assert done.returncode == 0
    assert "50 sent, 50 completed, 0 succeeded" in done.stdout
    assert "status 429: 50" in done.stdout


def test_proxies_of_the_environment_are_ignored(serve: Serve, binary: Path) -> None:
    url, _ = serve()
    env = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [str(binary), "--url", url, "--rate", "50", "--duration", "1"], env=env, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert "50 succeeded" in done.stdout


def test_more_connections_than_open_files_are_refused(binary: Path) -> None:
    command = f'ulimit -n 100; exec "{binary}" --url http://127.0.0.1:9/ --rate 5 --connections 500'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "ulimit -n" in done.stderr
