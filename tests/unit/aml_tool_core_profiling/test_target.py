"""Where requests go, and which part of it may be shown."""

from __future__ import annotations

from typing import Any

import pytest
from aml_tool_core import InputError, logs
from aml_tool_core.profiling.deployment import resolve
from aml_tool_core.profiling.load import concurrency
from aml_tool_core.profiling.target import Target, target_of


def target(uri: str, **settings: Any) -> Target:
    return target_of({"scoring_uri": uri, **settings}, "t.json")


@pytest.mark.parametrize(
    ("uri", "host", "port", "origin", "path"),
    [
        ("http://a.example", "a.example", 80, "http://a.example", "/"),
        ("https://a.example/score", "a.example", 443, "https://a.example", "/score"),
        ("http://[::1]:81/s?a=b#f", "::1", 81, "http://[::1]:81", "/s?a=b"),
        ("https://u:p@a.example:8443/a%20b", "a.example", 8443, "https://a.example:8443", "/a%20b"),
        ("http://a.example?a=b", "a.example", 80, "http://a.example", "/?a=b"),
    ],
)
def test_parts_of_a_uri(uri: str, host: str, port: int, origin: str, path: str) -> None:
    it = target(uri)
    assert (it.host, it.port, it.origin, it.request_path) == (host, port, origin, path)
    assert origin.endswith(it.authority)


def test_a_query_is_not_shown_and_kept_out_of_logs() -> None:
    it = target("https://a.example/score?code=s3cr3t-c0de")
    assert it.shown_uri == "https://a.example/score?***"
    assert "s3cr3t-c0de" not in logs.redacted("asked /score?code=s3cr3t-c0de")


def test_every_header_that_may_be_a_key_is_kept_out_of_logs() -> None:
    target("https://a.example/", scoring_headers={"Authorization": "Bearer tok3n-a", "X-Functions-Key": "k3y-b"})
    assert logs.redacted("tok3n-a k3y-b") == "*** ***"
    assert "tok3n-a" not in repr(target("https://a.example/", scoring_headers={"Authorization": "Bearer tok3n-a"}))


def test_common_words_in_harmless_headers_stay_readable() -> None:
    target("https://a.example/", scoring_headers={"azureml-model-deployment": "blue", "Accept": "application/json"})
    assert logs.redacted("blue application/json") == "blue application/json"


def test_a_user_without_password_is_basic_authorization_too() -> None:
    assert target("http://ann@a.example/").headers == {"Authorization": "Basic YW5uOg=="}


@pytest.mark.parametrize(
    "uri", ["http://", "http://:80/", "ftp://a/", "http://a b/", "http://a:x/", "http://ä.example/"]
)
def test_an_unusable_uri_is_refused_with_its_place(uri: str) -> None:
    with pytest.raises(InputError, match=r"^t.json: /deployment_settings/scoring_uri: "):
        target(uri)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_concurrent_requests_per_instance": 6, "worker_count": 3}, 6),
        ({"worker_count": 3}, 3),
        ({}, 1),
        ({"max_concurrent_requests_per_instance": 6, "instance_count": 2}, 6),
    ],
)
def test_the_concurrency_rule(settings: dict[str, Any], expected: int) -> None:
    it = target("http://a.example/", endpoint_name="e", deployment_name="d", **settings)
    assert concurrency(None, it, required=True, place="c.json: /profiler_config/connections") == expected
    assert concurrency(9, it, required=True, place="") == 9


def test_a_number_is_required_only_without_endpoint_information() -> None:
    it = target("http://a.example/", worker_count=3)
    with pytest.raises(InputError, match=r"^c.json: /profiler_config/connections: missing; it is required"):
        concurrency(None, it, required=True, place="c.json: /profiler_config/connections")
    assert concurrency(None, it, required=False, place="") == 3


def test_a_bare_uri_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_tool_core.profiling.deployment._ask", lambda _: pytest.fail("Azure was asked"))
    assert resolve({"scoring_uri": "http://a.example/"}, "t.json", concurrency_given=False).target.sku is None


def test_complete_settings_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_tool_core.profiling.deployment._ask", lambda _: pytest.fail("Azure was asked"))
    settings = {
        "scoring_uri": "http://a.example/", "scoring_headers": {}, "endpoint_name": "e", "deployment_name": "d",
        "sku": "s", "location": "l", "instance_count": 1, "worker_count": 2,
    }  # fmt: skip
    assert resolve(settings, "t.json", concurrency_given=False).target.worker_count == 2
