"""What a peer says about its connection, its limits and its windows (RFC 9113, sections 6.5 to 6.9).

Rule of this file: as in `lean_session`, a broken rule of the connection raises `ConnectionFault` (section 5.4.1), one
of a stream resets the stream (section 5.4.2).
"""

from __future__ import annotations

from balance.codec.http2 import lean_frames as frames
from balance.codec.http2.defences import CREDIT_MAX, ConnectionFault
from balance.codec.http2.events import GoAwayReceived, PingAcknowledged, SettingsReceived, StreamReset
from balance.codec.http2.lean_frames import MAX_WINDOW
from balance.codec.http2.lean_stream import Stream
from balance.codec.http2.lean_wire import LARGEST_FRAME, PING_DATA, LeanWire
from balance.codec.http2.session import Code


class LeanControl(LeanWire):
    """Frames that carry no message."""

    __slots__ = ()

    def _idle(self, stream_id: int) -> bool:
        """Nobody has opened that stream: odd ids are the client's, and even ones would be pushed (section 5.1.1)."""
        return not stream_id & 1 or stream_id > self._last_id

    def _fault(self, stream: Stream, code: int, reason: str) -> None:
        """The peer broke a rule of a stream (section 5.4.2)."""
        self._out.append(frames.rst_stream(stream.id, code))
        self._drop(stream.id, True)
        self._events.append(StreamReset(stream.id, code, False, reason))
        self._defences.reset()

    # --- the connection ---------------------------------------------------------------------------------------

    def _on_window_update(self, stream_id: int, increment: int) -> None:
        """Section 6.9."""
        increment &= MAX_WINDOW
        defences = self._defences
        if 0 < defences.credit <= CREDIT_MAX:
            defences.credit -= 1
        else:
            defences.answer()
        if not stream_id:
            if not increment:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._send_window += increment
            if self._send_window > MAX_WINDOW:  # section 6.9.1
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
        else:
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
        if self.queued:
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
        self._defences.answer()
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
