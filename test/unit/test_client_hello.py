"""The ClientHello: real ones, cut at every byte and over records; hostile ones; random ones."""

from __future__ import annotations

import random
import ssl
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from balance.codec import client_hello
from balance.codec.client_hello import MAX_SIZE, ClientHello, HelloReader, parse_client_hello
from balance.errors import BadClientHello
from balance.routing.sni import SniRule, SniTable


def real(name: str | None, alpn: list[str] | None = None, version: ssl.TLSVersion | None = None) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if version is not None:
        context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, data)


def sni(*names: bytes, kind: bytes = b"\x00") -> bytes:
    return extension(0, vector(2, b"".join(kind + vector(2, name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def hello(
    extensions: bytes | None = b"",
    *,
    version: bytes = b"\x03\x03",
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compression: bytes = b"\x00",
    tail: bytes = b"",
) -> bytes:
    body = version + bytes(32) + vector(1, session) + vector(2, ciphers) + vector(1, compression)
    return body + (b"" if extensions is None else vector(2, extensions)) + tail


def message(body: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, body)


def records(data: bytes, size: int = 16384, kind: int = 22) -> bytes:
    parts = [data[n : n + size] for n in range(0, len(data), size)]
    return b"".join(bytes([kind, 3, 1]) + vector(2, part) for part in parts)


def whole(extensions: bytes | None = b"") -> bytes:
    return records(message(hello(extensions)))


REAL = [
    (real("A.Example.com", ["h2", "http/1.1"]), ClientHello("a.example.com", (b"h2", b"http/1.1"))),
    (real("b.example", None, ssl.TLSVersion.TLSv1_2), ClientHello("b.example", ())),
    (real(None, ["acme-tls/1"]), ClientHello("", (b"acme-tls/1",))),
    (real(None), ClientHello("", ())),
]

BAD = [
    b"G",
    b"\x15\x03\x01",
    b"\x80\x2e\x01",  # SSL 2
    b"\x16\x02",
    b"\x16\x03\x01\x00\x00",
    b"\x16\x03\x01\x40\x01",
    b"\x16\x03\x01\xff\xff",
    records(message(hello(), kind=2)),
    records(message(hello(), kind=0)),
    records(b"\x01" + (MAX_SIZE + 1).to_bytes(3, "big")),
    records(b"\x01\xff\xff\xff"),
    records(b"\x01", 1) + b"\x17\x03\x01\x00\x01",
    records(message(b"")),
    records(message(hello(version=b"\x02\x00"))),
    records(message(hello(session=bytes(33)))),
    records(message(hello(ciphers=b""))),
    records(message(hello(ciphers=b"\x13"))),
    records(message(hello(compression=b""))),
    records(message(hello(tail=b"x"))),
    records(message(hello(None, tail=b"\x00"))),
    records(message(hello()[:-1])),
    records(message(hello()[:40])),
    whole(b"\x00"),
    whole(b"\x00\x00\x00\x05abc"),
    whole(sni(b"a") + sni(b"a")),
    whole(alpn(b"h2") + alpn(b"h2")),
    whole(extension(5, b"") + extension(5, b"")),
    whole(sni()),
    whole(sni(b"")),
    whole(sni(b".")),
    whole(sni(b"a", b"b")),
    whole(sni(b"a", kind=b"\x01")),
    whole(sni(b"a\x00.example")),
    whole(sni(b"a b")),
    whole(sni(b"a\r\nb")),
    whole(sni("é".encode())),
    whole(sni(b"-a")),
    whole(sni(b"*.a")),
    whole(sni(b"a" * 254)),
    whole(extension(0, vector(2, b"\x00" + vector(2, b"a")) + b"x")),
    whole(alpn()),
    whole(alpn(b"")),
    whole(alpn(b"h2", b"")),
    whole(extension(16, vector(2, b"\x05h2"))),
    whole(extension(16, vector(2, vector(1, b"h2")) + b"x")),
]


class Parsing(TestCase):
    def test_real_ones_cut_at_every_byte(self) -> None:
        for data, expected in REAL:
            self.assertEqual(parse_client_hello(data), expected)
            self.assertEqual(parse_client_hello(data + b"\x16\x03 what follows"), expected)
            for size in range(len(data)):
                self.assertIsNone(parse_client_hello(data[:size]), size)

    def test_over_many_records(self) -> None:
        for data, expected in REAL:
            for size in (1, 2, 3, 4, 5, 7, 100):
                pieces = records(data[5:], size)
                self.assertEqual(parse_client_hello(pieces), expected, size)
                for cut in range(0, len(pieces), 13):
                    self.assertIsNone(parse_client_hello(pieces[:cut]))

    def test_each_record_is_looked_at_once(self) -> None:
        """A byte at a time, in records of a byte: the work grows with the bytes, not with their square."""
        looked = 0

        def check(head: bytes) -> None:
            nonlocal looked
            looked += 1
            real_check(head)

        real_check = client_hello._check_record_start
        self.patch(client_hello, "_check_record_start", check)
        data, expected = REAL[0]
        pieces = records(data[5:], 1)
        reader = HelloReader()
        for size in range(len(pieces)):
            self.assertIsNone(reader.read(pieces[:size]))
        self.assertEqual(reader.read(pieces + b"more"), expected)
        self.assertLess(looked, 1.2 * len(pieces))

    @given(st.sampled_from(REAL), st.integers(1, 600), st.integers(0))
    def test_any_records_in_any_pieces(self, case: tuple[bytes, ClientHello], most: int, seed: int) -> None:
        rng = random.Random(seed)
        message, whole = case[0][5:], b""
        while message:
            size = rng.randint(1, most)
            whole += records(message[:size])
            message = message[size:]
        reader, have = HelloReader(), 0
        while have < len(whole):
            self.assertIsNone(reader.read(whole[:have]))
            have += rng.randint(1, most)
        self.assertEqual(reader.read(whole + b"\x17"), case[1])

    def test_hostile(self) -> None:
        for data in BAD:
            self.assertRaises(BadClientHello, parse_client_hello, data)
            for size in range(len(data)):
                try:
                    self.assertIsNone(parse_client_hello(data[:size]))
                except BadClientHello:
                    pass

    def test_grease_and_old_clients(self) -> None:
        self.assertEqual(parse_client_hello(whole(None)), ClientHello("", ()))
        grease = extension(0x0A0A, b"") + sni(b"a.example.") + alpn(b"\x0a\x0a", b"h2", b"\xfa\xfa", b"\x0a\x1a")
        self.assertEqual(parse_client_hello(whole(grease)), ClientHello("a.example", (b"h2", b"\x0a\x1a")))

    def test_a_name_as_long_as_names_are(self) -> None:
        name = b"a" * 253
        self.assertEqual(parse_client_hello(whole(sni(name))), ClientHello(name.decode(), ()))

    def test_nobody_waits_for_ever(self) -> None:
        endless = records(message(hello(extension(99, bytes(MAX_SIZE - 100)))), 1)
        self.assertRaises(BadClientHello, parse_client_hello, endless[: MAX_SIZE + 1])

    @given(st.sampled_from([data for data, _ in REAL]), st.data())
    def test_mutated(self, data: bytes, draw: st.DataObject) -> None:
        changed = bytearray(data)
        for _ in range(draw.draw(st.integers(1, 4))):
            changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
        self._any(bytes(changed))

    @given(st.binary(max_size=300), st.booleans())
    def test_anything(self, data: bytes, framed: bool) -> None:
        self._any(records(message(data)) if framed else b"\x16\x03\x01" + data)

    def _any(self, data: bytes) -> None:
        try:
            found = parse_client_hello(data)
        except BadClientHello:
            return
        if found is not None:
            self.assertTrue(found.server_name.isascii() and found.server_name.isprintable())
            self.assertTrue(all(found.alpn))


class Routing(TestCase):
    def test_the_first_that_matches(self) -> None:
        table = SniTable(
            [
                SniRule(name="rest", target=0, order=0),
                SniRule(name="wild", target=1, sni="*.example", order=1),
                SniRule(name="exact", target=2, sni="a.example", order=2),
                SniRule(name="h2", target=3, sni="a.example", alpn=["h2"], order=3),
            ]
        )

        def target(name: str, *protocols: bytes) -> int:
            rule = table.match(ClientHello(name, protocols))
            assert rule is not None
            return rule.target

        self.assertEqual(target("a.example"), 2)
        self.assertEqual(target("a.example", b"h2", b"x"), 3)
        self.assertEqual(target("b.c.example"), 1)
        self.assertEqual(target("example"), 0)
        self.assertEqual(target(""), 0)
        self.assertTrue(table.asks)
        self.assertEqual(table.ordered[0].explain(ClientHello("b", ())), "server name b is not a.example")
        self.assertEqual(table.ordered[0].explain(ClientHello("a.example", ())), "ALPN (none) has none of h2")

    def test_nobody_asks(self) -> None:
        table = SniTable([SniRule(name="all", target=0)])
        self.assertFalse(table.asks)
        self.assertIsNotNone(table.match(None))
        self.assertIsNone(SniTable([SniRule(name="a", target=0, sni="a")]).match(ClientHello("b", ())))

    @given(
        st.sampled_from(["", "a.example", "*.example", "*.a.example", "b"]),
        st.sets(st.sampled_from(["h2", "http/1.1", "x"])),
        st.sampled_from(["", "a.example", "b.a.example", "example", ".example", "b"]),
        st.lists(st.sampled_from([b"h2", b"http/1.1", b"y"]), max_size=3),
    )
    def test_what_is_explained_is_what_is_done(self, sni: str, alpn: set[str], name: str, offered: list[bytes]) -> None:
        rule = SniRule(name="r", target=0, sni=sni, alpn=alpn)
        hello = ClientHello(name, tuple(offered))
        self.assertEqual(rule.matches(hello), not rule.explain(hello))

    def test_no_words_are_made_on_the_way(self) -> None:
        table = SniTable([SniRule(name="a", target=0, sni="a"), SniRule(name="b", target=1)])
        with patch.object(SniRule, "explain", side_effect=AssertionError):
            found = table.match(ClientHello("c", ()))
        self.assertIs(found, table.ordered[1])
