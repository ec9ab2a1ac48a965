"""Backends with `protocol: auto`: each new connection is free to speak what ALPN chose for it."""

from __future__ import annotations

from balance.codec.http1 import HeadLimits
from balance.errors import ConnectRefused
from balance.http.connections import BackendConnections
from balance.http.multiplex import MultiplexedConnections
from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import OK, Http2Peer
from test.unit.support import Peer, World
from test.unit.test_http2_protocols import H1_OK, Base

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


@on_every_session
class Auto(Base):
    def setUp(self) -> None:
        world = self.world = World(http2_backends=self.client())
        (backend,) = world.backends
        common = (backend, world.dialer, world.deadlines, world.timeouts)
        http1 = BackendConnections(*common, HeadLimits())  # type: ignore[arg-type]
        self.connections = MultiplexedConnections(
            *common,  # type: ignore[arg-type]
            self.client(),
            tls=object(),  # type: ignore[arg-type]
            http1=http1,
        )
        world.connections[backend] = self.connections

    def ask(self) -> Peer:
        client = self.world.client()
        client.send(GET)
        return client

    def accept(self, chosen: str) -> Peer:
        """The oldest dial succeeds, and the backend chooses."""
        dial = self.world.dial()
        peer = Peer(dial._factory(chosen))
        dial._ok(peer.protocol)
        return peer

    def accept_http2(self) -> Http2Peer:
        return Http2Peer(self.world, self.accept("h2"), client=False)

    def answer(self, backend: Peer, client: Peer) -> None:
        """One exchange in HTTP/1.1."""
        self.assertTrue(backend.received().startswith(b"GET / HTTP/1.1\r\n"))
        backend.send(H1_OK)
        self.assertTrue(client.received().endswith(b"\r\n\r\nhi"))

    @property
    def dials(self) -> int:
        return len(self.world.dialer.dials)

    def test_those_who_waited_together_get_one_each(self) -> None:
        clients = [self.ask() for _ in range(4)]
        self.assertEqual(self.dials, 1)
        first = self.accept("http/1.1")
        self.assertEqual(self.dials, 3)
        self.answer(first, clients[0])
        for client in clients[1:]:
            self.answer(self.accept(""), client)  # no ALPN is HTTP/1.1, too
        self.assertEqual((self.dials, self.connections.idle), (0, 4))
        self.assert_rest(self.world)

    def test_one_dial_for_each_from_then_on(self) -> None:
        first = self.ask()
        self.answer(self.accept("http/1.1"), first)
        clients = [self.ask() for _ in range(3)]
        self.assertEqual(self.dials, 2)  # one has the idle connection
        for client in clients[1:]:
            self.answer(self.accept("http/1.1"), client)

    def test_asked_anew(self) -> None:
        """A backend that has learned HTTP/2 since, such as after a restart."""
        client = self.ask()
        old = self.accept("http/1.1")
        self.answer(old, client)
        old.close()
        clients = [self.ask() for _ in range(3)]
        self.assertEqual(self.dials, 3)
        new = self.accept_http2()
        self.assertEqual(len(new.requests), 3)
        for stream in list(new.requests):
            new.respond(stream, OK, b"hi")
        self.assertTrue(all(b"hi" in each.received() for each in clients))
        for _ in range(2):
            self.accept("h2")  # dialled for the others; nobody needs them now
        for _ in range(50):
            self.ask()
        new.pump()
        self.assertEqual((self.dials, len(new.requests)), (0, 53))

    def test_asked_anew_while_others_are_open(self) -> None:
        clients = [self.ask(), self.ask()]
        old = self.accept("http/1.1")
        new = self.accept_http2()
        self.answer(old, clients[0])
        new.respond(new.requests[0], OK, b"hi")
        self.assertIn(b"hi", clients[1].received())
        self.assertEqual(self.connections.idle, 2)

    def test_no_longer_http2(self) -> None:
        clients = [self.ask(), self.ask()]
        old = self.accept_http2()
        old.go_away(0)
        self.assertEqual(self.dials, 1)
        self.answer(self.accept("http/1.1"), clients[0])
        self.answer(self.accept("http/1.1"), clients[1])
        self.assertEqual(self.dials, 0)

    def test_one_that_fails_fails_one(self) -> None:
        clients = [self.ask() for _ in range(3)]
        self.answer(self.accept("http/1.1"), clients[0])
        self.world.dial().refuse(ConnectRefused())
        self.answer(self.accept("http/1.1"), clients[1])
        self.assertTrue(clients[2].received().startswith(b"HTTP/1.1 502 "))
        self.assert_rest(self.world)

    def test_nobody_waits_any_more(self) -> None:
        clients = [self.ask(), self.ask()]
        self.answer(self.accept("http/1.1"), clients[0])
        clients[1].close()
        late = self.accept("http/1.1")
        self.assertEqual(self.connections.idle, 2)
        self.answer(late, self.ask())

    def test_not_in_time(self) -> None:
        clients = [self.ask(), self.ask()]
        self.accept("http/1.1").send(H1_OK)
        self.world.advance(6)
        self.assertTrue(clients[1].received().startswith(b"HTTP/1.1 504 "))
        self.assert_rest(self.world)
