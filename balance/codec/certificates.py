"""What a certificate says: names, validity, kind of key; and whether a private key belongs to it.

Rule of this file: bytes in, facts out. Files, sockets and TLS itself are somebody else's; whether a chain can be
trusted is decided by OpenSSL alone, during handshakes.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_KINDS: Final = (
    (rsa.RSAPublicKey, "RSA"),
    (ec.EllipticCurvePublicKey, "EC"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (ed448.Ed448PublicKey, "Ed448"),
    (dsa.DSAPublicKey, "DSA"),
)


class BadCertificate(ValueError):
    """A certificate or key that cannot be used; the text says why.

    ``of_key``: the private key is at fault, not the certificate.
    """

    def __init__(self, text: str, *, of_key: bool = False) -> None:
        super().__init__(text)
        self.of_key = of_key


class CertificateFacts(NamedTuple):
    """``names`` are lower-case DNS names, wildcards included: the subject's alternative names, or, where there are
    none, its common name. ``not_before`` and ``not_after`` are seconds since 1970.
    """

    names: tuple[str, ...]
    not_before: float
    not_after: float
    kind: str
    subject: str
    serial: str


class PeerCertificate(NamedTuple):
    """A client's certificate, whose chain OpenSSL has verified.

    ``subject`` as in RFC 4514, in printable ASCII (`printable`); ``fingerprint`` is the SHA-256 of all of it, in
    lower-case hex.
    """

    subject: str
    fingerprint: str

    @classmethod
    def of(cls, der: bytes) -> PeerCertificate:
        """
        :raises ValueError: it has parts that nobody can read
        """
        return cls(_subject(x509.load_der_x509_certificate(der)), hashlib.sha256(der).hexdigest())


def read_certificate(pem: bytes, key_pem: bytes) -> CertificateFacts:
    """The facts about the first certificate of a file, which is the server's own; the others are its chain.

    :param key_pem: its private key
    :raises BadCertificate: either is no PEM, or is of an unknown kind, or they do not belong together
    """
    certificate = _first(pem)
    public = certificate.public_key()
    try:
        key = load_pem_private_key(key_pem, None)
    except TypeError:
        raise BadCertificate("the private key is encrypted; Balance has no password for it", of_key=True) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificate("there is no private key in PEM that can be read", of_key=True) from None
    if _raw(key.public_key()) != _raw(public):
        raise BadCertificate("the private key does not belong to the certificate", of_key=True)
    return CertificateFacts(
        _names(certificate),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        next((name for kind, name in _KINDS if isinstance(public, kind)), "unknown"),
        _subject(certificate),
        f"{certificate.serial_number:x}",
    )


def check_authorities(pem: bytes) -> None:
    """
    :raises BadCertificate: OpenSSL finds not one certificate in it
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise BadCertificate("there is no certificate in PEM that can be read") from None


def _first(pem: bytes) -> x509.Certificate:
    """The others are for OpenSSL, which is less strict with what others have signed."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        what = "a certificate that cannot be read" if _BEGIN in pem else "no certificate in PEM"
        raise BadCertificate(f"there is {what}") from None
    try:
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificate("the kind of its key is not known") from None
    return certificate


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(each.value) for each in common]
    return tuple(dict.fromkeys(name.lower().removesuffix(".") for name in names if name.isascii()))


def _subject(certificate: x509.Certificate) -> str:
    return printable(certificate.subject.rfc4514_string())


def printable(subject: str) -> str:
    """A subject as a field value may have it: everything but printable ASCII as RFC 4514 escapes it (``\\C3\\A9``)."""
    if subject.isascii() and subject.isprintable():
        return subject
    plain = (c if c.isascii() and c.isprintable() else "".join(f"\\{byte:02X}" for byte in c.encode()) for c in subject)
    return "".join(plain)


def _raw(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
