"""HTTP/2 peers that mean it ill, or are merely unlucky, on every session: what it costs, and what is left of it."""

from __future__ import annotations

from typing import Any

from h2.settings import SettingCodes

from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import GET, OK, POST, Fields, Http2Peer, backend_of, client_of
from test.unit.support import Peer, World
from test.unit.test_http2_protocols import Base

H1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@on_every_session
class LastBytes(Base):
    """The end of a body that waited for a window."""

    def test_response(self) -> None:
        world = self.front()
        client = client_of(world, acknowledge=False)
        stream = client.request()
        world.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)
        client.pump()
        client.connection.increment_flow_control_window(70_000)
        client.connection.increment_flow_control_window(70_000, stream)
        client.pump()
        self.assertTrue(client.streams[stream].ended)
        self.assertEqual(client.peer.protocol.streams, {})
        world.advance(70)
        self.assertEqual(world.counters.errors, {})

    def test_request(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request(POST, b"x" * 16_000, end=False)
        backend = backend_of(world, acknowledge=False)
        for n in range(5):
            client.pump()
            client.data(stream, b"x" * 16_000, end=n == 4)
        backend.pump()
        self.assertEqual(len(backend.streams[1].data), 65_535)
        backend.connection.increment_flow_control_window(70_000)
        backend.connection.increment_flow_control_window(70_000, 1)
        backend.pump()
        self.assertTrue(backend.streams[1].ended)
        world.advance(31)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"504")
        self.assertEqual(list(world.counters.errors), ["response_timeout"])
        self.assert_rest(world)


