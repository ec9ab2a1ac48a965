"""Keys of requests, cookies as they come, and both ways of remembering a client."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.interfaces import IAffinity
from balance.model import Headers, RequestHead
from balance.pool.affinity import StickyCookie, StickyTable, cookie_value, key_source

SECRET = b"0123456789abcdef"


def head(*fields: tuple[bytes, bytes], target: bytes = b"/a/b?q=1", host: bytes = b"Example.com:8080") -> RequestHead:
    return RequestHead(b"GET", target, host, Headers.of(*fields))


def cookies(*values: bytes) -> Headers:
    return Headers.of(*((b"Cookie", value) for value in values))


class KeySources(SynchronousTestCase):
    def test_source_ip(self) -> None:
        self.assertEqual(key_source("source-ip")(head(), "2001:db8::1"), b"2001:db8::1")

    def test_path_without_the_query(self) -> None:
        self.assertEqual(key_source("path")(head(), "::1"), b"/a/b")

    def test_header_in_any_case(self) -> None:
        source = key_source("header:X-User")
        self.assertEqual(source(head((b"x-USER", b"ann")), ""), b"ann")
        self.assertEqual(source(head(), ""), b"")

    def test_host_which_is_kept_apart(self) -> None:
        self.assertEqual(key_source("header:Host")(head(), ""), b"example.com:8080")

    def test_cookie(self) -> None:
        source = key_source("cookie:sid")
        self.assertEqual(source(head((b"Cookie", b"a=1; sid=xyz")), ""), b"xyz")
        self.assertEqual(source(head(), ""), b"")

    def test_anything_else_is_refused_with_what_is_allowed(self) -> None:
        for wrong in (
            "",
            "sourceip",
            "source-ip:x",
            "path:",
            "query:a",
            "header",
            "header:",
            "header:a b",
            "cookie:a=b",
        ):
            error = self.assertRaises(ValueError, key_source, wrong)
            self.assertIn("hash_key", str(error))


class CookieValues(SynchronousTestCase):
    def test_finds_the_pair_among_others(self) -> None:
        for field in (b"a=1", b"b=2; a=1", b"a=1; b=2", b"b=2;a=1;c", b"  a=1 ", b";;a=1;", b"xa=9; a=1", b'a="1"'):
            self.assertEqual(cookie_value(cookies(field), b"a"), b"1", field)

    def test_reads_every_field(self) -> None:
        """HTTP/2 may send each pair as a field (RFC 9113, section 8.2.3)."""
        self.assertEqual(cookie_value(cookies(b"b=2", b"a=1"), b"a"), b"1")

    def test_takes_the_first_of_two(self) -> None:
        self.assertEqual(cookie_value(cookies(b"a=1; a=2", b"a=3"), b"a"), b"1")

    def test_looks_at_whole_names_only(self) -> None:
        for field in (b"", b"a", b"aa=1", b"A=1", b"b=a=1", b"b=2,a=1", b"a =1"):
            self.assertIsNone(cookie_value(cookies(field), b"a"), field)

    def test_keeps_what_belongs_to_the_value(self) -> None:
        for field, value in ((b"a=b=c", b"b=c"), (b"a=", b""), (b'a="', b'"'), (b'a=""', b""), (b'a="x', b'"x')):
            self.assertEqual(cookie_value(cookies(field), b"a"), value)

    @settings(deadline=None, derandomize=True)
    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_junk_around_it_does_no_harm(self, before: bytes, after: bytes) -> None:
        found = cookie_value(cookies(before + b"; zz=1; " + after), b"zz")
        self.assertEqual(found, b"1" if b"zz=" not in before else found)
        self.assertIsNotNone(found)


class Table(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.table = StickyTable(key_source("source-ip"), 600, self.clock.seconds, max_entries=3)

    def bind(self, *addresses: str) -> None:
        for address in addresses:
            self.assertIsNone(self.table.bind(head(), address, "b" + address))

    def known(self, *addresses: str) -> list[str | None]:
        return [self.table.recall(head(), address) for address in addresses]

    def test_provides_the_interface(self) -> None:
        verifyObject(IAffinity, self.table)

    def test_remembers_who_was_bound(self) -> None:
        self.bind("1", "2")
        self.assertEqual(self.known("1", "2", "3"), ["b1", "b2", None])

    def test_forgets_after_silence(self) -> None:
        self.bind("1", "2")
        self.clock.advance(599)
        self.assertEqual(self.known("1"), ["b1"])
        self.clock.advance(1)
        self.assertEqual(self.known("1", "2"), ["b1", None])
        self.clock.advance(600)
        self.assertEqual(self.known("1"), [None])

    def test_binding_again_replaces(self) -> None:
        self.bind("1")
        self.table.bind(head(), "1", "other")
        self.assertEqual(self.known("1"), ["other"])
        self.assertEqual(len(self.table), 1)

    def test_whoever_was_silent_longest_makes_room(self) -> None:
        self.bind("1", "2", "3")
        self.known("1")
        self.bind("4")
        self.assertEqual(self.known("1", "2", "3", "4"), ["b1", None, "b3", "b4"])

    def test_binding_one_that_is_known_pushes_nobody_out(self) -> None:
        self.bind("1", "2", "3", "1")
        self.assertEqual(self.known("1", "2", "3"), ["b1", "b2", "b3"])

    def test_the_silent_are_cleared_away(self) -> None:
        self.bind("1", "2")
        self.clock.advance(600)
        self.bind("3")
        self.assertEqual(len(self.table), 1)

    def test_a_request_without_a_key_is_not_bound(self) -> None:
        table = StickyTable(key_source("header:x-user"), 600, self.clock.seconds)
        table.bind(head(), "1", "b1")
        self.assertIsNone(table.recall(head(), "1"))
        self.assertEqual(len(table), 0)

    def test_refuses_nonsense(self) -> None:
        self.assertRaises(ValueError, StickyTable, key_source("path"), 0, self.clock.seconds)
        self.assertRaises(ValueError, StickyTable, key_source("path"), 1, self.clock.seconds, 0)


class Cookie(SynchronousTestCase):
    def sticky(self, secret: bytes = SECRET, *, secure: bool = False, ttl: float = 0) -> StickyCookie:
        return StickyCookie("lb", secret, ["one", "two"], secure=secure, ttl=ttl)

    def issued(self, sticky: StickyCookie, backend: str) -> bytes:
        cookie = sticky.bind(head(), "::1", backend)
        assert cookie is not None
        return cookie.partition(b";")[0]

    def test_provides_the_interface(self) -> None:
        verifyObject(IAffinity, self.sticky())

    def test_a_client_that_sends_it_back_is_recognised(self) -> None:
        sticky = self.sticky()
        for name in ("one", "two"):
            request = head((b"Cookie", b"theme=dark; " + self.issued(sticky, name)))
            self.assertEqual(sticky.recall(request, "::1"), name)

    def test_attributes(self) -> None:
        def attributes(sticky: StickyCookie) -> bytes:
            cookie = sticky.bind(head(), "::1", "one")
            assert cookie is not None
            return cookie.partition(b";")[2]

        self.assertEqual(attributes(self.sticky()), b" Path=/; HttpOnly; SameSite=Lax")
        self.assertEqual(
            attributes(self.sticky(secure=True, ttl=90.5)), b" Path=/; HttpOnly; SameSite=Lax; Max-Age=90; Secure"
        )
        self.assertIn(b"Max-Age=1;", attributes(self.sticky(ttl=0.5)) + b";")

    def test_value_is_a_keyed_hash(self) -> None:
        """Written down: another value would unbind every client at the next upgrade."""
        self.assertEqual(self.issued(self.sticky(), "one"), b"lb=49eead74b77cbfdce0748f1ea2d042ac")
        self.assertNotEqual(self.issued(self.sticky(), "one"), self.issued(self.sticky(), "two"))
        self.assertNotEqual(self.issued(self.sticky(), "one"), self.issued(self.sticky(b"x" * 16), "one"))
        self.assertNotEqual(self.issued(self.sticky(b"x" * 100), "one"), self.issued(self.sticky(b"x" * 101), "one"))

    def test_what_was_not_made_here_binds_nobody(self) -> None:
        sticky = self.sticky()
        value = self.issued(sticky, "one")
        for cookie in (b"lb=", b"lb=one", value[:-1], value + b"0", value.upper(), b"lb=\xff", b"LB" + value[2:]):
            self.assertIsNone(sticky.recall(head((b"Cookie", cookie)), "::1"), cookie)
        self.assertIsNone(sticky.recall(head((b"Cookie", self.issued(self.sticky(b"y" * 16), "one"))), "::1"))
        self.assertIsNone(sticky.recall(head(), "::1"))

    def test_a_backend_that_is_not_ours_gets_no_cookie(self) -> None:
        self.assertIsNone(self.sticky().bind(head(), "::1", "three"))

    def test_refuses_what_would_not_be_a_cookie_or_no_secret(self) -> None:
        for name in ("", "a b", "a;b", "a=b", "ä"):
            self.assertRaises(ValueError, StickyCookie, name, SECRET, [])
        self.assertRaises(ValueError, StickyCookie, "lb", b"short", [])
