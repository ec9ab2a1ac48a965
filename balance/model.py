"""Values that every layer shares. Nothing here decides or does anything.

Rule of this file: a message head holds what is meant end to end. What concerns one connection only (Connection,
Keep-Alive, TE, Upgrade, Transfer-Encoding, Content-Length, Host) is taken out by the codec that read it, kept as
plain attributes, and put back by the codec that writes it. So no code in between can forward it by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

#: ``length`` of a message whose body is chunked on HTTP/1.1 or ended by END_STREAM on HTTP/2.
CHUNKED: Final = -1
#: ``length`` of a response whose body ends with the connection (RFC 9112, section 6.3, rule 8).
UNTIL_CLOSE: Final = -2
#: ``length`` of a response that has no body whatever its fields say: to HEAD, 1xx, 204, 304.
NO_BODY: Final = -3

HTTP10: Final = 10
HTTP11: Final = 11
HTTP2: Final = 20


class Address(NamedTuple):
    """Where a peer listens: TCP host and port, or a path when it is a Unix socket (``host`` is then empty)."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Discovered(NamedTuple):
    """A backend that a discovery found.

    ``name`` is unique among what that discovery finds, and stays the same as long as it is the same server.
    """

    name: str
    address: Address
    weight: int = 1
    max_connections: int = 0


NO_NAMES: Final[frozenset[bytes]] = frozenset()


class Headers:
    """Ordered header fields: lower-case names beside the lines they came in.

    ``names[i]`` is the lower-case name of ``lines[i]``, a whole ``b"Name: value"`` line without its end. An unchanged
    field is forwarded as the very bytes that arrived; a lookup compares names, which are few.
    """

    __slots__ = ("lines", "names", "secret")

    def __init__(self, names: list[bytes] | None = None, lines: list[bytes] | None = None) -> None:
        self.names: list[bytes] = [] if names is None else names
        self.lines: list[bytes] = [] if lines is None else lines
        #: Names of fields, pseudo-header fields among them, that came as never to be indexed (RFC 7541, section 6.2.3).
        self.secret: frozenset[bytes] = NO_NAMES

    @classmethod
    def of(cls, *fields: tuple[bytes, bytes]) -> Headers:
        """Build from (name, value) pairs."""
        headers = cls()
        for name, value in fields:
            headers.add(name, value)
        return headers

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field called ``name`` (lower case), or None."""
        if name in self.names:
            return self._value(self.names.index(name))
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of every field called ``name`` (lower case), in order."""
        if name not in self.names:
            return []
        return [self._value(i) for i, known in enumerate(self.names) if known == name]

    def add(self, name: bytes, value: bytes) -> None:
        """Append a field. The caller vouches for its bytes."""
        self.names.append(name.lower())
        self.lines.append(name + b": " + value)

    def set(self, name: bytes, value: bytes) -> None:
        """Replace every field of that name by one."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: bytes) -> None:
        """Drop every field of that name."""
        name = name.lower()
        if name in self.names:
            kept = [i for i, known in enumerate(self.names) if known != name]
            self.lines = [self.lines[i] for i in kept]
            self.names = [self.names[i] for i in kept]

    def copy(self) -> Headers:
        headers = Headers(self.names.copy(), self.lines.copy())
        headers.secret = self.secret
        return headers

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """(lower-case name, value) pairs, in order."""
        for i, name in enumerate(self.names):
            yield name, self._value(i)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: bytes) -> bool:
        return name in self.names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"

    def _value(self, index: int) -> bytes:
        return self.lines[index].partition(b":")[2].strip(b" \t")


class RequestHead:
    """A request, without its body.

    ``target`` is what goes on the wire in origin form (``b"/a?b"``, or ``b"*"``); ``path`` is ``target`` up to the
    question mark. ``host`` is the authority as received (``b"Example.com:8080"``), empty only for HTTP/1.0.
    ``length`` is 0, the number of body bytes, or `CHUNKED`.
    """

    __slots__ = (
        "expect_continue",
        "has_forwarded",
        "has_underscore",
        "headers",
        "host",
        "keep_alive",
        "length",
        "method",
        "path",
        "target",
        "te_trailers",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        host: bytes,
        headers: Headers,
        *,
        version: int = HTTP11,
        length: int = 0,
    ) -> None:
        self.method = method
        self.target = target
        self.path = target.partition(b"?")[0]
        self.host = host
        self.headers = headers
        self.version = version
        self.length = length
        #: May another request follow on the client's connection?
        self.keep_alive = True
        self.expect_continue = False
        #: ``TE: trailers`` was sent (RFC 9110, section 10.1.4); gRPC backends insist on it.
        self.te_trailers = False
        #: ``b"websocket"`` when that is wished for, by Upgrade or by an extended CONNECT; empty for everything else.
        self.upgrade = b""
        #: A field of the X-Forwarded-* kind is among ``headers``: the forwarding rules have work to do.
        self.has_forwarded = False
        #: A field name with an underscore is among ``headers``.
        self.has_underscore = False

    def copy(self) -> RequestHead:
        """Another head that holds the same, and may be edited by itself."""
        head = RequestHead.__new__(RequestHead)
        head.method = self.method
        head.target = self.target
        head.path = self.path
        head.host = self.host
        head.headers = self.headers.copy()
        head.version = self.version
        head.length = self.length
        head.keep_alive = self.keep_alive
        head.expect_continue = self.expect_continue
        head.te_trailers = self.te_trailers
        head.upgrade = self.upgrade
        head.has_forwarded = self.has_forwarded
        head.has_underscore = self.has_underscore
        return head

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.host!r} {self.target!r}>"


class ResponseHead:
    """A response, without its body.

    ``length`` is the number of body bytes, `CHUNKED`, `UNTIL_CLOSE` or `NO_BODY`; with the last, ``declared`` is the
    Content-Length that was given all the same (HEAD, 304), or None.
    """

    __slots__ = ("declared", "headers", "keep_alive", "length", "reason", "status", "upgrade", "version")

    def __init__(
        self,
        status: int,
        reason: bytes,
        headers: Headers,
        *,
        version: int = HTTP11,
        length: int = 0,
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.version = version
        self.length = length
        self.declared: int | None = None
        #: May the backend's connection carry another request?
        self.keep_alive = True
        self.upgrade = b""

    def copy(self) -> ResponseHead:
        """Another head that holds the same, and may be edited by itself."""
        head = ResponseHead(self.status, self.reason, self.headers.copy(), version=self.version, length=self.length)
        head.declared = self.declared
        head.keep_alive = self.keep_alive
        head.upgrade = self.upgrade
        return head

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.reason!r}>"
