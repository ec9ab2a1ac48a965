"""Reading header blocks (RFC 7541), each once: see `balance.codec.http2.lean_hpack` for why that is right.

Rule of this file: strict, and the same result as the `hpack` package's decoder for any bytes.
"""

from __future__ import annotations

from typing import Final, NoReturn

from hpack.exceptions import HPACKDecodingError, InvalidTableIndex, InvalidTableSizeError, OversizedHeaderListError
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from balance.codec.http2.heads import SECRET, Field
from balance.codec.http2.lean_hpack import (
    DYNAMIC_FIRST,
    KEPT_BLOCKS,
    KEPT_BYTES,
    STATIC,
    STATIC_END,
    Table,
    comes_again,
)
from balance.model import NO_NAMES, RequestHead, ResponseHead


class Block:
    """A decoded header block, and the heads that were read from it."""

    __slots__ = ("added", "added_size", "ended_request", "fields", "kept", "plain", "request", "response", "secret")

    def __init__(self, fields: list[Field], plain: int, added: list[Field], secret: frozenset[bytes]) -> None:
        self.fields = fields
        #: Those of them that it adds to the table, and what they take there.
        self.added = added
        self.added_size = sum([len(name) + len(value) + 32 for name, value in added]) if added else 0
        #: Bytes of names and values.
        self.plain = plain
        #: Names of those that are never to be indexed (RFC 7541, section 6.2.3).
        self.secret = secret
        #: It is likely to come again.
        self.kept = False
        self.request: RequestHead | None = None
        self.ended_request: RequestHead | None = None
        self.response: ResponseHead | None = None


class BlockDecoder:
    """Header blocks of one peer, in their order.

    :param table_size: largest dynamic table, SETTINGS_HEADER_TABLE_SIZE
    :param list_size: largest list, as RFC 9113, section 6.5.2, counts it
    """

    __slots__ = ("_bytes", "_fixed", "_kept", "_largest", "_list_size", "_table")

    def __init__(self, table_size: int, list_size: int) -> None:
        self._table = Table()
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
            return block
        block = self._fixed.get(packed)
        if block is not None:
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
        fields, size, added, secret, refers = _read(packed, at, table, self._list_size)
        block = Block(fields, size - 32 * len(fields), added, frozenset(secret) if secret else NO_NAMES)
        if added:
            self._kept.clear()
        if block.plain > KEPT_BYTES // 4 or at or (added and refers) or not comes_again(hash(packed) ^ id(self)):
            return block
        block.kept = True
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
            size, used = decode_integer(packed[at : at + 8], 5)
            at += used
            if size > self._largest:
                raise InvalidTableSizeError("a table larger than we allow")
            self._table.maxsize = size
        return at


def _read(
    packed: bytes, at: int, table: HeaderTable, limit: int
) -> tuple[list[Field], int, list[Field], list[bytes], bool]:
    """Decode a block from ``at`` on, where no update of the table's size is left.

    :param limit: of the list's size, as RFC 9113, section 6.5.2, counts it
    :returns: all fields; their size; those that were added to the table; the names of those that never may be; whether
        any refers to the dynamic table
    """
    dynamic = table.dynamic_entries
    fields: list[Field] = []
    added: list[Field] = []
    secret: list[bytes] = []
    refers = False
    size = 0
    end = len(packed)
    while at < end:
        code = packed[at]
        at += 1
        if code >= 0x80:  # indexed (RFC 7541, section 6.1)
            index = code & 0x7F
            if index == 0x7F:
                index, at = _integer(packed, at - 1, 7)
            if index > STATIC_END:
                refers = True
                field = dynamic[index - DYNAMIC_FIRST] if index <= STATIC_END + len(dynamic) else _no_entry(index)
            else:
                field = STATIC[index - 1] if index else _no_entry(index)
            name, value = field
        else:
            if code >= 0x40:  # added to the table (section 6.2.1)
                mask, bits = 0x3F, 6
            elif code >= 0x20:
                raise HPACKDecodingError("an update of the table's size within a block")
            else:  # not added to it (sections 6.2.2 and 6.2.3)
                mask, bits = 0x0F, 4
            index = code & mask
            if index == mask:
                index, at = _integer(packed, at - 1, bits)
            if not index:
                name, at = _string(packed, at, False)
            elif index <= STATIC_END:
                name = STATIC[index - 1][0]
            else:
                refers = True
                name = table.get_by_index(index)[0]
            value, at = _string(packed, at, 0x10 <= code < 0x20)
            field = name, value
            if code >= 0x40:
                table.add(name, value)
                added.append(field)
            elif code >= 0x10 and name not in SECRET:
                secret.append(name)
        size += len(name) + len(value) + 32
        if size > limit:
            raise OversizedHeaderListError("the header list is too large")
        fields.append(field)
    return fields, size, added, secret, refers


def _no_entry(index: int) -> NoReturn:
    raise InvalidTableIndex(f"the table has no entry {index}")


def _integer(packed: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer that fills its prefix of so many bits (RFC 7541, section 5.1), and where it ends."""
    if at + 1 < len(packed) and packed[at + 1] < 0x80:  # two bytes, by far the most
        return (1 << bits) - 1 + packed[at + 1], at + 2
    number, used = decode_integer(packed[at : at + 8], bits)
    return number, at + used


def _string(packed: bytes, at: int, secret: bool) -> tuple[bytes, int]:
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
