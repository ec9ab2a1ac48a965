"""HPACK with kept blocks: the same results as `hpack` alone, whatever came before; bounded; and worth it."""

from __future__ import annotations

from typing import Any

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hpack.hpack import encode_integer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from balance.codec.http2.lean_decoder import BlockDecoder
from balance.codec.http2.lean_encoder import BlockEncoder
from balance.codec.http2.lean_hpack import KEPT_BLOCKS, KEPT_BYTES
from balance.model import Headers

Field = tuple[bytes, bytes]

#: What a busy machine needs time for is no fault.
STEADY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = [b":status", b":path", b"server", b"date", b"cookie", b"x-a", b"x-b", b"content-length", b"authorization"]
VALUES = [b"", b"200", b"/", b"nginx", b"a" * 40, b"\xff\x00", b"b" * 130, b"c" * 600]
#: Few of each, so that they come again; the table has room for some of them only.
FIELDS = st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES))
LISTS = st.lists(FIELDS, max_size=8)
SIZES = st.sampled_from([0, 64, 200, 1000, 4096, 1 << 20])
STEPS = st.lists(st.one_of(LISTS, SIZES), max_size=30)

RESPONSE = [
    (b":status", b"200"),
    (b"server", b"nginx/1.22.1"),
    (b"date", b"Tue, 25 Nov 2025 20:46:11 GMT"),
    (b"content-type", b"application/octet-stream"),
    (b"last-modified", b"Tue, 25 Nov 2025 20:15:02 GMT"),
    (b"etag", b'"6926138e-41"'),
    (b"accept-ranges", b"bytes"),
    (b"content-length", b"65"),
]


def plain(fields: Any) -> list[Field]:
    return [(bytes(name), bytes(value)) for name, value in fields]


