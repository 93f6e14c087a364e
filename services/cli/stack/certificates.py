"""Certificates for development: an authority of our own, and a pair each for the edge and for a client."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIFETIME = timedelta(days=365)
LEAST_LEFT = timedelta(days=7)
"""Certificates that end sooner are made anew."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Where the files are; each is readable by its owner alone."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> tuple[Path, Path]:
        """The edge's certificate and key."""
        return self.folder / "server.pem", self.folder / "server.key"

    @property
    def client(self) -> tuple[Path, Path]:
        """A client's certificate and key, for an edge that asks for one."""
        return self.folder / "client.pem", self.folder / "client.key"


def ensure_certificates(
    folder: Path, hosts: Sequence[str] = (), *, now: datetime | None = None
) -> Certificates:
    """Those that are there while they last and name the hosts, else new ones.

    Args:
        folder: Where they are kept.
        hosts: Names and addresses of the edge beside those of this machine.
        now: From when they are to last; by default the present.
    """
    now = now or datetime.now(UTC)
    certificates = Certificates(folder=folder)
    names = list(dict.fromkeys((*LOCAL_HOSTS, socket.gethostname(), *hosts)))
    if not _last(certificates, names, now):
        _make(certificates, names, now)
    return certificates


def _last(certificates: Certificates, names: Sequence[str], now: datetime) -> bool:
    (server, server_key), (client, client_key) = certificates.server, certificates.client
    if not all(path.exists() for path in (certificates.authority, server, server_key, client, client_key)):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(server.read_bytes())
    except ValueError:  # cut off, or not ours: made anew
        return False
    named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {str(name.value) for name in named}
    return certificate.not_valid_after_utc - now > LEAST_LEFT and known.issuperset(names)


def _make(certificates: Certificates, names: Sequence[str], now: datetime) -> None:
    certificates.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, now)
    _write(certificates.authority, authority.public_bytes(serialization.Encoding.PEM))
    _write(certificates.folder / "ca.key", _key_pem(authority_key))
    for (path, key_path), purpose, alternatives in (
        (certificates.server, ExtendedKeyUsageOID.SERVER_AUTH, names),
        (certificates.client, ExtendedKeyUsageOID.CLIENT_AUTH, ["quartet-client"]),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _leaf(key, authority, authority_key, purpose, alternatives, now)
        _write(path, certificate.public_bytes(serialization.Encoding.PEM))
        _write(key_path, _key_pem(key))


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _name("Quartet development authority")
    return (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    purpose: x509.ObjectIdentifier,
    alternatives: Sequence[str],
    now: datetime,
) -> x509.Certificate:
    return (
        _builder(_name(alternatives[0]), authority.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_alternative, alternatives)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    unfinished = path.with_suffix(f"{path.suffix}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    unfinished.rename(path)
