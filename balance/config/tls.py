"""The `tls` sections: of listeners, and of backends.

Rule of this file: values are checked here, files in `balance.config.tls_files`. The names that Go's crypto/tls has for
versions, cipher suites and client authentication mean the same here.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from functools import cache
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from balance.codec.certificates import printable
from balance.config.section import Section
from balance.config.values import Duration, HostPattern, ProtocolId, edited_name, found, host_pattern, suggestion

_VERSION: Final = re.compile(r"(?:version)?(?:tls)?[ _v]*1[._]?([0-3])", re.IGNORECASE)
#: Go's names, and how they are spelled without case and punctuation.
_CLIENT_AUTH: Final = {
    "none": "none",
    "noclientcert": "none",
    "request": "request",
    "verifyifgiven": "request",
    "verifyclientcertifgiven": "request",
    "requestclientcert": "request",
    "require": "require",
    "requireany": "require",
    "requireanyclientcert": "require",
    "requireandverify": "require",
    "requireandverifyclientcert": "require",
}
#: Where OpenSSL's name is not what the rule of `_from_iana` makes.
_IANA_ODD: Final = {
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
}


def tls_version(value: Any) -> str:
    """``1.2`` or ``1.3``, also as ``TLS1.2``, ``TLSv1.2`` or ``VersionTLS12``."""
    match = None if isinstance(value, bool) else _VERSION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f'{found(value)}; allowed: "1.2", "1.3"')
    if match[1] not in "23":
        raise ValueError(f'{found(value)}; TLS 1.{match[1]} is not safe any more and not spoken; allowed: "1.2", "1.3"')
    return f"1.{match[1]}"


def client_auth(value: Any) -> str:
    """``none``, ``request`` or ``require``; Go's names as well."""
    known = _CLIENT_AUTH.get(re.sub(r"[^a-z]", "", value.lower())) if isinstance(value, str) else None
    if known is None:
        allowed = ("none", "request", "require")
        raise ValueError(f"{found(value)}; allowed: {', '.join(allowed)}{suggestion(value, allowed)}")
    return known


def cipher_suite(value: Any) -> str:
    """A suite's name in OpenSSL; IANA's names, which Go uses, are understood."""
    known = _suites()
    if isinstance(value, str):
        name = value.strip()
        if name in known:
            return name
        translated = _from_iana(name)
        if translated in known:
            return translated
        close = suggestion(name.upper(), [*known, *_iana_names()])
        if translated != name:
            raise ValueError(f"{found(value)}; OpenSSL here has no {translated}{close}")
        raise ValueError(f"{found(value)}; no cipher suite of OpenSSL has that name{close}")
    raise ValueError(f"{found(value)}; the name of a cipher suite is needed")


