"""Conda files, the cache's names, and certificates."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import sys
from pathlib import Path

import pytest
from azureml_local.certificates import ensure_tls, write_bundle
from azureml_local.exceptions import DeploymentError
from azureml_local.processes import ProcessTable
from azureml_local.runtime.children import Children
from azureml_local.runtime.environments import (
    EnvironmentSpec,
    ensure_environment,
    environment_hash,
    find_python,
    parse_conda_file,
)


def test_pips_part_is_taken_and_the_rest_is_named() -> None:
    spec = parse_conda_file(
        "name: x\nchannels: [conda-forge]\ndependencies:\n- python=3.9.15\n- pip=23\n- libjpeg\n- numpy>=1.2\n"
        "- pip:\n  - azureml_inference.server-http==1.5\n  - onnxruntime\n"
    )
    assert spec == EnvironmentSpec(
        "3.9", ("azureml_inference.server-http==1.5", "onnxruntime"), ("libjpeg", "numpy>=1.2")
    )


@pytest.mark.parametrize("text", [None, "", "dependencies: []", "dependencies: [pip, {pip: [numpy]}]"])
def test_the_server_is_added_where_nobody_names_it(text: str | None) -> None:
    assert parse_conda_file(text).requirements[-1] == "azureml-inference-server-http"


def test_azureml_defaults_brings_the_server() -> None:
    assert parse_conda_file("dependencies: [{pip: [azureml-defaults]}]").requirements == ("azureml-defaults",)


@pytest.mark.parametrize("entry", ["python=3.9", "python==3.9", "python == 3.9.15", "python>=3.9,<4", "python ~=3.9"])
def test_the_wanted_python_is_read_in_every_spelling(entry: str) -> None:
    assert parse_conda_file(f"dependencies: ['{entry}']").python_version == "3.9"


@pytest.mark.parametrize("text", ["a: [", "- list", "dependencies: text", "dependencies: [[1]]"])
def test_what_is_no_conda_file(text: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        parse_conda_file(text)
    assert caught.value.code == "InvalidCondaFile"


def test_the_cache_knows_content_and_python_apart_from_order() -> None:
    assert environment_hash(("a", "b"), "3.11.1") == environment_hash(("b", "a"), "3.11.1")
    assert environment_hash(("a", "b"), "3.11.1") != environment_hash(("a", "b"), "3.11.2")
    assert environment_hash(("a", "b"), "3.11.1") != environment_hash(("a",), "3.11.1")


def test_a_python_that_is_not_there_is_replaced_and_said_so() -> None:
    python, version, notes = asyncio.run(find_python("3.1"))
    assert python == sys.executable and version == ".".join(map(str, sys.version_info[:3]))
    assert "python 3.1: not found" in notes[0]
    assert asyncio.run(find_python(None))[2] == ()


def test_builds_are_cached_locked_and_never_half_used(tmp_path: Path) -> None:
    """An empty requirement list keeps pip off the network: what is tested is the cache."""

    async def build_twice() -> list[Path]:
        children = Children("test", ProcessTable(tmp_path / "processes.json"))
        spec = EnvironmentSpec(None, (), ())
        cache = tmp_path / "cache"
        torn = cache / environment_hash((), ".".join(map(str, sys.version_info[:3])))
        torn.mkdir(parents=True)
        (torn / "rest-of-an-interrupted-build").touch()
        built = await asyncio.gather(*(ensure_environment(spec, cache, children, os.environ) for _ in range(2)))
        assert not (torn / "rest-of-an-interrupted-build").exists()
        return [environment.python for environment in built]

    first, second = asyncio.run(build_twice())
    assert first == second and first.exists()
    assert not (tmp_path / "cache" / "x").exists()


def test_certificates_are_made_once_private_and_for_loopback(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert ensure_tls(tmp_path) == files
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    for path in (tmp_path / "ca.key", files.key, files.combined):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def meet(host: str) -> None:
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(files.certificate, files.key)
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        context = ssl.create_default_context(cafile=str(files.ca))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        writer.close()
        server.close()

    for host in ("127.0.0.1", "localhost"):
        asyncio.run(meet(host))
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(meet("example.org"))


def test_the_bundle_holds_the_hosts_authorities_and_ours_once(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path)
    host = tmp_path / "host.pem"
    host.write_bytes(files.certificate.read_bytes())
    bundle = tmp_path / "bundle.pem"
    # A shell that was pointed at a plane names that plane's bundle.
    for environ in ({"SSL_CERT_FILE": str(host)}, {"SSL_CERT_FILE": str(host), "REQUESTS_CA_BUNDLE": str(bundle)}):
        write_bundle(bundle, files.ca, environ)
        assert bundle.read_bytes().count(b"BEGIN CERTIFICATE") == 2
        assert files.ca.read_bytes() in bundle.read_bytes()
