"""A backend's side of HTTP/2: one connection that carries many requests.

Rule of this file: a stream is a `BackendStream` like any other. What became of a request when its stream or its
connection ended too soon (refused, not looked at, broken) is told by the class of the error, which knows whether it may
be sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.http2.events import (
    DataReceived,
    GoAwayReceived,
    InformationalReceived,
    PingAcknowledged,
    ResponseReceived,
    SessionEnded,
    SettingsReceived,
    StreamReset,
    StreamWritable,
    TrailersReceived,
)
from balance.codec.http2.session import Code
from balance.codec.websocket import KEY, WEBSOCKET, accept_for
from balance.errors import (
    BackendReset,
    BackendWriteTimeout,
    BadResponse,
    ConnectTimeout,
    ExchangeError,
    NotHttp2,
    NoUpgrade,
    ResponseTimeout,
    ResponseTruncated,
    StaleConnection,
    StreamBroken,
    StreamRefused,
    StreamUnprocessed,
)
from balance.http.http2_link import Http2Link, Http2Stream
from balance.http.http2_tunnel import StreamTransport
from balance.http.streams import Line
from balance.model import NO_BODY, Headers, RequestHead, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from balance.codec.http2.events import Event
    from balance.codec.http2.session import Session
    from balance.http.multiplex import MultiplexedConnections
    from balance.http.streams import ExchangeEvents


#: Codes that ask to send the request again. Once a response has begun they are a lie, which is not passed on.
_RETRIED: Final = (Code.REFUSED_STREAM, Code.HTTP_1_1_REQUIRED)


class Http2BackendStream(Http2Stream):
    """A `BackendStream` (see `balance.http.streams`)."""

    __slots__ = ("_asked", "_early", "_link", "exchange", "heard", "sending")

    def __init__(self, link: Http2Connection) -> None:
        super().__init__(0)
        self._link = link
        self.exchange: ExchangeEvents | None = None
        #: Part of the request is still to come.
        self.sending = False
        #: The final response has begun.
        self.heard = False
        #: The request, where it asks for a tunnel.
        self._asked: RequestHead | None = None
        self._early = b""

    # --- the request goes out -----------------------------------------------------------------------------------

    def start(self, exchange: ExchangeEvents, request: RequestHead, host: bytes, data: bytes, ended: bool) -> None:
        link = self._link
        self.exchange = exchange
        self.sending = not ended
        if request.upgrade:
            self._asked = request
            self.sending = True
            self._connect(request, host)
            return
        self.stream_id = link.begin(self, request, host, ended and not data)
        if not self.stream_id:
            self.fail(StreamUnprocessed("the connection takes no more streams"))
        elif data:
            self._sent(link.session.send_data(self.stream_id, data, ended))
        else:
            self._sent(0)

    def _connect(self, request: RequestHead, host: bytes) -> None:
        """Extended CONNECT. Its handshake has no key (RFC 8441, section 5). The backend's SETTINGS have come: before
        that a connection is not used.
        """
        link = self._link
        if not link.session.peer_connect:
            self.fail(NoUpgrade())
            return
        headers, request.headers = request.headers, request.headers.copy()
        request.headers.remove(KEY)
        self.stream_id = link.begin(self, request, host, False)
        request.headers = headers
        if not self.stream_id:
            self.fail(StreamUnprocessed("the connection takes no more streams"))
            return
        link.deadlines.arm(self, link.timeouts.read)
        link.changed()

    def _agreed(self, head: ResponseHead, request: RequestHead, body: DataReceived | None) -> None:
        """2xx to an extended CONNECT, in HTTP/1.1's terms."""
        exchange = self.exchange
        assert exchange is not None
        self._link.deadlines.disarm(self)
        key = request.headers.get(KEY)
        if key is not None:
            head.headers.set(b"Sec-WebSocket-Accept", accept_for(key))
        switched = ResponseHead(101, b"Switching Protocols", head.headers, version=head.version, length=NO_BODY)
        switched.upgrade = WEBSOCKET
        if body is not None:
            self._early = body.data
        exchange.switched(switched)
        if body is not None and self.exchange is not None:
            self._link.passed_on(self, body.size)

    def send_data(self, data: bytes) -> None:
        self._sent(self._link.session.send_data(self.stream_id, data, False))

    def send_end(self, trailers: Headers | None) -> None:
        session = self._link.session
        self.sending = False
        session.send_trailers(self.stream_id, trailers)
        self._sent(session.waiting(self.stream_id))

    def _sent(self, waiting: int) -> None:
        link = self._link
        if waiting:
            if not self.blocked and self.exchange is not None:
                self.exchange.pause_request()
            link.blocks(self, waiting)
        elif link.stalled and self.exchange is not None:
            self.exchange.pause_request()
        else:
            self._await_response()
        link.changed()

    def _await_response(self) -> None:
        """The backend's turn, once it has all of the request; until then the client's pace counts."""
        if self.blocked or self.paused or self.exchange is None:
            return
        if self.sending:
            self._link.deadlines.disarm(self)
        else:
            self._link.deadlines.arm(self, self._link.timeouts.read)

    def writable(self) -> None:
        self.blocked = False
        self._await_response()
        if self.sending and self.exchange is not None and not self._link.stalled:
            self.exchange.resume_request()

    def transport_paused(self) -> None:
        if self.exchange is not None and self.sending and not self.blocked:
            self.exchange.pause_request()

    def transport_resumed(self) -> None:
        self._await_response()
        if self.exchange is not None and self.sending and not self.blocked:
            self.exchange.resume_request()

    def hand_over(self) -> Line:
        transport: Any = StreamTransport(self._link, self)
        self.exchange = transport
        early, self._early = self._early, b""
        return Line(transport, early, _nothing)

    def cancel(self) -> None:
        if self.exchange is not None:
            self.exchange = None
            self._link.drop(self, Code.CANCEL)

    # --- the response comes back --------------------------------------------------------------------------------

    def informational(self, head: ResponseHead) -> None:
        self._await_response()
        if self.exchange is not None:
            self.exchange.informational(head)

    def response(self, head: ResponseHead, body: DataReceived | None, ended: bool) -> None:
        """The final head; ``body`` is what came of the body right behind it."""
        exchange = self.exchange
        if exchange is None:
            return
        self.heard = True
        if self._asked is not None and 200 <= head.status < 300 and not ended:
            self._agreed(head, self._asked, body)
            return
        if ended:
            self._ended()
            exchange.response(head, b"" if body is None else body.data, True)
            return
        self._await_response()
        exchange.response(head, b"" if body is None else body.data, False)
        if body is not None and self.exchange is not None:
            self._link.passed_on(self, body.size)

    def response_data(self, event: DataReceived) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if event.data:
            exchange.response_data(event.data)
        if self.exchange is not exchange:
            return
        if event.ended:
            self._ended()
            exchange.response_end(None)
        else:
            self._link.passed_on(self, event.size)
            self._await_response()

    def response_end(self, trailers: Headers) -> None:
        exchange = self.exchange
        if exchange is not None:
            self._ended()
            exchange.response_end(trailers)

    def _ended(self) -> None:
        """The response is complete. The exchange hears of it later, so that it finds room for a stream."""
        self.exchange = None
        if self.sending or self._link.session.waiting(self.stream_id):
            self._link.drop(self, Code.NO_ERROR)  # the rest of the request has no reader
        else:
            self._link.stream_over(self)

    def pause_response(self) -> None:
        self.paused = True
        if not self.blocked:
            self._link.deadlines.disarm(self)

    def resume_response(self) -> None:
        if self.paused:
            self._link.reopen(self)
            self._await_response()

    # --- the end ------------------------------------------------------------------------------------------------

    def timed_out(self) -> None:
        if not self.blocked:
            self.give_up(ResponseTimeout())
        elif not self._link.progressed(self):
            self.give_up(BackendWriteTimeout())

    def give_up(self, error: ExchangeError) -> None:
        exchange, self.exchange = self.exchange, None
        self._link.drop(self, Code.CANCEL)
        if exchange is not None:
            exchange.failed(error)

    def fail(self, error: ExchangeError) -> None:
        """The stream is over already."""
        exchange, self.exchange = self.exchange, None
        self._link.stream_over(self)
        if exchange is not None:
            exchange.failed(error)

    def was_reset(self, event: StreamReset) -> None:
        """The backend reset it, or the session did because the backend broke a rule of it."""
        if not event.remote:
            self.fail(BadResponse(event.reason))
        elif self.heard:
            # With NO_ERROR after a whole response we would not be here: this one is cut short.
            code = Code.INTERNAL_ERROR if event.code in _RETRIED else event.code
            self.fail(StreamBroken(f"the backend reset the stream in its response, code {event.code}", code))
        elif event.code == Code.REFUSED_STREAM:
            self.fail(StreamRefused("the backend refused the stream"))
        else:
            self.fail(StreamBroken(f"the backend reset the stream, code {event.code}", event.code))

    def lost(self) -> None:
        if self.heard:
            self.fail(ResponseTruncated())
        elif self._link.unprocessed(self):
            self.fail(StreamUnprocessed("the backend closed the connection before it looked at the request"))
        elif self._link.served:
            self.fail(StaleConnection())
        else:
            self.fail(BackendReset())