@cache
def _suites() -> frozenset[str]:
    """What this OpenSSL would speak."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:!aNULL:!eNULL")
    return frozenset(each["name"] for each in context.get_ciphers())


def _iana_names() -> list[str]:
    kinds = ("ECDHE_RSA", "ECDHE_ECDSA", "DHE_RSA", "RSA")
    names = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256", "AES_128_CBC_SHA256")
    return [f"TLS_{kind}_WITH_{name}" for kind in kinds for name in names]


def _from_iana(name: str) -> str:
    """``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`` is ``ECDHE-RSA-AES128-GCM-SHA256``."""
    name = name.upper()
    exchange, separator, cipher = name.removeprefix("TLS_").partition("_WITH_")
    if name in _IANA_ODD or not separator:
        return _IANA_ODD.get(name, name)
    cipher = re.sub(r"(AES|CAMELLIA|ARIA)_(\d+)", r"\1\2", cipher).replace("_CBC", "").replace("_", "-")
    cipher = cipher.replace("CHACHA20-POLY1305-SHA256", "CHACHA20-POLY1305")
    return cipher if exchange == "RSA" else f"{exchange.replace('_', '-')}-{cipher}"


def client_header(value: Any) -> str:
    """The name of a field that we set; empty for none."""
    return "" if value == "" else edited_name(value)


def subject(value: Any) -> str:
    """The subject of a certificate, as RFC 4514 writes it."""
    if not isinstance(value, str) or (value and "=" not in value):
        raise ValueError(f"{found(value)}; a subject is needed, such as CN=client,O=Example")
    return printable(value)


def fingerprint(value: Any) -> str:
    """SHA-256 of a certificate, as OpenSSL and browsers show it; kept as 64 lower-case digits."""
    digits = re.sub(r"[:\s]", "", value).lower() if isinstance(value, str) else ""
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(f"{found(value)}; a SHA-256 fingerprint is needed: 64 hexadecimal digits, in quotes")
    return digits


def server_name(value: Any) -> str:
    """A host name, or an IP address, to ask a backend for."""
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else host_pattern(value)
    except ValueError:
        name = host_pattern(value)
    if name.startswith(("*", "[")):
        raise ValueError(f"{found(value)}; a host name is needed")
    return name


def backend_tls(value: Any) -> Any:
    """``true`` is TLS with every default, ``false`` is none."""
    return {"enabled": value} if isinstance(value, bool) else value


TlsVersion = Annotated[Literal["1.2", "1.3"], BeforeValidator(tls_version)]
ClientAuth = Annotated[Literal["none", "request", "require"], BeforeValidator(client_auth)]
CipherSuite = Annotated[str, BeforeValidator(cipher_suite)]
ServerName = Annotated[str, BeforeValidator(server_name)]
ClientHeader = Annotated[str, BeforeValidator(client_header)]


class CertificateConfig(Section):
    """A certificate, and the names it is served for."""

    cert_file: str = Field(
        min_length=1, description="PEM: the certificate, then its chain.", examples=["tls/api.example.com.crt"]
    )
    key_file: str = Field(default="", description="PEM: its private key; `cert_file` may hold it, too.")
    domains: tuple[HostPattern, ...] = Field(
        default=(),
        description="Server names: `a.example.com`, or `*.example.com` for every name below. Empty: those in "
        "the certificate.",
        examples=[["api.example.com"]],
    )
    default: bool = Field(
        default=False,
        description="Served to clients that ask for another name, or for none. Without one: the first certificate.",
    )

    @property
    def key(self) -> str:
        """Where the private key is."""
        return self.key_file or self.cert_file


class ClientHeaders(Section):
    """Fields that tell backends about the certificate of a client. They are taken out of what clients send, on every
    listener, under every spelling. An empty name: that one is not sent."""

    subject: ClientHeader = Field(default="X-Client-Cert-Subject", description="Its subject, as in RFC 4514.")
    fingerprint: ClientHeader = Field(default="X-Client-Cert-Fingerprint", description="Its SHA-256, in hex.")
    verified: ClientHeader = Field(
        default="X-Client-Cert-Verified", description="`true`; `false` of a client without a certificate."
    )


class TlsConfig(Section):
    """TLS with clients. Paths are relative to the folder of this file. Changed files are taken up within seconds."""

    enabled: bool = Field(default=False, description="Speak TLS.")
    cert_file: str = Field(default="", description="PEM: a certificate, then its chain.", examples=["tls/server.crt"])
    key_file: str = Field(default="", description="PEM: its private key.", examples=["tls/server.key"])
    certificates: tuple[CertificateConfig, ...] = Field(
        default=(), description="More certificates, or all of them, chosen by server name (SNI)."
    )
    min_version: TlsVersion = Field(default="1.2", description='`"1.2"` or `"1.3"`.')
    max_version: TlsVersion = Field(default="1.3", description='`"1.2"` or `"1.3"`.')
    cipher_suites: tuple[CipherSuite, ...] = Field(
        default=(),
        description="Those of TLS 1.2, by OpenSSL's names or IANA's. Empty: OpenSSL's good ones. TLS 1.3 has good "
        "ones only, which cannot be chosen from.",
        examples=[["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"]],
    )
    prefer_server_cipher_suites: bool = Field(default=True, description="Our order counts, not the client's.")
    session_tickets_disabled: bool = Field(default=False, description="No tickets: clients resume no session.")
    alpn_protocols: tuple[ProtocolId, ...] = Field(
        default=(),
        description="Protocols to offer, the preferred one first. Empty: those that the listener speaks; in `mode: "
        "tcp`, none.",
        examples=[["h2", "http/1.1"]],
    )
    client_auth: ClientAuth = Field(
        default="none",
        description="Certificates of clients: `none`, `request` (verified if one is given), `require`.",
    )
    client_ca_file: str = Field(default="", description="PEM: the authorities that clients' certificates come from.")
    client_headers: ClientHeaders = Field(
        default=ClientHeaders(), description="With `client_auth`: what backends are told."
    )
    handshake_timeout: Duration = Field(default=10.0, gt=0, description="For a handshake, from its first byte on.")
    handshakes_per_turn: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Handshakes that begin, and as many that end, before what is established gets its turn. The fewer, "
        "the less a flood of them keeps requests waiting.",
    )
    max_handshakes: int = Field(
        default=1000,
        ge=0,
        description="Handshakes under way at a time. One more ends the one whose client has been silent longest. 0 is "
        "no limit.",
    )

    @property
    def served(self) -> tuple[CertificateConfig, ...]:
        """Every certificate, in the order of the file."""
        if not self.cert_file:
            return self.certificates
        own = CertificateConfig(cert_file=self.cert_file, key_file=self.key_file)
        return (own, *self.certificates)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it is made from."""
        pairs = [path for each in self.served for path in (each.cert_file, each.key)]
        return (*pairs, *([self.client_ca_file] if self.client_auth != "none" else []))


class BackendTlsConfig(Section):
    """TLS with a backend. `tls: true` is all defaults: the chain and the host name are verified."""

    enabled: bool = Field(default=True, description="Speak TLS.")
    verify: bool = Field(
        default=True,
        description="Verify the backend's certificate: chain, validity, and name. Without it, anybody on the way can "
        "take the backend's place.",
    )
    ca_file: str = Field(default="", description="PEM: the authorities to trust. Empty: the system's.")
    server_name: ServerName = Field(
        default="",
        description="The name to send (SNI) and to verify. Empty: the host of the backend's address.",
        examples=["api.internal.example"],
    )
    cert_file: str = Field(default="", description="PEM: our certificate, for backends that ask for one.")
    key_file: str = Field(default="", description="PEM: its private key; `cert_file` may hold it, too.")
    min_version: TlsVersion = Field(default="1.2", description='`"1.2"` or `"1.3"`.')
    max_version: TlsVersion = Field(default="1.3", description='`"1.2"` or `"1.3"`.')
    cipher_suites: tuple[CipherSuite, ...] = Field(default=(), description="As for listeners.")

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it is made from."""
        return (self.ca_file, self.cert_file, self.key_file)


Subject = Annotated[str, BeforeValidator(subject)]
Fingerprint = Annotated[str, BeforeValidator(fingerprint)]
BackendTlsValue = Annotated[BackendTlsConfig | None, BeforeValidator(backend_tls)]
