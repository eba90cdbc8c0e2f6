"""The requests that wrk sends, and what its counts mean."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from aml_tool_core import ToolError
from aml_tool_core.profiling import wrk_script
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.result import Second
from aml_tool_core.profiling.target import Target, target_of
from hypothesis import given
from hypothesis import strategies as st

OUTPUT = (
    '{"duration_us": 2000000, "requests": 12, "bytes": 900, "sent": 14, "bytes_written": 500, "errors": {"connect": 1, '
    '"read": 2, "write": 3, "status": 4, "timeout": 1}, "status": {"200": 8, "429": 3, "302": 1}, '
    '"answers": {"0": 7, "1": 5}, "failures": {"1": 4}, "latency_us": [[5000, 10], [9000, 1]]}'
)


def target(**settings: Any) -> Target:
    return target_of({"scoring_uri": "http://127.0.0.1:8080/score?x=1", **settings}, "t.json")


def test_a_post_is_a_whole_http_request() -> None:
    (request,) = wrk_script.requests(target(), Payload(("é".encode(),), "p"), "tool/1")
    assert request == (
        b"POST /score?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: tool/1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n\xc3\xa9"
    )


def test_a_get_has_no_body_and_no_length() -> None:
    (request,) = wrk_script.requests(target(), Payload((), None), "tool/1")
    assert request == b"GET /score?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: tool/1\r\n\r\n"


def test_own_headers_replace_the_usual_ones_whatever_their_case() -> None:
    own = target(scoring_headers={"HOST": "h", "user-agent": "u", "content-type": "text/plain"})
    (request,) = wrk_script.requests(own, Payload((b"",), "p"), "tool/1")
    head = request.decode().split("\r\n")[1:-2]
    assert head == ["HOST: h", "user-agent: u", "content-type: text/plain", "Content-Length: 0"]


def test_requests_are_packed_behind_their_offsets() -> None:
    files = wrk_script.request_files(target(), Payload((b"1", b"2\n3"), "p"), "t/1")
    packed = files[wrk_script.REQUESTS_FILE]
    count, *offsets = struct.unpack_from("=4q", packed)
    assert (count, offsets[0], offsets[-1]) == (2, 4 * 8, len(packed))
    requests = [packed[first:end] for first, end in pairwise(offsets)]
    assert [request.rpartition(b"\r\n\r\n")[2] for request in requests] == [b"1", b"2\n3"]


def test_output_is_read() -> None:
    output = wrk_script.read(OUTPUT, "wrk")
    assert wrk_script.succeeded(output) == 7, "one of the eight came too late"
    errors = wrk_script.errors(output)
    assert errors.status == {302: 1, 429: 3}
    assert (errors.refused, errors.failed) == (3, 1 + 2 + 3 + 1 + 1)
    assert wrk_script.timeline(output, 3) == (Second(0, 7.0, 0), Second(1, 5.0, 4), Second(2, 0.0, 0))


@pytest.mark.parametrize("text", [None, "", "{}", '{"duration_us": 1', OUTPUT.replace("[5000, 10]", "5000")])
def test_output_that_is_not_whole_is_an_error(text: str | None) -> None:
    with pytest.raises(ToolError, match=r"^wrk: "):
        wrk_script.read(text, "wrk")


def corrected(latency_us: dict[int, int], interval: int) -> dict[int, int]:
    """Do what wrk's stats_correct does, in its own order: from small to large, each count as it was measured."""
    counts = dict(latency_us)
    for value in range(2 * interval, max(latency_us) + 1):
        measured = latency_us.get(value, 0)
        invented = value - interval
        while measured and invented > interval:
            counts[invented] = counts.get(invented, 0) + measured
            invented -= interval
    return counts


@given(
    st.dictionaries(st.integers(1, 3_000), st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 20),
    st.integers(1, 400),
)
def test_what_wrk_made_up_is_taken_out_again(latency_us: dict[int, int], connections: int, interval: int) -> None:
    requests = connections * 7
    as_reported = tuple(sorted(corrected(latency_us, interval).items()))
    assert dict(wrk_script.uncorrected(as_reported, interval * 7 + 3, requests, connections)) == latency_us


def test_fewer_requests_than_connections_are_left_alone_by_wrk_too() -> None:
    assert wrk_script.uncorrected([(5, 1), (900, 1)], 1_000, 2, 4) == ((5, 1), (900, 1))
