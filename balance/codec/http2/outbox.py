"""Bodies that wait for the peer's flow-control windows (RFC 9113, section 5.2).

Rule of this file: it keeps bytes and takes turns; windows and frames belong to the session (`Wire`). A body that fits
into the windows never comes here: the session asks ``stream_id in outbox`` and writes it itself.

Streams take turns of one frame each when the connection's window opens, so that a large download does not starve a
small one; whose turn was cut short by the window comes last the next time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from balance.codec.http2.heads import Field

#: Pieces smaller than that are joined as they come: a body fed byte by byte is not to cost an object a byte.
_JOIN: Final = 2048


class Wire(Protocol):
    """What the session does for the outbox."""

    def connection_room(self) -> int:
        """Bytes that the connection's window takes; not positive: none."""

    def stream_room(self, stream_id: int) -> int:
        """Bytes that the stream's window takes, whatever the connection's; negative is possible (section 6.9.2)."""

    def frame_room(self) -> int:
        """Bytes that one DATA frame takes (SETTINGS_MAX_FRAME_SIZE of the peer)."""

    def put_data(self, stream_id: int, data: bytes, ended: bool, cut: bool) -> None:
        """Write one DATA frame and take it off both windows.

        :param ended: with END_STREAM
        :param cut: a window decided how large it is (see `balance.codec.http2.defences.Defences.earn`)
        """

    def put_trailers(self, stream_id: int, trailers: Sequence[Field]) -> None:
        """Write HEADERS with END_STREAM."""


class _Queue:
    """What waits for one stream. Never empty."""

    __slots__ = ("ended", "offset", "pieces", "size", "trailers")

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.offset = 0  # of the first piece, that much has gone out
        self.size = 0
        self.ended = False
        self.trailers: Sequence[Field] | None = None

    def add(self, data: bytes) -> None:
        self.size += len(data)
        pieces = self.pieces
        if len(data) < _JOIN and pieces and len(pieces[-1]) < _JOIN:
            pieces[-1] += data
        else:
            pieces.append(data)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, which are there."""
        self.size -= size
        pieces, offset = self.pieces, self.offset
        end = offset + size
        first = pieces[0]
        if end < len(first):
            self.offset = end
            return first[offset:end]
        taken = [pieces.popleft()[offset:]]
        size -= len(taken[0])
        while size and size >= len(pieces[0]):
            taken.append(pieces.popleft())
            size -= len(taken[-1])
        if size:
            taken.append(pieces[0][:size])
        self.offset = size
        return taken[0] if len(taken) == 1 else b"".join(taken)


class Outbox:
    """The queues of one connection. ``queued``: bytes in all of them."""

    __slots__ = ("_queues", "_wire", "queued")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._queues: dict[int, _Queue] = {}  # whose turn is next comes first
        self.queued = 0

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._queues

    def __bool__(self) -> bool:
        return bool(self._queues)

    def waiting(self, stream_id: int) -> int:
        """Bytes that wait for the stream's turn or window."""
        queue = self._queues.get(stream_id)
        return 0 if queue is None else queue.size

    def add(self, stream_id: int, data: bytes, ended: bool) -> None:
        """Queue data, which is not empty unless something waits already.

        :param ended: nothing follows, not even trailers
        """
        queue = self._queues.get(stream_id)
        if queue is None:
            queue = self._queues[stream_id] = _Queue()
        if data:
            queue.add(data)
            self.queued += len(data)
        queue.ended = ended

    def end(self, stream_id: int, trailers: Sequence[Field] | None) -> None:
        """End a stream that waits, after what waits."""
        queue = self._queues[stream_id]
        queue.ended = not trailers
        queue.trailers = trailers or None

    def drop(self, stream_id: int) -> None:
        """The stream is over."""
        queue = self._queues.pop(stream_id, None)
        if queue is not None:
            self.queued -= queue.size

    def clear(self) -> None:
        """The connection is over."""
        self._queues.clear()
        self.queued = 0

    def flush_stream(self, stream_id: int) -> bool:
        """The stream's window has opened.

        :returns: something waited, and nothing does any more
        """
        queue = self._queues.get(stream_id)
        if queue is None:
            return False
        room = self._wire.connection_room()
        while room > 0 and (sent := self._put(stream_id, queue, room)):
            if not queue.size:
                return True
            room -= sent
        return False

    def flush(self) -> list[int]:
        """The connection's window has opened, or all streams' have.

        :returns: the streams for which something waited, and nothing does any more
        """
        queues = self._queues
        room = self._wire.connection_room()
        written: list[int] = []
        turn = list(queues)
        while room > 0 and turn:
            again: list[int] = []
            for stream_id in turn:
                queue = queues[stream_id]
                sent = self._put(stream_id, queue, room)
                if not sent:
                    continue
                if queue.size:
                    again.append(stream_id)
                    queues[stream_id] = queues.pop(stream_id)
                else:
                    written.append(stream_id)
                room -= sent
                if room <= 0:
                    break
            turn = again
        return written

    def _put(self, stream_id: int, queue: _Queue, room: int) -> int:
        """Write one frame of the stream, and its end after the last.

        :param room: of the connection, positive
        :returns: the bytes of data in it; 0: the stream's window is closed
        """
        wire = self._wire
        size = min(room, wire.stream_room(stream_id))
        if size <= 0:
            return 0
        largest = min(queue.size, wire.frame_room())
        cut = size < largest
        if not cut:
            size = largest
        last = size == queue.size
        data = queue.take(size)
        self.queued -= size
        if last:
            del self._queues[stream_id]
        wire.put_data(stream_id, data, last and queue.ended, cut)
        if last and queue.trailers is not None:
            wire.put_trailers(stream_id, queue.trailers)
        return size
