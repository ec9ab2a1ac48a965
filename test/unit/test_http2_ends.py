"""HTTP/2 connections when Balance stops, when somebody is slow, and behind filters, on every session."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from balance.testing import Application, Reply
from test.unit import acme
from test.unit import http2_frames as frames
from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import POST, Http2Peer, client_of
from test.unit.support import Peer, World
from test.unit.test_http2_protocols import Base

H1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@on_every_session
class Stopping(Base):
    """Balance stops, whatever a connection is at."""

    def at(self, what: str) -> tuple[World, Http2Peer, int]:
        world = self.front(max_connections=1) if what == "queued" else self.front()
        client = client_of(world, acknowledge=what != "blocked")
        if what in ("preface", "idle"):
            stream = client.request() if what == "idle" else 0
        elif what in ("sending", "dialling with body"):
            stream = client.request(POST, b"some", end=False)
        else:
            stream = client.request()
        if what == "queued":
            stream = client.request()
        if what in ("idle", "waiting", "queued", "sending", "reading", "blocked"):
            backend = world.accept()
            if what == "idle":
                backend.send(H1_OK)
            elif what in ("reading", "blocked"):
                size = 100_000 if what == "blocked" else 10
                backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * size)
        client.pump()
        return world, client, stream

    STATES = (
        "preface",
        "idle",
        "dialling",
        "dialling with body",
        "queued",
        "waiting",
        "sending",
        "reading",
        "blocked",
    )

    def test_at_once(self) -> None:
        for state in self.STATES:
            world, client, _ = self.at(state)
            drained: list[None] = []
            world.proxy.drain().addCallback(drained.append)
            client.pump()
            world.proxy.hurry()
            self.assertTrue(client.peer.transport.aborted or client.peer.transport.closed, state)
            client.peer.close()
            self.assertEqual(drained, [None], state)
            self.assertEqual(world.counters.connections_open, 0)
            self.assert_rest(world)

    def test_in_time(self) -> None:
        """What is under way may finish; then the connection is closed, after a GOAWAY that lost nothing."""
        for state in self.STATES:
            world, client, stream = self.at(state)
            drained: list[None] = []
            world.proxy.drain().addCallback(drained.append)
            client.pump()
            self.assertEqual([each.last_stream_id for each in client.goaways], [2**31 - 1, stream], state)
            if stream and state != "idle":
                self.assertFalse(client.peer.transport.closed, state)
                client.reset(stream)
                if state == "queued":
                    client.reset(1)
            self.assertTrue(client.peer.transport.closed, state)
            client.peer.close()
            self.assertEqual(drained, [None], state)
            self.assert_rest(world)


@on_every_session
class Slowness(Base):
    """What is begun and never finished."""

    def test_a_head_that_does_not_come(self) -> None:
        """Neither does the time begin anew with each byte of it."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
        for begun in (preface[:10], preface, preface + b"\0\0\x64\1\4\0\0\0\1"):
            world = self.front()
            peer = world.client()
            peer.send(begun)
            for _ in range(11):
                world.advance(1)
                if not peer.transport.closed and begun is not preface[:10]:
                    peer.send(b"x" if len(begun) > len(preface) else b"\0\0\x08\6\0\0\0\0\0abcdefgh")
            self.assertTrue(peer.transport.closed, begun)

    def test_pings_do_not_keep_an_idle_connection(self) -> None:
        world = self.front()
        client = client_of(world)
        client.request()
        world.accept().send(H1_OK)
        client.pump()
        for _ in range(80):
            world.advance(1)
            if not client.peer.transport.closed:
                client.connection.ping(b"12345678")
                client.pump()
        self.assertTrue(client.peer.transport.closed)


