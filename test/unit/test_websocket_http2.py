"""WebSocket over HTTP/2 (RFC 8441), in memory, on every session, and bridged to HTTP/1.1 in both directions."""

from __future__ import annotations

import h2.settings

from balance.codec.websocket import accept_for, close_frame
from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import Fields, Http2Peer, backend_of, client_of
from test.unit.support import Peer, World
from test.unit.test_http2_protocols import Base
from test.unit.test_websocket_codec import MASK, frame
from test.unit.test_websocket_tunnel import AWAY, LOST, SWITCH, UPGRADE

CONNECT: Fields = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":path", b"/socket"),
    (b":authority", b"a.example"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"chat"),
]
OK_FIELDS: Fields = [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]


def switch_for(asked: bytes) -> bytes:
    """A backend's agreement to what it was asked in HTTP/1.1."""
    key = asked.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: " + accept_for(key) + b"\r\n\r\n"
    )


@on_every_session
class FromHttp2(Base):
    """A client of HTTP/2, a backend of HTTP/1.1."""

    def opened(self, world: World | None = None, early: bytes = b"") -> tuple[World, Http2Peer, int, Peer]:
        world = world or World(http2=self.server(connect=True))
        client = client_of(world)
        stream = client.request(CONNECT, early, end=False)
        backend = world.accept()
        asked = backend.received()
        self.assertTrue(asked.startswith(b"GET /socket HTTP/1.1\r\nHost: a.example\r\n"))
        self.assertIn(b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", asked)
        self.assertNotIn(b"chunked", asked.lower())
        backend.send(switch_for(asked))
        client.pump()
        return world, client, stream, backend

    def test_switch(self) -> None:
        world, client, stream, backend = self.opened()
        seen = client.streams[stream]
        self.assertEqual(seen.fields, OK_FIELDS)
        client.data(stream, frame(1, b"hi", mask=MASK))
        self.assertEqual(backend.received(), frame(1, b"hi", mask=MASK))
        backend.send(frame(1, b"ho"))
        client.pump()
        self.assertEqual(seen.data, frame(1, b"ho"))
        self.assertEqual((len(world.proxy.tunnels), world.counters.active), (1, 0))

    def test_a_good_end(self) -> None:
        world, client, stream, backend = self.opened()
        client.data(stream, close_frame(1000, "", MASK))
        backend.send(close_frame(1000))
        backend.end()
        client.pump()
        self.assertTrue(client.streams[stream].ended)
        client.data(stream, b"", end=True)
        backend.close()
        client.pump()
        self.assertEqual((len(world.proxy.tunnels), world.proxy.tunnels.closes), (0, {1000: 1}))
        self.assert_rest(world)
        self.assertEqual(client.goaways, [])
        self.assertEqual(client.peer.protocol.tunnels, 0)

    def test_what_comes_early_waits(self) -> None:
        _, client, stream, backend = self.opened(early=frame(1, b"early", mask=MASK))
        client.data(stream, frame(1, b"more", mask=MASK))
        self.assertEqual(backend.received(), frame(1, b"early", mask=MASK) + frame(1, b"more", mask=MASK))

    def test_a_refusal(self) -> None:
        world = World(http2=self.server(connect=True))
        client = client_of(world)
        stream = client.request(CONNECT, end=False)
        backend = world.accept()
        backend.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        client.pump()
        seen = client.streams[stream]
        self.assertEqual((seen.fields[0], seen.data, seen.ended), ((b":status", b"403"), b"no", True))
        self.assert_rest(world)

    def test_not_offered(self) -> None:
        world = World(http2=self.server())
        client = client_of(world)
        self.assertEqual(client.connection.remote_settings.enable_connect_protocol, 0)
        stream = client.request(CONNECT, end=False)
        self.assertEqual(client.streams[stream].reset, 1)
        offering = client_of(World(http2=self.server(connect=True)))
        self.assertEqual(offering.connection.remote_settings.enable_connect_protocol, 1)

    def test_no_version(self) -> None:
        world = World(http2=self.server(connect=True))
        client = client_of(world)
        stream = client.request(CONNECT[:5], end=False)
        self.assertEqual(client.streams[stream].fields[0], (b":status", b"426"))

    def test_the_client_resets(self) -> None:
        world, client, stream, backend = self.opened()
        client.reset(stream)
        world.clock.advance(0)
        self.assertTrue(backend.transport.aborted)
        backend.close()
        self.assertEqual(world.counters.errors, {"client_gone": 1})
        self.assert_rest(world)

    def test_the_clients_connection_is_lost(self) -> None:
        world, client, _, backend = self.opened()
        client.peer.reset()
        world.clock.advance(0)
        self.assertTrue(backend.transport.aborted)
        backend.close()
        self.assert_rest(world)

    def test_a_lost_backend(self) -> None:
        world, client, stream, backend = self.opened()
        backend.reset()
        client.pump()
        seen = client.streams[stream]
        self.assertEqual((seen.data, seen.ended), (LOST, True))
        client.data(stream, close_frame(1011, "", MASK), end=True)
        world.clock.advance(0)
        self.assertEqual(world.proxy.tunnels.closes, {1011: 1})
        self.assert_rest(world)

    def test_a_slow_client_stops_the_backend(self) -> None:
        world = World(http2=self.server(connect=True))
        client = Http2Peer(world, world.client(), client=True, acknowledge=False)
        stream = client.request(CONNECT, end=False)
        backend = world.accept()
        backend.send(switch_for(backend.received()))
        client.pump()
        for _ in range(10):
            if backend.transport.paused:
                break
            backend.send(frame(2, bytes(20_000)))
            client.pump()
        self.assertTrue(backend.transport.paused)
        self.assertEqual(len(client.streams[stream].data), 65535)
        client.connection.increment_flow_control_window(1 << 20, stream)
        client.connection.increment_flow_control_window(1 << 20)
        client.pump()
        self.assertFalse(backend.transport.paused)

    def test_a_slow_backend_stops_the_client(self) -> None:
        _, client, stream, backend = self.opened()
        backend.stall()
        for _ in range(6):
            client.data(stream, frame(2, bytes(10_000), mask=MASK))
        self.assertLess(client.connection.local_flow_control_window(stream), 10_000)
        backend.unstall()
        client.pump()
        self.assertGreater(client.connection.local_flow_control_window(stream), 50_000)

    def test_going_away(self) -> None:
        """The connection outlives the time to drain for as long as its tunnels need to say goodbye."""
        world, client, stream, backend = self.opened()
        world.proxy.drain_spread = 0
        drained = world.proxy.drain()
        client.pump()
        world.proxy.hurry()
        client.pump()
        self.assertEqual(client.streams[stream].data, AWAY)
        client.data(stream, close_frame(1001, "", MASK))
        self.assertTrue(backend.received().startswith(b"\x88\x82"))
        backend.send(close_frame(1001))
        backend.end()
        client.pump()
        client.data(stream, b"", end=True)
        backend.close()
        world.advance(2)
        client.peer.close()
        self.assertEqual(self.successResultOf(drained), None)

    def test_silence_has_limits_of_its_own(self) -> None:
        world, client, stream, _ = self.opened()
        world.advance(600)
        client.pump()
        self.assertEqual(client.streams[stream].data, b"")
        self.assertIsNone(client.streams[stream].reset)


@on_every_session
class ToHttp2(Base):
    """A backend of HTTP/2."""

    def backend_taking_it(self, world: World) -> Http2Peer:
        return backend_of(world, settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})

    def test_from_http1(self) -> None:
        world = self.back()
        client = world.client()
        client.send(UPGRADE)
        backend = self.backend_taking_it(world)
        (stream,) = backend.requests
        fields = dict(backend.streams[stream].fields)
        self.assertEqual(
            (fields[b":method"], fields[b":protocol"], fields[b":path"]), (b"CONNECT", b"websocket", b"/socket")
        )
        self.assertNotIn(b"sec-websocket-key", fields)
        self.assertEqual(fields[b"sec-websocket-version"], b"13")
        backend.respond(stream, [(b":status", b"200")], end=False)
        self.assertEqual(sorted(client.received().split(b"\r\n")), sorted(SWITCH.split(b"\r\n")))
        client.send(frame(1, b"hi", mask=MASK))
        backend.pump()
        self.assertEqual(backend.streams[stream].data, frame(1, b"hi", mask=MASK))
        backend.data(stream, frame(1, b"ho"))
        self.assertEqual(client.received(), frame(1, b"ho"))
        backend.data(stream, close_frame(1000))
        client.send(close_frame(1000, "", MASK))
        backend.pump()
        backend.data(stream, b"", end=True)
        world.clock.advance(0)
        client.end()
        world.clock.advance(0)
        client.close()
        self.assertEqual(world.proxy.tunnels.closes, {1000: 1})
        self.assert_rest(world)

    def test_from_http2(self) -> None:
        world = World(http2=self.server(connect=True), http2_backends=self.client())
        client = client_of(world)
        stream = client.request(CONNECT, frame(1, b"early", mask=MASK), end=False)
        backend = self.backend_taking_it(world)
        client.pump()
        (other,) = backend.requests
        backend.respond(other, OK_FIELDS, frame(1, b"welcome"), end=False)
        client.pump()
        backend.pump()
        seen = client.streams[stream]
        self.assertEqual((seen.fields, seen.data), (OK_FIELDS, frame(1, b"welcome")))
        self.assertEqual(backend.streams[other].data, frame(1, b"early", mask=MASK))
        backend.reset(other)
        client.pump()
        self.assertEqual(seen.data, frame(1, b"welcome") + LOST)
        client.data(stream, b"", end=True)
        world.clock.advance(0)
        self.assert_rest(world)

    def test_a_backend_that_does_not_take_it(self) -> None:
        world = self.back()
        client = world.client()
        client.send(UPGRADE)
        backend_of(world)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(world.counters.errors, {"no_upgrade": 1})
        self.assertEqual(world.backends[0].failures, 0)
        self.assert_rest(world)

    def test_the_connection_is_lost_before_the_settings(self) -> None:
        world = self.back()
        client = world.client()
        client.send(UPGRADE)
        world.accept().reset()
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assert_rest(world)

    def test_the_settings_do_not_come(self) -> None:
        world = self.back()
        client = world.client()
        client.send(UPGRADE)
        world.accept()
        world.advance(60)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 504 "))
        self.assert_rest(world)

    def test_a_refusal(self) -> None:
        world = self.back()
        client = world.client()
        client.send(UPGRADE)
        backend = self.backend_taking_it(world)
        backend.respond(backend.requests[0], [(b":status", b"403"), (b"content-length", b"2")], b"no")
        self.assertTrue(client.received().startswith(b"HTTP/1.1 403 "))
        self.assert_rest(world)
