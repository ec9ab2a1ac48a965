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
    StreamReset,
    TrailersReceived,
)
from balance.codec.http2.heads import trailer_fields
from balance.codec.http2.lean_control import LeanControl
from balance.codec.http2.lean_decoder import Block
from balance.codec.http2.lean_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PRIORITY_FLAG,
    WINDOW_UPDATE,
    read_head,
    read_word,
)
from balance.codec.http2.lean_stream import UNKNOWN, Stream
from balance.codec.http2.session import Code
from balance.errors import BadRequest, ExchangeError

#: A header block may be larger than the list that it unpacks to, but not by more: Huffman's longest code has 30 bits.
_PACKED_MAX: Final = 4
#: Flags of HEADERS that go with more work than reading a block.
_UNUSUAL_HEAD: Final = PADDED | PRIORITY_FLAG | END_HEADERS


class LeanSession(LeanControl):
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
            if self._block_stream or not self._settings_heard:
                self._on_frame(kind, flags, stream_id, data[start:end])
            elif kind == HEADERS and flags & _UNUSUAL_HEAD == END_HEADERS:
                self._on_block(stream_id, flags, data[start:end])
            elif kind == DATA and not flags & PADDED:
                stream = self._data_head(stream_id, flags, length, length)
                if stream is not None:
                    self._data(stream, data[start:end], length, flags & END_STREAM)
            elif kind == WINDOW_UPDATE and length == 4:
                self._on_window_update(stream_id, read_word(data, start)[0])
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
        """A frame that is not the usual HEADERS, DATA or WINDOW_UPDATE."""
        if not self._settings_heard and (kind != frames.SETTINGS or flags & frames.ACK):  # section 3.4
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):  # section 6.10
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == WINDOW_UPDATE:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        if kind == HEADERS:
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
        if stream.tunnel:
            self._fault(stream, Code.PROTOCOL_ERROR, "HEADERS in a tunnel")
            return
        if not ended:
            self._fault(stream, Code.PROTOCOL_ERROR, "trailers without END_STREAM")
            return
        if stream.expected > 0:
            self._fault(stream, Code.PROTOCOL_ERROR, "the body is shorter than its Content-Length")
            return
        try:
            trailers = trailer_fields(block.fields, self.bad_trailers)
            trailers.secret = block.secret
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
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA of stream 0")
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
            if opens and self._skipped:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "stream ids do not go up")  # section 5.1.1
            raise ConnectionFault(Code.STREAM_CLOSED, "a frame of a stream that is closed")
        self._out.append(frames.rst_stream(stream_id, Code.STREAM_CLOSED))
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
