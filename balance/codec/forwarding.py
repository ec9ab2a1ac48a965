"""What a reverse proxy tells backends about clients: X-Forwarded-*, X-Real-IP, Forwarded (RFC 7239), Via.

Rule of this file: nothing an untrusted peer says about itself reaches a backend. What a trusted peer says is kept and
added to, and the client is the last address of the chain that no trusted proxy vouches for, read from right to left.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from balance.codec.http1.grammar import FORWARDED_NAMES
from balance.model import Headers, RequestHead

if TYPE_CHECKING:
    from balance.codec.certificates import PeerCertificate

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_VIA_NAME: Final = b"balance"

#: What routes may ask of a client (`balance.routing.rule`): nothing but a verified certificate tells anything.
_ANONYMOUS: Final = frozenset({b":client-verified:false"})


class CertificateFields:
    """Names of the fields that tell a backend about a client's certificate; an empty one is not sent."""

    __slots__ = ("fingerprint", "subject", "verified")

    def __init__(self, subject: str, fingerprint: str, verified: str) -> None:
        self.subject = subject.encode("ascii")
        self.fingerprint = fingerprint.encode("ascii")
        self.verified = verified.encode("ascii")

    @property
    def names(self) -> Collection[bytes]:
        """All of them, lower case."""
        return [name.lower() for name in (self.subject, self.fingerprint, self.verified) if name]

    def of(self, certificate: PeerCertificate | None) -> list[tuple[bytes, bytes]]:
        """The fields for one client."""
        fields = [(self.verified, b"false" if certificate is None else b"true")]
        if certificate is not None:
            fields += [
                (self.subject, certificate.subject.encode("ascii")),
                (self.fingerprint, certificate.fingerprint.encode("ascii")),
            ]
        return [field for field in fields if field[0]]


class ForwardingRules:
    """The rules of one listener.

    :param trusted: peers whose forwarded fields are believed
    :param forwarded: send `Forwarded` too
    :param via: add to `Via`, in both directions
    :param certificate: tell backends about clients' certificates; None where clients are not asked for any
    :param private: fields that no client may send, whoever it is (lower case, with hyphens)
    """

    def __init__(
        self,
        trusted: Sequence[Network] = (),
        *,
        forwarded: bool = False,
        via: bool = False,
        certificate: CertificateFields | None = None,
        private: Collection[bytes] = (),
    ) -> None:
        self._trusted = tuple(trusted)
        self.forwarded = forwarded
        self.via = via
        self.certificate = certificate
        self.private = frozenset(private)

    def trusts(self, address: str) -> bool:
        """Whether that address (text of an IP address) belongs to a trusted proxy."""
        if not self._trusted:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if parsed.version == 6 and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._trusted)

    def for_peer(self, address: str, scheme: bytes, certificate: PeerCertificate | None = None) -> Forwarding:
        """The rules as they apply to one client connection.

        :param certificate: the client's, verified
        """
        return Forwarding(self, address, scheme, certificate)


