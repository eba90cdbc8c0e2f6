"""Bad input and unreachable targets: the exit code of the convention, and one line that names the place."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

FOREIGN_KEYS = {
    "aml_wrk_profiler": {"clients": 1, "timeout_sec": 5, "target_rps": 10},
    "aml_wrk2_profiler": {"clients": 1, "timeout_sec": 5},
    "aml_labench_profiler": {"connections": 1, "threads": 1},
}


def refused(case: Case, *said: str, code: int = 2) -> None:
    outcome = case.run()
    assert outcome.code == code, outcome.stderr
    line = outcome.error
    assert line.startswith(f"{case.tool}: error: ")
    for part in said:
        assert part in line
    assert not (case.folder / "outputs").exists()


@pytest.fixture(autouse=True)
def nobody_is_asked(case: Case) -> None:
    """Point every case at a port where nothing listens: input is judged before anything is asked."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    case.target["deployment_settings"]["scoring_uri"] = f"http://127.0.0.1:{port}/score"


def test_a_file_is_missing(case: Case) -> None:
    command = case.command()
    (case.folder / "target.json").unlink()
    case.command = lambda: command  # type: ignore[method-assign]
    refused(case, "--scoring_target_path: target.json: no such file")


@pytest.mark.parametrize("which", ["config", "target"])
def test_json_is_broken(case: Case, which: str) -> None:
    setattr(case, which, '{"version": 1.0,\n}')
    refused(case, f"{which}.json: line 2, column 1: not JSON")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("duration_sec", "60", "'60' is not of type 'integer'"),
        ("duration_sec", 0, "0 is less than the minimum of 1"),
        ("duration_sec", 1.5, "1.5 is not of type 'integer'"),
        ("payload", {"a": 1}, "is not of type 'string'"),
    ],
)
def test_a_value_is_of_the_wrong_type_or_range(case: Case, key: str, value: Any, said: str) -> None:
    case.config["profiler_config"][key] = value
    refused(case, f"config.json: /profiler_config/{key}: ", said)


def test_a_key_is_unknown(case: Case) -> None:
    case.config["profiler_config"]["conections"] = 4
    refused(case, "config.json: /profiler_config: unknown key 'conections'; the keys here are ")


def test_a_key_is_another_profilers(case: Case) -> None:
    for key, value in FOREIGN_KEYS[case.tool].items():
        config = dict(case.config["profiler_config"])
        case.config["profiler_config"][key] = value
        refused(case, "config.json: /profiler_config: ", f"'{key}'", "profiler")
        case.config["profiler_config"] = config


@pytest.mark.parametrize("version", [2, "2.0", None, "latest"])
def test_the_version_is_unknown(case: Case, version: Any) -> None:
    case.config["version"] = version
    refused(case, "config.json: /version: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n{"a": secret-in-body}\n', "payload.jsonl: line 2: column 7: not JSON"),
        ('{"a": 1}\n\n{"a": 2}\n', "payload.jsonl: line 2: empty"),
        ('{"a": NaN}\n', "payload.jsonl: line 1: not JSON: NaN is not a JSON number"),
        ("\n", "payload.jsonl: holds no request body"),
        ("", "payload.jsonl: holds no request body"),
    ],
)
def test_a_payload_line_is_bad(case: Case, text: str, said: str) -> None:
    case.payload = text
    refused(case, said)


def test_the_configurations_payload_is_not_json(case: Case) -> None:
    case.config["profiler_config"]["payload"] = "{'a': 1}"
    refused(case, "config.json: /profiler_config/payload: column 2: not JSON")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {},
            "target.json: /deployment_settings: names no target; give scoring_uri, or endpoint_name and",
        ),
        ({"endpoint_name": "e"}, "target.json: /deployment_settings: names no target"),
        ({"scoring_uri": "ftp://x/"}, "target.json: /deployment_settings/scoring_uri: "),
        ({"scoring_uri": "http://127.0.0.1:99999/"}, "target.json: /deployment_settings/scoring_uri: not a usable URI"),
        (
            {"scoring_uri": "http://127.0.0.1:1/é"},
            "target.json: /deployment_settings/scoring_uri: holds a blank or a non",
        ),
        (
            {"scoring_uri": "http://127.0.0.1:1/", "scoring_headers": {"Content-Length": "5"}},
            "target.json: /deployment_settings/scoring_headers/Content-Length: is set for every request",
        ),
    ],
)
def test_the_target_cannot_be_used(case: Case, settings: dict[str, Any], said: str) -> None:
    case.target["deployment_settings"] = settings
    refused(case, said)


def test_nothing_listens(case: Case) -> None:
    refused(case, "http://127.0.0.1:", "cannot be reached: Connection refused", "check scoring_uri", code=1)


def test_the_host_is_unknown(case: Case) -> None:
    case.target["deployment_settings"]["scoring_uri"] = "http://no-such-host.invalid/score"
    refused(case, "http://no-such-host.invalid: the host name is not known", code=1)


def test_the_certificate_is_not_trusted(case: Case, serve: Callable[..., Server], certificate: str) -> None:
    case.target["deployment_settings"]["scoring_uri"] = serve("--certificate", certificate).uri
    refused(case, "its TLS certificate is not trusted: self-signed certificate", "REQUESTS_CA_BUNDLE", code=1)


def test_a_trusted_certificate_is_fine(case: Case, serve: Callable[..., Server], certificate: str) -> None:
    case.target["deployment_settings"]["scoring_uri"] = serve("--certificate", certificate, "--delay_ms", "5").uri
    case.env["REQUESTS_CA_BUNDLE"] = certificate
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    assert outcome.report["result"]["requests"]["succeeded"] > 0


def test_tls_is_asked_of_a_server_that_speaks_none(case: Case, serve: Callable[..., Server]) -> None:
    case.target["deployment_settings"]["scoring_uri"] = serve().uri.replace("http:", "https:")
    refused(case, "https://127.0.0.1:", "cannot be reached", code=1)


@pytest.mark.parametrize("case", ["aml_wrk_profiler"], indirect=True)
def test_the_engine_is_not_installed(case: Case) -> None:
    case.env["PATH"] = str(case.folder)
    refused(case, "wrk: not found on PATH; install it", code=1)


def test_input_that_is_found_bad_late_leaves_the_report_of_an_earlier_run(case: Case) -> None:
    outputs = case.folder / "outputs"
    outputs.mkdir()
    (outputs / "report.json").write_text("of an earlier run")
    case.config["profiler_config"]["payload_classes"] = "file"
    outcome = case.run()
    assert outcome.code == 2 and "config.json: /profiler_config/payload_classes: " in outcome.error
    assert (outputs / "report.json").read_text() == "of an earlier run"


def test_a_failed_run_leaves_no_report_of_an_earlier_one(case: Case) -> None:
    outputs = case.folder / "outputs"
    outputs.mkdir()
    for name in ("report.json", "report.html", "notes.txt"):
        (outputs / name).write_text("of an earlier run")
    outcome = case.run()
    assert outcome.code == 1
    assert [path.name for path in outputs.iterdir()] == ["notes.txt"]
