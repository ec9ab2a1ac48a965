"""Affinity: which backend a client belongs to, and where the keys of hashing balancers come from.

Rule of this file: what a client sends is a claim, read tolerantly and believed only where it fits. A cookie that nobody
here made names no backend, and a cookie that was made here tells nothing about one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final

from zope.interface import implementer

from balance.interfaces import IAffinity
from balance.model import Headers, RequestHead

#: Makes a key from a request head and the client's address; empty where the request has no such thing.
KeySource = Callable[[RequestHead, str], bytes]

#: Clients a `StickyTable` remembers; about 300 bytes each.
MAX_ENTRIES: Final = 100_000

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_COOKIE_KEY_MAX: Final = 64  # blake2b's limit


def key_source(hash_key: str) -> KeySource:
    """Compile the dialect's `hash_key`.

    :param hash_key: ``source-ip``, ``path`` (without the query), ``header:NAME`` or ``cookie:NAME``
    :raises ValueError: none of these, or NAME is not a token (RFC 9110, section 5.6.2)
    """
    kind, colon, name = hash_key.partition(":")
    kind = kind.strip().lower()
    name = name.strip()
    if not colon and kind == "source-ip":
        return _source_ip
    if not colon and kind == "path":
        return _path
    if kind not in ("header", "cookie"):
        raise ValueError(f"hash_key {hash_key!r}: allowed are source-ip, path, header:NAME and cookie:NAME")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"hash_key {hash_key!r}: {name!r} is not a possible {kind} name")
    if kind == "cookie":
        return _from_cookie(name.encode("ascii"))
    if name.lower() == "host":
        return _host  # the codec keeps Host apart from the other fields
    return _from_header(name.lower().encode("ascii"))


def _source_ip(head: RequestHead, client_ip: str) -> bytes:
    return client_ip.encode("ascii", "replace")


def _path(head: RequestHead, client_ip: str) -> bytes:
    return head.path


def _host(head: RequestHead, client_ip: str) -> bytes:
    return head.host.lower()


def _from_header(name: bytes) -> KeySource:
    def read(head: RequestHead, client_ip: str) -> bytes:
        return head.headers.get(name) or b""

    return read


def _from_cookie(name: bytes) -> KeySource:
    def read(head: RequestHead, client_ip: str) -> bytes:
        return cookie_value(head.headers, name) or b""

    return read


def cookie_value(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first cookie of that name, without quotes, or None (RFC 6265, section 4.2).

    The name has to fit to the byte. Anything that is not a pair is passed over.
    """
    if b"cookie" not in headers.names:
        return None
    start = name + b"="
    for field in headers.get_all(b"cookie"):
        if start not in field:
            continue
        for pair in field.split(b";"):
            pair = pair.strip(b" \t")
            if pair.startswith(start):
                value = pair[len(start) :]
                quoted = len(value) >= 2 and value[:1] == value[-1:] == b'"'
                return value[1:-1] if quoted else value
    return None


@implementer(IAffinity)
class StickyTable:
    """Remembers clients here, by a key of their requests. A client is forgotten when it has been silent for `ttl`.

    :param source: what tells clients apart; a request without a key is not bound
    :param ttl: seconds
    :param now: a clock that only goes forward, in seconds
    :param max_entries: clients remembered at a time; the one silent for longest makes room
    """

    __slots__ = ("_bound", "_max_entries", "_now", "_source", "_ttl")

    def __init__(self, source: KeySource, ttl: float, now: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        if ttl <= 0 or max_entries < 1:
            raise ValueError("ttl and max_entries must be above 0")
        self._source = source
        self._ttl = ttl
        self._now = now
        self._max_entries = max_entries
        #: key -> (backend, when it is forgotten). Every use moves a key to the end, so the first expires first.
        self._bound: dict[bytes, tuple[str, float]] = {}

    def recall(self, head: Any, client_ip: str) -> str | None:
        key = self._source(head, client_ip)
        entry = self._bound.pop(key, None)
        if entry is None:
            return None
        now = self._now()
        if entry[1] <= now:
            return None
        self._bound[key] = (entry[0], now + self._ttl)
        return entry[0]

    def peek(self, head: Any, client_ip: str) -> str | None:
        """What `recall` would say; the client is not remembered any longer for it."""
        name, until = self._bound.get(self._source(head, client_ip), (None, 0.0))
        return name if until > self._now() else None

    def bind(self, head: Any, client_ip: str, backend_name: str) -> bytes | None:
        """Always None: the client has nothing to remember."""
        key = self._source(head, client_ip)
        if key:
            now = self._now()
            self._bound.pop(key, None)
            self._expire(now)
            self._bound[key] = (backend_name, now + self._ttl)
        return None

    def __len__(self) -> int:
        return len(self._bound)

    def _expire(self, now: float) -> None:
        """Make room for one more."""
        bound = self._bound
        while bound:
            oldest = next(iter(bound))
            if bound[oldest][1] > now and len(bound) < self._max_entries:
                break
            del bound[oldest]


@implementer(IAffinity)
class StickyCookie:
    """Lets the client remember, in a cookie of ours.

    The value is a keyed hash of the backend's name (BLAKE2b, RFC 7693): the same after a restart with the same secret,
    and of no use to find out or to guess a name.

    :param name: of the cookie
    :param secret: at least 16 bytes; who knows it can tell which backend a cookie means
    :param backend_names: those that may be recalled
    :param secure: the cookie goes over https only
    :param ttl: seconds until the browser drops it; 0 for the end of its session
    :raises ValueError: the name is not a token, or the secret is too short
    """

    __slots__ = ("_attributes", "_cookies", "_name", "_names", "_secret")

    def __init__(
        self, name: str, secret: bytes, backend_names: Iterable[str], *, secure: bool = False, ttl: float = 0
    ) -> None:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a possible cookie name")
        if len(secret) < 16:
            raise ValueError("the secret of a sticky cookie needs at least 16 bytes")
        self._name = name.encode("ascii")
        attributes = b"; Path=/; HttpOnly; SameSite=Lax"
        if ttl:
            attributes += b"; Max-Age=%d" % max(1, ttl)
        if secure:
            attributes += b"; Secure"
        self._attributes = attributes
        self._secret = secret
        self.set_names(backend_names)

    def set_names(self, backend_names: Iterable[str]) -> None:
        """Those that may be recalled from now on."""
        values = {backend: _keyed_hash(backend, self._secret) for backend in backend_names}
        #: Looked up by hash: bytes are compared only where all of it fits, so time tells nothing about a near miss.
        self._names = {value: backend for backend, value in values.items()}
        self._cookies = {backend: self._name + b"=" + value + self._attributes for backend, value in values.items()}

    def recall(self, head: Any, client_ip: str) -> str | None:
        value = cookie_value(head.headers, self._name)
        return None if value is None else self._names.get(value)

    peek = recall  # nothing is kept here

    def bind(self, head: Any, client_ip: str, backend_name: str) -> bytes | None:
        return self._cookies.get(backend_name)


def _keyed_hash(text: str, secret: bytes) -> bytes:
    if len(secret) > _COOKIE_KEY_MAX:
        secret = blake2b(secret).digest()
    return blake2b(text.encode(), key=secret, digest_size=16, person=b"balance sticky").hexdigest().encode("ascii")
