"""The client's side of HTTP/1.x: one connection, one request after the other.

Rule of this file: at most one exchange at a time; what follows a request waits, bounded, until its response is out
(pipelining). After anything that makes the end of a request uncertain, the connection is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.http1 import (
    BodyReader,
    check_partial_request,
    chunk,
    last_chunk,
    parse_request,
    write_response,
)
from balance.errors import BadRequest, ClientTimeout, ExchangeError, VersionNotSupported
from balance.http.answers import answer
from balance.http.exchange import Exchange
from balance.http.streams import Line
from balance.model import HTTP10, HTTP11, UNTIL_CLOSE, Headers, ResponseHead
from balance.net.deadlines import Timed

if TYPE_CHECKING:
    from balance.codec.forwarding import Forwarding
    from balance.http.proxy import HttpProxy
    from balance.net.transport import EagerServer

#: Bytes of pipelined requests that wait for their turn before we stop reading.
_PIPELINE_LIMIT: Final = 64 * 1024
#: Bytes and seconds we go on reading after our last word, so that a reset does not destroy it (nginx's lingering
#: close; RFC 9112, section 9.6).
_LINGER_BYTES: Final = 1024 * 1024
_LINGER_SECONDS: Final = 5.0

_HTTP2_PREFACE_HEAD: Final = b"PRI * HTTP/2.0\r\n\r\n"

_OPEN, _LINGERING, _CLOSING, _CLOSED = range(4)


@implementer(IProtocol, IPushProducer)
class Http1Channel(Timed):
    """A `ClientStream` (see `balance.http.streams`) and the protocol of its connection."""

    __slots__ = (
        "_buffer",
        "_chunked",
        "_exchange",
        "_keep_alive",
        "_linger_left",
        "_paused_request",
        "_pending_seen",
        "_reader",
        "_served",
        "_serving",
        "_stalled",
        "_state",
        "_version",
        "forwarding",
        "proxy",
        "transport",
    )

    def __init__(self, proxy: HttpProxy, forwarding: Forwarding) -> None:
        super().__init__()
        self.proxy = proxy
        self.forwarding = forwarding
        self.transport: EagerServer | None = None
        self._buffer = b""
        self._exchange: Exchange | None = None
        #: Reads the request body while it has not ended.
        self._reader: BodyReader | None = None
        self._state = _OPEN
        self._keep_alive = True
        self._version = HTTP11
        self._chunked = False
        self._serving = False
        #: A request was read on this connection.
        self._served = False
        self._paused_request = False
        self._stalled = False
        self._pending_seen = 0
        self._linger_left = _LINGER_BYTES

    #: Streams that are WebSocket connections: whose connection that becomes is no channel any more.
    tunnels = 0

    # --- the connection ---------------------------------------------------------------------------------------

    def makeConnection(self, transport: object) -> None:
        self.transport = cast("EagerServer", transport)
        self.transport.registerProducer(self, True)
        self.proxy.channel_opened(self)
        self.proxy.deadlines.arm(self, self.proxy.timeouts.head)

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def connectionLost(self, reason: Failure) -> None:
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        self.proxy.deadlines.forget(self)
        self.proxy.channel_closed(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        self.transport = None  # no cycle is left: memory is free at once, without the collector

    def dataReceived(self, data: bytes) -> None:
        self.proxy.counters.bytes_in += len(data)
        if self._exchange is None and self._state == _LINGERING:
            self._linger(len(data))
        elif self._exchange is None and self._state == _OPEN:
            self._buffer = self._buffer + data if self._buffer else data
            self._serve()
            if self._stalled:
                self._bound_buffer()
        elif self._reader is not None:
            self._read_body(data)
        elif self._state == _OPEN:
            self._buffer += data
            self._bound_buffer()

    def _bound_buffer(self) -> None:
        """What is sent ahead waits, and so does who sends too much ahead."""
        if len(self._buffer) > _PIPELINE_LIMIT:
            self._pause_reading()

    # --- requests come in -------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Begin every exchange that can begin: a loop, so that a burst of pipelined requests is no recursion."""
        if self._serving:
            return
        self._serving = True
        try:
            while self._exchange is None and self._state == _OPEN and self._buffer and not self._stalled:
                if not self._read_head():
                    break
        finally:
            self._serving = False

    def _read_head(self) -> bool:
        data = self._buffer
        proxy = self.proxy
        try:
            if data[0] == 13:  # one empty line before a request is forgiven (RFC 9112, section 2.2)
                data = data.removeprefix(b"\r\n")
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > proxy.head_limits.size:
                self._partial_head(data)
                return False
            request = parse_request(data[:end], proxy.head_limits)
        except VersionNotSupported as error:
            # The preface of HTTP/2 looks like a request, as it was made to (RFC 9113, section 3.4).
            if not data.startswith(_HTTP2_PREFACE_HEAD) or not self.proxy.take_over(self, data):
                self._refuse(error)
            return False
        except ExchangeError as error:
            self._refuse(error)
            return False
        rest = data[end + 4 :]
        proxy.deadlines.disarm(self)
        self._served = True
        self._version = request.version
        self._keep_alive = request.keep_alive and not proxy.draining
        exchange = self._exchange = Exchange(proxy, self, request, proxy.clock() if proxy.timing else 0.0)
        if request.length == 0:
            self._buffer = rest
            exchange.begin(b"", True)
        else:
            self._buffer = b""
            self._begin_with_body(exchange, request.length, rest)
        return True

    def _partial_head(self, data: bytes) -> None:
        # `_buffer` keeps what came, the forgiven empty line included: it is forgiven once.
        if data:
            check_partial_request(data, self.proxy.head_limits)
        # Absolute, from the first byte on: progress by single bytes (slowloris) does not help.
        if not self.deadline or self.deadline > self.proxy.deadlines.now + self.proxy.timeouts.head:
            self.proxy.deadlines.arm(self, self.proxy.timeouts.head)

    def _refuse(self, error: ExchangeError) -> None:
        """A head that cannot be read: answer and close. What follows it is not looked at."""
        self._buffer = b""
        self._keep_alive = False
        self._version = HTTP11
        self.proxy.count_refused(self, error)
        head, body = answer(error, None)
        self._send(write_response(head, HTTP11, False) + body)
        self._close_lingering()

    def _begin_with_body(self, exchange: Exchange, length: int, data: bytes) -> None:
        reader = self._reader = BodyReader.of(length, BadRequest)
        try:
            payload = reader.feed(data) if data else b""
        except ExchangeError as error:
            exchange.begin(b"", False)
            if self._exchange is exchange:
                exchange.reject(error)
            return
        if reader.ended:
            self._body_ended(reader)
            if reader.trailers is None:
                exchange.begin(payload, True)
            else:
                exchange.begin(payload, False)
                if self._exchange is exchange:
                    exchange.request_data(b"", True, reader.trailers)
            return
        self.proxy.deadlines.arm(self, self.proxy.timeouts.read)
        exchange.begin(payload, False)

    def _read_body(self, data: bytes) -> None:
        reader, exchange = self._reader, self._exchange
        assert reader is not None
        assert exchange is not None
        try:
            payload = reader.feed(data)
        except ExchangeError as error:
            exchange.reject(error)
            return
        if reader.ended:
            self._body_ended(reader)
            exchange.request_data(payload, True, reader.trailers)
        else:
            if not self._paused_request and not self._stalled:
                self.proxy.deadlines.arm(self, self.proxy.timeouts.read)
            if payload:
                exchange.request_data(payload, False, None)

    def _body_ended(self, reader: BodyReader) -> None:
        self._reader = None
        self._buffer = reader.rest
        if not self._stalled:
            self.proxy.deadlines.disarm(self)

    def pause_request(self) -> None:
        if self._reader is not None and not self._paused_request:
            self._paused_request = True
            if not self._stalled:
                self.proxy.deadlines.disarm(self)
            self._pause_reading()

    def resume_request(self) -> None:
        if self._paused_request:
            self._paused_request = False
            if not self._stalled and self._reader is not None:
                self.proxy.deadlines.arm(self, self.proxy.timeouts.read)
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self.transport is not None:
            self.transport.pauseProducing()

    def _resume_reading(self) -> None:
        if self._state != _CLOSED and self.transport is not None:
            self.transport.resumeProducing()

    # --- responses go out -------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        assert self.transport is not None
        self.proxy.counters.bytes_out += len(data)
        self.transport.write(data)

    def send_informational(self, head: ResponseHead) -> None:
        self._send(write_response(head, self._version, True))

    def send_response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        length = head.length
        self._chunked = False
        if length < 0 and length >= UNTIL_CLOSE:
            if self._version > HTTP10:
                self._chunked = True
            else:
                self._keep_alive = False
        if self.proxy.draining or (ended and self._reader is not None):
            self._keep_alive = False
        out = write_response(head, self._version, self._keep_alive)
        if data:
            out += chunk(data) if self._chunked else data
        if ended:
            if self._chunked:
                out += last_chunk(None)
            self._exchange = None
            self._send(out)
            self._response_ended()
        else:
            self._send(out)

    def send_data(self, data: bytes) -> None:
        self._send(chunk(data) if self._chunked else data)

    def send_end(self, trailers: Headers | None) -> None:
        self._exchange = None
        if self._chunked:
            self._send(last_chunk(trailers))
        self._response_ended()

    def switch(self, head: ResponseHead) -> Line:
        transport = self.transport
        assert transport is not None
        self._exchange = None
        self._state = _CLOSED
        self.proxy.deadlines.forget(self)
        transport.unregisterProducer()
        self._send(write_response(head, self._version, True))
        self.transport = None
        self.proxy.channel_switched(self)
        if len(self._buffer) > _PIPELINE_LIMIT:
            transport.resumeProducing()
        return Line(transport, self._buffer, self.proxy.line_closed)

    def abort(self, error: ExchangeError) -> None:
        """A reset is the one end that no client can take for a complete response."""
        self._exchange = None
        self._state = _CLOSING
        if self.transport is not None:
            self.transport.abortConnection()

    def _response_ended(self) -> None:
        if self._state != _OPEN:
            return
        if self._reader is not None:
            self._reader = None
            self._close_lingering()
        elif not self._keep_alive:
            if self._buffer:
                self._close_lingering()
            else:
                self._close()
        else:
            self._resume_if_paused()
            if self._buffer:
                self._serve()
            elif not self._stalled:
                self.proxy.deadlines.arm(self, self.proxy.timeouts.idle)

    def _resume_if_paused(self) -> None:
        if self._paused_request or len(self._buffer) > _PIPELINE_LIMIT:
            self._paused_request = False
            self._resume_reading()

    # --- back-pressure: the transport has more than enough ----------------------------------------------------

    def pauseProducing(self) -> None:
        self._stalled = True
        assert self.transport is not None
        self._pending_seen = self.transport.pending
        self.proxy.deadlines.arm(self, self.proxy.timeouts.write)
        if self._exchange is not None:
            self._exchange.pause_response()

    def resumeProducing(self) -> None:
        self._stalled = False
        proxy = self.proxy
        if self._state != _OPEN:
            return
        proxy.deadlines.disarm(self)
        if self._exchange is None:
            proxy.deadlines.arm(self, proxy.timeouts.idle)
            self._resume_reading()
            self._serve()
        else:
            if self._reader is not None and not self._paused_request:
                proxy.deadlines.arm(self, proxy.timeouts.read)
            self._exchange.resume_response()

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    # --- time and the end -------------------------------------------------------------------------------------

    def timed_out(self) -> None:
        transport = self.transport
        assert transport is not None
        pending = transport.pending
        if pending and self._moved(pending):
            return
        exchange = self._exchange
        if pending or (exchange is not None and self._reader is None):
            # It takes nothing: the place it holds is worth more than its last bytes.
            self._state = _CLOSING
            self._exchange = None
            if exchange is not None:
                exchange.cancel()
            transport.abortConnection()
        elif exchange is not None:
            exchange.reject(ClientTimeout())
        elif self._state == _OPEN and self._buffer:
            self._refuse(ClientTimeout())
        else:
            self._close()

    def _moved(self, pending: int) -> bool:
        """Time limits are by progress: whoever takes some bytes gets more time."""
        moved = pending < self._pending_seen
        self._pending_seen = pending
        if moved:
            self.proxy.deadlines.arm(self, self.proxy.timeouts.write)
        return moved

    def drain(self) -> None:
        """Finish what is begun; close if nothing is."""
        self._keep_alive = False
        if self._exchange is None and self._state == _OPEN and not self._buffer:
            self._close()

    def release(self) -> EagerServer | None:
        """Give the transport to another protocol; None once a request was read, or the connection is closing."""
        transport = self.transport
        if self._served or self._state != _OPEN or transport is None:
            return None
        self._state = _CLOSED
        self._buffer = b""
        self.transport = None
        self.proxy.deadlines.forget(self)
        transport.unregisterProducer()
        return transport

    def kill(self) -> None:
        """Balance does not wait any longer."""
        if self.transport is not None and self._state != _CLOSED:
            self.transport.abortConnection()

    def _close(self) -> None:
        transport = self.transport
        assert transport is not None
        self._state = _CLOSING
        self._stop_producing(transport)
        if self._pending_seen:
            self.proxy.deadlines.arm(self, self.proxy.timeouts.write)
        transport.loseConnection()

    def _stop_producing(self, transport: EagerServer) -> None:
        """Nothing more will be written. A transport whose producer is paused would wait for it, and never close."""
        self._pending_seen = transport.pending
        transport.unregisterProducer()

    def _close_lingering(self) -> None:
        """Say that nothing more comes, and read on for a while what is still on its way to us."""
        transport = self.transport
        assert transport is not None
        self._state = _LINGERING
        self._buffer = b""
        self._stop_producing(transport)
        self.proxy.deadlines.arm(self, _LINGER_SECONDS)
        transport.loseWriteConnection()
        self._paused_request = False
        self._resume_reading()

    def _linger(self, size: int) -> None:
        self._linger_left -= size
        if self._linger_left < 0:
            self._state = _CLOSING
            assert self.transport is not None
            self.transport.abortConnection()
