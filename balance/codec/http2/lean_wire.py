"""The sending half of a lean session: its state, the commands that both sides have, and the peer's windows.

Rule of this file: it only writes. What the peer may send, and what follows from it, is in `lean_session`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from balance.codec.http2 import lean_frames as frames
from balance.codec.http2.defences import EARNED, EARNED_SHIFT, ConnectionFault, Defences, unacknowledged
from balance.codec.http2.events import Event, SessionEnded, StreamWritable
from balance.codec.http2.heads import Field, trailer_list
from balance.codec.http2.lean_decoder import BlockDecoder
from balance.codec.http2.lean_encoder import BlockEncoder
from balance.codec.http2.lean_stream import Stream
from balance.codec.http2.outbox import Outbox
from balance.codec.http2.session import DEFAULT_OPTIONS, Code, SessionOptions
from balance.model import Headers

#: Streams that were reset, by the peer or by us, and of which frames may still come (RFC 9113, section 5.1, "closed").
_REMEMBERED: Final = 1000
#: Larger frames than that would only keep other streams waiting.
LARGEST_FRAME: Final = 256 * 1024
#: Until the peer's SETTINGS say how many streams it takes (RFC 9113, section 6.5.2, asks it for no fewer).
_STREAMS_AT_FIRST: Final = 100

PING_DATA: Final = b"balance\0"


class LeanWire:
    """State of one connection, and what is written to it."""

    __slots__ = (
        "_block",
        "_block_count",
        "_block_flags",
        "_block_stream",
        "_buffer",
        "_consumed",
        "_data_ended",
        "_data_left",
        "_data_stream",
        "_decoder",
        "_defences",
        "_encoder",
        "_ended",
        "_events",
        "_frame_size",
        "_goaway_heard",
        "_goaway_said",
        "_last_id",
        "_last_taken",
        "_options",
        "_out",
        "_outbox",
        "_peer_window",
        "_pings",
        "_preface",
        "_receive_window",
        "_reset",
        "_send_window",
        "_settings_heard",
        "_settings_known",
        "_skipped",
        "_stream_window",
        "_streams",
        "closed",
        "open_streams",
        "packed_header_bytes",
        "peer_connect",
        "peer_max_streams",
        "plain_header_bytes",
        "queued",
    )

    def __init__(self, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        self._options = options
        self.open_streams = 0
        self.peer_max_streams = _STREAMS_AT_FIRST
        self.peer_connect = False
        self.queued = 0
        self.closed = False
        self.plain_header_bytes = 0
        self.packed_header_bytes = 0

        self._out: list[bytes | memoryview] = []
        self._streams: dict[int, Stream] = {}
        #: Reset streams to whether it was us.
        self._reset: dict[int, bool] = {}
        #: Highest stream id of whoever opens streams, and what GOAWAY says of it.
        self._last_id = 0
        self._skipped = False  # the client left ids out
        self._last_taken = frames.MAX_STREAM_ID
        self._goaway_said = 0
        self._goaway_heard = False
        #: Nothing goes in or out any more.
        self._ended = False
        self._pings = 0

        # To the peer.
        self._encoder = BlockEncoder(options.header_table_size)
        self._outbox = Outbox(self)
        self._send_window = frames.DEFAULT_WINDOW
        self._peer_window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME_SIZE

        # From the peer. Until it has acknowledged our settings it may go by the defaults (RFC 9113, section 6.5.3).
        self._decoder = BlockDecoder(options.header_table_size, options.header_list_size)
        self._defences = Defences(options)
        self._events: list[Event] = []
        self._preface = b""
        self._buffer = b""
        self._settings_heard = False
        self._settings_known = False
        self._receive_window = max(options.connection_window, frames.DEFAULT_WINDOW)
        self._consumed = 0
        self._stream_window = max(options.stream_window, frames.DEFAULT_WINDOW)
        #: A header block that is not complete: its stream, 0 when there is none.
        self._block_stream = 0
        self._block_flags = 0
        self._block_count = 0
        self._block = b""
        #: A DATA frame that is not complete.
        self._data_stream = 0
        self._data_left = 0
        self._data_ended = False

    # --- output -----------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """All that is to be sent, once."""
        out = self._out
        if not out:
            return b""
        self._out = []
        return b"".join(out)

    def _start(self, settings: list[tuple[int, int]]) -> float:
        """Our settings, and the rest of the connection's window (RFC 9113, sections 3.4 and 6.9.2)."""
        options = self._options
        settings += [
            (frames.HEADER_TABLE_SIZE, options.header_table_size),
            (frames.INITIAL_WINDOW_SIZE, options.stream_window),
            (frames.MAX_FRAME_SIZE, options.max_frame_size),
            (frames.MAX_HEADER_LIST_SIZE, options.header_list_size),
        ]
        self._out.append(frames.settings(settings))
        if self._receive_window > frames.DEFAULT_WINDOW:
            self._out.append(frames.window_update(0, self._receive_window - frames.DEFAULT_WINDOW))
        return options.settings_timeout

    def _put_head(self, stream: Stream, packed: tuple[bytes, int], ended: bool) -> None:
        """A header block that was just encoded, or recalled."""
        block, plain = packed
        self.plain_header_bytes += plain
        self.packed_header_bytes += len(block)
        frames.headers(self._out, stream.id, block, ended, self._frame_size)
        self._defences.credit += EARNED
        if ended:
            stream.ending = True
            self._local_end(stream)

    # --- bodies -----------------------------------------------------------------------------------------------

    def send_data(self, stream_id: int, data: bytes, ended: bool) -> int:
        """See `Session.send_data`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ending:
            return 0
        outbox = self._outbox
        size = len(data)
        if not self.queued or stream_id not in outbox:
            room = stream.send_window
            if room > self._send_window:
                room = self._send_window
            if size <= room or not size:  # nothing is no matter of windows (RFC 9113, section 6.9)
                if size or ended:
                    self._write(stream, data, ended, False)
                return 0
            if room > 0:
                view = memoryview(data)
                self._write(stream, view[:room], False, True)
                data = bytes(view[room:])
        outbox.add(stream_id, data, ended)
        self.queued = outbox.queued
        stream.ending = ended
        return outbox.waiting(stream_id)

    def send_trailers(self, stream_id: int, trailers: Headers | None) -> None:
        """See `Session.send_trailers`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ending:
            return
        if self.queued and stream_id in self._outbox:
            stream.ending = True
            self._outbox.end(stream_id, trailer_list(trailers) if trailers else None)
        elif trailers and trailers.secret:
            self.put_trailers(stream_id, trailer_list(trailers))
        elif trailers:
            key = (0, *trailers.lines)
            encoder = self._encoder
            self._put_head(stream, encoder.recall(key) or encoder.encode_head((), (), trailers, key), True)
        else:
            self._write(stream, b"", True, False)

    def waiting(self, stream_id: int) -> int:
        """See `Session.waiting`."""
        return self._outbox.waiting(stream_id) if self.queued else 0

    # What the outbox asks of a session (`balance.codec.http2.outbox.Wire`).

    def connection_room(self) -> int:
        return self._send_window

    def stream_room(self, stream_id: int) -> int:
        return self._streams[stream_id].send_window

    def frame_room(self) -> int:
        return self._frame_size

    def put_data(self, stream_id: int, data: bytes | memoryview, ended: bool, cut: bool) -> None:
        """Write DATA; the windows take it."""
        self._write(self._streams[stream_id], data, ended, cut)

    def _write(self, stream: Stream, data: bytes | memoryview, ended: bool, cut: bool) -> None:
        size = len(data)
        self._send_window -= size
        stream.send_window -= size
        self._defences.credit += (size >> EARNED_SHIFT) + (0 if cut else EARNED)
        frames.data(self._out, stream.id, data, ended, self._frame_size)
        if ended:
            stream.ending = True
            self._local_end(stream)

    def put_trailers(self, stream_id: int, trailers: Sequence[Field]) -> None:
        stream = self._streams[stream_id]
        self._put_head(stream, self._encoder.encode(trailers), True)

    def _flush(self, stream_id: int) -> None:
        """A window has opened: the stream's, or with 0 the connection's."""
        if not self.queued:  # what waits has a size
            return
        outbox = self._outbox
        if not stream_id:
            written = outbox.flush()
        elif outbox.flush_stream(stream_id):
            written = [stream_id]
        else:
            written = []
        self.queued = outbox.queued
        self._events += map(StreamWritable, written)

    # --- the end of streams -----------------------------------------------------------------------------------

    def _local_end(self, stream: Stream) -> None:
        stream.local_open = False
        if not stream.remote_open:
            self._forget(stream.id)

    def _remote_end(self, stream: Stream) -> None:
        stream.remote_open = False
        if not stream.local_open:
            self._forget(stream.id)

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]
        self.open_streams -= 1
        if self._goaway_heard and self._goaway_said and not self._streams:
            self.closed = True

    def _drop(self, stream_id: int, by_us: bool) -> None:
        """The stream was reset."""
        if stream_id in self._outbox:
            self._outbox.drop(stream_id)
            self.queued = self._outbox.queued
        self._remember(stream_id, by_us)
        self._forget(stream_id)

    def _remember(self, stream_id: int, by_us: bool) -> None:
        reset = self._reset
        if len(reset) >= _REMEMBERED:
            del reset[next(iter(reset))]
        reset[stream_id] = by_us

    def reset(self, stream_id: int, code: int) -> None:
        """See `Session.reset`."""
        if stream_id in self._streams:
            self._out.append(frames.rst_stream(stream_id, code))
            self._drop(stream_id, True)

    # --- the connection ---------------------------------------------------------------------------------------

    def acknowledge(self, stream_id: int, size: int) -> None:
        """See `Session.acknowledge`. Given back by halves of a window: fewer frames, and never a stalled peer."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            return
        consumed = stream.consumed = stream.consumed + size
        if consumed * 2 >= self._options.stream_window:
            stream.consumed = 0
            stream.receive_window += consumed
            self._out.append(frames.window_update(stream_id, consumed))

    def ping(self) -> None:
        """See `Session.ping`."""
        if not self._ended:
            self._pings += 1
            self._out.append(frames.ping(PING_DATA, 0))

    def go_away(self, code: int = Code.NO_ERROR) -> None:
        """See `Session.go_away`."""
        if self._ended:
            return
        if not self._goaway_said and code == Code.NO_ERROR and self._says_twice():
            self._goaway_said = 1
        else:
            self._goaway_said = 2
            self._last_taken = min(self._last_taken, self._last_peer_id())
        self._out.append(frames.goaway(self._last_taken, code))
        if self._goaway_heard and not self._streams:
            self.closed = True

    def settings_late(self) -> Sequence[Event]:
        """See `Session.settings_late`."""
        events = self._events = []
        if not (self._settings_known or self._ended):
            self._end(unacknowledged())
        self._events = []
        return events

    def _end(self, fault: ConnectionFault) -> None:
        """GOAWAY, and nothing after it."""
        self._out.append(frames.goaway(min(self._last_taken, self._last_peer_id()), fault.code))
        self._ended = self.closed = True
        self._streams.clear()
        self._reset.clear()
        self._outbox.clear()
        self._buffer = self._block = b""
        self.open_streams = self.queued = 0
        self._events.append(SessionEnded(fault.code, fault.reason, fault.defence))

    def _says_twice(self) -> bool:
        """A server: requests may be under way."""
        raise NotImplementedError

    def _last_peer_id(self) -> int:
        """The last stream of the peer that we took."""
        raise NotImplementedError
