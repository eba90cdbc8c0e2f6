"""What every profiler does to a server, and what its report says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

BODIES = [json.dumps({"line": number, "text": "é\u2028" * number}, ensure_ascii=False) for number in range(7)]


def test_every_payload_line_is_really_sent_equally_often(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "1")
    case.payload = "\n".join(BODIES) + "\n"
    case.config["profiler_config"] |= {
        "connections" if "clients" not in case.config["profiler_config"] else "clients": 4
    }
    outcome = aim(case, server).run()
    assert outcome.code == 0, outcome.stderr
    received = server.stop()
    assert set(received["bodies"]) == set(BODIES)
    assert max(received["bodies"].values()) - min(received["bodies"].values()) <= 2
    assert received["headers"]["Content-Type"] == "application/json"
    report = outcome.report
    assert report["load"]["payload"] == {
        "source": "payload.jsonl", "bodies": 7, "bytes_mean": sum(len(body.encode()) for body in BODIES) / 7,
    }  # fmt: skip
    assert received["lines"] == {"POST /score HTTP/1.1": received["requests"]}


def test_the_counts_are_the_servers_own(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "5")
    report = aim(case, server).run().report
    received = server.stop()
    requests = report["result"]["requests"]
    assert requests["sent"] == received["requests"]
    assert requests["sent"] - report["load"]["connections"] <= requests["completed"] <= requests["sent"]
    assert requests["succeeded"] == requests["completed"] == report["result"]["latency_ms"]["count"]
    assert report["result"]["errors"] == {"connect": 0, "read": 0, "write": 0, "timeout": 0, "status": {}}
    assert 5 <= report["result"]["latency_ms"]["percentiles"]["50"]["value"] < 50
    assert received["connections"] <= report["load"]["connections"] + 2, "connections are kept; one looked first"


def test_without_a_payload_the_request_is_a_get(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "5")
    report = aim(case, server).run().report
    received = server.stop()
    assert received["lines"] == {"GET /score HTTP/1.1": received["requests"]}
    assert set(received["bodies"]) == {""}
    assert "Content-Type" not in received["headers"]
    assert report["load"]["method"] == "GET"
    assert "payload" not in report["load"]


def test_the_configurations_payload_is_sent_and_a_file_wins_over_it(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "5")
    case.config["profiler_config"]["payload"] = '{"from": "config"}'
    assert aim(case, server).run().report["load"]["payload"]["source"] == "profiler_config"
    assert set(server.stop()["bodies"]) == {'{"from": "config"}'}
    server = serve("--delay_ms", "5")
    case.payload = '{"from": "file"}'
    aim(case, server).run()
    assert set(server.stop()["bodies"]) == {'{"from": "file"}'}


def test_own_headers_win_and_a_body_need_not_be_json(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "5")
    case.payload = "not json\r\nat all\r\n"
    case.target["deployment_settings"]["scoring_headers"] = {"content-type": "text/plain", "Host": "elsewhere.example"}
    outcome = aim(case, server).run()
    assert outcome.code == 0, outcome.stderr
    received = server.stop()
    assert set(received["bodies"]) == {"not json", "at all"}
    assert received["headers"]["content-type"] == "text/plain"
    assert received["headers"]["Host"] == "elsewhere.example"
    assert "Content-Type" not in received["headers"]


def test_the_encoded_histogram_gives_the_reports_percentiles(case: Case, serve: Serve, aim: Aim) -> None:
    result = aim(case, serve("--delay_ms", "2")).run().report["result"]
    for latency, name in (("latency_ms", "latency"), ("service_time_ms", "service_time")):
        if latency not in result:
            assert name not in result["histogram"]
            continue
        decoded = HdrHistogram.decode(result["histogram"][name])
        assert decoded.get_total_count() == result[latency]["count"]
        for percent, percentile in result[latency]["percentiles"].items():
            assert decoded.get_value_at_percentile(float(percent)) / 1000 == percentile["value"]
        assert decoded.get_max_value() / 1000 == result[latency]["max"]


def test_refusals_are_counted_by_their_code_and_make_the_run_invalid(case: Case, serve: Serve, aim: Aim) -> None:
    report = aim(case, serve("--delay_ms", "5", "--key", "the-right-one")).run().report
    completed = report["result"]["requests"]["completed"]
    assert report["result"]["errors"]["status"] == {"401": completed}
    assert report["result"]["requests"]["succeeded"] == 0
    assert not report["verdict"]["valid"]
    assert report["verdict"]["reasons"][0].startswith("no request succeeded (status 401: ")
    assert report["cost"]["core_hour_per_million_requests"] is None


def test_429_is_counted_apart_from_failures(case: Case, serve: Serve, aim: Aim) -> None:
    report = aim(case, serve("--delay_ms", "5", "--status", "429", "--status_every", "4")).run().report
    refused = report["result"]["errors"]["status"]["429"]
    assert refused == report["result"]["requests"]["completed"] // 4
    assert not any("failed" in reason for reason in report["verdict"]["reasons"])
    assert any(f"{refused} requests" in note and "429" in note for note in report["verdict"]["notes"])


def test_failures_beyond_one_percent_make_the_run_invalid(case: Case, serve: Serve, aim: Aim) -> None:
    outcome = aim(case, serve("--delay_ms", "5", "--status", "503", "--status_every", "10")).run()
    assert outcome.code == 0, "a run that says no is a run"
    report = outcome.report
    assert report["result"]["errors"]["status"]["503"] == report["result"]["requests"]["completed"] // 10
    assert any("failed (status 503: " in reason for reason in report["verdict"]["reasons"])


def test_broken_connections_are_counted_and_the_run_goes_on(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "5", "--reset_every", "10")
    report = aim(case, server).run().report
    received = server.stop()
    assert report["result"]["errors"]["read"] == received["requests"] // 10
    assert report["result"]["requests"]["completed"] >= received["requests"] * 0.85


def test_a_server_that_never_answers_ends_on_time_and_is_invalid(case: Case, serve: Serve, aim: Aim) -> None:
    if "timeout_sec" in case.config["profiler_config"]:
        case.config["profiler_config"]["timeout_sec"] = 1
    report = aim(case, serve("--silent")).run().report
    assert report["result"]["requests"]["completed"] == 0
    assert "latency_ms" not in report["result"]
    assert any("no request succeeded" in reason for reason in report["verdict"]["reasons"])


def test_secrets_reach_no_process_list_log_or_report(
    case: Case, serve: Serve, aim: Aim, children: Callable[[int], list[int]]
) -> None:
    secrets = ["sikrit-key-1", "sikrit-key-2", "sikrit-query", "sikrit-password", "sikrit-body"]
    server = serve("--delay_ms", "5")
    settings = aim(case, server).target["deployment_settings"]
    settings["scoring_uri"] = f"http://someone:sikrit-password@127.0.0.1:{server.port}/score?code=sikrit-query"
    settings["scoring_headers"] = {"Ocp-Apim-Subscription-Key": "sikrit-key-1", "Authorization": "Bearer sikrit-key-2"}
    case.payload = '{"a": "sikrit-body"}\n'
    process = case.start()
    seen = ""
    while process.poll() is None:
        for pid in [process.pid, *children(process.pid)]:
            for name in ("cmdline", "environ"):
                try:
                    seen += Path(f"/proc/{pid}/{name}").read_text(errors="replace")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # ended meanwhile
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert case.tool in seen, "the process list was looked at"
    written = "".join(path.read_text() for path in (case.folder / "outputs").iterdir())
    received = server.stop()
    assert received["headers"]["Ocp-Apim-Subscription-Key"] == "sikrit-key-1", "what is hidden is sent"
    assert received["headers"]["Authorization"] == "Bearer sikrit-key-2", "a header wins over the URI's user"
    assert received["lines"] == {"POST /score?code=sikrit-query HTTP/1.1": received["requests"]}
    for secret in secrets:
        for place, text in {"process list": seen, "stdout": out, "stderr": err, "outputs": written}.items():
            assert secret not in text, f"{secret} is in the {place}"


def test_user_and_password_of_the_uri_become_basic_authorization(case: Case, serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "5")
    aim(case, server).target["deployment_settings"]["scoring_uri"] = f"http://ann:p%40ss@127.0.0.1:{server.port}/score"
    report = case.run().report
    assert server.stop()["headers"]["Authorization"] == "Basic YW5uOnBAc3M="
    assert report["target"]["scoring_uri"] == f"http://127.0.0.1:{server.port}/score"


def test_an_interrupt_leaves_no_child_and_no_output(
    case: Case,
    serve: Serve,
    aim: Aim,
    children: Callable[[int], list[int]],
    interrupt: Callable[..., None],
) -> None:
    case.config["profiler_config"]["duration_sec"] = 60
    process = aim(case, serve("--delay_ms", "5")).start()
    assert process.stderr is not None
    while not (below := children(process.pid)):
        assert process.poll() is None, process.stderr.read()
    interrupt(process)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"{case.tool}: error: interrupted by SIGINT; no partial output is left"
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)
    assert not (case.folder / "outputs").exists()
    assert list((case.folder / "tmp").iterdir()) == []


def test_the_cost_needs_no_endpoint_but_says_what_is_missing(case: Case, serve: Serve, aim: Aim) -> None:
    report = aim(case, serve("--delay_ms", "5")).run().report
    assert report["cost"] == {
        "vcpus_per_instance": None,
        "core_hour_per_million_requests": None,
        "reason": "sku, location, instance_count of the scoring target not known",
    }
    assert report["resource_usage"] is None
    assert report["resource_usage_reasons"] == ["the scoring target names no endpoint_name and deployment_name"]
