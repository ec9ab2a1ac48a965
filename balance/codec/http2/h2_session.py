"""HTTP/2 sessions on the `h2` package: the reference beside the lean one.

Rule of this file: what a server and a client do differently; the rest is in `h2_receive` (reading) and `h2_send`
(writing). RFC 9113 unless a line says otherwise.
"""

from __future__ import annotations

from balance.codec.http2.defences import ConnectionFault
from balance.codec.http2.events import InformationalReceived, RequestReceived, RequestRefused, ResponseReceived
from balance.codec.http2.h2_connection import HeaderBlock
from balance.codec.http2.h2_receive import Receiver
from balance.codec.http2.h2_send import HIGHEST_STREAM, Stream
from balance.codec.http2.heads import request_fields, request_head, response_fields, response_head, secrets_of
from balance.codec.http2.session import DEFAULT_OPTIONS, PREFACE, Code, SessionOptions
from balance.errors import BadRequest, BadResponse, ExchangeError
from balance.model import NO_BODY, RequestHead, ResponseHead


class ServerSession(Receiver):
    """The server's side. See `balance.codec.http2.session.Session`."""

    __slots__ = ()

    def __init__(self, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(options, client=False)
        self._preface = PREFACE

    def start(self) -> float:
        """See `Session.start`."""
        return self._start(b"")

    def respond(self, stream_id: int, head: ResponseHead, ended: bool) -> None:
        """See `Session.respond`."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.answered and not stream.ending:
            stream.answered = True
            stream.tunnel = stream.method == b"CONNECT" and 200 <= head.status < 300
            self._put_head(stream, response_fields(head), ended)

    def inform(self, stream_id: int, head: ResponseHead) -> None:
        """See `Session.inform`."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.answered and not stream.ending:
            self._put_head(stream, response_fields(head), False)

    def _head(self, block: HeaderBlock) -> None:
        """A request (section 8.1), or its trailers."""
        stream_id = block.stream_id
        if stream_id % 2 == 0:  # section 5.1.1
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd ids")
        if stream_id <= self._last_id:
            stream = self._streams.get(stream_id)
            if stream is None:
                self._absent(stream_id, opens=True)
            else:
                self._trailers(stream, block, BadRequest)
            return
        self._skipped = self._skipped or stream_id > self._last_id + 2
        self._last_id = stream_id
        if stream_id > self._last_taken:  # section 6.8
            self._defences.control()
        elif self.open_streams >= self._options.max_streams:  # section 5.1.2
            self._put(self._rst(stream_id, Code.REFUSED_STREAM))
            self._remember(stream_id, True)
            self._defences.reset()
        else:
            self._request(block)

    def _request(self, block: HeaderBlock) -> None:
        stream_id = block.stream_id
        self._connection.accept_head(stream_id, final=True)
        stream = self._open(stream_id)
        if block.ended:
            self._remote_end(stream, tell=True)
        try:
            head = request_head(block.fields, block.ended, self._options.head_limits)
            head.headers.secret = secrets_of(block.fields)
            if head.upgrade and not self._options.connect:  # RFC 8441, section 3
                raise BadRequest("extended CONNECT was not offered")
        except ExchangeError as error:
            stream.refused = True
            self._events.append(RequestRefused(stream_id, error))
            if isinstance(error, BadRequest):  # malformed (section 8.1.1): it is going to be reset
                self._defences.reset()
            return
        if not block.ended:
            stream.expected = head.length
        if head.upgrade:
            stream.method = b"CONNECT"
        self._events.append(RequestReceived(stream_id, head, block.ended))

    def _heard_reset(self) -> None:
        self._defences.reset()


class ClientSession(Receiver):
    """The client's side. See `balance.codec.http2.session.Session`."""

    __slots__ = ()

    def __init__(self, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(options, client=True)

    def start(self) -> float:
        """See `Session.start`."""
        return self._start(PREFACE)

    def request(self, head: RequestHead, scheme: bytes, authority: bytes, ended: bool) -> int:
        """See `Session.request`."""
        stream_id = self._last_id + 2 if self._last_id else 1
        full = self.open_streams >= self.peer_max_streams or stream_id > HIGHEST_STREAM
        if full or self._ended or self._goaway_said or self._goaway_heard:
            return 0
        self._last_id = stream_id
        stream = Stream(stream_id, b"CONNECT" if head.upgrade else head.method)
        self._streams[stream_id] = stream
        self.open_streams += 1
        self._put_head(stream, request_fields(head, scheme, authority), ended)
        return stream_id

    def _head(self, block: HeaderBlock) -> None:
        """A response (section 8.1), interim or final, or its trailers."""
        stream = self._streams.get(block.stream_id)
        if stream is None:
            self._absent(block.stream_id)
        elif stream.answered or stream.remote_ended:
            self._trailers(stream, block, BadResponse)
        else:
            self._response(stream, block)

    def _response(self, stream: Stream, block: HeaderBlock) -> None:
        try:
            head = response_head(block.fields, stream.method, block.ended, self._options.head_limits)
            head.headers.secret = secrets_of(block.fields)
        except ExchangeError as error:
            self._fault(stream, Code.PROTOCOL_ERROR, error.detail)
            return
        self._connection.accept_head(stream.id, final=head.status >= 200)
        if head.status < 200:
            self._events.append(InformationalReceived(stream.id, head))
            self._defences.control()
            return
        stream.answered = True
        stream.tunnel = stream.method == b"CONNECT" and head.status < 300
        if not stream.tunnel:  # whose length, if it has one, means nothing (RFC 9110, section 9.3.6)
            stream.expected = 0 if head.length == NO_BODY else head.length
        self._events.append(ResponseReceived(stream.id, head, block.ended))
        if block.ended:
            self._remote_end(stream, tell=True)

    def _heard_reset(self) -> None:
        """A backend that resets hurts itself: it was asked for each stream."""
