"""Reading bodies: by length, chunked, until close (RFC 9112, sections 6.3 and 7.1).

Rule of this file: a reader is fed what arrives, gives back the payload in it, and says when the body has ended and
what was left over. It never holds more than one incomplete chunk line or trailer section.
"""

from __future__ import annotations

import re
from typing import Final

from balance.codec.http1.grammar import CRLF, HeadLimits, parse_fields, split_head
from balance.errors import BadRequest, BadResponse, ExchangeError, HeadTooLarge, ResponseTooLarge
from balance.model import CHUNKED, UNTIL_CLOSE, Headers

#: chunk-size, up to 15 hex digits, and extensions without control characters.
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
#: What may still become such a line: refused early, nobody waits for the end of garbage.
_CHUNK_LINE_BEGUN: Final = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?)?")
_CHUNK_LINE_SIZE: Final = 4096
#: Bytes of chunk overhead beyond 16 a chunk and twice its payload (net/http's rule against extension floods).
_WASTE_LIMIT: Final = 16 * 1024
_TRAILER_LIMITS: Final = HeadLimits(size=16 * 1024, fields=100)

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class BodyReader:
    """What the readers have in common.

    ``ended`` turns true with the last byte; ``rest`` then holds the bytes that follow the body, ``trailers`` the
    trailer fields of a chunked one.
    """

    __slots__ = ("ended", "rest", "trailers")

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self.trailers: Headers | None = None

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``."""
        raise NotImplementedError

    def close(self) -> bool:
        """The connection ended. Is the body complete?"""
        return self.ended

    @staticmethod
    def of(length: int, bad: type[ExchangeError]) -> BodyReader:
        """The reader for a message of that ``length`` (`balance.model`), which is not 0."""
        if length == CHUNKED:
            return ChunkedReader(bad)
        if length == UNTIL_CLOSE:
            return CloseReader()
        return LengthReader(length)


class LengthReader(BodyReader):
    """A body of a known number of bytes."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        super().__init__()
        self.remaining = length

    def feed(self, data: bytes) -> bytes:
        remaining = self.remaining - len(data)
        if remaining > 0:
            self.remaining = remaining
            return data
        self.ended = True
        if remaining < 0:
            self.rest = data[self.remaining :]
            data = data[: self.remaining]
        self.remaining = 0
        return data


class CloseReader(BodyReader):
    """A body that ends with its connection."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> bool:
        self.ended = True
        return True


class ChunkedReader(BodyReader):
    """A chunked body: strict about every CRLF, because a lenient reader is how chunked bodies smuggle."""

    __slots__ = ("_bad", "_pending", "_remaining", "_state", "_waste")

    def __init__(self, bad: type[ExchangeError] = BadRequest) -> None:
        super().__init__()
        self._bad = bad
        self._state = _SIZE
        self._remaining = 0
        self._pending = b""
        self._waste = 0

    def feed(self, data: bytes) -> bytes:
        """
        :raises BadRequest, BadResponse: as chosen at construction; nothing of the body can be trusted after that
        """
        if self._pending:
            data = self._pending + data
            self._pending = b""
        payload: list[bytes] = []
        position = 0
        size = len(data)
        while position < size and self._state != _DONE:
            if self._state == _DATA:
                end = min(size, position + self._remaining)
                payload.append(data[position:end])
                self._remaining -= end - position
                position = end
                if not self._remaining:
                    self._state = _DATA_END
            elif self._state == _DATA_END:
                if size - position < 2:
                    if data[position:] != b"\r":
                        raise self._bad("chunk data is not followed by CRLF")
                    break
                if data[position : position + 2] != CRLF:
                    raise self._bad("chunk data is not followed by CRLF")
                position += 2
                self._state = _SIZE
            elif self._state == _SIZE:
                end = self._line_end(data, position)
                if end < 0:
                    break
                self._chunk_line(data[position:end])
                position = end + 2
            else:
                position = self._read_trailers(data, position)
                if self._state != _DONE:
                    break
        if self._state == _DONE:
            self.ended = True
            self.rest = data[position:]
        else:
            self._pending = data[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _line_end(self, data: bytes, position: int) -> int:
        end = data.find(CRLF, position)
        line = data[position:] if end < 0 else data[position:end]
        if len(line) > _CHUNK_LINE_SIZE:
            raise self._bad("a chunk line is too long")
        if end < 0 and _CHUNK_LINE_BEGUN.fullmatch(line) is None:
            raise self._bad("invalid chunk size")
        return end

    def _chunk_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise self._bad("invalid chunk size")
        size = int(match[1], 16)
        self._waste = max(0, self._waste + len(line) + 4 - 16 - 2 * size)
        if self._waste > _WASTE_LIMIT:
            raise self._bad("chunked coding with too much overhead")
        self._remaining = size
        self._state = _DATA if size else _TRAILERS

    def _read_trailers(self, data: bytes, position: int) -> int:
        """The trailer section and the empty line that ends it. Returns the new position."""
        if data.startswith(CRLF, position):
            self._state = _DONE
            return position + 2
        end = data.find(b"\r\n\r\n", position)
        section = data[position:] if end < 0 else data[position:end]
        if len(section) > _TRAILER_LIMITS.size:
            raise self._too_large("the trailer section is too large")
        if end < 0:
            if section.count(b"\n") != section.count(CRLF):
                raise self._bad("a bare LF in the trailer section")
            return position
        lines = split_head(section, _TRAILER_LIMITS, self._bad, self._too_large)
        if len(lines) > _TRAILER_LIMITS.fields:  # `split_head` allows one more, for the first line of a head
            raise self._too_large(f"more than {_TRAILER_LIMITS.fields} trailer fields")
        self.trailers = parse_fields(lines, self._bad)
        self._state = _DONE
        return end + 4

    @property
    def _too_large(self) -> type[ExchangeError]:
        return ResponseTooLarge if issubclass(self._bad, BadResponse) else HeadTooLarge
