"""The reading half of a session on `h2`: frames in, events out.

Rule of this file: frames are cut and judged here, one at a time, and go to `h2` only when nothing is wrong with them
that it would see otherwise than we do: whether something ends a stream or the connection. A broken rule of the
connection raises `ConnectionFault` (section 5.4.1), one of a stream resets it (section 5.4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from h2.events import DataReceived as H2Data
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import SettingsFrame

from balance.codec.http2.defences import EARNED, ConnectionFault
from balance.codec.http2.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    PingAcknowledged,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
)
from balance.codec.http2.h2_connection import HeaderBlock
from balance.codec.http2.h2_send import HIGHEST_STREAM, PING_DATA, Sender, Stream
from balance.codec.http2.heads import secrets_of, trailer_fields
from balance.codec.http2.session import Code
from balance.errors import ExchangeError

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

#: Frames of one length only (section 6), and those that belong to the connection only.
_LENGTHS: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_CONNECTION_ONLY: Final = frozenset((SETTINGS, PING, GOAWAY))
_STREAM_ONLY: Final = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION))
_KNOWN: Final = frozenset(SettingCodes)

_HEAD: Final = Struct(">IBI")
_WORD: Final = Struct(">I")
_SETTING: Final = Struct(">HI")


class Receiver(Sender):
    """What both sides read in the same way."""

    __slots__ = ()

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
        except ProtocolError as error:
            self._end(ConnectionFault(int(error.error_code), str(error)))
        return events

    def _read(self, data: bytes) -> None:
        if self._preface:
            data = self._read_preface(data)
        if self._buffer:
            data = self._buffer + data
        at, size = 0, len(data)
        largest = self._options.max_frame_size
        while size - at >= 9:
            word, flags, stream_id = _HEAD.unpack_from(data, at)
            length = word >> 8
            if length > largest:  # section 4.2
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
            end = at + 9 + length
            if end > size:
                break
            self._frame(word & 0xFF, flags, stream_id & HIGHEST_STREAM, data[at:end])
            at = end
        self._buffer = data[at:]

    def _read_preface(self, data: bytes) -> bytes:
        """Section 3.4."""
        wanted = self._preface
        size = min(len(wanted), len(data))
        if data[:size] != wanted[:size]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not the preface of HTTP/2")
        self._preface = wanted[size:]
        return data[size:]

    # --- frames -----------------------------------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        if not self._settings_heard and (kind != SETTINGS or flags & ACK):  # section 3.4
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._block and (kind != CONTINUATION or stream_id != self._block):  # section 6.10
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
        self._check_shape(kind, stream_id, len(frame) - 9)
        if kind == HEADERS:
            self._on_headers(stream_id, flags, frame)
        elif kind == DATA:
            self._on_data(stream_id, flags, frame)
        elif kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, frame)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream_id, frame)
        elif kind == SETTINGS:
            self._on_settings(flags, frame)
        elif kind == PING:
            self._on_ping(flags, frame)
        elif kind == CONTINUATION:
            self._on_continuation(flags, frame)
        elif kind == GOAWAY:
            self._on_goaway(frame)
        elif kind == PUSH_PROMISE:  # section 8.4: we never allow it
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE")
        else:  # PRIORITY is deprecated (section 5.3.2), and unknown types are ignored (section 5.5)
            self._defences.control()

    @staticmethod
    def _check_shape(kind: int, stream_id: int, length: int) -> None:
        if kind in _CONNECTION_ONLY if stream_id else kind in _STREAM_ONLY:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of a stream that it cannot be of")
        if length != _LENGTHS.get(kind, length):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame of a wrong length")

    @staticmethod
    def _padding(flags: int, frame: bytes, fixed: int) -> int:
        """Bytes of padding (sections 6.1 and 6.2). `h2` does not look at frames that it does not get, and takes HEADERS
        that are full of padding for too full.
        """
        room = len(frame) - 9 - fixed
        if room < 0:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame too short for its padding or priority")
        padding = frame[9] if flags & PADDED else 0
        if padding > room:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than there is room")
        return padding

    # --- heads ------------------------------------------------------------------------------------------------

    def _on_headers(self, stream_id: int, flags: int, frame: bytes) -> None:
        """Section 6.2. Neither priority, which is deprecated (section 5.3.2), nor padding is handed on."""
        fixed = (1 if flags & PADDED else 0) + (5 if flags & PRIORITISED else 0)
        block = frame[9 + fixed : len(frame) - self._padding(flags, frame, fixed)]
        if flags & END_HEADERS:
            self._head(self._connection.unpack(stream_id, block, bool(flags & END_STREAM)))
            return
        self._block = stream_id
        self._block_ended = bool(flags & END_STREAM)
        self._block_parts = [block]

    def _on_continuation(self, flags: int, frame: bytes) -> None:
        """Section 6.10."""
        stream_id, parts = self._block, self._block_parts
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS before it")
        self._defences.continuation(len(parts))
        parts.append(frame[9:])
        if flags & END_HEADERS:
            self._block = 0
            self._block_parts = []
            self._head(self._connection.unpack(stream_id, b"".join(parts), self._block_ended))

    def _head(self, block: HeaderBlock) -> None:
        """A request, a response, trailers."""
        raise NotImplementedError

    def _trailers(self, stream: Stream, block: HeaderBlock, bad: type[ExchangeError]) -> None:
        """HEADERS after the head (section 8.1)."""
        if stream.remote_ended:
            self._fault(stream, Code.STREAM_CLOSED, "HEADERS after END_STREAM")
        elif stream.refused:
            if block.ended:
                self._remote_end(stream, tell=True)
        elif stream.tunnel:
            self._fault(stream, Code.PROTOCOL_ERROR, "HEADERS in a tunnel")
        elif not block.ended:
            self._fault(stream, Code.PROTOCOL_ERROR, "trailers without END_STREAM")
        elif stream.expected > 0:
            self._fault(stream, Code.PROTOCOL_ERROR, "the body is shorter than its Content-Length")
        else:
            try:
                trailers = trailer_fields(block.fields, bad)
                trailers.secret = secrets_of(block.fields)
            except ExchangeError as error:
                self._fault(stream, Code.PROTOCOL_ERROR, error.detail)
                return
            self._events.append(TrailersReceived(stream.id, trailers))
            self._remote_end(stream, tell=True)

    # --- bodies -----------------------------------------------------------------------------------------------

    def _on_data(self, stream_id: int, flags: int, frame: bytes) -> None:
        """Section 6.1."""
        self._padding(flags, frame, 1 if flags & PADDED else 0)
        size = len(frame) - 9
        stream = self._streams.get(stream_id)
        fault = None if stream is None else self._data_fault(stream, size)
        if stream is None or fault is not None:
            self._connection.consume(size)
            self._give_back(size)
            if stream is None or fault is None:
                self._absent(stream_id)
            else:
                self._fault(stream, *fault)
            return
        data = b""
        if size:  # nothing is no matter of windows, which may be negative (section 6.9.2); to `h2` it is
            event = self._connection.feed(frame)[0]
            assert isinstance(event, H2Data)
            data = event.data
        self._give_back(size)
        ended = bool(flags & END_STREAM)
        if not data and not ended:
            self._defences.control()
        self._body(stream, data, size, ended)

    def _data_fault(self, stream: Stream, size: int) -> tuple[Code, str] | None:
        if stream.remote_ended:  # section 5.1
            return Code.STREAM_CLOSED, "DATA after END_STREAM"
        if not stream.answered and self._connection.config.client_side:
            return Code.PROTOCOL_ERROR, "DATA before the response's head"
        if size and size > self._connection.inbound_room(stream.id):  # section 6.9.1
            return Code.FLOW_CONTROL_ERROR, "more DATA than the stream's window"
        return None

    def _body(self, stream: Stream, data: bytes, size: int, ended: bool) -> None:
        if stream.refused:
            self.acknowledge(stream.id, size)
        else:
            if stream.expected >= 0:  # section 8.1.1
                left = stream.expected - len(data)
                if left < 0 or (ended and left):
                    self._fault(stream, Code.PROTOCOL_ERROR, "the body is not as long as its Content-Length")
                    return
                stream.expected = left
            if data or ended:
                self._events.append(DataReceived(stream.id, data, size, ended))
            else:
                self.acknowledge(stream.id, size)  # padding alone
        if ended:
            self._remote_end(stream, tell=not size)

    def _give_back(self, size: int) -> None:
        """To the connection, on receipt: each stream has its own bound, and one that nobody reads stalls no other."""
        self._connection_due += size
        if self._connection_due * 2 >= self._options.connection_window:
            self._connection.increment_flow_control_window(self._connection_due)
            self._connection_due = 0

    # --- streams ----------------------------------------------------------------------------------------------

    def _idle(self, stream_id: int) -> bool:
        """Nobody has opened that stream: odd ids are the client's, and even ones would be pushed (section 5.1.1)."""
        return stream_id % 2 == 0 or stream_id > self._last_id

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
        self._put(self._rst(stream_id, Code.STREAM_CLOSED))
        self._defences.reset()

    def _fault(self, stream: Stream, code: int, reason: str) -> None:
        """The peer broke a rule of a stream (section 5.4.2)."""
        self._put(self._rst(stream.id, code))
        self._drop(stream.id, True)
        self._events.append(StreamReset(stream.id, code, False, reason))
        self._defences.reset()

    def _open(self, stream_id: int) -> Stream:
        stream = self._streams[stream_id] = Stream(stream_id)
        self.open_streams += 1
        self._defences.credit += EARNED
        return stream

    def _on_rst_stream(self, stream_id: int, frame: bytes) -> None:
        """Section 6.4."""
        if self._idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        if stream_id not in self._streams:
            self._defences.control()
            return
        self._connection.feed(frame)
        self._drop(stream_id, False)
        self._events.append(StreamReset(stream_id, _WORD.unpack_from(frame, 9)[0], True))
        self._heard_reset()

    def _heard_reset(self) -> None:
        """The peer reset a stream."""
        raise NotImplementedError

    def _on_window_update(self, stream_id: int, frame: bytes) -> None:
        """Section 6.9."""
        increment = _WORD.unpack_from(frame, 9)[0] & HIGHEST_STREAM
        self._defences.answer()
        stream = self._streams.get(stream_id)
        if stream_id and stream is None:
            if self._idle(stream_id):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened")
            return  # section 5.1: it may have crossed the stream's end
        if stream is None:
            if not increment:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        elif not increment:
            self._fault(stream, Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            return
        elif self.stream_room(stream_id) + increment > HIGHEST_STREAM:  # 2**31 - 1 is the limit of both
            self._fault(stream, Code.FLOW_CONTROL_ERROR, "the stream's window is too large")
            return
        self._connection.feed(frame[:9] + _WORD.pack(increment))  # `h2` keeps the reserved bit
        self._flush(stream_id)

    # --- the connection ---------------------------------------------------------------------------------------

    def _on_settings(self, flags: int, frame: bytes) -> None:
        """Section 6.5. Only what is known goes to `h2`, which would keep each unknown setting."""
        if (len(frame) - 9) % 6 or (flags & ACK and len(frame) > 9):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        self._defences.settings((len(frame) - 9) // 6)
        if flags & ACK:
            self._settings_known = True
            self._connection.feed(frame)
            return
        remote = self._connection.remote_settings
        wanted: dict[int, int] = {}
        for name, value in _SETTING.iter_unpack(frame[9:]):
            if name in _KNOWN:
                remote.validate_received_setting(name, value)
                wanted[name] = value
        if SettingCodes.HEADER_TABLE_SIZE in wanted:  # how large our table is, is ours to say below that
            size = min(wanted[SettingCodes.HEADER_TABLE_SIZE], self._options.header_table_size)
            wanted[SettingCodes.HEADER_TABLE_SIZE] = size
        if self.peer_connect and wanted.get(SettingCodes.ENABLE_CONNECT_PROTOCOL, 1) == 0:  # RFC 8441, section 3
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_CONNECT_PROTOCOL taken back")
        rewritten = SettingsFrame(0)
        rewritten.settings = wanted
        self._connection.feed(rewritten.serialize())
        self._settings_heard = True
        self.peer_max_streams = remote.get(SettingCodes.MAX_CONCURRENT_STREAMS, HIGHEST_STREAM)
        self.peer_connect = bool(remote.enable_connect_protocol)
        self._events.append(SettingsReceived())
        self._flush(0)

    def _on_ping(self, flags: int, frame: bytes) -> None:
        """Section 6.7. `h2` answers."""
        if flags & ACK and self._pings and frame[9:] == PING_DATA:
            self._pings -= 1
            self._events.append(PingAcknowledged())
            return
        self._defences.answer()
        self._connection.feed(frame)

    def _on_goaway(self, frame: bytes) -> None:
        """Section 6.8. `h2` takes it for the end of the connection; streams go on to theirs."""
        if len(frame) < 17:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY has at least eight bytes")
        if self._goaway_heard:
            self._defences.control()
        self._goaway_heard = True
        last = _WORD.unpack_from(frame, 9)[0] & HIGHEST_STREAM
        self._events.append(GoAwayReceived(last, _WORD.unpack_from(frame, 13)[0]))
        if self._goaway_said and not self._streams:
            self.closed = True
