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

from typing import Final

from hpack.table import HeaderTable

from balance.codec.http2.heads import Field

#: Blocks kept for each connection and direction, and the plain bytes of their fields.
KEPT_BLOCKS: Final = 16
KEPT_BYTES: Final = 8 * 1024

STATIC: Final = HeaderTable.STATIC_TABLE
STATIC_END: Final = len(STATIC)
DYNAMIC_FIRST: Final = STATIC_END + 1
#: A field of the static table to its encoding (RFC 7541, section 6.1).
STATIC_CODES: Final[dict[Field, bytes]] = {
    field: bytes((0x80 | index,)) for index, field in reversed(list(enumerate(STATIC, 1)))
}
STATIC_NAMES: Final[dict[bytes, int]] = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}


#: Marks of what came once. Bounded, and one for all connections, so that it costs none of them memory. A mark that two
#: things share does no more than keep one of them too early.
_ONCE: Final[set[int]] = set()
_ONCE_MAX: Final = 2048


def comes_again(mark: int) -> bool:
    """Whether something with that mark came before. Only what does is worth its memory."""
    if mark in _ONCE:
        return True
    if len(_ONCE) >= _ONCE_MAX:
        _ONCE.clear()
    _ONCE.add(mark)
    return False


class Table(HeaderTable):
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
