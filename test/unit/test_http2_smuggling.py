"""HTTP/2 messages that HTTP/1.1 would read in another way, on every session: refused, and not a byte of them passed on."""

from __future__ import annotations

from typing import Any

from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import GET, OK, POST, Fields, backend_of, client_of
from test.unit.test_http2_protocols import Base

H1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@on_every_session
class Smuggling(Base):
    """What HTTP/1.1 would read in another way."""

    def test_requests(self) -> None:
        world = self.front()
        client = client_of(world)
        method, scheme, path, authority = GET
        cases: list[Fields] = [
            [*GET, (b"", b"x")],
            [*GET, (b"a:b", b"x")],
            [*GET, (b"a b", b"x")],
            [*GET, (b"a\r\nb", b"x")],
            [*GET, (b"caf\xe9", b"x")],
            [*GET, (b"x", b" y")],
            [*GET, (b"x", b"y\t")],
            [*GET, (b"x", b"y\x7f")],
            [*GET, (b"cookie", b"a=1"), (b"cookie", b"b\0")],
            [*GET, (b"cookie", b"a=1\r\nx: y")],
            [*GET, (b"proxy-connection", b"close")],
            [*GET, (b"keep-alive", b"1")],
            [*GET, (b"upgrade", b"h2c")],
            [*GET, (b"te", b"trailers, gzip")],
            [*GET, (b":path", b"/other")],
            [*GET, (b":status", b"200")],
            [*GET, (b":x", b"y")],
            [method, scheme, (b":x", b"/"), authority],
            [method, scheme, path, (b"x", b"y"), authority],
            [*POST, (b"content-length", b"+1")],
            [*POST, (b"content-length", b"1, 1")],
            [*POST, (b"content-length", b"0x1")],
            [*POST, (b"content-length", b"")],
            [*POST, (b"content-length", b"1"), (b"content-length", b"1")],
            [*POST, (b"content-length", b"1" * 30)],
            [(b":method", b""), scheme, path, authority],
            [(b":method", b"GE T"), scheme, path, authority],
            [(b":method", b"GET / HTTP/1.1\r\nx: y"), scheme, path, authority],
            [method, (b":scheme", b"ftp"), path, authority],
            *([method, scheme, (b":path", each), authority] for each in PATHS),
            *([method, scheme, path, (b":authority", each)] for each in AUTHORITIES),
            [method, scheme, path, (b"host", b"a.example"), (b"host", b"b.example")],
            [method, scheme, path, (b"host", b"")],
            [*GET, (b"host", b"a.example:80")],
        ]
        for fields in cases:
            stream = client.request(fields, end=False)
            self.assertEqual(client.streams[stream].reset, 1, fields)
        self.assertEqual(world.dialer.dials, [])
        self.assertEqual(client.goaways, [])
        self.assert_rest(world)

    def test_what_is_odd_and_allowed(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request(
            [*GET, (b"x", b"caf\xe9"), (b"y", b""), (b"cookie", b"a=\xff"), (b"cookie", b"b"), (b"z", b"a\tb")]
        )
        sent = world.accept().received()
        self.assertIn(b"\r\nx: caf\xe9\r\ny: \r\n", sent)
        self.assertIn(b"\r\nz: a\tb\r\n", sent)
        self.assertIn(b"\r\ncookie: a=\xff; b\r\n", sent)

    def test_bodies_that_belie_their_length(self) -> None:
        for length, pieces in ((5, [b"abc", b"defg"]), (5, [b"abc", b""]), (0, [b"GET /admin HTTP/1.1\r\n\r\n"])):
            world = self.front()
            client = client_of(world)
            stream = client.request([*POST, (b"content-length", b"%d" % length)], end=False)
            backend = world.accept()
            client.pump()
            for n, piece in enumerate(pieces, 1):
                client.data(stream, piece, end=n == len(pieces))
            self.assertEqual(client.streams[stream].reset, 1)
            self.assertTrue(backend.transport.aborted)
            self.assertNotIn(b"admin", backend.received())
            self.assert_rest(world)

    def test_trailers_that_frame_or_route(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request(POST, b"abc", end=False)
        backend = world.accept()
        client.pump()
        names = (b"content-length", b"host", b"te", b"expect", b"cookie", b"x-forwarded-for", b"forwarded")
        client.fields(stream, [*((name, b"0") for name in names), (b"x", b"y")])
        self.assertTrue(backend.received().endswith(b"3\r\nabc\r\n0\r\nx: y\r\n\r\n"))

    def test_responses(self) -> None:
        cases: list[Fields] = [
            [*OK, (b"x", b"a\r\nb: c")],
            [*OK, (b"x", b"a\nb")],
            [*OK, (b"x\r\n", b"a")],
            [*OK, (b"X", b"a")],
            [*OK, (b"", b"a")],
            [*OK, (b"transfer-encoding", b"chunked")],
            [*OK, (b"connection", b"close")],
            [*OK, (b"content-length", b"1"), (b"content-length", b"2")],
            [*OK, (b"content-length", b"-1")],
            [*OK, *OK],
            [(b"x", b"y"), *OK],
            [(b":status", b"0200")],
            [(b":status", b"200 OK\r\nx: y")],
            [(b":status", b"600")],
            [(b":status", b"101")],
            [*OK, (b":path", b"/")],
        ]
        for fields in cases:
            world = self.back()
            client = world.client()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            backend = backend_of(world)
            backend.respond(1, fields, end=False)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "), fields)
            self.assertEqual(backend.streams[1].reset, 1)
            self.assert_rest(world)

    def test_responses_that_belie_their_length(self) -> None:
        for pieces in ([b"abc", b"defg"], [b"abc", b""]):
            world = self.back()
            client = world.client()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            backend = backend_of(world)
            backend.respond(1, [*OK, (b"content-length", b"5")], end=False)
            for n, piece in enumerate(pieces, 1):
                backend.data(1, piece, end=n == len(pieces))
            self.assertTrue(client.received().endswith(b"abc"))
            self.assertTrue(client.transport.aborted)
            self.assert_rest(world)

    def test_interim_responses_without_end(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        backend = backend_of(world)
        for _ in range(40):
            if backend.streams[1].reset is None:
                backend.fields(1, [(b":status", b"103")], end=False)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"502")
        self.assertLessEqual(len(client.streams[stream].informational), 32)
        self.assert_rest(world)

    def test_expectations(self) -> None:
        """100 is passed on, and the body only comes after it."""
        for world in (self.front(), self.both()):
            client = client_of(world)
            stream = client.request([*POST, (b"expect", b"100-continue"), (b"content-length", b"2")], end=False)
            if world.connections[world.backends[0]].__class__.__name__ == "MultiplexedConnections":
                backend: Any = backend_of(world)
                self.assertEqual(backend.streams[1].value(b"expect"), b"100-continue")
                backend.fields(1, [(b":status", b"100")], end=False)
                client.pump()
                client.data(stream, b"hi", end=True)
                backend.pump()
                self.assertEqual((backend.streams[1].data, backend.streams[1].ended), (b"hi", True))
                backend.respond(1)
            else:
                backend = world.accept()
                self.assertIn(b"100-continue\r\n", backend.received())
                backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                client.pump()
                client.data(stream, b"hi", end=True)
                self.assertTrue(backend.received().endswith(b"hi"))
                backend.send(H1_OK)
            client.pump()
            self.assertEqual(client.streams[stream].informational, [[(b":status", b"100")]])
            self.assertEqual(client.streams[stream].value(b":status"), b"200")
            self.assert_rest(world)


PATHS = (b"", b"*", b"a", b"/a b", b"/a#b", b"/a\tb", b"/\xe9", b"/a\r\nx: y", b"http://b.example/", b"?a", b" /")
AUTHORITIES = (
    b"",
    b"u@a.example",
    b"a,b",
    b"a.example:99999",
    b"a:1:2",
    b"a b",
    b"a/b",
    b"a\r\nx: y",
    b"a?b",
    b"[::1",
    b"\xe9",
)
