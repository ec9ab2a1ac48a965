"""HTTP/2 sessions in plain Python, at a fraction of what frame objects and layered state machines cost.

Rule of this file: what a server and a client do differently; the rest is in `lean_session` (reading) and `lean_wire`
(writing). RFC 9113 unless a line says otherwise.
"""

from __future__ import annotations

from balance.codec.http2 import lean_frames as frames
from balance.codec.http2.defences import ConnectionFault
from balance.codec.http2.events import InformationalReceived, RequestReceived, RequestRefused, ResponseReceived
from balance.codec.http2.heads import (
    around_request,
    around_response,
    request_fields,
    request_head,
    response_fields,
    response_head,
)
from balance.codec.http2.lean_decoder import Block
from balance.codec.http2.lean_session import LeanSession
from balance.codec.http2.lean_stream import Stream
from balance.codec.http2.session import DEFAULT_OPTIONS, PREFACE, Code, SessionOptions
from balance.errors import BadRequest, BadResponse, ExchangeError
from balance.model import NO_BODY, RequestHead, ResponseHead


class ServerSession(LeanSession):
    """The server's side. See `balance.codec.http2.session.Session`."""

    __slots__ = ()

    def __init__(self, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(options)
        self._preface = PREFACE

    def start(self) -> float:
        """See `Session.start`."""
        options = self._options
        settings = [(frames.MAX_CONCURRENT_STREAMS, options.max_streams)]
        if options.connect:
            settings.append((frames.ENABLE_CONNECT_PROTOCOL, 1))
        return self._start(settings)

    def _says_twice(self) -> bool:
        return True

    def _last_peer_id(self) -> int:
        return self._last_id

    def _push_max(self) -> int:
        return 1

    def _heard_reset(self) -> None:
        self._defences.reset()

    def _head(self, stream_id: int, ended: bool, block: Block) -> None:
        """A request (section 8.1), or its trailers."""
        if not stream_id & 1:  # section 5.1.1
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd ids")
        if stream_id <= self._last_id:
            stream = self._streams.get(stream_id)
            if stream is not None:
                self._trailers(stream, ended, block)
            else:
                self._absent(stream_id, opens=True)
            return
        if stream_id > self._last_id + 2:
            self._skipped = True
        self._last_id = stream_id
        if stream_id > self._last_taken:  # section 6.8
            self._defences.control()
            return
        options = self._options
        if self.open_streams >= options.max_streams:  # section 5.1.2
            self._out.append(frames.rst_stream(stream_id, Code.REFUSED_STREAM))
            self._remember(stream_id, True)
            self._defences.reset()
            return
        stream = Stream(stream_id, b"", self._peer_window, self._stream_window)
        self._opened(stream)
        if ended:
            stream.remote_open = False
        try:
            head = self._request(block, ended)
        except ExchangeError as error:
            stream.refused = True
            self._events.append(RequestRefused(stream_id, error))
            if isinstance(error, BadRequest):  # malformed (section 8.1.1): a reset is coming, and it was provoked
                self._defences.reset()
            return
        if not ended:
            stream.expected = head.length
        if head.upgrade:
            stream.method = b"CONNECT"
        self._events.append(RequestReceived(stream_id, head, ended))

    def _request(self, block: Block, ended: bool) -> RequestHead:
        known = block.ended_request if ended else block.request
        if known is not None:
            return known.copy()
        head = request_head(block.fields, ended, self._options.head_limits)
        head.headers.secret = block.secret
        if head.upgrade and not self._options.connect:
            raise BadRequest("extended CONNECT was not offered")
        if block.kept:
            if ended:
                block.ended_request = head.copy()
            else:
                block.request = head.copy()
        return head

    def inform(self, stream_id: int, head: ResponseHead) -> None:
        """See `Session.inform`."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.answered and not stream.ending:
            self._put_head(stream, self._encoder.encode(response_fields(head)), False)

    def respond(self, stream_id: int, head: ResponseHead, ended: bool) -> None:
        """See `Session.respond`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.answered or stream.ending:
            return
        stream.answered = True
        stream.tunnel = stream.method == b"CONNECT" and 200 <= head.status < 300
        encoder = self._encoder
        if head.headers.secret:
            packed = encoder.encode(response_fields(head))
        else:
            key = (head.status, head.length, head.declared, *head.headers.lines)
            packed = encoder.recall(key) or encoder.encode_head(*around_response(head), head.headers, key)
        self._put_head(stream, packed, ended)


class ClientSession(LeanSession):
    """The client's side. See `balance.codec.http2.session.Session`."""

    __slots__ = ()

    bad_trailers = BadResponse
    is_client = True

    def start(self) -> float:
        """See `Session.start`."""
        self._out.append(PREFACE)
        return self._start([(frames.ENABLE_PUSH, 0)])

    def _says_twice(self) -> bool:
        return False

    def _last_peer_id(self) -> int:
        return 0

    def _push_max(self) -> int:
        return 0

    def request(self, head: RequestHead, scheme: bytes, authority: bytes, ended: bool) -> int:
        """See `Session.request`."""
        stream_id = self._last_id + 2 if self._last_id else 1
        if (
            self.open_streams >= self.peer_max_streams
            or self._goaway_heard
            or self._goaway_said
            or self._ended
            or stream_id > frames.MAX_STREAM_ID
        ):
            return 0
        self._last_id = stream_id
        stream = Stream(stream_id, b"CONNECT" if head.upgrade else head.method, self._peer_window, self._stream_window)
        self._opened(stream)
        encoder = self._encoder
        if head.headers.secret:
            packed = encoder.encode(request_fields(head, scheme, authority))
        else:
            key = (
                head.target,
                head.method,
                scheme,
                authority,
                head.length,
                head.te_trailers,
                head.expect_continue,
                head.upgrade,
                *head.headers.lines,
            )
            packed = encoder.recall(key) or encoder.encode_head(
                *around_request(head, scheme, authority), head.headers, key
            )
        self._put_head(stream, packed, ended)
        return stream_id

    def _head(self, stream_id: int, ended: bool, block: Block) -> None:
        """A response (section 8.1), interim or final, or its trailers."""
        stream = self._streams.get(stream_id)
        if stream is None:
            self._absent(stream_id)
            return
        if stream.answered or not stream.remote_open:
            self._trailers(stream, ended, block)
            return
        try:
            head = self._response(block, stream.method, ended)
        except ExchangeError as error:
            self._fault(stream, Code.PROTOCOL_ERROR, error.detail)
            return
        if head.status < 200:
            self._events.append(InformationalReceived(stream_id, head))
            self._defences.control()
            return
        stream.answered = True
        stream.tunnel = stream.method == b"CONNECT" and head.status < 300
        self._events.append(ResponseReceived(stream_id, head, ended))
        if ended:
            self._remote_end(stream)
        elif not stream.tunnel:  # whose length, if it has one, means nothing (RFC 9110, section 9.3.6)
            stream.expected = 0 if head.length == NO_BODY else head.length

    def _response(self, block: Block, method: bytes, ended: bool) -> ResponseHead:
        usual = not ended and method != b"HEAD"
        if usual and block.response is not None:
            return block.response.copy()
        head = response_head(block.fields, method, ended, self._options.head_limits)
        head.headers.secret = block.secret
        if usual and block.kept:
            block.response = head.copy()
        return head
