"""The plane's own certificate authority, its server certificate, and the bundle that trusts both it and the host's."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from azureml_local.files import write_atomic

CA_VALID = dt.timedelta(days=3650)
# Apple's and the browsers' limit for server certificates; nothing gains from a longer one.
SERVER_VALID = dt.timedelta(days=397)
RENEW_BEFORE = dt.timedelta(days=30)
DEBIAN_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class TlsFiles:
    """Where the certificate, its key, and both in one file (HAProxy's form) lie."""

    ca: Path
    certificate: Path
    key: Path
    combined: Path


def ensure_tls(folder: Path) -> TlsFiles:
    """Make the authority and the server certificate where they are missing or near their end."""
    ca_path, ca_key_path = folder / "ca.pem", folder / "ca.key"
    files = TlsFiles(ca_path, folder / "server.pem", folder / "server.key", folder / "server-combined.pem")
    if not (ca_path.exists() and ca_key_path.exists() and not _ends_soon(ca_path)):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        write_atomic(ca_key_path, _key_pem(ca_key), 0o600)
        write_atomic(ca_path, _make_ca(ca_key).public_bytes(serialization.Encoding.PEM), 0o644)
        files.combined.unlink(missing_ok=True)
    present = files.certificate.exists() and files.key.exists() and files.combined.exists()
    if not present or _ends_soon(files.certificate):
        loaded = serialization.load_pem_private_key(ca_key_path.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{ca_key_path}: not an elliptic-curve key; remove the folder {folder} to start anew")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _make_server(key, x509.load_pem_x509_certificate(ca_path.read_bytes()), loaded)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        write_atomic(files.key, _key_pem(key), 0o600)
        write_atomic(files.certificate, pem, 0o644)
        write_atomic(files.combined, pem + _key_pem(key), 0o600)
    return files


def write_bundle(path: Path, ca: Path, environ: Mapping[str, str]) -> None:
    """Write the host's trusted authorities and ours into one file.

    `REQUESTS_CA_BUNDLE` and `SSL_CERT_FILE` replace the default bundle, so ours alone would cut off everything else.
    """
    host = host_bundle(environ, path)
    write_atomic(path, host.read_bytes().rstrip() + b"\n" + ca.read_bytes(), 0o644)


def host_bundle(environ: Mapping[str, str], own: Path) -> Path:
    """Find the bundle that programs on this host use when nobody points them elsewhere."""
    candidates = [environ.get("REQUESTS_CA_BUNDLE"), environ.get("SSL_CERT_FILE")]
    candidates += [ssl.get_default_verify_paths().cafile, str(DEBIAN_BUNDLE)]
    for candidate in candidates:
        # A shell that was pointed at a plane names a combined bundle: start from the host's again.
        if candidate and os.path.isfile(candidate) and Path(candidate).name != own.name:
            return Path(candidate)
    return Path(certifi.where())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _ends_soon(path: Path) -> bool:
    end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return end - dt.datetime.now(dt.timezone.utc) < RENEW_BEFORE


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _make_ca(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = dt.datetime.now(dt.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "azureml_local certificate authority")])
    # Constrained to loopback: whoever trusts this authority trusts it for nothing else.
    permitted: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
        x509.IPAddress(ipaddress.ip_network("::1/128")),
        x509.DNSName("localhost"),
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + CA_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _make_server(
    key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = dt.datetime.now(dt.timezone.utc)
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.DNSName("localhost"),
        x509.DNSName("*.localhost"),
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "azureml_local")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(min(now + SERVER_VALID, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