@implementer(IProtocol, IPushProducer)
class Http2Connection(Http2Link[Http2BackendStream]):
    """The protocol of a connection to a backend.

    :param session: a client session (`balance.codec.http2.session.Session`)
    :param scheme: of the requests: ``http``, or ``https`` over TLS
    :param misled: the backend did not agree to speak HTTP/2
    """

    __slots__ = (
        "_last_id",
        "_owner",
        "_pinged",
        "_scheme",
        "_silent",
        "going",
        "misled",
        "served",
    )

    def __init__(self, owner: MultiplexedConnections, session: Session, scheme: bytes, *, misled: bool = False) -> None:
        super().__init__(session, owner.deadlines, owner.timeouts)
        self._owner = owner
        self._scheme = scheme
        self.misled = misled
        #: No more streams: the backend said GOAWAY, or we did.
        self.going = False
        #: Streams that have had their response.
        self.served = 0
        self._last_id = -1
        #: Nothing was heard since the last look; a PING is out.
        self._silent = False
        self._pinged = False

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self._owner.opened(self)

    def connectionLost(self, reason: Failure) -> None:
        self._owner.closed(self)
        self.lose()

    def count(self, received: int, sent: int) -> None:
        if received:
            self._silent = False
        backend = self._owner.backend
        backend.bytes_in += received
        backend.bytes_out += sent

    @property
    def room(self) -> bool:
        """Whether it takes one more stream."""
        session = self.session
        return not (self.going or self.closing) and session.open_streams < session.peer_max_streams

    def begin(self, stream: Http2BackendStream, request: RequestHead, host: bytes, ended: bool) -> int:
        """Open a stream; 0 where none can be opened."""
        if self.going or self.closing or self.transport is None:
            return 0
        stream_id = self.session.request(request, self._scheme, host, ended)
        if stream_id:
            if not self.streams:
                self._watch()
            self.streams[stream_id] = stream
        elif self.session.open_streams < self.session.peer_max_streams:
            self.going = True  # its ids are used up: others take over
            self._owner.forget(self, NotHttp2("no stream ids are left"))
        return stream_id

    # --- events -------------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event]) -> None:
        held: ResponseReceived | None = None
        for event in events:
            if held is not None:
                # A head goes on with the first of its body: one write to the client instead of two.
                head, held = held, None
                body = event if isinstance(event, DataReceived) and event.stream_id == head.stream_id else None
                self._response(head, body)
                if body is not None:
                    continue
            if isinstance(event, ResponseReceived) and not event.ended:
                held = event
            elif isinstance(event, ResponseReceived):
                self._response(event, None)
            elif event.stream_id:
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    self._of_stream(stream, event)
            else:
                self._of_connection(event)
        if held is not None:
            self._response(held, None)

    def _response(self, event: ResponseReceived, body: DataReceived | None) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.response(event.head, body, event.ended or (body is not None and body.ended))

    def _of_stream(self, stream: Http2BackendStream, event: Event) -> None:
        if isinstance(event, DataReceived):
            stream.response_data(event)
        elif isinstance(event, TrailersReceived):
            stream.response_end(event.trailers)
        elif isinstance(event, StreamWritable):
            stream.writable()
        elif isinstance(event, StreamReset):
            stream.was_reset(event)
        elif isinstance(event, InformationalReceived):
            stream.informational(event.head)

    def _of_connection(self, event: Event) -> None:
        if isinstance(event, SettingsReceived):
            self._owner.settled(self)
        elif isinstance(event, PingAcknowledged):
            self._pinged = False
        elif isinstance(event, GoAwayReceived):
            self._going_away(event)
        elif isinstance(event, SessionEnded):
            self._broken(event)

    def _going_away(self, event: GoAwayReceived) -> None:
        """What the backend has not looked at goes elsewhere; the rest may finish (RFC 9113, section 6.8)."""
        self.going = True
        self._owner.forget(self, StreamUnprocessed("GOAWAY: the backend takes no more streams"))
        self._last_id = event.last_stream_id
        for stream in [each for each in self.streams.values() if each.stream_id > event.last_stream_id]:
            stream.give_up(StreamUnprocessed("GOAWAY: the backend did not look at the request"))
        if not self.streams:
            self.close()

    def _broken(self, event: SessionEnded) -> None:
        error = BadResponse(f"HTTP/2: {event.reason}")
        self.going = True
        self._owner.forget(self, NotHttp2(event.reason))
        self.close()
        for stream in list(self.streams.values()):
            stream.fail(ResponseTruncated(error.detail) if stream.heard else error)

    def unprocessed(self, stream: Http2BackendStream) -> bool:
        """The backend said that it did nothing for that stream."""
        return 0 <= self._last_id < stream.stream_id

    # --- time and the end ---------------------------------------------------------------------------------------

    def drop(self, stream: Http2BackendStream, code: int) -> None:
        """End a stream before its end."""
        self.session.reset(stream.stream_id, code)
        self.changed()
        self.stream_over(stream)

    def stream_over(self, stream: Http2BackendStream) -> None:
        if self.streams.get(stream.stream_id) is not stream:
            return
        self.forget(stream)
        self.served += stream.heard
        if not self.streams:
            if self.going:
                self.close()
            else:
                self.rest()
        self._owner.room_changed()

    def rest(self) -> None:
        if self.stalled or self.closing:
            return
        if self.streams:
            self._watch()
        else:
            self.deadlines.arm(self, self._owner.idle_timeout)

    def _watch(self) -> None:
        """Requests are under way: now and then, look whether the backend is alive."""
        self._silent = self._pinged = False
        self.deadlines.arm(self, self._owner.ping_interval)

    def timed_out(self) -> None:
        if self.transport is None:
            return
        if self.stalled or self.closing:
            if not self.moved():
                self.cut()
        elif not self.streams:
            self.leave()
        elif self._silent and self._pinged:
            self.cut()
        else:
            if self._silent:
                self._pinged = True
                self.session.ping()
                self.flush()
            self._silent = True
            self.deadlines.arm(self, self._owner.ping_timeout if self._pinged else self._owner.ping_interval)

    def leave(self) -> None:
        """Take no more requests, and close when those under way are done."""
        self.going = True
        self._owner.forget(self, ConnectTimeout("no SETTINGS in time"))
        self.session.go_away()
        if self.streams:
            self.changed()
        else:
            self.close()


def _nothing() -> None:
    """The connection is shared, and counted by others."""
