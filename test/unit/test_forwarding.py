"""What backends are told about clients, and what clients cannot make us tell them."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.forwarding import ForwardingRules, add_via
from balance.codec.http1 import parse_request
from balance.model import HTTP2, HTTP10, HTTP11, Headers, RequestHead

TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def request(*lines: str) -> RequestHead:
    return parse_request("\r\n".join(["GET / HTTP/1.1", "Host: a.example", *lines]).encode())


def applied(peer: str, *lines: str, trusted: bool = True, forwarded: bool = False) -> tuple[str, dict[str, list[str]]]:
    head = request(*lines)
    rules = ForwardingRules(TRUSTED if trusted else (), forwarded=forwarded)
    client = rules.for_peer(peer, b"http").apply(head)
    fields: dict[str, list[str]] = {}
    for name, value in head.headers:
        fields.setdefault(name.decode(), []).append(value.decode())
    return client, fields


class Strangers(SynchronousTestCase):
    def test_fields_are_made(self) -> None:
        client, fields = applied("192.0.2.1")
        self.assertEqual(client, "192.0.2.1")
        self.assertEqual(
            fields,
            {
                "x-forwarded-for": ["192.0.2.1"],
                "x-forwarded-proto": ["http"],
                "x-real-ip": ["192.0.2.1"],
                "x-forwarded-host": ["a.example"],
            },
        )

    def test_fields_are_replaced(self) -> None:
        client, fields = applied(
            "192.0.2.1",
            "X-Forwarded-For: 6.6.6.6",
            "x-forwarded-for: 7.7.7.7",
            "X-Forwarded-Proto: https",
            "X_FORWARDED_HOST: evil",
            "Forwarded: for=6.6.6.6",
            "X-Forwarded-Prefix: /evil",
        )
        self.assertEqual(client, "192.0.2.1")
        self.assertEqual(fields["x-forwarded-for"], ["192.0.2.1"])
        self.assertEqual(fields["x-forwarded-proto"], ["http"])
        for gone in ("x_forwarded_host", "forwarded", "x-forwarded-prefix"):
            self.assertNotIn(gone, fields)

    def test_cached_per_host(self) -> None:
        forwarding = ForwardingRules().for_peer("192.0.2.1", b"http")
        seen = []
        for host in ("a", "a", "b", "a"):
            head = RequestHead(b"GET", b"/", host.encode(), Headers())
            forwarding.apply(head)
            seen.append(head.headers.get(b"x-forwarded-host"))
            head.headers.remove(b"x-real-ip")  # what one request edits, the next does not see
        self.assertEqual(seen, [b"a", b"a", b"b", b"a"])

    def test_no_address(self) -> None:
        client, fields = applied("", trusted=False)
        self.assertEqual((client, fields["x-forwarded-for"]), ("", ["unknown"]))


class Chains(SynchronousTestCase):
    def test_right_to_left(self) -> None:
        for chain, client in [
            ("203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("10.3.3.3, 10.1.1.1", "10.3.3.3"),
            ("203.0.113.9, junk, 10.1.1.1", "10.1.1.1"),
            ("junk", "10.9.9.9"),
            ("203.0.113.9:1234", "203.0.113.9"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            (", ,", "10.9.9.9"),
        ]:
            found, fields = applied("10.9.9.9", f"X-Forwarded-For: {chain}")
            self.assertEqual(found, client, chain)
            self.assertEqual(fields["x-real-ip"], [client])
            self.assertTrue(fields["x-forwarded-for"][0].endswith("10.9.9.9"))

    def test_several_fields_are_one_chain(self) -> None:
        client, fields = applied("10.9.9.9", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.9")
        self.assertEqual(client, "203.0.113.9")
        self.assertEqual(fields["x-forwarded-for"], ["6.6.6.6, 203.0.113.9, 10.9.9.9"])

    def test_what_it_said_is_kept(self) -> None:
        _, fields = applied("fd00::1", "X-Forwarded-Proto: https", "X-Forwarded-Host: outer", "X-Forwarded-Port: 443")
        self.assertEqual(fields["x-forwarded-proto"], ["https"])
        self.assertEqual(fields["x-forwarded-host"], ["outer"])
        self.assertEqual(fields["x-forwarded-port"], ["443"])

    def test_mapped_addresses_are_trusted_as_ipv4(self) -> None:
        self.assertTrue(ForwardingRules(TRUSTED).trusts("::ffff:10.1.1.1"))
        self.assertFalse(ForwardingRules(TRUSTED).trusts("::ffff:11.1.1.1"))
        self.assertFalse(ForwardingRules(TRUSTED).trusts("not an address"))

    @given(st.text(st.sampled_from("0123456789abc.:[], \t"), max_size=60))
    def test_any_chain(self, chain: str) -> None:
        """The client is always one address, and never what a stranger wrote to the left of himself."""
        client, _ = applied("10.9.9.9", f"X-Forwarded-For: {chain}")
        ipaddress.ip_address(client)
        client, _ = applied("192.0.2.1", f"X-Forwarded-For: {chain}")
        self.assertEqual(client, "192.0.2.1")


class Standards(SynchronousTestCase):
    def test_forwarded(self) -> None:
        _, fields = applied("2001:db8::7", forwarded=True, trusted=False)
        self.assertEqual(fields["forwarded"], ['for="[2001:db8::7]";host="a.example";proto=http'])
        _, fields = applied("10.1.1.1", "Forwarded: for=6.6.6.6", "X-Forwarded-For: 6.6.6.6", forwarded=True)
        self.assertEqual(fields["forwarded"], ['for=6.6.6.6, for=10.1.1.1;host="a.example";proto=http'])

    def test_via(self) -> None:
        headers = Headers.of((b"Via", b"1.0 other"))
        for version in (HTTP10, HTTP11, HTTP2):
            add_via(headers, version)
        self.assertEqual(headers.get_all(b"via"), [b"1.0 other, 1.0 balance, 1.1 balance, 2 balance"])
