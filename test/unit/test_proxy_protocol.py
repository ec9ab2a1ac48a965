"""The PROXY protocol's headers: whole, cut at every byte, hostile, and random."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from balance.codec.proxy_protocol import MAX_SIZE, ProxyHeader, crc32c, parse_proxy_header, write_proxy_header
from balance.errors import BadProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
SIX = bytes.fromhex("20010db8" + "0" * 23 + "1" + "20010db8" + "0" * 23 + "2") + b"\x00\x50\x01\xbb"


def v2(command: int = 0x21, family: int = 0x11, body: bytes = FOUR, size: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + (len(body) if size is None else size).to_bytes(2, "big") + body


def with_crc(value: bytes | None = None) -> bytes:
    blank = v2(body=FOUR + b"\x04\x00\x01x" + b"\x03\x00\x04" + bytes(4))
    return blank[:-4] + (crc32c(blank).to_bytes(4, "big") if value is None else value)


GOOD = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n": ("192.0.2.1", 56324),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ("255.255.255.255", 65535),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": ("0.0.0.0", 0),
    b"PROXY TCP6 2001:db8::1 2001:db8::2 80 443\r\n": ("2001:db8::1", 80),
    b"PROXY TCP6 " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n": (
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        65535,
    ),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ff:ff anything goes\r\n": None,
    v2(): ("192.0.2.1", 56324),
    v2(family=0x21, body=SIX): ("2001:db8::1", 80),
    v2(family=0x31, body=bytes(216)): None,
    v2(family=0x00, body=b""): None,
    v2(command=0x20, family=0x00, body=b""): None,
    v2(command=0x20, body=FOUR): None,
    v2(command=0x20, body=b"\xff" * 40): None,
    v2(body=FOUR + b"\x02\x00\x03abc" + b"\x04\x00\x00"): ("192.0.2.1", 56324),
    v2(body=FOUR + b"\xe0" + (4081).to_bytes(2, "big") + bytes(4081)): ("192.0.2.1", 56324),
    with_crc(): ("192.0.2.1", 56324),
}

BAD = [
    b"G",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXYTCP4",
    b"PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP 1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP5",
    b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r 1\r\n",
    b"PROXY TCP4 1.1.1.1\x00 1.1.1.1 1 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
    b"PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n",
    b"PROXY TCP4\t1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1 999999\r\n",
    b"PROXY TCP4 1.1.1.1 1.1.1.1 \xb2 1\r\n",
    b"PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n",
    b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP4 ::1 ::1 1 1\r\n",
    b"PROXY TCP4 1.1.1.1 ::1 1 1\r\n",
    b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP6 ::1%eth0 ::1 1 1\r\n",
    b"PROXY TCP6 ::1::2 ::1 1 1\r\n",
    b"PROXY TCP6 [::1] ::1 1 1\r\n",
    b"PROXY TCP4 a.example b.example 1 1\r\n",
    b"PROXY UNKNOWN " + b"x" * 93,
    b"PROXY TCP4 " + b"1" * 120,
    SIGNATURE[:11] + b"\r",
    v2(command=0x11),
    v2(command=0x22),
    v2(command=0x31),
    v2(command=0x01),
    v2(family=0x12),
    v2(family=0x22),
    v2(family=0x41),
    v2(family=0x01),
    v2(body=FOUR[:-1]),
    v2(family=0x21, body=FOUR),
    v2(size=4097),
    v2(size=65535),
    v2(body=FOUR + b"\x02"),
    v2(body=FOUR + b"\x02\x00\x04abc"),
    v2(body=FOUR + b"\x03\x00\x01x"),
    with_crc(bytes(4)),
]


class Parsing(TestCase):
    def test_whole_and_cut_at_every_byte(self) -> None:
        for data, source in GOOD.items():
            for tail in (b"", b"GET", b"\r\n", b"PROXY "):
                parsed = parse_proxy_header(data + tail)
                assert parsed is not None
                self.assertEqual((parsed[1], parsed[0].source), (len(data), source))
                self.assertEqual(parsed[0].local, source is None and data[13:14] != b"\x31")
            for size in range(len(data)) if len(data) < 400 else (0, 15, 16, 17, len(data) - 1):
                self.assertIsNone(parse_proxy_header(data[:size]), data[:size])

    def test_hostile(self) -> None:
        for data in BAD:
            self.assertRaises(BadProxyHeader, parse_proxy_header, data)
            for size in range(len(data)):
                try:
                    self.assertIsNone(parse_proxy_header(data[:size]), data[:size])
                except BadProxyHeader:
                    pass

    def test_extensions_are_kept(self) -> None:
        parsed = parse_proxy_header(v2(body=FOUR + b"\x02\x00\x03abc\x02\x00\x00\xe5\x00\x01\x00"))
        assert parsed is not None
        self.assertEqual(parsed[0].tlvs, ((2, b"abc"), (2, b""), (0xE5, b"\x00")))

    def test_checksum(self) -> None:
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)  # the check value of the CRC catalogue
        with self.assertRaisesRegex(BadProxyHeader, "more than one"):  # each would be worked out
            parse_proxy_header(v2(body=FOUR + (b"\x03\x00\x04" + bytes(4)) * 2))

    @given(
        st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"])
    )
    def test_anything(self, data: bytes, start: bytes) -> None:
        try:
            parsed = parse_proxy_header(start + data)
        except BadProxyHeader:
            return
        self.assertTrue(parsed is None or (isinstance(parsed[0], ProxyHeader) and 0 < parsed[1] <= len(start + data)))

    def test_nobody_waits_for_ever(self) -> None:
        for start in (b"PROXY UNKNOWN ", SIGNATURE + b"\x21\x11\x0f\xff", SIGNATURE + b"\x20\x00\x10\x00"):
            try:
                self.assertIsNotNone(parse_proxy_header(start + bytes(MAX_SIZE)))
            except BadProxyHeader:
                pass


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ends = st.tuples(addresses, st.integers(0, 65535))


class Writing(TestCase):
    @given(st.sampled_from([1, 2]), ends, ends)
    def test_what_is_written_can_be_read(
        self, version: int, source: tuple[str, int], destination: tuple[str, int]
    ) -> None:
        written = write_proxy_header(version, source, destination)
        parsed = parse_proxy_header(written)
        assert parsed is not None
        header, size = parsed
        self.assertEqual((header.version, header.local, size), (version, False, len(written)))
        if (":" in source[0]) == (":" in destination[0]):
            self.assertEqual((header.source, header.destination), (source, destination))
        elif "." in source[0] and ":" not in source[0]:
            assert header.source is not None
            self.assertEqual(header.source[1], source[1])
            self.assertTrue(header.source[0].startswith("::ffff:"))

    def test_where_nothing_is_known(self) -> None:
        self.assertEqual(write_proxy_header(1, None, None), b"PROXY UNKNOWN\r\n")
        for version in (1, 2):
            parsed = parse_proxy_header(write_proxy_header(version, None, ("1.1.1.1", 1)))
            assert parsed is not None
            self.assertTrue(parsed[0].local)

    def test_extensions(self) -> None:
        parsed = parse_proxy_header(write_proxy_header(2, ("1.1.1.1", 1), ("2.2.2.2", 2), [(0x05, b"id")]))
        assert parsed is not None
        self.assertEqual(parsed[0].tlvs, ((5, b"id"),))