class Encoding(TestCase):
    @STEADY
    @given(STEPS)
    def test_a_peer_reads_what_was_meant(self, steps: list[Any]) -> None:
        encoder = BlockEncoder(4096)
        peer = Decoder()
        for step in steps:
            if isinstance(step, int):
                encoder.limit(step)
                peer.max_allowed_table_size = min(step, 4096)
                continue
            for _ in range(3):  # learn, index, recall
                key = tuple(step)
                middle = Headers.of(*step[1:-1])
                block, size = encoder.recall(key) or encoder.encode_head(step[:1], step[1:][-1:], middle, key)
                self.assertEqual(plain(peer.decode(block, raw=True)), step)
                self.assertEqual(size, sum(len(name) + len(value) for name, value in step))
            self.assertLessEqual(len(encoder._kept), KEPT_BLOCKS)
            self.assertLessEqual(encoder._bytes, KEPT_BYTES)

    def test_the_table_comes_to_rest_and_heads_become_small(self) -> None:
        encoder = BlockEncoder(4096)
        sizes = []
        for _ in range(4):
            block, size = encoder.recall(1) or encoder.encode_head(RESPONSE[:1], (), Headers.of(*RESPONSE[1:]), 1)
            sizes.append(len(block))
        self.assertIsNotNone(encoder.recall(1))
        self.assertLess(sizes[-1], size * 0.3)

    def test_what_changes_each_time_leaves_the_rest_indexed(self) -> None:
        encoder = BlockEncoder(4096)
        for number in range(500):
            fields = [*RESPONSE[:-1], (b"content-length", b"%d" % number), (b"x-trace", b"%d" % number)]
            block, size = encoder.encode(fields)
        self.assertLess(len(block), size * 0.4)
        self.assertNotIn(b"x-trace", [name for name, _ in encoder._table.dynamic_entries])

    def test_a_full_table_follows_the_traffic_slowly(self) -> None:
        encoder = BlockEncoder(4096)
        changed = 0
        for number in range(4000):
            before = encoder._table.changes
            encoder.encode([(b"x-user", b"%d" % (number // 2) * 20)])
            changed += encoder._table.changes > before
        self.assertLess(changed, 4096 / 54 + 4000 / 64 + 1)
        self.assertGreater(changed, 4000 / 64 + 1)

    def test_credentials_are_never_indexed(self) -> None:
        encoder = BlockEncoder(4096)
        for _ in range(3):
            block, _ = encoder.encode([(b"authorization", b"Basic eA=="), (b"cookie", b"a=b")])
            indexable = [getattr(field, "indexable", None) for field in Decoder().decode(block, raw=True)]
            self.assertEqual(indexable, [False, False])
        self.assertEqual(len(encoder._table.dynamic_entries), 0)

    def test_many_size_changes_cost_two_updates(self) -> None:
        encoder = BlockEncoder(4096)
        for size in range(4000):
            encoder.limit(size)
        block, _ = encoder.encode([])
        self.assertLess(len(block), 8)
        peer = Decoder()
        peer.decode(block)
        self.assertEqual(peer.header_table_size, 3999)


class Decoding(TestCase):
    @STEADY
    @given(STEPS)
    def test_the_same_lists_and_tables_as_hpack(self, steps: list[Any]) -> None:
        peer = Encoder()
        decoder = BlockDecoder(4096, 1 << 16)
        for step in steps:
            if isinstance(step, int):
                size = min(step, 4096)
                if size != peer.header_table_size:
                    peer.header_table_size = size
                continue
            for _ in range(3):
                block = decoder.decode(peer.encode(step))
                self.assertEqual(plain(block.fields), step)
            self.assertLessEqual(len(decoder._kept) + len(decoder._fixed), KEPT_BLOCKS)
            self.assertLessEqual(decoder._bytes, KEPT_BYTES)

    @STEADY
    @given(STEPS)
    def test_encoders_that_leave_the_table_alone(self, steps: list[Any]) -> None:
        """Ours is one: most of its blocks take the short way."""
        peer = BlockEncoder(4096)
        decoder = BlockDecoder(4096, 1 << 16)
        for step in steps:
            if isinstance(step, int):
                peer.limit(step)
            else:
                self.assertEqual(plain(decoder.decode(peer.encode(step)[0]).fields), step)

    # Bytes that look like HPACK: indexes, literals of all kinds, size updates, and noise.
    PIECES = st.one_of(
        st.sampled_from([b"\x82", b"\x84", b"\x88", b"\xbe", b"\xbf", b"\xc0", b"\x80", b"\xff\x00", b"\xff\xff"]),
        st.sampled_from([b"\x20", b"\x3f\x21", b"\x3f\xe1\x1f", b"\x3f\xe1\x7f"]),
        st.sampled_from([b"\x40\x01a\x01b", b"\x41\x01z", b"\x7f\x00\x01z", b"\x40\x01a\x82\x1f\xff"]),
        st.sampled_from([b"\x00\x01a\x01b", b"\x10\x01a\x00", b"\x04\x01/", b"\x0f\x12\x01x", b"\x0f\x2f\x01x"]),
        st.sampled_from([b"\x0f\x30\x01y", b"\x1f\x80\x01\x01y", b"\x00\x81\x1f\x81\x1f", b"\x00\x01a\x81\xff"]),
        st.sampled_from([b"\x00\x7f\x01" + b"n" * 128 + b"\x00", b"\x00\x01a\x7f", b"\x00", b"\x0f", b"\x04\x05a"]),
        st.binary(max_size=4),
    )

    @STEADY
    @given(st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=8))
    def test_any_bytes_give_what_hpack_gives(self, blocks: list[bytes]) -> None:
        oracle = Decoder(max_header_list_size=300)
        decoder = BlockDecoder(4096, 300)
        for block in [each for each in blocks + blocks for _ in range(2)]:
            try:
                expected: Any = plain(oracle.decode(block, raw=True))
            except HPACKError as error:
                with self.assertRaises(type(error)):
                    decoder.decode(block)
                return
            self.assertEqual(plain(decoder.decode(block).fields), expected)
            self.assertEqual(decoder._table.dynamic_entries, oracle.header_table.dynamic_entries)
            self.assertEqual(decoder._table._current_size, oracle.header_table._current_size)

    def indexing(self, number: int) -> bytes:
        """A block as nginx writes it: static names, everything indexed, and nothing ever referred to."""
        return b"\x88\x76\x05nginx\x61\x06date%02d\x0f\x0d\x0265" % number

    @STEADY
    @given(st.lists(st.integers(0, 9), max_size=60), st.sampled_from([50, 90, 100, 130, 400, 4096]))
    def test_blocks_that_add_and_do_not_refer_are_kept(self, numbers: list[int], size: int) -> None:
        oracle = Decoder()
        decoder = BlockDecoder(4096, 1 << 16)
        update = b"\x3f" + encode_integer(size - 31, 8) if size - 31 < 128 else b""
        for block in (update + b"\x88", *map(self.indexing, numbers), b"\x88"):
            self.assertEqual(plain(decoder.decode(block).fields), plain(oracle.decode(block, raw=True)))
            self.assertEqual(decoder._table.dynamic_entries, oracle.header_table.dynamic_entries)
            self.assertEqual(decoder._table._current_size, oracle.header_table._current_size)
        self.assertIs(decoder.decode(b"\x88"), decoder.decode(b"\x88"))
        if numbers:
            decoder.decode(self.indexing(numbers[0]))
            self.assertIs(decoder.decode(self.indexing(numbers[0])), decoder.decode(self.indexing(numbers[0])))

    def test_adding_spoils_what_refers(self) -> None:
        decoder = BlockDecoder(4096, 1 << 16)
        first, second = self.indexing(1), self.indexing(2)
        decoder.decode(first)
        newest = b"\xbe"
        for block, date in ((first, b"date01"), (second, b"date02"), (first, b"date01"), (second, b"date02")):
            decoder.decode(block)
            for _ in range(2):
                self.assertEqual(decoder.decode(newest).fields, [(b"date", date)])

    def test_a_limit_that_sinks_wants_a_smaller_table(self) -> None:
        decoder = BlockDecoder(100, 1 << 16)
        self.assertEqual(len(decoder.decode(b"\x82").fields), 1)  # before the peer knows the limit
        decoder.limit(100)
        with self.assertRaises(HPACKError):
            decoder.decode(b"\x82")
        decoder = BlockDecoder(100, 1 << 16)
        decoder.limit(100)
        self.assertEqual(len(decoder.decode(b"\x3f\x45\x82").fields), 1)

    def test_a_repeated_block_is_decoded_once(self) -> None:
        peer = Encoder()
        decoder = BlockDecoder(4096, 1 << 16)
        fields = [(b":method", b"GET"), (b":path", b"/"), (b"user-agent", b"h2load")]
        first = decoder.decode(peer.encode(fields))  # adds to the table
        second = decoder.decode(peer.encode(fields))
        third = decoder.decode(peer.encode(fields))
        self.assertIsNot(first, second)
        self.assertIs(decoder.decode(peer.encode(fields)), third)
        decoder.decode(peer.encode([(b"x-new", b"1")]))
        self.assertIsNot(decoder.decode(peer.encode(fields)), third)

    def test_what_is_kept_is_bounded(self) -> None:
        decoder = BlockDecoder(4096, 1 << 16)
        for number in range(2000):
            decoder.decode(b"\x00\x01a\x04%04d" % (number // 2))
            self.assertLessEqual(len(decoder._fixed), KEPT_BLOCKS)
            self.assertTrue(decoder._fixed or not number)
        for number in range(2000):
            decoder.decode(b"\x00\x01a\x7f\xe9\x06%04d" % (number // 2) + b"x" * 996)
            self.assertLessEqual(decoder._bytes, KEPT_BYTES)
