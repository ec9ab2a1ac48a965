"""What a filter is told about the exchange it looks at.

Rule of this file: filters see an exchange through this object only. What may be changed says so; the rest is to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from balance.codec.edited import check_target
from balance.errors import ExchangeError
from balance.interfaces import ICandidate
from balance.model import RequestHead, ResponseHead

T = TypeVar("T")


class ExchangeView(Protocol):
    """What is read of an exchange: `balance.http.exchange.Exchange` is one."""

    request: RequestHead
    client_ip: str
    status: int
    reason: str
    attempts: int
    body_in: int
    body_out: int
    started: float
    client: Any
    proxy: Any
    route: Any
    backend: Any
    last_backend: Any


class Context:
    """One exchange, from its beginning to its end; every filter that sees it gets the same object.

    :ivar request: the request as the client sent it. `request_head` may edit its ``headers``, and its target with
        `rewrite`. Routes' own edits (`request_headers`) come after that
    :ivar response: head of the response, from `response_head` on; None before
    :ivar error: what ended the exchange badly, or None
    """

    __slots__ = ("_exchange", "_states", "error", "request", "response")

    def __init__(self, exchange: ExchangeView) -> None:
        self._exchange = exchange
        self._states: dict[type[Any], Any] | None = None
        self.request = exchange.request
        self.response: ResponseHead | None = None
        self.error: ExchangeError | None = None

    def rewrite(self, target: bytes) -> None:
        """Ask the backend for something else: path and query, as they stand in a request line.

        :raises ValueError: this is no origin-form (RFC 9112, section 3.2.1)
        """
        check_target(target)
        self.request.target = target
        self.request.path = target.partition(b"?")[0]

    def of(self, kind: type[T]) -> T:
        """A filter's own state for this exchange: the one object of that class, made without arguments when it is
        first asked for.
        """
        if self._states is None:
            self._states = {}
        state = self._states.get(kind)
        if state is None:
            state = self._states[kind] = kind()
        return state

    # --- the client -------------------------------------------------------------------------------------------

    @property
    def client_ip(self) -> str:
        """Address of the client, behind the proxies that are trusted; no port. Empty for a Unix socket."""
        return self._exchange.client_ip

    @property
    def scheme(self) -> str:
        """``http`` or ``https``: how the client's connection reached us."""
        return str(self._exchange.client.forwarding.scheme.decode("ascii"))

    # --- where it goes ----------------------------------------------------------------------------------------

    @property
    def listener(self) -> str:
        """Name of the listener."""
        return str(self._exchange.proxy.name)

    @property
    def route(self) -> str | None:
        """Name of the route; None before there is one (`request_head` of a filter of the listener)."""
        route = self._exchange.route
        return None if route is None else str(route.name)

    @property
    def backend(self) -> str | None:
        """Name of the backend of the latest attempt; None before the first."""
        backend = self._exchange.last_backend
        return None if backend is None else str(backend.name)

    @property
    def backends(self) -> Mapping[str, ICandidate]:
        """Every backend of the listener (where the route has `tls` of its own, of the route), by name: for
        `choose_backends`.
        """
        route = self._exchange.route
        known = (route.connections if route is not None else None) or self._exchange.proxy.connections
        return {backend.name: backend for backend in known}

    @property
    def attempts(self) -> int:
        """How many backends were tried, this one included."""
        return self._exchange.attempts

    # --- how it goes ------------------------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """Status sent to the client; 0 until then."""
        return self._exchange.status

    @property
    def reason(self) -> str:
        """Reason code of the error that ended the exchange (`balance.errors`); empty for a good end."""
        return self._exchange.reason

    @property
    def body_in(self) -> int:
        """Bytes of the request's body that have come so far."""
        return self._exchange.body_in

    @property
    def body_out(self) -> int:
        """Bytes of the response's body that went out so far."""
        return self._exchange.body_out

    @property
    def now(self) -> float:
        """Seconds on the proxy's clock, which only goes forward. (In tests, on the test's clock.)"""
        return float(self._exchange.proxy.clock())

    @property
    def seconds(self) -> float:
        """Since the request head was complete."""
        return max(0.0, self.now - self._exchange.started)
