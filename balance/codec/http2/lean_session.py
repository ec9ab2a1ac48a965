"""The receiving half of a lean session: frames in, events out, every rule with its section of RFC 9113.

Rule of this file: a broken rule of the connection raises `ConnectionFault` (section 5.4.1); one of a stream resets the
stream (section 5.4.2). Requests are told from responses in `balance.codec.http2.lean`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hpack.exceptions import HPACKError, OversizedHeaderListError

from balance.codec.http2 import lean_frames as frames
from balance.codec.http2.defences import EARNED, ConnectionFault, oversized_head
from balance.codec.http2.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    PingAcknowledged,
    SessionEnded,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
)
from balance.codec.http2.heads import trailer_fields
from balance.codec.http2.lean_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_WINDOW,
    PADDED,
    PRIORITY_FLAG,
    read_head,
    read_word,
)
from balance.codec.http2.lean_hpack import Block
from balance.codec.http2.lean_stream import UNKNOWN, Stream
from balance.codec.http2.lean_wire import LARGEST_FRAME, PING_DATA, LeanWire
from balance.codec.http2.session import Code
from balance.errors import BadRequest, ExchangeError

#: A header block may be larger than the list that it unpacks to, but not by more: Huffman's longest code has 30 bits.
_PACKED_MAX: Final = 4


class LeanSession(LeanWire):
    """What both sides read in the same way."""

    __slots__ = ()

    #: What a malformed trailer section raises.
    bad_trailers: type[ExchangeError] = BadRequest
    is_client = False

    def receive(self, data: bytes, now: float) -> Sequence[Event]:
        """See `Session.receive`."""
        if self._ended:
            return ()
        self._defences.now = now
        events = self._events = []
        try:
            self._read(data)
        except ConnectionFault as fault:
            self._end(fault)
        self._events = []  # what was reported is the caller's: a session at rest holds no bodies
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

    # --- frames -----------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        if self._preface:
            data = self._read_preface(data)
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at = 0
        size = len(data)
        if self._data_left:
            at = self._more_data(data)
        largest = self._options.max_frame_size
        while size - at >= 9:
            word, flags, stream_id = read_head(data, at)
            length = word >> 8
            if length > largest:  # section 4.2
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
            kind = word & 0xFF
            stream_id &= frames.MAX_STREAM_ID
            start = at + 9
            end = start + length
            if end > size:
                if kind or flags & PADDED or self._block_stream or not self._settings_heard:
                    break
                # The body of a DATA frame goes on as it comes.
                at = size
                self._begin_data(stream_id, flags, length)
                self._more_data(data[start:])
                break
            at = end
            if kind == HEADERS and flags & 0x2C == END_HEADERS and not self._block_stream and self._settings_heard:
                self._on_block(stream_id, flags, data[start:end])
            elif kind == DATA and not flags & PADDED and not self._block_stream and self._settings_heard:
                stream = self._data_head(stream_id, flags, length, length)
                if stream is not None:
                    self._data(stream, data[start:end], length, flags & END_STREAM)
            else:
                self._on_frame(kind, flags, stream_id, data[start:end])
        if at < size:
            self._buffer = data[at:] if at else data

    def _read_preface(self, data: bytes) -> bytes:
        """Section 3.4."""
        wanted = self._preface
        size = min(len(wanted), len(data))
        if data[:size] != wanted[:size]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not the preface of HTTP/2")
        self._preface = wanted[size:]
        return data[size:]

    def _on_frame(self, kind: int, flags: int, stream_id: int, body: bytes) -> None:
        """A frame that is not the usual HEADERS or DATA."""
        if not self._settings_heard and (kind != frames.SETTINGS or flags & frames.ACK):  # section 3.4
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):  # section 6.10
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, body)
        elif kind == HEADERS:
            self._on_headers(stream_id, flags, body)
        elif kind == DATA:
            self._on_padded_data(stream_id, flags, body)
        elif kind == CONTINUATION:
            self._on_continuation(stream_id, flags, body)
        elif kind == frames.RST_STREAM:
            self._on_rst_stream(stream_id, body)
        elif kind == frames.SETTINGS:
            self._on_settings(stream_id, flags, body)
        elif kind == frames.PING:
            self._on_ping(stream_id, flags, body)
        elif kind == frames.GOAWAY:
            self._on_goaway(stream_id, body)
        elif kind == frames.PRIORITY:
            self._on_priority(stream_id, body)
        elif kind == frames.PUSH_PROMISE:  # section 8.4: we never allow it
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE")
        else:  # section 5.5: frames of unknown types are ignored
            self._defences.control()

    # --- heads ------------------------------------------------------------------------------------------------

    def _on_headers(self, stream_id: int, flags: int, body: bytes) -> None:
        """Section 6.2, with what is unusual: padding, priority, more to follow."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS of stream 0")
        start = 1 if flags & PADDED else 0
        if flags & PRIORITY_FLAG:
            start += 5  # deprecated (section 5.3.2), and ignored
        if start:
            body = _inner(body, start, flags)
        if flags & END_HEADERS:
            self._on_block(stream_id, flags, body)
            return
        self._block_stream = stream_id
        self._block_flags = flags
        self._block_count = 0
        self._block = body

    def _on_continuation(self, stream_id: int, flags: int, body: bytes) -> None:
        """Section 6.10."""
        if not self._block_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS before it")
        self._block_count += 1
        self._defences.continuation(self._block_count)
        block = self._block = self._block + body
        if len(block) > self._options.header_list_size * _PACKED_MAX:
            raise oversized_head()
        if flags & END_HEADERS:
            self._block_stream = 0
            self._block = b""
            self._on_block(stream_id, self._block_flags, block)

    def _on_block(self, stream_id: int, flags: int, packed: bytes) -> None:
        """A header block is complete. It is decoded whatever becomes of it: the table has to follow (section 4.3)."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS of stream 0")
        try:
            block = self._decoder.decode(packed)
        except OversizedHeaderListError:
            raise oversized_head() from None
        except HPACKError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"a header block that cannot be decoded: {error}") from None
        self.plain_header_bytes += block.plain
        self.packed_header_bytes += len(packed)
        self._head(stream_id, bool(flags & END_STREAM), block)

    def _head(self, stream_id: int, ended: bool, block: Block) -> None:
        """A request, a response, trailers."""
        raise NotImplementedError

    def _trailers(self, stream: Stream, ended: bool, block: Block) -> None:
        """HEADERS after the head (section 8.1)."""
        if not stream.remote_open:
            self._fault(stream, Code.STREAM_CLOSED, "HEADERS after END_STREAM")
            return
        if stream.refused:
            if ended:
                self._remote_end(stream)
            return
        if not ended:
            self._fault(stream, Code.PROTOCOL_ERROR, "trailers without END_STREAM")
            return
        if stream.expected > 0:
            self._fault(stream, Code.PROTOCOL_ERROR, "the body is shorter than its Content-Length")
            return
        try:
            trailers = trailer_fields(block.fields, self.bad_trailers)
        except ExchangeError as error:
            self._fault(stream, Code.PROTOCOL_ERROR, error.detail)
            return
        self._events.append(TrailersReceived(stream.id, trailers))
        self._remote_end(stream)

    # --- bodies -----------------------------------------------------------------------------------------------

    def _data_head(self, stream_id: int, flags: int, size: int, length: int) -> Stream | None:
        """Both windows (section 6.9.1), and whether the stream takes data at all (section 6.1).

        :param size: what flow control counts
        :param length: of the data in it
        :returns: the stream that it is for, if anybody wants it
        """
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA of stream 0")
        if size > self._receive_window:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        # Given back on receipt: each stream has its own bound, and one that nobody reads stalls no other.
        self._receive_window -= size
        consumed = self._consumed = self._consumed + size
        if consumed * 2 >= self._options.connection_window:
            self._consumed = 0
            self._receive_window += consumed
            self._out.append(frames.window_update(0, consumed))
        stream = self._streams.get(stream_id)
        if stream is None:
            self._absent(stream_id)
            return None
        if not stream.remote_open:
            self._fault(stream, Code.STREAM_CLOSED, "DATA after END_STREAM")
            return None
        if self.is_client and not stream.answered:
            self._fault(stream, Code.PROTOCOL_ERROR, "DATA before the response's head")
            return None
        if size and size > stream.receive_window:  # nothing is no matter of windows, which may be negative (6.9.2)
            self._fault(stream, Code.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
            return None
        stream.receive_window -= size
        if not length and not flags & END_STREAM:
            self._defences.control()
        if stream.refused:
            self.acknowledge(stream_id, size)
            if flags & END_STREAM:
                self._remote_end(stream)
            return None
        return stream if self._fits(stream, length, flags & END_STREAM) else None

    def _fits(self, stream: Stream, length: int, ended: int) -> bool:
        """A body is as long as its Content-Length says (section 8.1.1)."""
        if stream.expected != UNKNOWN:
            stream.expected -= length
            if stream.expected < 0 or (ended and stream.expected):
                self._fault(stream, Code.PROTOCOL_ERROR, "the body is not as long as its Content-Length")
                return False
        return True

    def _data(self, stream: Stream, data: bytes, size: int, ended: int) -> None:
        if data or ended:
            self._events.append(DataReceived(stream.id, data, size, bool(ended)))
        else:
            self.acknowledge(stream.id, size)  # padding alone
        if ended:
            self._remote_end(stream)

    def _on_padded_data(self, stream_id: int, flags: int, body: bytes) -> None:
        data = _inner(body, 1, flags) if flags & PADDED else body
        stream = self._data_head(stream_id, flags, len(body), len(data))
        if stream is not None:
            self._data(stream, data, len(body), flags & END_STREAM)

    def _begin_data(self, stream_id: int, flags: int, length: int) -> None:
        """The head of a DATA frame whose end has not come yet."""
        stream = self._data_head(stream_id, flags, length, length)
        self._data_stream = 0 if stream is None else stream_id
        self._data_left = length
        self._data_ended = bool(flags & END_STREAM)

    def _more_data(self, data: bytes) -> int:
        """What has come of a DATA frame that began before. Returns where it ends in ``data``."""
        size = min(self._data_left, len(data))
        if not size:
            return 0
        self._data_left -= size
        stream = self._streams.get(self._data_stream)
        if stream is not None:
            ended = self._data_ended and not self._data_left
            self._data(stream, data[:size] if size < len(data) else data, size, ended)
        return size

    # --- streams ----------------------------------------------------------------------------------------------

    def _idle(self, stream_id: int) -> bool:
        """Nobody has opened that stream: odd ids are the client's, and even ones would be pushed (section 5.1.1)."""
        return not stream_id & 1 or stream_id > self._last_id

    def _absent(self, stream_id: int, *, opens: bool = False) -> None:
        """HEADERS or DATA of a stream that is not open (section 5.1).

        :param opens: it is HEADERS of a client, which may have been meant to open it
        """
        if self._idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of a stream that was never opened")
        self._defences.control()
        by_us = self._reset.get(stream_id)
        if by_us or stream_id > self._last_taken:
            return  # it was under way when we said so
        if by_us is None:
            if opens and self._skipped:  # section 5.1.1
                raise ConnectionFault(Code.PROTOCOL_ERROR, "stream ids do not go up")
            raise ConnectionFault(Code.STREAM_CLOSED, "a frame of a stream that is closed")
        self._out.append(frames.rst_stream(stream_id, Code.STREAM_CLOSED))
        self._defences.reset()

    def _fault(self, stream: Stream, code: int, reason: str) -> None:
        """The peer broke a rule of a stream (section 5.4.2)."""
        self._out.append(frames.rst_stream(stream.id, code))
        self._drop(stream.id, True)
        self._events.append(StreamReset(stream.id, code, False, reason))
        self._defences.reset()

    def _opened(self, stream: Stream) -> None:
        self._streams[stream.id] = stream
        self.open_streams += 1
        self._defences.credit += EARNED

    def _on_rst_stream(self, stream_id: int, body: bytes) -> None:
        """Section 6.4."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of stream 0")
        if len(body) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        if self._idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        stream = self._streams.get(stream_id)
        if stream is None:
            self._defences.control()
            return
        self._drop(stream_id, False)
        self._events.append(StreamReset(stream_id, read_word(body)[0], True))
        self._heard_reset()

    def _heard_reset(self) -> None:
        """A client may reset only so often; a backend that does so hurts itself."""

    def _on_priority(self, stream_id: int, body: bytes) -> None:
        """Section 6.3: deprecated, and ignored."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of stream 0")
        if len(body) != 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
        self._defences.control()

    # --- the connection ---------------------------------------------------------------------------------------

    def _on_window_update(self, stream_id: int, body: bytes) -> None:
        """Section 6.9."""
        if len(body) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        increment = read_word(body)[0] & MAX_WINDOW
        self._defences.window_update()
        if not stream_id:
            if not increment:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._send_window += increment
            if self._send_window > MAX_WINDOW:  # section 6.9.1
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
            self._flush(0)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._idle(stream_id):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened")
            return  # section 5.1: it may have crossed the stream's end
        if not increment:
            self._fault(stream, Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            return
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            self._fault(stream, Code.FLOW_CONTROL_ERROR, "the stream's window is too large")
            return
        self._flush(stream_id)

    def _on_settings(self, stream_id: int, flags: int, body: bytes) -> None:
        """Section 6.5."""
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(body) % 6 or (flags & frames.ACK and body):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        self._defences.settings(len(body) // 6)
        if flags & frames.ACK:
            self._settings_acknowledged()
            return
        if not self._settings_heard:
            self._settings_heard = True
            self.peer_max_streams = frames.MAX_STREAM_ID
        for name, value in frames.read_settings(body):
            self._set(name, value)
        self._out.append(frames.SETTINGS_ACK)
        self._events.append(SettingsReceived())
        self._flush(0)

    def _set(self, name: int, value: int) -> None:
        """Section 6.5.2; RFC 8441, section 3. Unknown settings are ignored."""
        if name == frames.HEADER_TABLE_SIZE:
            self._encoder.limit(value)
        elif name == frames.MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif name == frames.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
            change = value - self._peer_window
            self._peer_window = value
            for stream in self._streams.values():  # section 6.9.2
                stream.send_window += change
                if stream.send_window > MAX_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a stream's window is too large")
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value < 1 << 24:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
            self._frame_size = min(value, LARGEST_FRAME)
        elif name == frames.ENABLE_PUSH:
            if value > self._push_max():
                raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
        elif name == frames.ENABLE_CONNECT_PROTOCOL:
            if value > 1 or (self.peer_connect and not value):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_CONNECT_PROTOCOL out of range")
            self.peer_connect = bool(value)

    def _push_max(self) -> int:
        """A server may not ask to be pushed to."""
        raise NotImplementedError

    def _settings_acknowledged(self) -> None:
        """Our settings hold from here on (section 6.5.3)."""
        if self._settings_known:
            return
        self._settings_known = True
        options = self._options
        self._decoder.limit(options.header_table_size)
        change = options.stream_window - self._stream_window
        self._stream_window = options.stream_window
        if change:
            for stream in self._streams.values():
                stream.receive_window += change

    def _on_ping(self, stream_id: int, flags: int, body: bytes) -> None:
        """Section 6.7."""
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(body) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING has eight bytes")
        if flags & frames.ACK and self._pings and body == PING_DATA:
            self._pings -= 1
            self._events.append(PingAcknowledged())
            return
        self._defences.control()
        if not flags & frames.ACK:
            self._out.append(frames.ping(body, frames.ACK))

    def _on_goaway(self, stream_id: int, body: bytes) -> None:
        """Section 6.8."""
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(body) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY has at least eight bytes")
        if self._goaway_heard:
            self._defences.control()
        self._goaway_heard = True
        last, code = frames.read_goaway(body)
        self._events.append(GoAwayReceived(last, code))
        if self._goaway_said and not self._streams:
            self.closed = True


def _inner(body: bytes, start: int, flags: int) -> bytes:
    """What is between the fixed fields of a frame and its padding (sections 6.1 and 6.2).

    :param start: bytes of the fixed fields, the length of the padding among them
    """
    if len(body) < start:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame too short for its padding or priority")
    if not flags & PADDED:
        return body[start:]
    end = len(body) - body[0]
    if end < start:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than there is room")
    return body[start:end]
