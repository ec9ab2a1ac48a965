"""A certificate authority of the tests' own."""

from __future__ import annotations

import ipaddress
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NUMBERS = itertools.count()
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Pair(NamedTuple):
    """A certificate with its chain, and its key: two files."""

    cert: Path
    key: Path

    @property
    def combined(self) -> Path:
        """Both in one file."""
        path = self.cert.with_suffix(".both.pem")
        path.write_bytes(self.key.read_bytes() + self.cert.read_bytes())
        return path

    @property
    def config(self) -> dict[str, str]:
        return {"cert_file": str(self.cert), "key_file": str(self.key)}


class Authority:
    """Signs certificates. ``file`` is its own, for whoever is to trust it."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self.folder = folder
        self._key = _key("EC")
        self._name = _name(name)
        self._certificate = (
            _builder(self._name, self._key, 30, -1)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"authority-{next(_NUMBERS)}.crt"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        *names: str,
        subject: str | x509.Name = "",
        kind: str = "EC",
        days: float = 20,
        since: float = -1,
        san: bool = True,
        extra: bytes = b"",
    ) -> Pair:
        """A certificate for DNS names and IP addresses.

        :param subject: its common name; the first name by default
        :param days: until it expires; negative: it has
        :param since: days from now when it begins to be valid
        :param san: put the names into the extension where they belong
        :param extra: more of a chain, in PEM
        """
        key = _key(kind)
        whole = _name(subject or names[0]) if isinstance(subject, str) else subject
        builder = _builder(whole, key, days, since).issuer_name(self._name)
        if san and names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _write(self.folder, certificate, key, extra)


def self_signed(folder: Path, name: str) -> Pair:
    """A certificate that vouches for itself."""
    key = _key("EC")
    whole = _name(name)
    builder = _builder(whole, key, 20, -1).issuer_name(whole)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name)]), False)
    return _write(folder, builder.sign(key, hashes.SHA256()), key, b"")


def _write(folder: Path, certificate: x509.Certificate, key: _Key, extra: bytes) -> Pair:
    stem = f"certificate-{next(_NUMBERS)}"
    pair = Pair(folder / f"{stem}.crt", folder / f"{stem}.key")
    pair.cert.write_bytes(certificate.public_bytes(Encoding.PEM) + extra)
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair


def _key(kind: str) -> _Key:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, key: _Key, days: float, since: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begin = now + timedelta(days=min(since, days - 1))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + timedelta(days=days))
    )
