"""The backend's side of HTTP/1.x: one connection, used by one exchange at a time.

Rule of this file: a connection goes back to the pool only when request and response both ended where their heads
said. A byte too many, a byte too few, or a doubt: it is closed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.http1 import BodyReader, chunk, last_chunk, parse_response, write_request
from balance.codec.websocket import KEY, check_response, new_key
from balance.errors import (
    BackendReset,
    BackendWriteTimeout,
    BadResponse,
    ExchangeError,
    ResponseTimeout,
    ResponseTooLarge,
    ResponseTruncated,
    StaleConnection,
)
from balance.http.streams import Line
from balance.model import CHUNKED, NO_BODY, Headers, RequestHead, ResponseHead
from balance.net.deadlines import Timed
from balance.net.tls_transport import TlsBroken

if TYPE_CHECKING:
    from balance.http.connections import BackendConnections
    from balance.http.streams import ExchangeEvents
    from balance.net.transport import EagerClient

_HEAD_END: Final = b"\r\n\r\n"


@implementer(IProtocol, IPushProducer)
class Http1Connection(Timed):
    """A `BackendStream` (see `balance.http.streams`) and the protocol of its connection."""

    __slots__ = (
        "_buffer",
        "_chunked",
        "_heard",
        "_key",
        "_lost",
        "_method",
        "_owner",
        "_paused",
        "_pending_seen",
        "_reader",
        "_reusable",
        "_sending",
        "_stalled",
        "exchange",
        "reused",
        "transport",
    )

    def __init__(self, owner: BackendConnections) -> None:
        super().__init__()
        self._owner = owner
        self.transport: EagerClient | None = None
        self.exchange: ExchangeEvents | None = None
        #: Whether an earlier exchange used this connection.
        self.reused = False
        self._buffer = b""
        self._method = b""
        #: Of the WebSocket handshake under way; empty otherwise.
        self._key = b""
        self._reader: BodyReader | None = None
        self._reusable = False
        #: Part of the request is still to come.
        self._sending = False
        self._chunked = False
        #: A byte of the response has come.
        self._heard = False
        self._paused = False
        self._stalled = False
        self._pending_seen = 0
        self._lost = False

    # --- the connection ---------------------------------------------------------------------------------------

    def makeConnection(self, transport: object) -> None:
        self.transport = cast("EagerClient", transport)
        self.transport.registerProducer(self, True)
        self._owner.opened(self)

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def connectionLost(self, reason: Failure) -> None:
        self._lost = True
        self.transport = None  # no cycle is left: memory is free at once, without the collector
        self._owner.deadlines.forget(self)
        self._owner.closed(self)
        exchange = self.exchange
        if exchange is None:
            return
        reader = self._reader
        if reader is None:
            if self.reused and not self._heard:
                self._fail(StaleConnection())
            else:
                self._fail(BackendReset(str(reason.value) if isinstance(reason.value, TlsBroken) else ""))
        elif isinstance(reason.value, ConnectionDone) and reader.close():
            self.exchange = None
            exchange.response_end(None)
        else:
            self._fail(ResponseTruncated())

    # --- the request goes out ---------------------------------------------------------------------------------

    def start(self, exchange: ExchangeEvents, request: RequestHead, host: bytes, data: bytes, ended: bool) -> None:
        self.exchange = exchange
        self._method = request.method
        self._sending = not ended
        self._heard = False
        self._chunked = request.length == CHUNKED
        if request.upgrade:
            self._ask_for_switch(request)
        out = write_request(request, host)
        if data:
            out += chunk(data) if self._chunked else data
        if ended and self._chunked:
            out += last_chunk(None)
        owner = self._owner
        if ended or request.expect_continue:
            owner.deadlines.arm(self, owner.timeouts.read)
        else:
            owner.deadlines.disarm(self)
        self._send(out)

    def _ask_for_switch(self, request: RequestHead) -> None:
        """A client of HTTP/2 has no key (RFC 8441, section 5): ours then."""
        key = request.headers.get(KEY)
        if key is None:
            key = new_key(os.urandom(16))
            request.headers.add(b"Sec-WebSocket-Key", key)
        self._key = key
        self._chunked = False

    def _send(self, data: bytes) -> None:
        assert self.transport is not None
        self._owner.backend.bytes_out += len(data)
        self.transport.write(data)

    def send_data(self, data: bytes) -> None:
        self._send(chunk(data) if self._chunked else data)

    def send_end(self, trailers: Headers | None) -> None:
        self._sending = False
        if self._chunked:
            self._send(last_chunk(trailers))
        if not self._stalled and not self._paused:
            self._owner.deadlines.arm(self, self._owner.timeouts.read)

    def _wait_on(self) -> None:
        """An interim response: the backend lives. While the request is still coming, the client's pace counts."""
        if self._sending:
            self._owner.deadlines.disarm(self)
        else:
            self._owner.deadlines.arm(self, self._owner.timeouts.read)

    def hand_over(self) -> Line:
        transport = self.transport
        assert transport is not None
        self.exchange = None
        self._lost = True
        self._owner.deadlines.forget(self)
        transport.unregisterProducer()
        self.transport = None
        return Line(transport, self._buffer, self._owner.line_closed)

    def cancel(self) -> None:
        self.exchange = None
        self._discard()

    # --- the response comes back ------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        owner = self._owner
        owner.backend.bytes_in += len(data)
        exchange = self.exchange
        if exchange is None:
            self._discard()  # nobody asked: whoever got this connection next would get it as their answer
            return
        if self._reader is not None:
            self._read_body(exchange, self._reader, data)
            return
        self._heard = True
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(_HEAD_END)
            if end < 0 or end > owner.head_limits.size:
                self._partial_head(data)
                return
            try:
                head = parse_response(data[:end], self._method, owner.head_limits)
                if head.status == 101:
                    if not self._key:
                        raise BadResponse("101 Switching Protocols, and nobody asked for an upgrade")
                    check_response(head, self._key)
            except ExchangeError as error:
                self._fail(error)
                return
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                self._buffer = data
                exchange.switched(head)
                return
            exchange.informational(head)
            if self.exchange is not exchange:
                return
            self._wait_on()
            if not data:
                return
        self._key = b""
        self._reusable = head.keep_alive
        length = head.length
        if length == len(data) or length == NO_BODY:
            if length == NO_BODY and data:
                self._reusable = False
                data = b""
            self._ended()
            exchange.response(head, data, True)
            return
        reader = self._reader = BodyReader.of(length, BadResponse)
        self._begin_body(exchange, head, reader, data)

    def _partial_head(self, data: bytes) -> None:
        size = self._owner.head_limits.size
        if len(data) > size:
            self._fail(ResponseTooLarge(f"the response head has more than {size} bytes"))
        elif not b"HTTP/1.".startswith(data[:7]):
            self._fail(BadResponse("this is not an HTTP/1 response"))
        elif data.count(b"\n") != data.count(b"\r\n"):
            self._fail(BadResponse("a bare LF in the response head"))
        else:
            self._buffer = data

    def _begin_body(self, exchange: ExchangeEvents, head: ResponseHead, reader: BodyReader, data: bytes) -> None:
        try:
            payload = reader.feed(data) if data else b""
        except ExchangeError as error:
            self._fail(error)
            return
        if reader.ended and reader.trailers is None:
            self._ended(reader)
            exchange.response(head, payload, True)
            return
        self._owner.deadlines.arm(self, self._owner.timeouts.read)
        exchange.response(head, payload, False)
        if reader.ended and self.exchange is exchange:
            self._ended(reader)
            exchange.response_end(reader.trailers)

    def _read_body(self, exchange: ExchangeEvents, reader: BodyReader, data: bytes) -> None:
        try:
            payload = reader.feed(data)
        except ExchangeError as error:
            self._fail(error)
            return
        if payload:
            if not self._paused:
                self._owner.deadlines.arm(self, self._owner.timeouts.read)
            exchange.response_data(payload)
            if self.exchange is not exchange:
                return
        if reader.ended:
            self._ended(reader)
            exchange.response_end(reader.trailers)

    def _ended(self, reader: BodyReader | None = None) -> None:
        """The response is complete. The exchange hears of it later, so that it finds the connection in the pool."""
        self.exchange = None
        self._reader = None
        if self._reusable and not self._sending and not self._stalled and not (reader is not None and reader.rest):
            if self._paused:
                self.resume_response()
            self.reused = True
            self._owner.put(self)
        else:
            self._discard()

    def pause_response(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self._owner.deadlines.disarm(self)
            self.transport.pauseProducing()

    def resume_response(self) -> None:
        if self._paused and not self._lost and self.transport is not None:
            self._paused = False
            if not self._stalled:
                self._owner.deadlines.arm(self, self._owner.timeouts.read)
            self.transport.resumeProducing()

    # --- back-pressure: the backend takes the request slower than it comes ------------------------------------

    def pauseProducing(self) -> None:
        self._stalled = True
        assert self.transport is not None
        self._pending_seen = self.transport.pending
        self._owner.deadlines.arm(self, self._owner.timeouts.write)
        if self.exchange is not None:
            self.exchange.pause_request()

    def resumeProducing(self) -> None:
        self._stalled = False
        owner = self._owner
        if self.exchange is None:
            return
        if self._sending:
            owner.deadlines.disarm(self)
            self.exchange.resume_request()
        elif not self._paused:
            owner.deadlines.arm(self, owner.timeouts.read)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    # --- time and the end -------------------------------------------------------------------------------------

    def timed_out(self) -> None:
        assert self.transport is not None
        if self.exchange is None:
            self._discard()
        elif self._stalled:
            pending = self.transport.pending
            if pending < self._pending_seen:
                self._pending_seen = pending
                self._owner.deadlines.arm(self, self._owner.timeouts.write)
            else:
                self._fail(BackendWriteTimeout())
        else:
            self._fail(ResponseTimeout())

    def close(self) -> None:
        """The pool wants this idle connection no more."""
        self._owner.deadlines.disarm(self)
        if self.transport is not None and not self._lost:
            self.transport.unregisterProducer()  # a paused one would keep it from closing
            self.transport.loseConnection()

    def _fail(self, error: ExchangeError) -> None:
        exchange, self.exchange = self.exchange, None
        self._discard()
        if exchange is not None:
            exchange.failed(error)

    def _discard(self) -> None:
        """Close at once: what is still under way belongs to nobody."""
        self._owner.deadlines.disarm(self)
        self._owner.forget(self)
        if self.transport is not None and not self._lost:
            self.transport.abortConnection()
