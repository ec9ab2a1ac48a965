"""Frames as bytes (RFC 9113, sections 4 and 6): their numbers, how their head is read, how each kind is written.

Rule of this file: no frame objects. Reading is one `unpack` at an offset of the buffer; writing appends to a list that
is joined once, so that a body is copied only there.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# Frame types (RFC 9113, section 6).
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

# Settings (RFC 9113, section 6.5.2; RFC 8441, section 3).
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8

#: What both sides start from (RFC 9113, section 6.5.2).
DEFAULT_FRAME_SIZE: Final = 16 * 1024
DEFAULT_WINDOW: Final = 65535
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1

_HEAD: Final = Struct(">IBI")
_SETTING: Final = Struct(">HI")
_WORD: Final = Struct(">I")
_TWO_WORDS: Final = Struct(">II")

#: (length and type in one word, flags, stream id with its reserved bit) of the frame at an offset.
read_head: Final = _HEAD.unpack_from
write_head: Final = _HEAD.pack
read_word: Final = _WORD.unpack_from

SETTINGS_ACK: Final = _HEAD.pack(SETTINGS, ACK, 0)


def settings(values: list[tuple[int, int]]) -> bytes:
    body = b"".join([_SETTING.pack(name, value) for name, value in values])
    return _HEAD.pack(len(body) << 8 | SETTINGS, 0, 0) + body


def read_settings(body: bytes) -> list[tuple[int, int]]:
    """(name, value) pairs, in order; ``body`` is a multiple of six bytes."""
    return list(_SETTING.iter_unpack(body))


def window_update(stream_id: int, increment: int) -> bytes:
    return _HEAD.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id) + _WORD.pack(increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    return _HEAD.pack(4 << 8 | RST_STREAM, 0, stream_id) + _WORD.pack(code)


def ping(data: bytes, flags: int) -> bytes:
    return _HEAD.pack(8 << 8 | PING, flags, 0) + data


def goaway(last_stream_id: int, code: int) -> bytes:
    return _HEAD.pack(8 << 8 | GOAWAY, 0, 0) + _TWO_WORDS.pack(last_stream_id, code)


def read_goaway(body: bytes) -> tuple[int, int]:
    """(last stream id, error code)."""
    last, code = _TWO_WORDS.unpack_from(body)
    return last & MAX_STREAM_ID, code


def headers(out: list[bytes | memoryview], stream_id: int, block: bytes, ended: bool, size: int) -> None:
    """HEADERS, and CONTINUATION for what one frame of ``size`` does not take (RFC 9113, section 4.3)."""
    flags = END_STREAM if ended else 0
    length = len(block)
    if length <= size:
        out.append(_HEAD.pack(length << 8 | HEADERS, flags | END_HEADERS, stream_id) + block)
        return
    out.append(_HEAD.pack(size << 8 | HEADERS, flags, stream_id) + block[:size])
    for start in range(size, length, size):
        part = block[start : start + size]
        flags = END_HEADERS if start + size >= length else 0
        out.append(_HEAD.pack(len(part) << 8 | CONTINUATION, flags, stream_id) + part)


def data(out: list[bytes | memoryview], stream_id: int, body: bytes | memoryview, ended: bool, size: int) -> None:
    """DATA frames of at most ``size``. The body is not copied."""
    length = len(body)
    flags = END_STREAM if ended else 0
    if length <= size:
        out.append(_HEAD.pack(length << 8 | DATA, flags, stream_id))
        if length:
            out.append(body)
        return
    view = memoryview(body)
    for start in range(0, length, size):
        end = start + size
        if end >= length:
            out.append(_HEAD.pack((length - start) << 8 | DATA, flags, stream_id))
        else:
            out.append(_HEAD.pack(size << 8 | DATA, 0, stream_id))
        out.append(view[start:end])