@on_every_session
class Settings(Base):
    """Peers that never say that they have heard our SETTINGS, and so our limits."""

    HELLO = frames.PREFACE + frames.settings()

    def codes(self, peer: Peer, *, preface: bool = False) -> list[int]:
        """Of the GOAWAYs that it was sent."""
        written = frames.Reader(preface=preface).read(peer.received())
        return [each.value[1] for each in written if each.kind == "GoAway"]

    def test_a_client_under_work(self) -> None:
        world = self.front()
        peer = world.client()
        peer.send(self.HELLO + frames.Packer().headers(1, frames.GET, ended=True))
        backend = world.accept()
        world.advance(9)
        self.assertFalse(peer.transport.closed)
        world.advance(2)
        self.assertEqual(self.codes(peer), [4])
        self.assertTrue(peer.transport.closed)
        self.assertTrue(backend.transport.aborted)
        self.assertEqual(world.counters.errors["http2_settings"], 1)
        self.assert_rest(world)

    def test_a_client_at_rest(self) -> None:
        """It may say as much as it likes, or nothing at all, after its preface or after a request."""
        for asks in (False, True):
            world = World(http2=self.server(settings_timeout=5))
            peer = world.client()
            peer.send(self.HELLO)
            if asks:
                peer.send(frames.Packer().headers(1, frames.GET, ended=True))
                world.accept().send(H1_OK)
            for _ in range(4):
                world.advance(1)
                peer.send(frames.ping())
            self.assertFalse(peer.transport.closed)
            world.advance(2)
            self.assertEqual(self.codes(peer), [4])
            self.assertTrue(peer.transport.closed)
            self.assertEqual(world.counters.errors["http2_settings"], 1)

    def test_a_client_that_does_not_read(self) -> None:
        world = self.front()
        peer = world.client()
        peer.send(self.HELLO)
        peer.stall()
        world.advance(11)
        self.assertTrue(peer.transport.disconnecting)
        world.advance(31)
        self.assertTrue(peer.transport.aborted)

    def test_acknowledged_at_the_last_moment(self) -> None:
        world = self.front()
        peer = world.client()
        peer.send(self.HELLO + frames.Packer().headers(1, frames.GET, ended=True))
        world.accept()
        world.advance(9)
        peer.send(frames.settings_ack())
        world.advance(20)
        self.assertEqual(self.codes(peer), [])
        self.assertFalse(peer.transport.closed)

    def test_gone_in_time(self) -> None:
        """Nothing waits for a connection that is over."""
        world = self.front()
        peer = world.client()
        peer.send(self.HELLO)
        peer.close()
        self.assertEqual(sum(map(len, world.deadlines._buckets.values())), 0)
        world.advance(11)
        self.assertEqual(dict(world.counters.errors), {})

    def test_no_limit(self) -> None:
        world = World(http2=self.server(settings_timeout=0))
        peer = world.client()
        peer.send(self.HELLO + frames.Packer().headers(1, frames.GET, ended=True))
        world.accept()
        world.advance(25)
        self.assertFalse(peer.transport.closed)

    def test_a_backend(self) -> None:
        world = self.back()
        client = world.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        backend = world.accept()
        backend.send(frames.settings())
        world.advance(9)
        self.assertFalse(backend.transport.closed)
        world.advance(2)
        self.assertEqual(self.codes(backend, preface=True), [4])
        self.assertTrue(backend.transport.closed)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assert_rest(world)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(len(world.dialer.dials), 1)  # the connection takes no more


@on_every_session
class Filtered(SynchronousTestCase):
    """HTTP/2 on the client's side of filters."""

    implementation: ClassVar[Any]

    def app(self, *filters: str) -> Application:
        name = "lean" if self.implementation.__name__.endswith("lean") else "h2"
        routes = [{"name": "r", "backends": ["a"], "filters": [f"test.unit.acme:{each}" for each in filters]}]
        acme.waiting.clear()
        return Application(
            {
                "backends": [{"name": "a", "address": "h:1"}],
                "http": {"routes": routes, "http2_session": name},
            }
        )

    def test_bodies(self) -> None:
        app = self.app("Upper")
        app.backends["a"].always(Reply(body="x" * 200_000))
        client = Http2Peer(app, app.connect(), client=True)
        stream = client.request(POST, b"a" * 10_000, end=False)
        for n in range(20):
            app.settle()
            client.data(stream, b"b" * 10_000, end=n == 19)
        app.settle()
        client.pump()
        self.assertEqual(app.backends["a"].received[0].body, b"A" * 10_000 + b"B" * 200_000)
        self.assertEqual((client.streams[stream].data, client.streams[stream].ended), (b"X" * 200_000, True))
        self.assertEqual((app.proxy().counters.active, app.member("a").active), (0, 0))

    def test_reset_while_a_filter_waits(self) -> None:
        app = self.app("coroutine")
        client = Http2Peer(app, app.connect(), client=True)
        stream = client.request(POST, b"a" * 10_000, end=False)
        self.assertEqual(app.proxy().counters.active, 1)
        client.data(stream, b"a" * 10_000)
        client.reset(stream)
        self.assertEqual((app.proxy().counters.active, app.member("a").active), (0, 0))
        self.assertEqual(client.peer.protocol.streams, {})
