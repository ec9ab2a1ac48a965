"""One end of an HTTP/2 connection on asyncio, with the `h2` package, which knows nothing of Balance.

Rule of this file: it moves bytes and waits for windows. What is said, and what is checked, is in `backends` and `clients`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h2.config
import h2.connection
import h2.events
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame

Fields = list[tuple[bytes, bytes]]


class Lost(Exception):
    """The stream, or the connection, has ended too soon. ``code`` of RST_STREAM; None when the connection is gone."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"reset with code {code}" if code is not None else "the connection is gone")
        self.code = code


class Stream:
    """What came on one stream, to be waited for piece by piece."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.head: Fields | None = None
        self.trailers: Fields = []
        self.ended = False
        self._pieces: list[tuple[bytes, int]] = []
        self._lost: Lost | None = None
        self._changed = asyncio.Event()

    def told(self) -> None:
        self._changed.set()

    def fail(self, code: int | None) -> None:
        self._lost = self._lost or Lost(code)
        self.told()

    def drop(self) -> None:
        """What has come and was not read counts for the connection's window."""
        pieces, self._pieces = self._pieces, []
        for _, size in pieces:
            self.wire.acknowledge(self.number, size)

    def check(self) -> None:
        """:raises Lost: it is"""
        if self._lost is not None:
            raise self._lost

    def add(self, data: bytes, size: int) -> None:
        self._pieces.append((data, size))
        self.told()

    async def _change(self) -> None:
        self.check()
        self._changed.clear()
        await self._changed.wait()

    async def answer(self) -> dict[bytes, bytes]:
        """The head of the response."""
        while self.head is None:
            await self._change()
        return dict(self.head)

    async def read(self) -> bytes:
        """The next piece of the body, which is acknowledged by that; empty at its end."""
        while not self._pieces:
            if self.ended:
                return b""
            await self._change()
        data, size = self._pieces.pop(0)
        if size:
            self.wire.acknowledge(self.number, size)
        return data

    async def body(self) -> bytes:
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """All of it, at the pace of the windows."""
        connection = self.wire.connection
        at = 0
        while at < len(data):
            self.check()
            room = min(connection.local_flow_control_window(self.number), connection.max_outbound_frame_size)
            if room <= 0:
                await self.wire.window()
                continue
            piece = data[at : at + room]
            at += len(piece)
            connection.send_data(self.number, piece, end_stream=end and at == len(data))
            self.wire.flush()
            await self.wire.drain()

    def send_fields(self, fields: Fields, *, end: bool = False) -> None:
        self.check()
        self.wire.connection.send_headers(self.number, fields, end_stream=end)
        self.wire.flush()

    def reset(self, code: int) -> None:
        self.check()
        self.wire.connection.reset_stream(self.number, code)
        self.wire.flush()
        self.wire.over(self)


class Wire(asyncio.Protocol):
    """The connection."""

    def __init__(self, *, client: bool) -> None:
        config = h2.config.H2Configuration(client_side=client, header_encoding=None)
        self.connection = h2.connection.H2Connection(config)
        self.streams: dict[int, Stream] = {}
        self.gone = asyncio.Event()
        #: The peer takes no more streams.
        self.going = False
        #: We take no more than this one.
        self.last_taken: int | None = None
        self.highest = 0
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._window = asyncio.Event()

    # --- asyncio ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.connection.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.gone.set()
        self._writable.set()
        self._window.set()
        for stream in list(self.streams.values()):
            stream.fail(None)
        self.streams.clear()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self.connection.receive_data(data):
                self._saw(event)
        except ProtocolError:
            self.flush()
            self.close()
            raise
        self.flush()
        if self.last_taken is not None and not self.streams:
            self.close()

    # --- what comes ---------------------------------------------------------------------------------------------

    def opened(self, stream: Stream) -> None:
        """A request has come."""

    def _saw(self, event: Any) -> None:
        number = getattr(event, "stream_id", 0) or 0
        if isinstance(event, h2.events.RequestReceived):
            if self.last_taken is None or number <= self.last_taken:
                self.highest = max(self.highest, number)
                stream = self.streams[number] = Stream(self, number)
                stream.head = list(event.headers)
                self.opened(stream)
            return
        if isinstance(event, h2.events.ConnectionTerminated):
            self.going = True
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self._window.set()
        stream_or_none = self.streams.get(number)
        if stream_or_none is None:
            if isinstance(event, h2.events.DataReceived):
                self.acknowledge(number, event.flow_controlled_length)
            return
        stream = stream_or_none
        if isinstance(event, h2.events.ResponseReceived):
            stream.head = list(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.add(event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.fail(int(event.error_code))
            self._window.set()
        stream.told()

    # --- what goes ----------------------------------------------------------------------------------------------

    def open(self, fields: Fields, *, end: bool) -> Stream:
        """A request."""
        stream = Stream(self, self.connection.get_next_available_stream_id())
        self.streams[stream.number] = stream
        stream.send_fields(fields, end=end)
        return stream

    def over(self, stream: Stream) -> None:
        """Nobody wants the stream any more."""
        self.streams.pop(stream.number, None)
        stream.drop()
        if self.last_taken is not None and not self.streams:
            self.close()

    def acknowledge(self, number: int, size: int) -> None:
        if size and self._transport is not None:
            try:
                self.connection.acknowledge_received_data(size, number)
            except ProtocolError:  # its stream is closed: only the connection's window opens
                self.connection.increment_flow_control_window(size)
            self.flush()

    def go_away(self) -> None:
        """Take no more streams, abruptly: what is under way above the last one was not looked at. `h2` would take the
        connection for closed, so it is not told.
        """
        if self.last_taken is None and self._transport is not None:
            self.last_taken = self.highest
            self.flush()
            frame = GoAwayFrame(0, last_stream_id=self.last_taken, error_code=0)
            self._transport.write(frame.serialize())

    def flush(self) -> None:
        data = self.connection.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    async def window(self) -> None:
        """Until some window may have opened."""
        if self.gone.is_set():
            raise Lost(None)
        self._window.clear()
        await self._window.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
