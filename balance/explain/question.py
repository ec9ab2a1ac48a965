"""What is asked.

Rule of this file: a question is turned into the bytes a client would send, and those are read by the server's own
parser: what that refuses is refused here, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from balance.codec.client_hello import ClientHello
from balance.errors import BalanceError

_SCHEMES: Final = ("http", "https", "ws", "wss", "tcp", "tls")
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
#: Left as they are in a target; everything else that no target may hold is percent-encoded, as browsers do.
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~-._"


class BadQuestion(BalanceError):
    """The question cannot be understood."""


@dataclass(frozen=True)
class Question:
    """A request that nobody has sent.

    :ivar url: ``http://host[:port]/path?query``, or a path; of mode tcp ``tls://server-name`` or ``tcp://``
    :ivar headers: (name, value); a Host among them wins over the URL's
    :ivar client: IP address it comes from
    :ivar listener: name (or address) of the listener; empty: the one that fits the URL
    :ivar alpn: protocols that a TLS client offers (mode tcp)
    """

    url: str
    method: str = "GET"
    headers: Sequence[tuple[str, str]] = ()
    client: str = "192.0.2.1"
    listener: str = ""
    alpn: Sequence[str] = ()

    def __post_init__(self) -> None:
        """
        :raises BadQuestion: the URL or the client's address cannot be understood
        """
        try:
            ipaddress.ip_address(self.client)
        except ValueError:
            raise BadQuestion(f"{self.client!r} is not an IP address") from None
        if self.url.startswith("/"):
            return
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError as error:
            raise BadQuestion(f"{self.url!r}: {error}") from None
        if parts.scheme not in _SCHEMES:
            raise BadQuestion(
                f"{self.url!r} is neither a path nor a URL; a URL begins with {', '.join(_SCHEMES)} and ://"
            )
        if not parts.netloc and parts.scheme != "tcp":
            raise BadQuestion(f"{self.url!r} names no host")

    @property
    def scheme(self) -> str:
        """Of the URL; empty for a path."""
        return "" if self.url.startswith("/") else urlsplit(self.url).scheme

    @property
    def port(self) -> int:
        """Of the URL, or its scheme's; 0 where nothing tells."""
        if self.url.startswith("/"):
            return 0
        return urlsplit(self.url).port or _PORTS.get(self.scheme, 0)

    @property
    def layer4(self) -> bool:
        """Whether it asks about a connection."""
        return self.scheme in ("tcp", "tls")

    @property
    def authority(self) -> str:
        """What goes into Host."""
        if self.url.startswith("/"):
            return "localhost"
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def target(self) -> str:
        """What goes into the request line."""
        parts = urlsplit(self.url)
        path = parts.path if parts.path.startswith("/") else "/" + parts.path
        return quote(path + (f"?{parts.query}" if parts.query else ""), safe=_SAFE)

    def block(self) -> bytes:
        """The request head as bytes, without the empty line."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.append(f"Host: {self.authority}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        try:
            return "\r\n".join(lines).encode("latin-1")
        except UnicodeEncodeError as error:
            raise BadQuestion(f"{error.object[error.start : error.end]!r} cannot stand in a request head") from None

    def hello(self) -> ClientHello | None:
        """What a TLS client says first; None for one that does not speak TLS."""
        if self.scheme != "tls":
            return None
        name = urlsplit(self.url).hostname or ""
        return ClientHello(name.lower(), tuple(protocol.encode() for protocol in self.alpn))


def header(text: str) -> tuple[str, str]:
    """``Name: value``, as curl has it.

    :raises BadQuestion: there is no colon
    """
    name, colon, value = text.partition(":")
    if not colon:
        raise BadQuestion(f"{text!r} is not a header field; one looks like 'Name: value'")
    return name.strip(), value.strip()
