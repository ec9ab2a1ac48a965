"""The client's side of HTTP/2: one connection, many requests at a time.

Rule of this file: every stream is a `ClientStream` like any other, with an exchange of its own. What a peer may do to
the connection is the session's to judge (`balance.codec.http2`); whom it costs, and how long it may take, is decided
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.http2.events import (
    DataReceived,
    GoAwayReceived,
    PingAcknowledged,
    RequestReceived,
    RequestRefused,
    SessionEnded,
    StreamReset,
    StreamWritable,
    TrailersReceived,
)
from balance.codec.http2.session import Code
from balance.errors import BadRequest, ClientTimeout, ExchangeError, StreamBroken, WindowStalled
from balance.http.answers import answer
from balance.http.exchange import Exchange
from balance.http.http2_link import Http2Link, Http2Stream
from balance.http.http2_tunnel import StreamTransport
from balance.http.streams import Line
from balance.model import CHUNKED, Headers, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from balance.codec.forwarding import Forwarding
    from balance.codec.http2.events import Event
    from balance.codec.http2.session import Session
    from balance.http.proxy import HttpProxy

#: Seconds between the two GOAWAYs of a drain, if the peer does not answer our PING sooner.
_GRACE: Final = 1.0


class Http2ServerStream(Http2Stream):
    """A `ClientStream` (see `balance.http.streams`).

    It outlives its exchange while the end of the response waits for the client's window.
    """

    __slots__ = ("_early", "_early_end", "exchange", "forwarding", "link", "request_ended", "switched")

    def __init__(self, link: H2Connection, stream_id: int, request_ended: bool) -> None:
        super().__init__(stream_id)
        self.link = link
        self.forwarding = link.forwarding
        self.request_ended = request_ended
        self.exchange: Exchange | StreamTransport | None = None
        #: What came ahead of the answer to an extended CONNECT, and whether its end did; None where there is none.
        self._early: bytes | None = None
        self._early_end = False
        #: It is a tunnel, whose silence has limits of its own.
        self.switched = False

    # --- the response goes out ----------------------------------------------------------------------------------

    def send_informational(self, head: ResponseHead) -> None:
        self.link.session.inform(self.stream_id, head)
        self.link.changed()

    def send_response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        session = self.link.session
        if data:
            session.respond(self.stream_id, head, False)
            waiting = session.send_data(self.stream_id, data, ended)
        else:
            session.respond(self.stream_id, head, ended)
            waiting = 0
        self._sent(waiting, ended)

    def send_data(self, data: bytes) -> None:
        self._sent(self.link.session.send_data(self.stream_id, data, False), False)

    def send_end(self, trailers: Headers | None) -> None:
        session = self.link.session
        session.send_trailers(self.stream_id, trailers)
        self._sent(session.waiting(self.stream_id), True)

    def _sent(self, waiting: int, ended: bool) -> None:
        link = self.link
        if ended:
            self.exchange = None
            if waiting:
                link.blocks(self, waiting)
            else:
                self._finish()
        elif waiting:
            if not self.blocked and self.exchange is not None:
                self.exchange.pause_response()
            link.blocks(self, waiting)
        elif link.stalled and self.exchange is not None:
            self.exchange.pause_response()
        link.changed()

    def _finish(self) -> None:
        """All of the response is out. A request that goes on has lost its reader (RFC 9113, section 8.1)."""
        if not self.request_ended:
            self.link.session.reset(self.stream_id, Code.NO_ERROR)
        self.link.stream_over(self)

    def wait_for_switch(self, body: DataReceived | None, ended: bool) -> None:
        """It asks for a tunnel: what it sends is for that, and waits."""
        self._early = b""
        self._early_end = ended
        self.paused = True
        if body is not None:
            self.request_data(body.data, body.size, ended, None)

    def switch(self, head: ResponseHead) -> Line:
        """200 stands for 101, and nothing for the key's answer (RFC 8441, section 5)."""
        link = self.link
        headers = head.headers.copy()
        headers.remove(b"sec-websocket-accept")
        link.session.respond(self.stream_id, ResponseHead(200, b"OK", headers, length=CHUNKED), False)
        early, self._early = self._early or b"", None
        transport = self.exchange = StreamTransport(link, self)
        self.switched = True
        link.tunnels += 1
        link.reopen(self)
        link.changed()
        if self._early_end:
            link.deadlines.turn.at_end(lambda: transport.received(b"", True))
        return Line(transport, early, link.tunnel_over)

    def abort(self, error: ExchangeError) -> None:
        code = error.code if isinstance(error, StreamBroken) and error.code else Code.INTERNAL_ERROR
        self._reset(code)

    def _reset(self, code: int) -> None:
        self.exchange = None
        self.link.session.reset(self.stream_id, code)
        self.link.changed()
        self.link.stream_over(self)

    def writable(self) -> None:
        """The client's window took all there was."""
        self.blocked = False
        self.link.deadlines.disarm(self)
        if self.exchange is None:
            self._finish()
            return
        self._await_request()
        if not self.link.stalled:
            self.exchange.resume_response()

    def transport_paused(self) -> None:
        if self.exchange is not None and not self.blocked:
            self.exchange.pause_response()

    def transport_resumed(self) -> None:
        if self.exchange is not None and not self.blocked:
            self.exchange.resume_response()

    # --- the request comes in -----------------------------------------------------------------------------------

    def request_data(self, data: bytes, size: int, ended: bool, trailers: Headers | None) -> None:
        self.request_ended = ended
        if self._early is not None:
            self._early += data
            self._early_end = ended
            self.link.passed_on(self, size)
            return
        exchange = self.exchange
        if exchange is None:
            return  # answered already: what still comes has no reader, and gets no more room
        if ended and not self.blocked:
            self.link.deadlines.disarm(self)
        exchange.request_data(data, ended, trailers)
        if self.exchange is exchange and not ended:
            self.link.passed_on(self, size)
            self._await_request()

    def _await_request(self) -> None:
        if not (self.request_ended or self.paused or self.blocked or self.switched):
            self.link.deadlines.arm(self, self.link.timeouts.read)

    def pause_request(self) -> None:
        self.paused = True
        if not self.blocked:
            self.link.deadlines.disarm(self)

    def resume_request(self) -> None:
        self.link.reopen(self)
        self._await_request()

    # --- the end ------------------------------------------------------------------------------------------------

    def timed_out(self) -> None:
        exchange = self.exchange
        if not self.blocked:
            if exchange is not None:
                exchange.reject(ClientTimeout())
                self.link.changed()
        elif not self.link.progressed(self):
            self.link.proxy.counters.count_error(WindowStalled.reason)
            self.exchange = None
            if exchange is not None:
                exchange.cancel()
            self._reset(Code.CANCEL)

    def lost(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()

    def was_reset(self, event: StreamReset) -> None:
        """The client reset it, or the session did because the client broke a rule of it."""
        exchange = self.exchange
        if exchange is not None and event.remote:
            self.exchange = None
            exchange.cancel()
        elif exchange is not None:
            exchange.reject(BadRequest(event.reason))
        self.link.stream_over(self)


@implementer(IProtocol, IPushProducer)
class H2Connection(Http2Link[Http2ServerStream]):
    """The protocol of a client's HTTP/2 connection.

    :param session: a server session (`balance.codec.http2.session.Session`)
    """

    __slots__ = ("_going", "forwarding", "proxy", "tunnels")

    def __init__(self, proxy: HttpProxy, forwarding: Forwarding, session: Session) -> None:
        super().__init__(session, proxy.deadlines, proxy.timeouts)
        self.proxy = proxy
        self.forwarding = forwarding
        #: How many GOAWAYs were sent.
        self._going = 0
        #: Streams that are WebSocket connections.
        self.tunnels = 0

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.proxy.channel_opened(self)
        self.proxy.counters.http2_connections += 1
        self.deadlines.arm(self, self.timeouts.head)

    def connectionLost(self, reason: Failure) -> None:
        self.lose()
        self.proxy.count_header_bytes(self.session)
        self.proxy.channel_closed(self)

    def count(self, received: int, sent: int) -> None:
        counters = self.proxy.counters
        counters.bytes_in += received
        counters.bytes_out += sent

    # --- events -------------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event]) -> None:
        held: RequestReceived | None = None
        for event in events:
            if held is not None:
                # A head goes on with the first of its body: one write to the backend instead of two or three.
                head, held = held, None
                if isinstance(event, DataReceived) and event.stream_id == head.stream_id:
                    self._request(head, event)
                    continue
                self._request(head, None)
            if isinstance(event, RequestReceived):
                if event.ended:
                    self._request(event, None)
                else:
                    held = event
            elif isinstance(event, RequestRefused):
                self._refuse(event.stream_id, event.error)
            elif isinstance(event, GoAwayReceived):
                self._going = 2
                self._close_if_done()
            elif isinstance(event, PingAcknowledged):
                self._last_call()
            elif isinstance(event, SessionEnded):
                self._ended(event)
            elif event.stream_id in self.streams:
                self._of_stream(self.streams[event.stream_id], event)
        if held is not None:
            self._request(held, None)

    def _of_stream(self, stream: Http2ServerStream, event: Event) -> None:
        if isinstance(event, DataReceived):
            stream.request_data(event.data, event.size, event.ended, None)
        elif isinstance(event, StreamWritable):
            stream.writable()
        elif isinstance(event, TrailersReceived):
            stream.request_data(b"", 0, True, event.trailers)
        elif isinstance(event, StreamReset):
            stream.was_reset(event)

    def _request(self, event: RequestReceived, body: DataReceived | None) -> None:
        proxy = self.proxy
        stream_id = event.stream_id
        ended = event.ended or (body is not None and body.ended)
        stream = Http2ServerStream(self, stream_id, ended)
        if not self.streams and not self.stalled and self._going != 1:
            self.deadlines.disarm(self)
        self.streams[stream_id] = stream
        head = event.head
        exchange = stream.exchange = Exchange(proxy, stream, head, proxy.clock() if proxy.timing else 0.0)
        if head.upgrade:
            stream.wait_for_switch(body, ended)
            exchange.begin(b"", True)
            return
        exchange.begin(b"" if body is None else body.data, ended)
        if not ended and stream.exchange is not None:
            if body is not None:
                self.passed_on(stream, body.size)
            stream._await_request()

    def tunnel_over(self) -> None:
        self.tunnels -= 1

    def _refuse(self, stream_id: int, error: ExchangeError) -> None:
        """A malformed head is a stream error (RFC 9113, section 8.1.1); one that breaks a limit of ours is answered."""
        self.proxy.count_refused(self, error)
        if type(error) is BadRequest:
            self.session.reset(stream_id, Code.PROTOCOL_ERROR)
            return
        stream = self.streams[stream_id] = Http2ServerStream(self, stream_id, False)
        head, body = answer(error, None)
        stream.send_response(head, body, True)

    def _ended(self, event: SessionEnded) -> None:
        """The connection broke: its streams have nobody to answer to."""
        reason = f"http2_{event.defence}" if event.defence else "http2_error"
        self.proxy.counters.count_error(reason)
        self.proxy.log.debug(
            "{reason}: {detail} from {client}", reason=reason, detail=event.reason, client=self.forwarding.address
        )
        self.close()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self.deadlines.forget(stream)
            stream.lost()

    # --- time and the end ---------------------------------------------------------------------------------------

    def stream_over(self, stream: Http2ServerStream) -> None:
        self.forget(stream)
        if not self.streams and not self.closing:
            self.rest()
            self._close_if_done()

    def rest(self) -> None:
        if self.stalled:
            return
        if self._going == 1:
            self.deadlines.arm(self, _GRACE)
        elif not self.streams:
            self.deadlines.arm(self, self.timeouts.idle)

    def _close_if_done(self) -> None:
        if self._going > 1 and not self.streams:
            self.close()

    def timed_out(self) -> None:
        if self.transport is None:
            return
        if self.stalled or self.closing:
            if not self.moved():
                self.cut()
        elif self._going == 1:
            self._last_call()
        elif not self.streams:
            self.session.go_away()
            self.session.go_away()
            self.close()

    def drain(self) -> None:
        """Say that no new requests are taken, once so that those under way are still let in, then for good."""
        if self._going or self.closing or self.transport is None:
            return
        self._going = 1
        self.session.go_away()
        self.session.ping()
        self.changed()
        if not self.stalled:
            self.deadlines.arm(self, _GRACE)

    def _last_call(self) -> None:
        if self._going != 1:
            return
        self._going = 2
        if not self.stalled:
            self.deadlines.disarm(self)
        self.session.go_away()
        self.changed()
        self._close_if_done()

    def kill(self) -> None:
        """Balance does not wait any longer."""
        self.cut()
