"""HPACK (RFC 7541) on the tables, integers and Huffman code of the `hpack` package, with what repeats kept.

Rule of this file: a cache may never change a result. What makes that true:

* A header block is a function of its bytes and of the dynamic table before it (RFC 7541, section 3.2). A block that
  leaves the table as it was is kept until something is added to the table, or its size changes: so long, the same bytes
  decode to the same list.
* A block that refers to nothing in the dynamic table is a function of its bytes alone. It is kept whatever becomes of
  the table, and if it adds to the table, so does each hit. (nginx and others index each field anew and never refer to
  it.) Blocks that do both, and those that change the table's size, are not kept.
* The encoder's output is a function of the fields, of its table and of what it has seen. It is kept only when encoding
  it changed neither of the latter, and dropped with the first change.

The encoder's policy serves the caches: a field is added to the table when it comes for the second time, those that
change with every message never, and a full table takes another one only now and then. So the table soon comes to rest,
and with it every block that repeats. Credentials are never indexed (RFC 7541, section 7.1.3): on a connection to a
backend, the requests of clients that do not trust each other share one table.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from hpack import Encoder
from hpack.exceptions import HPACKDecodingError, InvalidTableSizeError, OversizedHeaderListError
from hpack.hpack import decode_integer, encode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from balance.model import RequestHead, ResponseHead

Field = tuple[bytes, bytes]

#: Blocks kept for each connection and direction, and the plain bytes of their fields.
KEPT_BLOCKS: Final = 16
KEPT_BYTES: Final = 8 * 1024

_STATIC: Final = HeaderTable.STATIC_TABLE
_STATIC_END: Final = len(_STATIC)
#: A field of the static table to its encoding (RFC 7541, section 6.1).
_STATIC_CODES: Final[dict[Field, bytes]] = {
    field: bytes((0x80 | index,)) for index, field in reversed(list(enumerate(_STATIC, 1)))
}
_STATIC_NAMES: Final[dict[bytes, int]] = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}

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
#: RFC 7541, sections 6.2.3 and 7.1.3.
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))


class _Table(HeaderTable):
    """A dynamic table that counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    def add_all(self, fields: list[Field], size: int) -> None:
        """The same as `add` for each.

        :param size: of all of them, as RFC 7541, section 4.1, counts it
        """
        if size > self._maxsize:
            for name, value in fields:
                self.add(name, value)
            return
        # Together they fit, so only older ones are evicted, and it makes no difference when.
        self.changes += 1
        self.dynamic_entries.extendleft(fields)
        self._current_size += size
        if self._current_size > self._maxsize:
            self._shrink()

    def has_room(self, field: Field) -> bool:
        return self._current_size + 32 + len(field[0]) + len(field[1]) <= self.maxsize


class Block:
    """A decoded header block, and the heads that were read from it."""

    __slots__ = ("added", "added_size", "ended_request", "fields", "plain", "request", "response", "seen")

    def __init__(self, fields: list[Field], added: list[Field]) -> None:
        self.fields = fields
        #: Those of them that it adds to the table, and what they take there.
        self.added = added
        self.added_size = _size(added) + 32 * len(added) if added else 0
        #: Bytes of names and values.
        self.plain = _size(fields)
        #: It has come before.
        self.seen = False
        self.request: RequestHead | None = None
        self.ended_request: RequestHead | None = None
        self.response: ResponseHead | None = None


def _size(fields: list[Field]) -> int:
    size = 0
    for name, value in fields:
        size += len(name) + len(value)
    return size


