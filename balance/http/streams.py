"""The two ends of an exchange, as the exchange sees them.

Rule of this file: nothing here knows a wire format. An HTTP/1.1 connection, one stream of an HTTP/2 connection, a
request of twisted.web and a test's fake all fit, and any client end goes with any backend end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from balance.codec.forwarding import Forwarding
from balance.errors import ExchangeError
from balance.model import Headers, RequestHead, ResponseHead

if TYPE_CHECKING:
    from balance.net.tls_client import BackendTls
    from balance.pool.backend import Backend


class Line(NamedTuple):
    """What is left of a stream after a switch of protocols: bytes, in both directions.

    ``transport`` is an `EagerConnection`, or has what `balance.net.relay` uses of one. Its ``protocol`` may be set, and
    hears of everything from then on. ``data`` came in behind the head. ``over`` is to be called once, when the
    transport is lost.
    """

    transport: Any
    data: bytes
    over: Callable[[], None]


class ClientStream(Protocol):
    """Where the request comes from and the response goes to. Called by the exchange only.

    It calls back: ``Exchange.begin``, ``request_data``, ``pause_response``, ``resume_response``, ``cancel``.
    """

    forwarding: Forwarding

    def send_informational(self, head: ResponseHead) -> None:
        """Relay a 1xx response."""

    def send_response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        """Send the head and what is at hand of the body; the whole response when ``ended``.

        The exchange is over when it says ``ended``: nothing of it is used after that call.
        """

    def send_data(self, data: bytes) -> None:
        """Send some of the body (not empty)."""

    def send_end(self, trailers: Headers | None) -> None:
        """End the response; the exchange is over."""

    def switch(self, head: ResponseHead) -> Line:
        """Agree to a change of protocols (101, or 200 to an extended CONNECT). The stream is of no use after that."""

    def abort(self, error: ExchangeError) -> None:
        """The response cannot be completed: the client must not take it for complete. The exchange is over.

        :param error: why
        """

    def pause_request(self) -> None:
        """Stop delivering the request body until `resume_request`."""

    def resume_request(self) -> None: ...


class BackendStream(Protocol):
    """Where the request goes to and the response comes from. Called by the exchange only.

    It calls back: ``Exchange.informational``, ``response``, ``response_data``, ``response_end``, ``switched``,
    ``failed``, ``pause_request``, ``resume_request``.
    """

    def start(self, exchange: ExchangeEvents, request: RequestHead, host: bytes, data: bytes, ended: bool) -> None:
        """Send the head and what is at hand of the body; the whole request when ``ended``."""

    def send_data(self, data: bytes) -> None:
        """Send some of the body (not empty)."""

    def send_end(self, trailers: Headers | None) -> None:
        """End the request."""

    def hand_over(self) -> Line:
        """After ``switched``: the connection, or stream, is the caller's from now on."""

    def cancel(self) -> None:
        """Nobody wants the response any more. No callback follows."""

    def pause_response(self) -> None:
        """Stop delivering the response until `resume_response`."""

    def resume_response(self) -> None: ...


class Connecting(Protocol):
    """A stream that somebody waits for."""

    def cancel(self) -> None:
        """Wait no longer: neither callback is called after this."""


class Connections(Protocol):
    """Where the streams to one backend come from."""

    backend: Backend
    #: How it is spoken to; None for clear text.
    tls: BackendTls | None
    #: Keep nothing from now on.
    closing: bool

    @property
    def idle(self) -> int:
        """How many connections wait for work."""

    def take(self) -> BackendStream | None:
        """A stream that can be used now, or None: `dial` for one. Start it at once, or leave it."""

    def dial(self, connected: Callable[[BackendStream], None], failed: Callable[[ExchangeError], None]) -> Connecting:
        """Open a connection within ``timeouts.connect``."""

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""


class ExchangeEvents(Protocol):
    """What a backend stream tells its exchange."""

    def informational(self, head: ResponseHead) -> None: ...

    def response(self, head: ResponseHead, data: bytes, ended: bool) -> None: ...

    def response_data(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers | None) -> None: ...

    def switched(self, head: ResponseHead) -> None:
        """The backend agreed to the change of protocols the request asks for. The head is in HTTP/1.1's terms, also
        where it came as 200 to an extended CONNECT: status 101, a Sec-WebSocket-Accept that fits the request's key.
        """

    def failed(self, error: Exception) -> None: ...

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...
