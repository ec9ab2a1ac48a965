"""The writing half of a session on `h2`: its state, and the commands that both sides have.

Rule of this file: it only writes. What the peer may send, and what follows from it, is in `h2_receive`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from balance.codec.http2.defences import EARNED, ConnectionFault, Defences, unacknowledged
from balance.codec.http2.events import Event, SessionEnded, StreamWritable
from balance.codec.http2.h2_connection import DEFAULT_WINDOW, Connection
from balance.codec.http2.heads import Field, trailer_list
from balance.codec.http2.outbox import Outbox
from balance.codec.http2.session import Code, SessionOptions
from balance.model import Headers

HIGHEST_STREAM: Final = 2**31 - 1
#: What we send in one frame at most: more would keep other streams waiting.
FRAME_MAX: Final = 256 * 1024
#: Streams that were reset, and of which frames may still come (section 5.1, "closed").
REMEMBERED: Final = 1000
#: What a client opens before it has heard how many it may (section 6.5.2 recommends no fewer than 100).
STREAMS_AT_FIRST: Final = 100

PING_DATA: Final = b"balance\0"
#: ``expected`` of a body without Content-Length.
UNKNOWN: Final = -1

_RST_STREAM: Final = Struct(">IBII")
_GOAWAY: Final = Struct(">IBIII")


class Stream:
    """What the session knows of a stream beside its state in `h2`."""

    __slots__ = (
        "answered",
        "due",
        "ending",
        "expected",
        "id",
        "local_ended",
        "method",
        "refused",
        "remote_ended",
        "tunnel",
    )

    def __init__(self, stream_id: int, method: bytes = b"") -> None:
        self.id = stream_id
        self.method = method
        #: The head of the final response has passed.
        self.answered = False
        #: Extended CONNECT was accepted: no head follows (section 8.5).
        self.tunnel = False
        #: The request was refused: what comes of its body is thrown away.
        self.refused = False
        #: END_STREAM was asked for, and may be waiting in the outbox.
        self.ending = False
        self.local_ended = False
        self.remote_ended = False
        #: Bytes of the body that Content-Length still promises.
        self.expected = UNKNOWN
        #: Bytes acknowledged that were not given back yet.
        self.due = 0


class Sender:
    """State of one connection, and what is written to it. It is the `Wire` of its outbox."""

    __slots__ = (
        "_block",
        "_block_ended",
        "_block_parts",
        "_buffer",
        "_connection",
        "_connection_due",
        "_defences",
        "_ended",
        "_events",
        "_goaway_heard",
        "_goaway_said",
        "_last_id",
        "_last_taken",
        "_options",
        "_out",
        "_outbox",
        "_pings",
        "_preface",
        "_reset",
        "_settings_heard",
        "_settings_known",
        "_skipped",
        "_streams",
        "closed",
        "open_streams",
        "peer_connect",
        "peer_max_streams",
    )

    def __init__(self, options: SessionOptions, *, client: bool) -> None:
        self._options = options
        self._connection = Connection(options, client=client)
        self._defences = Defences(options)
        self._outbox = Outbox(self)
        self._streams: dict[int, Stream] = {}
        #: Streams that were reset; whether by us.
        self._reset: dict[int, bool] = {}
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._buffer = b""
        self._preface = b""
        self._settings_heard = False
        self._settings_known = False
        self._block = 0  # the stream whose header block is not complete
        self._block_ended = False
        self._block_parts: list[bytes] = []
        self._last_id = 0  # of the client's streams, whichever side we are
        self._skipped = False  # the client left ids out
        self._last_taken = HIGHEST_STREAM
        self._connection_due = 0
        self._pings = 0
        self._goaway_said = False
        self._goaway_heard = False
        self._ended = False
        self.closed = False
        self.open_streams = 0
        self.peer_max_streams = STREAMS_AT_FIRST
        self.peer_connect = False

    @property
    def queued(self) -> int:
        """Bytes of bodies that wait for the peer's windows."""
        return self._outbox.queued

    @property
    def plain_header_bytes(self) -> int:
        """Names and values of all heads."""
        return self._connection.encoder.plain + self._connection.decoder.plain

    @property
    def packed_header_bytes(self) -> int:
        """The same, as they were on the wire."""
        return self._connection.encoder.packed + self._connection.decoder.packed

    def _start(self, preface: bytes) -> float:
        self._put(preface + self._connection.announcement())
        wider = self._options.connection_window - DEFAULT_WINDOW
        if wider > 0:
            self._connection.increment_flow_control_window(wider)
        return self._options.settings_timeout

    def take(self) -> bytes:
        """See `Session.take`."""
        data = self._connection.data_to_send()
        if not self._out:
            return data
        self._out.append(data)
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _put(self, frame: bytes) -> None:
        """Write a frame past `h2`, in its place among `h2`'s own."""
        self._out.append(self._connection.data_to_send())
        self._out.append(frame)

    @staticmethod
    def _rst(stream_id: int, code: int) -> bytes:
        return _RST_STREAM.pack(4 << 8 | 3, 0, stream_id, code)

    # --- heads and bodies -------------------------------------------------------------------------------------

    def _put_head(self, stream: Stream, fields: Sequence[Field], ended: bool) -> None:
        self._connection.send_headers(stream.id, fields, end_stream=ended)
        self._defences.credit += EARNED
        if ended:
            stream.ending = True
            self._local_end(stream)

    def send_data(self, stream_id: int, data: bytes, ended: bool) -> int:
        """See `Session.send_data`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ending:
            return 0
        if stream_id not in self._outbox:
            if not data:
                if ended:
                    self.put_data(stream_id, b"", True, False)
                return 0
            room = min(self.connection_room(), self.stream_room(stream_id), self.frame_room())
            if len(data) <= room:
                self.put_data(stream_id, data, ended, False)
                return 0
        stream.ending = ended
        self._outbox.add(stream_id, data, ended)
        self._outbox.flush_stream(stream_id)
        return self._outbox.waiting(stream_id)

    def send_trailers(self, stream_id: int, trailers: Headers | None) -> None:
        """See `Session.send_trailers`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ending:
            return
        fields = trailer_list(trailers) if trailers else None
        if stream_id in self._outbox:
            stream.ending = True
            self._outbox.end(stream_id, fields)
        elif fields:
            self.put_trailers(stream_id, fields)
        else:
            self.put_data(stream_id, b"", True, False)

    def waiting(self, stream_id: int) -> int:
        """See `Session.waiting`."""
        return self._outbox.waiting(stream_id)

    # What the outbox asks of a session (`balance.codec.http2.outbox.Wire`).

    def connection_room(self) -> int:
        return self._connection.outbound_flow_control_window

    def stream_room(self, stream_id: int) -> int:
        return self._connection.stream_room(stream_id)

    def frame_room(self) -> int:
        return min(self._connection.max_outbound_frame_size, FRAME_MAX)

    def put_data(self, stream_id: int, data: bytes, ended: bool, cut: bool) -> None:
        """Write one DATA frame."""
        self._connection.send_data(stream_id, data, end_stream=ended)
        self._defences.earn(len(data), cut)
        if ended:
            stream = self._streams[stream_id]
            stream.ending = True
            self._local_end(stream)

    def put_trailers(self, stream_id: int, trailers: Sequence[Field]) -> None:
        """Write HEADERS with END_STREAM."""
        self._put_head(self._streams[stream_id], trailers, True)

    def _flush(self, stream_id: int) -> None:
        """A window has opened: the stream's, or with 0 the connection's or all."""
        if stream_id:
            written = [stream_id] if self._outbox.flush_stream(stream_id) else []
        else:
            written = self._outbox.flush()
        self._events += map(StreamWritable, written)

    # --- streams ----------------------------------------------------------------------------------------------

    def _local_end(self, stream: Stream) -> None:
        stream.local_ended = True
        if stream.remote_ended:
            self._forget(stream.id)

    def _remote_end(self, stream: Stream, *, tell: bool) -> None:
        """END_STREAM was heard.

        :param tell: `h2` does not know
        """
        stream.remote_ended = True
        if tell:
            self._connection.accept_end(stream.id)
        if stream.local_ended:
            self._forget(stream.id)

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]
        self._connection.forget(stream_id)
        self.open_streams -= 1
        if self._goaway_said and self._goaway_heard and not self._streams:
            self.closed = True

    def _drop(self, stream_id: int, by_us: bool) -> None:
        """The stream was reset."""
        self._outbox.drop(stream_id)
        self._remember(stream_id, by_us)
        self._forget(stream_id)

    def _remember(self, stream_id: int, by_us: bool) -> None:
        if len(self._reset) >= REMEMBERED:
            del self._reset[next(iter(self._reset))]
        self._reset[stream_id] = by_us

    def reset(self, stream_id: int, code: int) -> None:
        """See `Session.reset`."""
        if stream_id in self._streams:
            self._connection.reset_stream(stream_id, code)
            self._drop(stream_id, True)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """See `Session.acknowledge`. Given back by halves of a window: fewer frames, and never a stalled peer."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.remote_ended:
            return
        stream.due += size
        if stream.due * 2 >= self._options.stream_window:
            self._connection.increment_flow_control_window(stream.due, stream_id)
            stream.due = 0

    # --- the connection ---------------------------------------------------------------------------------------

    def ping(self) -> None:
        """See `Session.ping`."""
        if not self._ended:
            self._pings += 1
            self._connection.ping(PING_DATA)

    def go_away(self, code: int = Code.NO_ERROR) -> None:
        """See `Session.go_away`."""
        if self._ended:
            return
        client = self._connection.config.client_side
        if client or code or self._goaway_said:
            self._last_taken = min(self._last_taken, 0 if client else self._last_id)
        self._goaway_said = True
        self._put(self._goaway(code))
        if self._goaway_heard and not self._streams:
            self.closed = True

    def settings_late(self) -> Sequence[Event]:
        """See `Session.settings_late`."""
        events = self._events = []
        if not (self._settings_known or self._ended):
            self._end(unacknowledged())
        return events

    def _end(self, fault: ConnectionFault) -> None:
        """GOAWAY, and nothing after it."""
        self._last_taken = min(self._last_taken, 0 if self._connection.config.client_side else self._last_id)
        self._put(self._goaway(fault.code))
        self._ended = self.closed = True
        self._streams.clear()
        self._connection.streams.clear()
        self._outbox.clear()
        self._buffer = b""
        self.open_streams = 0
        self._events.append(SessionEnded(fault.code, fault.reason, fault.defence))

    def _goaway(self, code: int) -> bytes:
        return _GOAWAY.pack(8 << 8 | 7, 0, 0, self._last_taken, code)
