"""What a route asks for besides its pool, compiled from the configuration once.

Rule of this file: what a route does not ask for costs nothing; `HttpRoute.plain` lets the hot path skip it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from balance.codec.http1.grammar import UNDERSCORE, name_entry
from balance.errors import BadRequest, ContentTooLarge
from balance.model import Headers, RequestHead
from balance.websocket.options import DEFAULT, WebSocketOptions

if TYPE_CHECKING:
    from balance.http.filters import FilterChain
    from balance.http.streams import Connections
    from balance.interfaces import IAffinity
    from balance.pool.backend import Backend
    from balance.pool.pool import Pool

KeySource = Callable[[RequestHead, str], bytes]


class HeaderEdits:
    """Removes, then sets, then adds fields. Names keep the case they were configured with."""

    __slots__ = ("_add", "_remove", "_set")

    def __init__(
        self, set_: Mapping[str, str] | None = None, add: Mapping[str, str] | None = None, remove: Sequence[str] = ()
    ) -> None:
        self._set = tuple((k.encode("latin-1"), v.encode("latin-1")) for k, v in (set_ or {}).items())
        self._add = tuple((k.encode("latin-1"), v.encode("latin-1")) for k, v in (add or {}).items())
        self._remove = tuple(name.encode("latin-1").lower() for name in remove)

    def __bool__(self) -> bool:
        return bool(self._set or self._add or self._remove)

    def listed(self) -> list[tuple[str, str, str]]:
        """Every edit for people, in the order they are made: (``remove``, ``set`` or ``add``; name; value)."""
        removed = [("remove", name.decode("latin-1"), "") for name in self._remove]
        given = [("set", name, value) for name, value in self._set] + [
            ("add", name, value) for name, value in self._add
        ]
        return removed + [(what, name.decode("latin-1"), value.decode("latin-1")) for what, name, value in given]

    def apply(self, headers: Headers) -> None:
        for name in self._remove:
            headers.remove(name)
        for name, value in self._set:
            headers.set(name, value)
        for name, value in self._add:
            headers.add(name, value)


class HttpRoute:
    """The target of a routing rule.

    :param key: makes the balancer's key from a request; None where the algorithm needs none
    :param affinity: remembers which backend a client belongs to; None for no affinity
    :param host: Host field to send: empty for the client's own, ``"backend"`` for the backend's address, or a literal
    :param underscore_headers: ``pass``, ``drop`` or ``refuse`` fields whose names have an underscore
    :param connections: how its backends are reached, where that differs from how the listener does
    :param max_body: bytes a request body may have; 0 for no limit
    :param websocket: what becomes of requests that ask for it
    :param filters: what plugins do to its exchanges; None for nothing
    """

    __slots__ = (
        "affinity",
        "connections",
        "filters",
        "host",
        "host_is_backend",
        "key",
        "max_body",
        "name",
        "plain",
        "pool",
        "request_edits",
        "requests",
        "response_edits",
        "strict",
        "underscore_headers",
        "websocket",
    )

    def __init__(
        self,
        name: str,
        pool: Pool,
        *,
        key: KeySource | None = None,
        affinity: IAffinity | None = None,
        request_edits: HeaderEdits | None = None,
        response_edits: HeaderEdits | None = None,
        host: str = "",
        underscore_headers: str = "pass",
        max_body: int = 0,
        websocket: WebSocketOptions = DEFAULT,
        filters: FilterChain | None = None,
        connections: Mapping[Backend, Connections] | None = None,
    ) -> None:
        self.name = name
        self.pool = pool
        self.key = key
        self.affinity = affinity
        self.request_edits = request_edits or None
        self.response_edits = response_edits or None
        self.host_is_backend = host == "backend"
        self.host = b"" if self.host_is_backend else host.encode("ascii")
        self.underscore_headers = underscore_headers
        self.max_body = max_body
        self.websocket = websocket
        self.connections = connections
        self.filters = filters
        #: `admit` has something to do.
        self.strict = bool(self.request_edits or max_body or underscore_headers != "pass")
        self.plain = not (self.strict or filters)
        self.requests = 0

    def authority(self, request: RequestHead, backend: Backend) -> bytes:
        """The Host field that the backend is sent. (`Exchange.connected` has it inline; a test holds them together.)"""
        return backend.authority if self.host_is_backend else self.host or request.host or backend.authority

    def admit(self, request: RequestHead) -> None:
        """Check and edit a request; only called where the route is `strict`.

        :raises ContentTooLarge: the body is known to be larger than allowed
        :raises BadRequest: a field name with an underscore, where the route refuses them
        """
        if self.max_body and request.length > self.max_body:
            raise ContentTooLarge
        if request.has_underscore and self.underscore_headers != "pass":
            self._underscores(request.headers)
        if self.request_edits is not None:
            self.request_edits.apply(request.headers)

    def _underscores(self, headers: Headers) -> None:
        if self.underscore_headers == "refuse":
            raise BadRequest("a header field name with an underscore")
        for name in set(headers.names):
            entry = name_entry(name)
            if entry is not None and entry[1] == UNDERSCORE:
                headers.remove(name)
