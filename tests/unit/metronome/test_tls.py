"""TLS: what is accepted, what is refused, and what the report says about it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[..., tuple[str, Callable[[], dict[str, Any]]]]
Measure = Callable[..., dict[str, Any]]

FLAGS = ("--rate", "50", "--connections", "2", "--duration", "1")
PLANNED = 50
# On a machine that is busy otherwise the last requests may find no free connection before the end.
MOST = 40


def certificate(folder: Path, names: str, days: str = "2") -> tuple[Path, tuple[str, ...]]:
    """Make a self-signed certificate; answer it and the server's flags."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert),
         "-days", days, "-subj", "/CN=test", "-addext", f"subjectAltName={names}"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return cert, ("--cert", str(cert), "--key", str(key))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_good_certificate(serve: Serve, measure: Measure, tmp_path: Path, host: str) -> None:
    cert, flags = certificate(tmp_path, "DNS:localhost,IP:127.0.0.1")
    url, _ = serve(*flags, scheme="https", host=host)
    report = measure(url, *FLAGS, "--ca", str(cert))
    assert report["status"] == {"200": report["requests"]["sent"]}
    assert report["target"]["tls_version"] == "TLSv1.3"
    assert report["target"]["tls_verified"] is True
    assert report["connections"]["opened"] == 2


@pytest.mark.parametrize(("names", "host", "trusted", "words"), [
    ("DNS:localhost", "localhost", False, "self-signed certificate"),
    ("DNS:other.example", "localhost", True, "hostname mismatch"),
    ("DNS:localhost,IP:127.0.0.2", "127.0.0.1", True, "IP address mismatch"),
])  # fmt: skip
def test_a_wrong_certificate_is_counted_with_its_reason(
    serve: Serve, measure: Measure, tmp_path: Path, names: str, host: str, trusted: bool, words: str
) -> None:
    cert, flags = certificate(tmp_path, names)
    url, figures = serve(*flags, scheme="https", host=host)
    report = measure(url, *FLAGS, *(("--ca", str(cert)) if trusted else ()))
    assert report["errors"]["connect"] == report["requests"]["sent"] >= MOST
    assert words in report["first_error"]["reason"]
    assert report["target"]["tls_version"] is None
    assert figures()["requests"] == 0  # nothing was sent to whoever that is


def test_insecure_accepts_any_and_says_so(serve: Serve, measure: Measure, tmp_path: Path) -> None:
    _, flags = certificate(tmp_path, "DNS:other.example")
    url, _ = serve(*flags, scheme="https")
    report = measure(url, *FLAGS, "--insecure")
    assert report["status"] == {"200": report["requests"]["sent"]}
    assert report["target"]["tls_verified"] is False


@pytest.mark.parametrize(("path", "status", "kind"), [
    ("/close", "200", None), ("/large/1000000", "200", None), ("/chunked", "200", None), ("/drip", "200", None),
    ("/drop", None, "read"), ("/reset", None, "read"), ("/garbage", None, "protocol"), ("/half-body", None, "read"),
])  # fmt: skip
def test_behaviours_over_tls(
    serve: Serve, measure: Measure, tmp_path: Path, path: str, status: str | None, kind: str | None
) -> None:
    cert, flags = certificate(tmp_path, "DNS:localhost")
    url, _ = serve(*flags, scheme="https", host="localhost")
    report = measure(url + path, *FLAGS, "--ca", str(cert))
    sent = report["requests"]["sent"]
    assert sent >= MOST
    assert sent + report["schedule"]["missed"] == report["requests"]["planned"] == PLANNED
    assert report["status"] == ({status: sent} if status else {})
    assert sum(report["errors"].values()) == (sent if kind else 0)
    if kind:
        assert report["errors"][kind] == sent


def test_large_bodies_over_tls(serve: Serve, measure: Measure, tmp_path: Path) -> None:
    body = '"' + "x" * 1_000_000 + '"'
    payload = tmp_path / "large.jsonl"
    payload.write_text(body + "\n")
    cert, flags = certificate(tmp_path, "DNS:localhost")
    url, figures = serve(*flags, scheme="https", host="localhost")
    report = measure(
        url, "--payload", str(payload), "--rate", "5", "--connections", "2", "--duration", "1", "--ca", str(cert)
    )
    assert report["status"] == {"200": 5}
    assert figures()["bodies"] == {body: 5}


def test_plain_http_where_tls_is_spoken_and_the_other_way_round(serve: Serve, measure: Measure, tmp_path: Path) -> None:
    cert, flags = certificate(tmp_path, "DNS:localhost")
    with_tls, _ = serve(*flags, scheme="http", host="localhost")
    report = measure(with_tls, *FLAGS)
    assert report["requests"]["completed"] == 0
    plain, _ = serve(scheme="https", host="localhost")
    report = measure(plain, *FLAGS, "--ca", str(cert), "--timeout", "0.3")
    assert report["errors"]["connect"] == report["requests"]["sent"] > 0