class BlockDecoder:
    """Header blocks of one peer, in their order.

    :param table_size: largest dynamic table, SETTINGS_HEADER_TABLE_SIZE
    :param list_size: largest list, as RFC 9113, section 6.5.2, counts it
    """

    __slots__ = ("_bytes", "_fixed", "_kept", "_largest", "_list_size", "_table")

    def __init__(self, table_size: int, list_size: int) -> None:
        self._table = _Table()
        self._list_size = list_size
        #: Blocks that refer to the dynamic table and leave it alone; and those that refer to nothing in it.
        self._kept: dict[bytes, Block] = {}
        self._fixed: dict[bytes, Block] = {}
        self._bytes = 0
        self._largest = max(table_size, self._table.maxsize)

    def limit(self, table_size: int) -> None:
        """The peer knows that limit now: a larger table is an error from here on (RFC 7541, section 4.2)."""
        self._largest = table_size
        self._drop()

    def decode(self, packed: bytes) -> Block:
        """Decode one block.

        :raises HPACKError: the table cannot be trusted any more: the connection is over (COMPRESSION_ERROR)
        """
        block = self._kept.get(packed)
        if block is not None:
            block.seen = True
            return block
        block = self._fixed.get(packed)
        if block is not None:
            block.seen = True
            if block.added:
                self._table.add_all(block.added, block.added_size)
                self._kept.clear()
            return block
        return self._decode(packed)

    def _decode(self, packed: bytes) -> Block:
        table = self._table
        at = self._resize(packed) if packed and packed[0] & 0xE0 == 0x20 else 0
        if table.maxsize > self._largest:
            raise InvalidTableSizeError("the table was not made smaller")
        fields, added, refers = _read(packed, at, table, self._list_size)
        block = Block(fields, added)
        if added:
            self._kept.clear()
        if block.plain > KEPT_BYTES // 4 or at or (added and refers):
            return block
        self._bytes += len(packed) + block.plain
        if self._bytes > KEPT_BYTES or len(self._kept) + len(self._fixed) >= KEPT_BLOCKS:
            self._drop()
            self._bytes = len(packed) + block.plain
        (self._kept if refers else self._fixed)[packed] = block
        return block

    def _drop(self) -> None:
        self._kept.clear()
        self._fixed.clear()
        self._bytes = 0

    def _resize(self, packed: bytes) -> int:
        """Updates of the table's size begin the block (RFC 7541, section 4.2). Returns where they end."""
        at = 0
        self._drop()
        while at < len(packed) and packed[at] & 0xE0 == 0x20:
            size, at = _integer(packed, at, 5)
            if size > self._largest:
                raise InvalidTableSizeError("a table larger than we allow")
            self._table.maxsize = size
        return at


def _read(packed: bytes, at: int, table: HeaderTable, limit: int) -> tuple[list[Field], list[Field], bool]:
    """Decode a block from ``at`` on, where no update of the table's size is left.

    :param limit: of the list's size
    :returns: all fields; those that were added to the table; whether any refers to the dynamic table
    """
    fields: list[Field] = []
    added: list[Field] = []
    refers = False
    size = 0
    end = len(packed)
    while at < end:
        code = packed[at]
        if code >= 0x80:  # indexed (RFC 7541, section 6.1)
            index = code & 0x7F
            at += 1
            if index == 0x7F:
                index, at = _integer(packed, at - 1, 7)
            if 0 < index <= _STATIC_END:
                field = _STATIC[index - 1]
            else:
                refers = True
                field = table.get_by_index(index)
        else:
            if code >= 0x40:  # added to the table (section 6.2.1)
                mask, bits = 0x3F, 6
            elif code >= 0x20:
                raise HPACKDecodingError("an update of the table's size within a block")
            else:  # not added to it (sections 6.2.2 and 6.2.3)
                mask, bits = 0x0F, 4
            index = code & mask
            at += 1
            if index == mask:
                index, at = _integer(packed, at - 1, bits)
            if not index:
                name, at = _string(packed, at)
            elif index <= _STATIC_END:
                name = _STATIC[index - 1][0]
            else:
                refers = True
                name = table.get_by_index(index)[0]
            value, at = _string(packed, at, secret=0x10 <= code < 0x20)
            field = name, value
            if code >= 0x40:
                table.add(name, value)
                added.append(field)
        size += len(field[0]) + len(field[1]) + 32
        if size > limit:
            raise OversizedHeaderListError("the header list is too large")
        fields.append(field)
    return fields, added, refers


