"""HTTP/2 connections of clients and backends, in memory, on every session: what each side is sent, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http2.session import Session, SessionOptions
from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import GET, OK, POST, Fields, Http2Peer, backend_of, client_of
from test.unit.support import World

H1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Base(SynchronousTestCase):
    implementation: ClassVar[Any]

    def server(self, **options: Any) -> Callable[[], Session]:
        return lambda: self.implementation.ServerSession(SessionOptions(**options))

    def client(self, **options: Any) -> Callable[[], Session]:
        return lambda: self.implementation.ClientSession(SessionOptions(**options))

    def front(self, **more: Any) -> World:
        """HTTP/2 to clients, HTTP/1.1 to backends."""
        return World(http2=self.server(), **more)

    def both(self, **more: Any) -> World:
        return World(http2=self.server(), http2_backends=self.client(), **more)

    def back(self, **more: Any) -> World:
        return World(http2_backends=self.client(), **more)

    def assert_rest(self, world: World) -> None:
        """Nothing is left of any request."""
        self.assertEqual([backend.active for backend in world.backends], [0] * len(world.backends))
        self.assertEqual(world.counters.active, 0)


@on_every_session
class ToHttp1(Base):
    def test_request_and_response(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request([*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers")])
        backend = world.accept()
        self.assertEqual(
            backend.received(),
            b"GET / HTTP/1.1\r\nHost: a.example\r\ncookie: a=1; b=2\r\nX-Forwarded-For: 192.0.2.1\r\n"
            b"X-Forwarded-Proto: http\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Host: a.example\r\n"
            b"Connection: te\r\nTE: trailers\r\n\r\n",
        )
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Case: Kept\r\nConnection: keep-alive\r\n\r\nhi")
        client.pump()
        seen = client.streams[stream]
        self.assertEqual(seen.fields, [(b":status", b"200"), (b"x-case", b"Kept"), (b"content-length", b"2")])
        self.assertEqual((seen.data, seen.ended, seen.reset), (b"hi", True, None))
        self.assert_rest(world)

    def test_many_streams_answered_in_any_order(self) -> None:
        world = self.front()
        client = client_of(world)
        streams = [client.request([*GET[:2], (b":path", b"/%d" % n), GET[3]]) for n in range(20)]
        backends = [world.accept() for _ in streams]
        for n in reversed(range(20)):
            self.assertIn(b"GET /%d " % n, backends[n].received())
            backends[n].send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n)
        client.pump()
        self.assertEqual([client.streams[s].data for s in streams], [b"%02d" % n for n in range(20)])
        self.assert_rest(world)

    def test_body_and_trailers_both_ways(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request(POST, b"abc", end=False)
        backend = world.accept()
        client.pump()
        client.data(stream, b"def")
        client.fields(stream, [(b"x-sum", b"1")])
        sent = backend.received()
        self.assertIn(b"Transfer-Encoding: chunked", sent)
        self.assertTrue(sent.endswith(b"3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 1\r\n\r\n"), sent)
        backend.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        backend.send(b"2\r\nhi\r\n0\r\nX-T: w\r\n\r\n")
        client.pump()
        seen = client.streams[stream]
        self.assertEqual(seen.informational, [[(b":status", b"103"), (b"link", b"</a>")]])
        self.assertEqual((seen.data, seen.trailers, seen.ended), (b"hi", [(b"x-t", b"w")], True))
        self.assert_rest(world)

    def test_known_length_stays_known(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request([*POST, (b"content-length", b"3")], b"abc")
        sent = world.accept().received()
        self.assertIn(b"Content-Length: 3\r\n", sent)
        self.assertTrue(sent.endswith(b"\r\n\r\nabc"))

    def test_a_body_that_comes_with_its_head(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request(POST, b"abc")
        backend = world.accept()
        self.assertTrue(backend.received().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
        backend.send(H1_OK)
        again = client.request(POST, b"def", end=False)  # now there is a connection
        self.assertTrue(backend.received().endswith(b"\r\n\r\n3\r\ndef\r\n"))
        for _ in range(10):
            client.data(again, b"x" * 16000, end=False)  # more than a window: what came with the head is given back too
        client.data(again, b"", end=True)
        self.assertEqual(backend.received().count(b"x"), 160_000)
        backend.send(H1_OK)
        client.pump()
        self.assertEqual(client.streams[again].data, b"hi")
        self.assert_rest(world)

    def test_head_and_304_have_no_body(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request([(b":method", b"HEAD"), *GET[1:]])
        world.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        client.pump()
        self.assertEqual(client.streams[stream].value(b"content-length"), b"5")
        self.assertTrue(client.streams[stream].ended)

    def test_error_answers(self) -> None:
        world = self.front(rules=lambda pool: [])
        client = client_of(world)
        stream = client.request()
        self.assertEqual(client.streams[stream].value(b":status"), b"404")
        self.assertTrue(client.streams[stream].ended)
        self.assertEqual(client.streams[stream].reset, None)

    def test_answered_before_the_body_has_come(self) -> None:
        world = self.front(rules=lambda pool: [])
        client = client_of(world)
        stream = client.request(POST, end=False)
        self.assertEqual((client.streams[stream].value(b":status"), client.streams[stream].reset), (b"404", 0))
        other = client.request()
        self.assertTrue(client.streams[other].ended)

    def test_body_too_large(self) -> None:
        world = self.front(route_options={"max_body": 5})
        client = client_of(world)
        stream = client.request(POST, b"abc", end=False)
        backend = world.accept()
        client.data(stream, b"defg")
        self.assertEqual(client.streams[stream].value(b":status"), b"413")
        self.assertTrue(backend.transport.aborted)
        self.assert_rest(world)

    def test_malformed_heads_cost_their_stream_only(self) -> None:
        cases: list[Fields] = [
            [*GET, (b"Upper", b"x")],
            [*GET, (b"connection", b"close")],
            [*GET, (b"transfer-encoding", b"chunked")],
            [*GET, (b"x", b"a\r\nb: c")],
            [*GET, (b"x", b"a\0b")],
            [*GET, (b"te", b"gzip")],
            [*GET, (b"content-length", b"5")],
            [*GET[:2], (b":path", b""), GET[3]],
            [*GET[:3], (b":authority", b"a b")],
            [*GET, (b"host", b"other.example")],
            [(b"x", b"y"), *GET],
            GET[:3],
        ]
        world = self.front()
        client = client_of(world)
        for fields in cases:
            stream = client.request(fields)
            self.assertEqual(client.streams[stream].reset, 1, fields)
        self.assertEqual(world.dialer.dials, [])
        stream = client.request()
        world.accept().send(H1_OK)
        client.pump()
        self.assertEqual(client.streams[stream].data, b"hi")
        self.assertEqual(client.goaways, [])

    def test_heads_that_break_a_limit_are_answered(self) -> None:
        world = self.front()
        client = client_of(world)
        for fields, status in [
            ([*GET[:2], (b":path", b"/" + b"a" * 9000), GET[3]], b"414"),
            ([*GET, *((b"x%d" % n, b"y") for n in range(101))], b"431"),
            ([(b":method", b"TRACE"), *GET[1:]], b"405"),
            ([*POST, (b"expect", b"magic")], b"417"),
        ]:
            stream = client.request(fields)
            self.assertEqual(client.streams[stream].value(b":status"), status)
            self.assertTrue(client.streams[stream].ended)

    def test_client_resets(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request()
        backend = world.accept()
        client.reset(stream)
        self.assertTrue(backend.transport.aborted)
        self.assertEqual(world.counters.errors, {"client_gone": 1})
        self.assert_rest(world)

    def test_client_is_gone(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request()
        client.request()
        backends = [world.accept(), world.accept()]
        client.peer.close()
        self.assertEqual([each.transport.aborted for each in backends], [True, True])
        self.assert_rest(world)
        self.assertEqual(world.counters.connections_open, 0)

    def test_backend_breaks_off(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request()
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")
        backend.close()
        client.pump()
        self.assertEqual((client.streams[stream].ended, client.streams[stream].reset), (False, 2))
        self.assert_rest(world)

    def test_a_stream_that_is_not_read_stalls_itself_only(self) -> None:
        world = self.front()
        client = client_of(world, acknowledge=False)
        stalled = client.request()
        first = world.accept()
        first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        client.pump()
        self.assertTrue(first.transport.paused)
        self.assertEqual(len(client.streams[stalled].data), 65535)
        client.connection.increment_flow_control_window(1 << 20)
        client.pump()
        other = client.request()
        second = world.accept()
        second.send(H1_OK)
        client.pump()
        self.assertEqual(client.streams[other].data, b"hi")
        self.assertTrue(first.transport.paused)
        client.connection.increment_flow_control_window(1 << 20, stalled)
        client.pump()
        self.assertFalse(first.transport.paused)
        first.send(b"x" * 100_000)
        client.pump()
        self.assertEqual(len(client.streams[stalled].data), 200_000)
        self.assertTrue(client.streams[stalled].ended)

    def test_a_window_that_stays_shut(self) -> None:
        world = self.front()
        client = client_of(world, acknowledge=False)
        stream = client.request()
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        client.pump()
        world.advance(20)
        client.connection.increment_flow_control_window(10)
        client.connection.increment_flow_control_window(10, stream)
        client.pump()
        world.advance(20)
        client.pump()
        self.assertEqual(client.streams[stream].reset, None)
        world.advance(31)
        client.pump()
        self.assertEqual(client.streams[stream].reset, 8)
        self.assertTrue(backend.transport.aborted)
        self.assertEqual(world.counters.errors["http2_window_stalled"], 1)
        self.assert_rest(world)

    def test_the_rest_of_a_whole_response_waits_for_the_window(self) -> None:
        world = self.front()
        client = client_of(world, acknowledge=False)
        stream = client.request()
        world.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)
        client.pump()
        self.assert_rest(world)
        self.assertFalse(client.streams[stream].ended)
        client.connection.increment_flow_control_window(70_000)
        client.connection.increment_flow_control_window(70_000, stream)
        client.pump()
        self.assertEqual((len(client.streams[stream].data), client.streams[stream].ended), (70_000, True))
        self.assertEqual(client.streams[stream].reset, None)

    def test_a_backend_that_does_not_read(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request(POST, b"x" * 1000, end=False)
        backend = world.accept()
        client.pump()
        backend.stall()
        client.data(stream, b"x" * 16000)
        client.data(stream, b"x" * 16000)
        client.data(stream, b"x" * 16000)
        self.assertLess(client.connection.local_flow_control_window(stream), 18_000)
        backend.unstall()
        client.pump()
        self.assertGreater(client.connection.local_flow_control_window(stream), 30_000)

    def test_body_that_does_not_come(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request(POST, b"x", end=False)
        world.accept()
        client.pump()
        world.advance(31)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"408")
        self.assert_rest(world)


@on_every_session
class Connections(Base):
    def test_preface_in_any_pieces(self) -> None:
        for cut in range(1, 24):
            world = self.front()
            peer = world.client()
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
            peer.send(preface[:cut])
            peer.send(preface[cut:])
            world.clock.advance(0)
            self.assertTrue(peer.received().startswith(b"\0\0"), cut)
            self.assertEqual((world.counters.connections_open, world.counters.connections_accepted), (1, 1))

    def test_switched_off(self) -> None:
        world = World()
        peer = world.client()
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assertTrue(peer.received().startswith(b"HTTP/1.1 505 "))

    def test_not_after_a_request(self) -> None:
        world = self.front()
        peer = world.client()
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        world.accept().send(H1_OK)
        peer.received()
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assertTrue(peer.received().startswith(b"HTTP/1.1 505 "))

    def test_upgrade_is_not_honoured(self) -> None:
        world = self.front()
        peer = world.client()
        peer.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        sent = world.accept().received()
        self.assertNotIn(b"pgrade", sent)
        self.assertNotIn(b"ettings", sent)

    def test_silence(self) -> None:
        world = self.front()
        peer = world.client()
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        world.advance(11)
        self.assertTrue(peer.transport.closed)

    def test_idle(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request()
        world.accept().send(H1_OK)
        client.pump()
        world.advance(70)
        self.assertFalse(client.peer.transport.closed)
        world.advance(10)
        client.pump()
        self.assertTrue(client.peer.transport.closed)
        self.assertEqual(client.goaways[-1].last_stream_id, stream)

    def test_a_broken_connection(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request()
        backend = world.accept()
        client.peer.send(b"\0\0\5\0\0\0\0\0\0hello")  # DATA on stream 0
        client.pump()
        self.assertEqual(int(client.goaways[-1].error_code), 1)
        self.assertTrue(client.peer.transport.closed)
        self.assertTrue(backend.transport.aborted)
        self.assertEqual(world.counters.errors["http2_error"], 1)
        self.assert_rest(world)

    def test_rapid_reset(self) -> None:
        world = self.front()
        client = client_of(world)
        for _ in range(300):
            stream = client.request()
            client.reset(stream)
            if client.goaways:
                break
        self.assertEqual(int(client.goaways[-1].error_code), 11)
        self.assertTrue(client.peer.transport.closed)
        self.assertEqual([name for name in world.counters.errors if name.startswith("http2_")], ["http2_resets"])
        self.assert_rest(world)

    def test_drain(self) -> None:
        world = self.front()
        client = client_of(world)
        stream = client.request()
        backend = world.accept()
        drained: list[object] = []
        world.proxy.drain().addCallback(drained.append)
        # A request that was on its way when the first GOAWAY went out is still served.
        late = client.connection.get_next_available_stream_id()
        client.connection.send_headers(late, GET, end_stream=True)
        client.pump()
        self.assertEqual([each.last_stream_id for each in client.goaways], [(1 << 31) - 1, late])
        other = world.accept()
        other.send(H1_OK)
        backend.send(H1_OK)
        client.pump()
        self.assertEqual((client.streams[stream].data, client.streams[late].data), (b"hi", b"hi"))
        self.assertTrue(client.peer.transport.closed)
        client.peer.close()
        self.assertEqual(drained, [None])

    def test_a_client_that_does_not_read_its_socket(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request()
        backend = world.accept()
        client.peer.stall()
        self.assertTrue(backend.transport.paused)
        self.assertTrue(client.peer.transport.paused)
        client.peer.unstall()
        self.assertFalse(backend.transport.paused)
        self.assertFalse(client.peer.transport.paused)
        client.peer.stall()
        world.advance(31)
        self.assertTrue(client.peer.transport.aborted)
        client.peer.reset()
        self.assert_rest(world)


@on_every_session
class ToHttp2(Base):
    """Backends that speak HTTP/2."""

    def test_from_http1(self) -> None:
        world = self.back()
        client = world.client()
        client.send(b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nX-Case: Kept \r\n\r\n")
        client.send(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
        backend = backend_of(world)
        (stream,) = backend.requests
        seen = backend.streams[stream]
        self.assertEqual(seen.fields[:5], [*POST[:2], (b":path", b"/x"), POST[3], (b"x-case", b"Kept")])
        self.assertEqual((seen.data, seen.trailers, seen.ended), (b"abc", [(b"x-sum", b"1")], True))
        backend.fields(stream, [(b":status", b"103"), (b"link", b"</a>")], end=False)
        backend.respond(stream, [*OK, (b"x-a", b"b")], b"hi", end=False)
        backend.fields(stream, [(b"x-t", b"w")])
        self.assertEqual(
            client.received(),
            b"HTTP/1.1 103 \r\nlink: </a>\r\n\r\nHTTP/1.1 200 \r\nx-a: b\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhi\r\n0\r\nx-t: w\r\n\r\n",
        )
        self.assert_rest(world)

    def test_one_connection_for_many(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(10)]
        self.assertEqual(len(world.dialer.dials), 1)
        backend = backend_of(world)
        self.assertEqual(len(backend.requests), 10)
        for stream in reversed(backend.requests):
            backend.respond(stream, OK, b"%d" % stream)
        client.pump()
        self.assertEqual(len({client.streams[s].data for s in streams}), 10)
        client.request()
        self.assertEqual(world.dialer.dials, [])
        self.assertEqual(world.backends[0].connections_open, 1)

    def test_more_connections_when_streams_are_used_up(self) -> None:
        world = self.both()
        client = client_of(world)
        client.request()
        backend = backend_of(world)
        backend.connection.update_settings({3: 2})  # SETTINGS_MAX_CONCURRENT_STREAMS
        backend.pump()
        client.request()
        client.request()
        backend.pump()
        self.assertEqual(len(backend.requests), 2)
        self.assertEqual(len(world.dialer.dials), 1)
        second = backend_of(world)
        self.assertEqual(len(second.requests), 1)

    def test_dial_fails_for_all_that_wait(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(3)]
        world.dial().refuse()
        client.pump()
        self.assertEqual([client.streams[s].value(b":status") for s in streams], [b"502"] * 3)
        self.assert_rest(world)

    def test_no_room_in_time(self) -> None:
        world = self.both()
        client = client_of(world)
        first = client.request()
        backend = backend_of(world)
        backend.connection.update_settings({3: 1})
        backend.pump()
        second = client.request()
        world.advance(6)
        client.pump()
        self.assertEqual(client.streams[second].value(b":status"), b"504")
        backend.respond(backend.requests[0], OK, b"hi")
        client.pump()
        self.assertEqual(client.streams[first].data, b"hi")
        self.assert_rest(world)

    def test_refused_stream_is_tried_elsewhere(self) -> None:
        world = self.both(backends=2)
        client = client_of(world)
        stream = client.request(POST, b"body")
        first = backend_of(world)
        first.reset(first.requests[0], 7)
        second = backend_of(world)
        self.assertEqual(second.streams[second.requests[0]].data, b"body")
        second.respond(second.requests[0], OK, b"hi")
        client.pump()
        self.assertEqual(client.streams[stream].data, b"hi")
        self.assertEqual([each.failures for each in world.backends], [0, 0])

    def test_goaway_moves_what_was_not_looked_at(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(3)]
        first = backend_of(world)
        first.go_away(first.requests[0])
        second = backend_of(world)
        self.assertEqual(len(second.requests), 2)
        for stream in second.requests:
            second.respond(stream, OK, b"new")
        client.pump()
        self.assertEqual([client.streams[s].data for s in streams], [b"", b"new", b"new"])
        self.assertFalse(first.peer.transport.closed)

    def test_stream_reset_before_and_in_the_response(self) -> None:
        world = self.both()
        client = client_of(world)
        one, two = client.request(), client.request()
        backend = backend_of(world)
        backend.reset(backend.requests[0], 2)
        backend.respond(backend.requests[1], OK, b"half", end=False)
        backend.reset(backend.requests[1], 11)
        client.pump()
        self.assertEqual(client.streams[one].value(b":status"), b"502")
        self.assertEqual((client.streams[two].data, client.streams[two].reset), (b"half", 11))
        self.assert_rest(world)

    def test_connection_lost(self) -> None:
        world = self.both()
        client = client_of(world)
        one, two = client.request(), client.request()
        backend = backend_of(world)
        backend.respond(backend.requests[1], OK, b"half", end=False)
        backend.peer.reset()
        client.pump()
        self.assertEqual(client.streams[one].value(b":status"), b"502")
        self.assertEqual((client.streams[two].ended, client.streams[two].reset), (False, 2))
        self.assertEqual(world.backends[0].connections_open, 0)
        self.assert_rest(world)

    def test_malformed_response(self) -> None:
        world = self.both()
        client = client_of(world)
        cases: list[Fields] = [
            [*OK, (b"connection", b"close")],
            [*OK, (b"x", b"a\r\nb")],
            [(b":status", b"20")],
            [*OK, (b"content-length", b"1"), (b"content-length", b"2")],
        ]
        backend: Http2Peer | None = None
        for fields in cases:
            stream = client.request()
            backend = backend or backend_of(world)
            backend.pump()
            backend.respond(backend.requests[-1], fields, b"x")
            client.pump()
            self.assertEqual(client.streams[stream].value(b":status"), b"502", fields)
        self.assert_rest(world)

    def test_client_reset_cancels(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        backend = backend_of(world)
        client.reset(stream)
        backend.pump()
        self.assertEqual(backend.streams[backend.requests[0]].reset, 8)
        self.assertFalse(backend.peer.transport.closed)
        self.assert_rest(world)

    def test_flow_control_end_to_end(self) -> None:
        world = self.both()
        client = client_of(world, acknowledge=False)
        stream = client.request()
        backend = backend_of(world)
        there = backend.requests[0]
        backend.respond(there, OK, end=False)
        sent = 0
        for _ in range(50):
            room = min(backend.connection.local_flow_control_window(there), 16384)
            if not room:
                break
            backend.data(there, b"x" * room)
            client.pump()
            sent += room
        self.assertLess(sent, 300_000)
        self.assertEqual(backend.connection.local_flow_control_window(there), 0)
        client.connection.increment_flow_control_window(1 << 20)
        client.connection.increment_flow_control_window(1 << 20, stream)
        client.pump()
        backend.pump()
        self.assertGreater(backend.connection.local_flow_control_window(there), 0)
        self.assertEqual(len(client.streams[stream].data), sent)

    def test_idle_connections_are_closed(self) -> None:
        world = self.both()
        client = client_of(world)
        client.request()
        backend = backend_of(world)
        backend.respond(backend.requests[0], OK, b"hi")
        world.advance(60)
        self.assertFalse(backend.peer.transport.closed)
        world.advance(40)
        self.assertTrue(backend.peer.transport.closed)

    def test_a_backend_that_is_silent_is_asked(self) -> None:
        world = self.both()
        world.timeouts = world.timeouts.model_copy(update={"read": 0.0})
        world.connections[world.backends[0]].timeouts = world.timeouts  # type: ignore[attr-defined]
        client = client_of(world)
        stream = client.request()
        backend = backend_of(world)
        world.advance(65)
        backend.pump()  # answers the PING
        world.advance(20)
        self.assertFalse(backend.peer.transport.closed)
        world.advance(90)
        self.assertTrue(backend.peer.transport.aborted)
        backend.peer.reset()
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"502")

    def test_response_that_does_not_come(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        backend = backend_of(world)
        world.advance(31)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"504")
        backend.pump()
        self.assertEqual(backend.streams[backend.requests[0]].reset, 8)
        self.assertFalse(backend.peer.transport.closed)