class Forwarding:
    """Edits the request heads of one connection. The fields of an untrusted peer are the same for every request to
    the same host, so they are made once.
    """

    __slots__ = ("_certificate", "_host", "_lines", "_names", "_rules", "_trusted", "address", "facts", "scheme")

    def __init__(
        self, rules: ForwardingRules, address: str, scheme: bytes, certificate: PeerCertificate | None = None
    ) -> None:
        self._rules = rules
        self.address = address
        self.scheme = scheme
        self._trusted = rules.trusts(address)
        self._certificate = rules.certificate.of(certificate) if rules.certificate is not None else []
        #: What routes may ask of the client.
        self.facts = _ANONYMOUS if certificate is None else _facts(certificate)
        self._host: bytes | None = None
        self._lines: list[bytes] = []
        self._names: list[bytes] = []

    def apply(self, head: RequestHead) -> str:
        """Set the fields on ``head``; returns the client's address (text, no port)."""
        headers = head.headers
        if self._rules.private:
            _remove_private(head, self._rules.private)
        if head.has_forwarded:
            if self._trusted:
                return self._append(head)
            _remove_forwarded(headers)
        if head.host != self._host:
            self._host = head.host
            made = self._fields(head.host)
            self._lines = made.lines
            self._names = made.names
        headers.lines += self._lines
        headers.names += self._names
        if self._rules.via:
            add_via(headers, head.version)
        return self.address

    def _fields(self, host: bytes) -> Headers:
        address = self.address.encode() or b"unknown"
        fields = Headers.of((b"X-Forwarded-For", address), (b"X-Forwarded-Proto", self.scheme), (b"X-Real-IP", address))
        if host:
            fields.add(b"X-Forwarded-Host", host)
        if self._rules.forwarded:
            fields.add(b"Forwarded", self._element(host))
        for name, value in self._certificate:
            fields.add(name, value)
        return fields

    def _append(self, head: RequestHead) -> str:
        """A trusted proxy stands in front of us: keep what it said, and add it to the chain."""
        headers = head.headers
        hops = b",".join(headers.get_all(b"x-forwarded-for")).split(b",")
        chain = [hop for hop in (hop.strip(b" 	") for hop in hops) if hop]
        client = self._client(chain)
        headers.set(b"X-Forwarded-For", b", ".join([*chain, self.address.encode() or b"unknown"]))
        headers.set(b"X-Real-IP", client.encode())
        if head.host and b"x-forwarded-host" not in headers.names:
            headers.add(b"X-Forwarded-Host", head.host)
        if b"x-forwarded-proto" not in headers.names:
            headers.add(b"X-Forwarded-Proto", self.scheme)
        if self._rules.forwarded:
            elements = headers.get_all(b"forwarded")
            headers.set(b"Forwarded", b", ".join([*elements, self._element(head.host)]))
        for name, value in self._certificate:
            headers.add(name, value)
        if self._rules.via:
            add_via(headers, head.version)
        return client

    def _client(self, chain: list[bytes]) -> str:
        client = self.address
        for hop in reversed(chain):
            address = _hop_address(hop)
            if address is None:
                break  # unreadable: believe nothing to the left of it
            client = address
            if not self._rules.trusts(address):
                break
        return client

    def _element(self, host: bytes) -> bytes:
        """One element of `Forwarded`; an IPv6 address or a port makes a value need quotes (RFC 7239, section 4)."""
        address = self.address.encode() or b"unknown"
        node = b'"[' + address + b']"' if b":" in address else address
        element = b"for=" + node
        if host:
            element += b';host="' + host + b'"'
        return element + b";proto=" + self.scheme


def add_via(headers: Headers, version: int) -> None:
    """Add ourselves to `Via` (RFC 9110, section 7.6.3)."""
    hop = (b"2" if version == 20 else b"1.%d" % (version - 10)) + b" " + _VIA_NAME
    headers.set(b"Via", b", ".join([*headers.get_all(b"via"), hop]))


def _facts(certificate: PeerCertificate) -> frozenset[bytes]:
    subject, fingerprint = certificate.subject.encode("ascii"), certificate.fingerprint.encode("ascii")
    return frozenset({b":client-verified:true", b":client-subject:" + subject, b":client-fingerprint:" + fingerprint})


def _remove_private(head: RequestHead, private: frozenset[bytes]) -> None:
    """WSGI and CGI read X_Client_Cert as X-Client-Cert, so both are taken out."""
    headers = head.headers
    if not private.isdisjoint(headers.names) or head.has_underscore:
        for name in set(headers.names):
            if name.replace(b"_", b"-") in private:
                headers.remove(name)


def _remove_forwarded(headers: Headers) -> None:
    for name in set(headers.names):
        if name.replace(b"_", b"-") in FORWARDED_NAMES:
            headers.remove(name)


def _hop_address(hop: bytes) -> str | None:
    """The address in an element of X-Forwarded-For, which some proxies write with a port."""
    text = hop.decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
