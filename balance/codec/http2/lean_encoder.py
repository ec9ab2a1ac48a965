"""Writing header blocks (RFC 7541), each once: see `balance.codec.http2.lean_hpack` for why that is right.

Rule of this file: a policy that lets the table come to rest. A field is added to it when it comes for the second time,
those that change with every message never, and a full table takes another one only now and then.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from hpack import Encoder, NeverIndexedHeaderTuple
from hpack.hpack import encode_integer

from balance.codec.http2.heads import SECRET, Field, pair
from balance.codec.http2.lean_hpack import (
    DYNAMIC_FIRST,
    KEPT_BLOCKS,
    KEPT_BYTES,
    STATIC_CODES,
    STATIC_NAMES,
    Table,
    comes_again,
)
from balance.model import Headers

#: Fields whose value changes from message to message: kept out of the table, as nghttp2 and Chromium do.
_CHANGING: Final = frozenset(
    (
        b":path",
        b"age",
        b"content-length",
        b"content-range",
        b"date",
        b"if-modified-since",
        b"if-none-match",
        b"traceparent",
        b"x-request-id",
    )
)


class BlockEncoder:
    """Header blocks to one peer, in the order in which they are sent.

    :param table_size: largest dynamic table, whatever the peer allows
    """

    __slots__ = (
        "_bytes",
        "_codes",
        "_encoder",
        "_kept",
        "_largest",
        "_lines",
        "_patience",
        "_resize",
        "_seen",
        "_settled",
        "_smallest",
        "_table",
    )

    def __init__(self, table_size: int) -> None:
        self._encoder = Encoder()
        self._table = self._encoder.header_table = Table()
        #: A dynamic field to its encoding; None after a change of the table.
        self._codes: dict[Field, bytes] | None = None
        #: The same by the line that a field is in HTTP/1.1.
        self._lines: dict[bytes, bytes] = {}
        self._seen: set[int] = set()
        self._kept: dict[Hashable, tuple[bytes, int]] = {}
        self._bytes = 0
        self._settled = True
        self._patience = 0
        self._largest = table_size
        #: The smallest size since the last block, and the last: what RFC 7541, section 4.2, wants told.
        self._smallest = self._table.maxsize
        self._resize: int | None = None
        self.limit(self._table.maxsize)

    def limit(self, table_size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE. It goes out with the next block."""
        size = min(table_size, self._largest)
        if self._resize is None and size == self._table.maxsize:
            return
        self._smallest = size if self._resize is None else min(self._smallest, size)
        self._resize = size
        self._kept.clear()
        self._bytes = 0

    def recall(self, key: Hashable) -> tuple[bytes, int] | None:
        """What `encode_head` gave for that key: the block, and the plain bytes of its fields."""
        return self._kept.get(key)

    def encode(self, fields: Iterable[Field]) -> tuple[bytes, int]:
        """Encode one block; it has to be the next that is sent.

        :param fields: with those marked that are never to be indexed, as `balance.codec.http2.heads` does
        :returns: the block, and the plain bytes of its fields
        """
        codes: list[bytes] = []
        self._begin(codes)
        plain = 0
        for field in fields:
            name, value = field
            if isinstance(field, NeverIndexedHeaderTuple):
                codes.append(_start(0x10, name) + _length(value) + value)
                plain += len(name) + len(value)
            else:
                plain += self._put((field,), codes)
        return b"".join(codes), plain

    def encode_head(
        self, before: Iterable[Field], after: Iterable[Field], headers: Headers, key: Hashable
    ) -> tuple[bytes, int]:
        """The same for ``headers`` without secrets, with fields before and after them, and kept where that is possible.

        :param key: stands for them: equal keys, equal fields
        """
        codes: list[bytes] = []
        self._begin(codes)
        plain = self._put(before, codes)
        lines = self._lines
        for name, line in zip(headers.names, headers.lines, strict=True):
            known = lines.get(line)
            if known is not None:
                codes.append(known)
                plain += len(line) - 2
            else:
                plain += self._put_line(name, line, codes)
        plain += self._put(after, codes)
        block = b"".join(codes)
        if self._settled and plain <= KEPT_BYTES // 4 and comes_again(hash(key) ^ id(self)):
            self._bytes += plain
            if self._bytes > KEPT_BYTES or len(self._kept) >= KEPT_BLOCKS:
                self._kept.clear()
                self._bytes = plain
            self._kept[key] = block, plain
        return block, plain

    def _begin(self, codes: list[bytes]) -> None:
        self._patience -= 1
        self._settled = True
        if self._resize is not None:
            codes.append(self._resized(self._resize))
            self._settled = False

    def _put(self, fields: Iterable[Field], codes: list[bytes]) -> int:
        plain = 0
        for field in fields:
            plain += len(field[0]) + len(field[1])
            code = STATIC_CODES.get(field)
            if code is None:
                index = self._codes
                if index is None:
                    index = self._index()
                code = index.get(field) or self._literal(field)
            codes.append(code)
        return plain

    def _put_line(self, name: bytes, line: bytes, codes: list[bytes]) -> int:
        """A field that has not come as this line since the table last changed."""
        field = pair(name, line)
        plain = len(name) + len(field[1])
        code = None
        if name not in _LITERAL:
            index = self._codes
            if index is None:
                index = self._index()
            code = STATIC_CODES.get(field) or index.get(field)
        if code is None:
            code = self._literal(field)
        elif plain == len(line) - 2:  # with one blank, as usual
            if len(self._lines) >= _LINES_MAX:
                self._lines.clear()
            self._lines[line] = code
        codes.append(code)
        return plain

    def _index(self) -> dict[Field, bytes]:
        codes: dict[Field, bytes] = {}
        for index, field in enumerate(self._table.dynamic_entries, DYNAMIC_FIRST):
            code = encode_integer(index, 7)
            code[0] |= 0x80
            codes.setdefault(field, bytes(code))
        self._codes = codes
        return codes

    def _literal(self, field: Field) -> bytes:
        name, value = field
        start = _LITERAL.get(name)
        if start is not None:
            return start + _length(value) + value
        if len(name) + len(value) > self._table.maxsize // 4:
            return _start(0, name) + _length(value) + value
        seen = self._seen
        mark = hash(field)
        if mark not in seen:
            if len(seen) >= _SEEN_MAX:
                seen.clear()
            seen.add(mark)
            self._settled = False
            return _start(0, name) + _length(value) + value
        if not self._table.has_room(field):
            if self._patience > 0:
                return _start(0, name) + _length(value) + value
            self._patience = _PATIENCE
        self._changed()
        return self._encoder.add(field, False, True)

    def _changed(self) -> None:
        """The table is about to change."""
        self._settled = False
        self._codes = None
        self._lines.clear()
        self._kept.clear()
        self._bytes = 0

    def _resized(self, size: int) -> bytes:
        encoder = self._encoder
        self._resize = None
        self._changed()
        if self._smallest != self._table.maxsize:
            encoder.header_table_size = self._smallest
        if size != self._table.maxsize:
            encoder.header_table_size = size
        return encoder.encode(())


#: Fields remembered as seen once; lines; blocks between two additions to a table that is full.
_SEEN_MAX: Final = 18
_LINES_MAX: Final = 64
_PATIENCE: Final = 64


def _start(kind: int, name: bytes) -> bytes:
    """How a literal begins that is not added to the table (RFC 7541, section 6.2.2; 6.2.3 with ``kind`` 0x10)."""
    index = STATIC_NAMES.get(name, 0)
    if not index:
        return bytes((kind,)) + _length(name) + name
    return bytes((kind | index,)) if index < 15 else bytes((kind | 15, index - 15))


def _length(text: bytes) -> bytes:
    length = len(text)
    return _LENGTHS[length] if length < 127 else bytes(encode_integer(length, 7))


_LENGTHS: Final = tuple(bytes((length,)) for length in range(127))
#: Names whose values are never added to the table to how they begin.
_LITERAL: Final = {name: _start(0, name) for name in _CHANGING} | {name: _start(0x10, name) for name in SECRET}
