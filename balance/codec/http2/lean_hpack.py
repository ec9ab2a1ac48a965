"""HPACK (RFC 7541) by the `hpack` package, with what repeats kept.

Rule of this file: a cache may never change a result. What makes that true:

* A header block is a function of its bytes and of the dynamic table before it (RFC 7541, section 3.2). A block that has
  only indexed fields and literals that are not indexed leaves the table as it was. So while nothing is added to the
  table, nothing evicted and its size not changed, the same bytes decode to the same list. Blocks that do change it are
  never kept, and everything kept is dropped with the first change.
* The encoder's output is a function of the fields, of its table and of what it has seen. It is kept only when encoding
  it changed neither of the latter, and dropped with the first change.
* A hit never has side effects to make up for: what is kept had none.

The encoder's policy serves the caches: a field is added to the table when it comes for the second time, those that
change with every message never, and a full table takes another one only now and then. So the table soon comes to rest,
and with it every block that repeats. Credentials are never indexed (RFC 7541, section 7.1.3): on a connection to a
backend, the requests of clients that do not trust each other share one table.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKDecodingError
from hpack.hpack import encode_integer
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

    def has_room(self, field: Field) -> bool:
        return self._current_size + 32 + len(field[0]) + len(field[1]) <= self.maxsize


class Block:
    """A decoded header block, and the heads that were read from it."""

    __slots__ = ("ended_request", "fields", "plain", "request", "response", "seen")

    def __init__(self, fields: list[Field], plain: int) -> None:
        self.fields = fields
        #: Bytes of names and values.
        self.plain = plain
        #: It has come before.
        self.seen = False
        self.request: RequestHead | None = None
        self.ended_request: RequestHead | None = None
        self.response: ResponseHead | None = None


class BlockDecoder:
    """Header blocks of one peer, in their order.

    :param table_size: largest dynamic table, SETTINGS_HEADER_TABLE_SIZE
    :param list_size: largest list, as RFC 9113, section 6.5.2, counts it
    """

    __slots__ = ("_bytes", "_changes", "_decoder", "_kept", "_list_size", "_table")

    def __init__(self, table_size: int, list_size: int) -> None:
        self._decoder = Decoder(max_header_list_size=list_size)
        self._table = self._decoder.header_table = _Table()
        self._list_size = list_size
        self._changes = 0
        self._kept: dict[bytes, Block] = {}
        self._bytes = 0
        self.limit(max(table_size, self._table.maxsize))

    def limit(self, table_size: int) -> None:
        """The peer knows that limit now: a larger table is an error from here on (RFC 7541, section 4.2)."""
        self._decoder.max_allowed_table_size = table_size
        self._kept.clear()
        self._bytes = 0

    def decode(self, block: bytes) -> Block:
        """Decode one block.

        :raises HPACKError: the table cannot be trusted any more: the connection is over (COMPRESSION_ERROR)
        """
        known = self._kept.get(block)
        if known is not None:
            known.seen = True
            return known
        decoder = self._decoder
        table = self._table
        settled = table.maxsize <= decoder.max_allowed_table_size
        fields = _read_plain(block, table, self._list_size) if settled else None
        if fields is None:
            try:
                fields = list(decoder.decode(block, raw=True))
            except (IndexError, ValueError) as error:  # of a block that ends too early, in some releases of hpack
                raise HPACKDecodingError(str(error)) from error
        plain = 0
        for name, value in fields:
            plain += len(name) + len(value)
        decoded = Block(fields, plain)
        if table.changes != self._changes or (block and block[0] & 0xE0 == 0x20):
            self._changes = table.changes
            self._kept.clear()
            self._bytes = 0
        elif plain <= KEPT_BYTES // 4:
            self._keep(block, decoded)
        return decoded

    def _keep(self, block: bytes, decoded: Block) -> None:
        self._bytes += len(block) + decoded.plain
        if self._bytes > KEPT_BYTES or len(self._kept) >= KEPT_BLOCKS:
            self._kept.clear()
            self._bytes = len(block) + decoded.plain
        self._kept[block] = decoded


def _read_plain(block: bytes, table: HeaderTable, limit: int) -> list[Field] | None:
    """The fields of a block that has only the usual: indexed fields, and literals that are not added to the table, all
    with one-byte indexes and lengths. None for any other, which `hpack` reads, errors and all. Nothing is changed.
    """
    dynamic = table.dynamic_entries
    known = _STATIC_END + len(dynamic)
    fields: list[Field] = []
    size = 0
    at = 0
    end = len(block)
    while at < end:
        code = block[at]
        if code > 0x80:
            index = code & 0x7F
            if index > known or index == 0x7F:
                return None
            field = _STATIC[index - 1] if index <= _STATIC_END else dynamic[index - _STATIC_END - 1]
            at += 1
        elif code < 0x20:
            index = code & 0x0F
            at += 1
            if index == 0x0F:
                # A second byte below 0x80 ends the index: static names above 14, and dynamic ones.
                if at >= end or block[at] >= 0x80:
                    return None
                index += block[at]
                at += 1
                if index > known:
                    return None
            if index:
                name = _STATIC[index - 1][0] if index <= _STATIC_END else dynamic[index - _STATIC_END - 1][0]
            else:
                text = _string(block, at, end)
                if text is None:
                    return None
                name, at = text
            text = _string(block, at, end, secret=code >= 0x10)
            if text is None:
                return None
            field = name, text[0]
            at = text[1]
        else:
            return None
        size += len(field[0]) + len(field[1]) + 32
        if size > limit:
            return None
        fields.append(field)
    return fields


def _string(block: bytes, at: int, end: int, *, secret: bool = False) -> tuple[bytes, int] | None:
    """A string literal (RFC 7541, section 5.2) and where it ends; None when `hpack` is to look at it."""
    if at >= end:
        return None
    length = block[at]
    at += 1
    after = at + (length & 0x7F)
    if length & 0x7F == 0x7F or after > end:
        return None
    raw = block[at:after]
    if length & 0x80:
        raw = decode_huffman(raw) if secret else _PLAIN.get(raw) or _huffman(raw)
    return raw, after


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
