"""HTTP/2 frames as a peer would write them, right or wrong, and a reader for what a session writes.

Rule of this file: it knows nothing of `balance`. `hyperframe` reads what a session writes, so that a mistake of ours is
not read by the same mistake; frames to be sent are put together by hand, so that they can be wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hpack import Decoder, Encoder
from hyperframe.frame import Frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL = 6, 8

Field = tuple[bytes, bytes]

GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a.example")]
POST: list[Field] = [(b":method", b"POST"), *GET[1:]]
CONNECT: list[Field] = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
OK: list[Field] = [(b":status", b"200")]


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    """Any frame at all."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def data(stream_id: int, body: bytes = b"", *, ended: bool = False, padding: int | None = None) -> bytes:
    flags = END_STREAM if ended else 0
    if padding is None:
        return frame(DATA, flags, stream_id, body)
    return frame(DATA, flags | PADDED, stream_id, bytes([padding]) + body + bytes(padding))


def rst_stream(stream_id: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def settings_ack() -> bytes:
    return frame(SETTINGS, ACK)


def ping(body: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, body)


def goaway(last: int = 0, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", increment))


def priority(stream_id: int, depends_on: int = 0) -> bytes:
    return frame(PRIORITY, 0, stream_id, struct.pack(">IB", depends_on, 15))


class Packer:
    """Header blocks of one peer. By default nothing is indexed, so that blocks are independent of each other."""

    def __init__(self, *, index: bool = False) -> None:
        self.encoder = Encoder()
        self.index = index

    def block(self, fields: Iterable[Field]) -> bytes:
        return self.encoder.encode([(name, value, not self.index) for name, value in fields])

    def headers(
        self,
        stream_id: int,
        fields: Iterable[Field],
        *,
        ended: bool = False,
        padding: int | None = None,
        prioritised: bool = False,
        pieces: int = 1,
    ) -> bytes:
        """HEADERS, with ``pieces`` - 1 CONTINUATION frames after it."""
        block = self.block(fields)
        size = -(-len(block) // pieces)
        parts = [block[i * size : (i + 1) * size] for i in range(pieces)]
        flags = (END_STREAM if ended else 0) | (END_HEADERS if pieces == 1 else 0)
        payload = parts[0]
        if prioritised:
            flags |= PRIORITISED
            payload = struct.pack(">IB", stream_id, 15) + payload  # depends on itself: no error any more
        if padding is not None:
            flags |= PADDED
            payload = bytes([padding]) + payload + bytes(padding)
        out = [frame(HEADERS, flags, stream_id, payload)]
        for number, part in enumerate(parts[1:], 2):
            out.append(frame(CONTINUATION, END_HEADERS if number == pieces else 0, stream_id, part))
        return b"".join(out)


class Written(NamedTuple):
    """A frame that a session wrote, as far as tests look at it."""

    kind: str
    stream_id: int
    flags: frozenset[str]
    #: What the kind has: DATA bytes, decoded fields of a header block, an error code, an increment, settings.
    value: Any

    @property
    def ended(self) -> bool:
        return "END_STREAM" in self.flags


class Reader:
    """What a session writes, as its peer reads it."""

    def __init__(self, *, preface: bool = False) -> None:
        self.decoder = Decoder(max_header_list_size=1 << 20)
        self._preface = preface
        self._buffer = b""
        self._block: tuple[Any, bytes] | None = None

    def read(self, raw: bytes) -> list[Written]:
        """Whole frames, each checked by `hyperframe`."""
        if self._preface and raw:
            assert raw.startswith(PREFACE), raw[:24]
            raw = raw[len(PREFACE) :]
            self._preface = False
        return list(self._frames(raw))

    def _frames(self, raw: bytes) -> Iterator[Written]:
        while raw:
            read, length = Frame.parse_frame_header(memoryview(raw[:9]))
            assert len(raw) >= 9 + length, "a session writes whole frames"
            read.parse_body(memoryview(raw[9 : 9 + length]))
            raw = raw[9 + length :]
            written = self._written(read)
            if written is not None:
                yield written

    def _written(self, read: Any) -> Written | None:
        kind = type(read).__name__.removesuffix("Frame")
        flags = frozenset(read.flags)
        if kind in ("Headers", "Continuation"):
            first, block = self._block or (read, b"")
            assert first.stream_id == read.stream_id, "a header block is interrupted"
            block += read.data
            if "END_HEADERS" not in flags:
                self._block = first, block
                return None
            self._block = None
            fields = list(self.decoder.decode(block, raw=True))
            return Written("Headers", first.stream_id, frozenset(first.flags), fields)
        assert self._block is None, "a header block is interrupted"
        return Written(kind, read.stream_id, flags, _value(kind, read))


def _value(kind: str, read: Any) -> Any:
    if kind == "Data":
        return read.data
    if kind == "RstStream":
        return read.error_code
    if kind == "GoAway":
        return read.last_stream_id, read.error_code
    if kind == "WindowUpdate":
        return read.window_increment
    if kind == "Settings":
        return dict(read.settings)
    if kind == "Ping":
        return read.opaque_data
    return None