def _integer(packed: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (RFC 7541, section 5.1), and where it ends."""
    number, used = decode_integer(packed[at : at + 8], bits)
    return number, at + used


def _string(packed: bytes, at: int, *, secret: bool = False) -> tuple[bytes, int]:
    """A string literal (RFC 7541, section 5.2), and where it ends.

    :param secret: nobody else is to find out, by how long it takes, that it came before
    """
    start = at + 1
    length = packed[at] if at < len(packed) else 0x7F
    coded = length >= 0x80
    length &= 0x7F
    if length == 0x7F:
        length, start = _integer(packed, at, 7)
    end = start + length
    raw = packed[start:end]
    if len(raw) != length:
        raise HPACKDecodingError("a string that is longer than its block")
    if coded:
        raw = decode_huffman(raw) if secret else _PLAIN.get(raw) or _huffman(raw)
    return raw, end


#: Huffman-coded strings that came before. Bounded.
_PLAIN: Final[dict[bytes, bytes]] = {}
_PLAIN_MAX: Final = 4096
_PLAIN_SIZE: Final = 64


def _huffman(raw: bytes) -> bytes:
    plain = decode_huffman(raw)
    if len(raw) <= _PLAIN_SIZE:
        if len(_PLAIN) >= _PLAIN_MAX:
            _PLAIN.clear()
        _PLAIN[raw] = plain
    return plain


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
        "_patience",
        "_resize",
        "_seen",
        "_settled",
        "_smallest",
        "_table",
    )

    def __init__(self, table_size: int) -> None:
        self._encoder = Encoder()
        self._table = self._encoder.header_table = _Table()
        #: A dynamic field to its encoding; None after a change of the table.
        self._codes: dict[Field, bytes] | None = None
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
        """What `encode` gave for that key: the block, and the plain bytes of its fields."""
        return self._kept.get(key)

    def encode(self, fields: Iterable[Field], key: Hashable = None, key_size: int = 0) -> tuple[bytes, int]:
        """Encode one block; it has to be the next that is sent.

        :param key: stands for the fields: equal keys, equal fields
        :returns: the block, and the plain bytes of its fields
        """
        codes: list[bytes] = []
        if self._resize is not None:
            codes.append(self._resized(self._resize))
        self._settled = not codes
        self._patience -= 1
        plain = 0
        for field in fields:
            plain += len(field[0]) + len(field[1])
            code = _STATIC_CODES.get(field)
            if code is None:
                index = self._codes
                if index is None:
                    index = self._index()
                code = index.get(field) or self._literal(field)
            codes.append(code)
        block = b"".join(codes)
        if key is not None and self._settled and plain + key_size <= KEPT_BYTES // 4:
            self._bytes += plain + key_size
            if self._bytes > KEPT_BYTES or len(self._kept) >= KEPT_BLOCKS:
                self._kept.clear()
                self._bytes = plain + key_size
            self._kept[key] = block, plain
        return block, plain

    def _index(self) -> dict[Field, bytes]:
        codes: dict[Field, bytes] = {}
        for index, field in enumerate(self._table.dynamic_entries, _STATIC_END + 1):
            code = encode_integer(index, 7)
            code[0] |= 0x80
            codes.setdefault(field, bytes(code))
        self._codes = codes
        return codes

    def _literal(self, field: Field) -> bytes:
        name, value = field
        if name in _SECRET:
            return _literal(0x10, name, value)
        if name in _CHANGING or len(name) + len(value) > self._table.maxsize // 4:
            return _literal(0, name, value)
        seen = self._seen
        mark = hash(field)
        if mark not in seen:
            if len(seen) >= _SEEN_MAX:
                seen.clear()
            seen.add(mark)
            self._settled = False
            return _literal(0, name, value)
        if not self._table.has_room(field):
            if self._patience > 0:
                return _literal(0, name, value)
            self._patience = _PATIENCE
        self._settled = False
        self._codes = None
        self._kept.clear()
        self._bytes = 0
        return self._encoder.add(field, False, True)

    def _resized(self, size: int) -> bytes:
        encoder = self._encoder
        self._resize = None
        self._codes = None
        if self._smallest != self._table.maxsize:
            encoder.header_table_size = self._smallest
        if size != self._table.maxsize:
            encoder.header_table_size = size
        return encoder.encode(())


#: Fields remembered as seen once; blocks between two additions to a table that is full.
_SEEN_MAX: Final = 18
_PATIENCE: Final = 64


def _literal(kind: int, name: bytes, value: bytes) -> bytes:
    """A literal that is not added to the table (RFC 7541, section 6.2.2; 6.2.3 with ``kind`` 0x10)."""
    index = _STATIC_NAMES.get(name, 0)
    if index < 15:
        start = bytes((kind | index,))
    else:
        start = bytes((kind | 15, index - 15))
    if not index:
        start += _length(name) + name
    return start + _length(value) + value


def _length(text: bytes) -> bytes:
    length = len(text)
    return bytes((length,)) if length < 127 else bytes(encode_integer(length, 7))