@on_every_session
class Backends(Base):
    """Backends that are late, silent, full, or say one thing and do another."""

    def test_settings_come_late(self) -> None:
        """How many streams it takes is not known until then, so none is refused."""
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(7)]
        peers = [world.accept()]
        self.assertNotIn(b"a.example", peers[0].received())
        backends = [backend_of_peer(world, peers.pop(), 3)]
        while world.dialer.dials:
            backends.append(backend_of_peer(world, world.accept(), 3))
        answered = 0
        for backend in backends:
            backend.pump()
            while backend.requests:
                self.assertLessEqual(len(backend.requests), 3)
                backend.respond(backend.requests.pop())
                answered += 1
        client.pump()
        self.assertEqual([client.streams[stream].value(b":status") for stream in streams], [b"200"] * 7)
        self.assertEqual((answered, world.counters.retries), (7, 0))
        self.assert_rest(world)

    def test_settings_never_come(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(3)]
        peer = world.accept()
        world.advance(6)
        client.pump()
        self.assertEqual([client.streams[stream].value(b":status") for stream in streams], [b"504"] * 3)
        world.advance(1)
        self.assertTrue(peer.transport.closed)
        self.assertEqual(world.dialer.dials, [])
        self.assert_rest(world)

    def test_closed_before_settings(self) -> None:
        """Nothing was sent, so another backend may have it, whatever the method."""
        world = self.both(backends=2)
        client = client_of(world)
        stream = client.request(POST, b"x")
        world.accept().close()
        backend = backend_of(world)
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assert_rest(world)

    def test_no_streams_at_all(self) -> None:
        """SETTINGS_MAX_CONCURRENT_STREAMS of 0: no connection after the other."""
        world = self.both()
        client = client_of(world)
        first = client.request()
        backend = backend_of_peer(world, world.accept(), 0)
        others = [client.request() for _ in range(20)]
        self.assertEqual(world.dialer.dials, [])
        backend.connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        backend.pump()
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[first].value(b":status"), b"200")
        world.advance(6)
        client.pump()
        self.assertEqual({client.streams[stream].value(b":status") for stream in others[1:]}, {b"504"})
        self.assertEqual(len(world.connections[world.backends[0]]._waiting), 0)

    def test_dead_under_work(self) -> None:
        """What we send is no sign of the backend's life."""
        world = self.both()
        client = client_of(world)
        client.request()
        backend = backend_of(world)
        for _ in range(80):
            client.request()
            world.advance(1)
            backend.peer.received()  # and never answers, not even PING
        self.assertTrue(backend.peer.transport.aborted)

    def test_no_answer_after_a_stall(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request(POST, b"x", end=False)
        backend = backend_of(world)
        client.pump()
        backend.peer.stall()
        client.data(stream, b"y", end=True)
        backend.peer.unstall()
        for _ in range(4):
            world.advance(10)
            backend.pump()  # answers PINGs
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"504")
        self.assert_rest(world)

    def test_codes_that_ask_for_another_try_are_not_passed_on(self) -> None:
        """Once a response has begun, the request was processed: a client that believed it would do it twice."""
        for code, told in ((7, 2), (13, 2), (8, 8), (11, 11)):
            world = self.both()
            client = client_of(world)
            stream = client.request(POST, b"x")
            backend = backend_of(world)
            backend.respond(1, data=b"some", end=False)
            backend.reset(1, code)
            client.pump()
            self.assertEqual((client.streams[stream].reset, client.streams[stream].ended), (told, False))

    def test_refused_for_ever(self) -> None:
        world = self.both(backends=2)
        client = client_of(world)
        stream = client.request(POST, b"x")
        refused = 0
        while world.dialer.dials:
            backend = backend_of(world)
            for each in backend.requests:
                backend.reset(each, 7)
                refused += 1
            self.assertLess(refused, 5)
            client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"502")
        self.assert_rest(world)

    def test_goaway_twice(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request(POST, b"%d" % n) for n in range(4)]
        backend = backend_of(world)
        backend.go_away(5)
        backend.go_away(1)
        other = backend_of(world)
        client.pump()
        self.assertEqual([other.streams[each].data for each in other.requests], [b"3", b"1", b"2"])
        backend.respond(1)
        for each in other.requests:
            other.respond(each, data=other.streams[each].data)
        client.pump()
        self.assertEqual([client.streams[each].data for each in streams], [b"", b"1", b"2", b"3"])
        self.assertTrue(backend.peer.transport.closed)
        self.assert_rest(world)

    def test_goaway_is_all_it_says(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        backend = backend_of_peer(world, world.accept(), None)
        backend.go_away(0)
        backend_of(world).respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assert_rest(world)

    def test_client_resets_while_waiting(self) -> None:
        world = self.both()
        client = client_of(world)
        first, second = client.request(), client.request()
        client.reset(first)
        backend = backend_of(world)
        self.assertEqual(backend.requests, [1])
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[second].value(b":status"), b"200")
        third = client.request()
        client.reset(third)
        backend.pump()
        self.assertEqual(backend.streams[3].reset, 8)
        self.assert_rest(world)

    def test_replayed_once_and_whole(self) -> None:
        """More of the body comes while the first backend is being asked."""
        world = self.both()
        client = client_of(world)
        stream = client.request(POST, b"one,", end=False)
        backend = backend_of(world)
        client.pump()
        client.data(stream, b"two,")
        backend.pump()
        self.assertEqual(backend.streams[1].data, b"one,two,")
        backend.go_away(0)
        client.data(stream, b"three,")
        other = backend_of(world)
        client.data(stream, b"four,")
        client.fields(stream, [(b"x-t", b"v")])
        other.pump()
        self.assertEqual(other.streams[1].data, b"one,two,three,four,")
        self.assertEqual(other.streams[1].trailers, [(b"x-t", b"v")])
        other.respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assert_rest(world)

    def test_stops_while_a_connection_is_being_opened(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        world.connections[world.backends[0]].close()
        backend = backend_of(world)
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assertTrue(backend.peer.transport.closed)


def backend_of_peer(world: World, peer: Peer, streams: int | None) -> Http2Peer:
    """A backend that takes so many streams."""
    settings = {} if streams is None else {SettingCodes.MAX_CONCURRENT_STREAMS: streams}
    return Http2Peer(world, peer, client=False, settings=settings)


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
