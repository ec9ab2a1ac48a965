"""A flood of TLS handshakes: what is established gets its turn, and silent clients make room for others.

Turns of the reactor are counted here, never seconds: a connection that always has something to read is read once in each.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from balance.config.tls import TlsConfig
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.net.gate import Gate
from balance.net.listen import listen
from balance.net.ration import Ration
from balance.net.reactor import LeanEPollReactor
from balance.net.tls_handshake import ServerHandshake
from balance.net.tls_server import TlsTermination
from balance.net.turn import Turn
from test.unit.test_tls_sockets import Recorder, TlsTestCase

reactor: Any = _reactor


class Rations(SynchronousTestCase):
    def test_so_many_in_each_turn(self) -> None:
        clock = Clock()
        ration = Ration(Turn(clock), 3)
        for _ in range(3):
            self.assertEqual([ration.take() for _ in range(5)], [True] * 3 + [False] * 2)
            clock.advance(0)
        self.assertTrue(ration.take())
        clock.advance(0)
        self.assertEqual([ration.take() for _ in range(4)], [True] * 3 + [False])

    def test_nobody_waits_for_nothing(self) -> None:
        clock = Clock()
        ration = Ration(Turn(clock), 3)
        ration.take()
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])


class Client:
    """A client in the kernel and in OpenSSL, which does nothing but what it is told."""

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        self.socket = socket.create_connection((address.host, address.port))
        self.socket.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="a.example")
        self.done = False
        self.step()
        self.next = self._outgoing.read()

    def step(self) -> None:
        try:
            self._tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass

    def send(self) -> None:
        """What OpenSSL wants to say next."""
        self.socket.sendall(self.next)

    def hear(self) -> None:
        self._incoming.write(self.socket.recv(65536))
        self.step()
        self.next = self._outgoing.read()


class Fairness(TlsTestCase):
    CROWD, EACH = 60, 4

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await deferLater(reactor, 0)

    def crowd(self, address: Address, number: int = CROWD) -> list[Client]:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        clients = [Client(address, context) for _ in range(number)]
        for client in clients:
            self.addCleanup(client.socket.close)
        return clients

    async def gaps(self, client: Recorder, server: Recorder, counted: Callable[[], int], wanted: int) -> list[int]:
        """How many more there were each time when the kept connection was read, until as many as are wanted."""
        found: list[int] = []
        done: Deferred[None] = Deferred()
        before = counted()

        def read(data: bytes) -> None:
            nonlocal before
            now = counted()
            found.append(now - before)
            before = now
            if now < wanted:
                client.transport.write(b"x")
            else:
                reactor.callLater(0, done.callback, None)

        server.dataReceived = read  # type: ignore[method-assign]
        client.transport.write(b"x")
        await done
        return found

    async def test_a_kept_connection_is_read_in_each_turn(self) -> None:
        address = self.listen(handshakes_per_turn=self.EACH)
        client, server = await self.connect(address)
        self.factory.established = lambda transport, hello: Recorder()  # type: ignore[method-assign]
        clients = self.crowd(address)
        await self.until(lambda: len(self.termination._handshakes) == self.CROWD)
        answered = 0
        answer = ServerHandshake._answer

        def counting(handshake: ServerHandshake, *args: Any) -> None:
            nonlocal answered
            answered += 1
            answer(handshake, *args)

        self.patch(ServerHandshake, "_answer", counting)
        for each in clients:
            each.send()
        gaps = await self.gaps(client, server, lambda: answered, self.CROWD)
        self.assertLessEqual(max(gaps), self.EACH)
        self.assertLessEqual(len(gaps), self.CROWD // self.EACH + 2)  # and no turn is wasted
        # Their last words cost less, and may be much as well.
        for each in clients:
            each.hear()
            self.assertTrue(each.done)
        counters = self.termination.counters
        for each in clients:
            each.send()
        gaps = await self.gaps(client, server, lambda: counters.handshakes, 1 + self.CROWD)
        self.assertLessEqual(max(gaps), self.EACH)
        self.assertLessEqual(len(gaps), self.CROWD // self.EACH + 2)
        self.assertEqual(counters.failures, {})

    def test_on_either_reactor(self) -> None:
        """Driven by hand, turn by turn."""
        for make in (EPollReactor, LeanEPollReactor):
            own = make()
            self.addCleanup(own.removeAll)
            config = TlsConfig(enabled=True, **self.pair.config, handshakes_per_turn=self.EACH)
            self.termination = TlsTermination("test", config, Deadlines(own), ())
            self.factory.established = lambda transport, hello: Recorder()  # type: ignore[method-assign]
            (port,) = listen(own, Address("127.0.0.1", 0), self.factory, tls=True)
            clients = self.crowd(Address("127.0.0.1", port.getHost().port))
            while len(self.termination._handshakes) < self.CROWD:
                own.iterate(0.05)
            answered = 0
            for each in clients:
                each.send()
            turns = 0
            while answered < self.CROWD:
                own.iterate(0.05)
                now = sum(each._session is not None for each in self.termination._handshakes)
                self.assertLessEqual(now - answered, self.EACH)
                answered = now
                turns += 1
            self.assertLessEqual(turns, self.CROWD // self.EACH + 2)
            for each in clients:
                each.hear()
                each.send()
            done = 0
            while done < self.CROWD:
                own.iterate(0.05)
                now = self.termination.counters.handshakes
                self.assertLessEqual(now - done, self.EACH)
                done = now
            port.stopListening()
            own.iterate(0)

    async def test_what_is_begun_is_finished_under_a_flood_of_new_ones(self) -> None:
        """First steps and further ones do not take from each other."""
        address = self.listen(handshakes_per_turn=1)
        (first,) = self.crowd(address, 1)
        first.send()
        await self.until(lambda: any(each._session for each in self.termination._handshakes))
        others = self.crowd(address, 20)
        await self.until(lambda: len(self.termination._handshakes) == 21)
        first.hear()
        for each in others:
            each.send()
        first.send()
        await self.factory.accepted
        self.assertGreater(sum(each._session is None for each in self.termination._handshakes), 15)

    async def test_new_clients_wait_in_the_kernel(self) -> None:
        for gate, each in ((None, 3), (Gate(100, lambda: None), 3), (Gate(2, lambda: None), 2)):
            self.listen()
            (port,) = listen(reactor, Address("127.0.0.1", 0), self.factory, tls=True, accepts=3, gate=gate)
            self.addCleanup(port.stopListening)
            accepted: list[int] = []
            accept = port._connected

            def connected(*args: Any, accept: Any = accept, accepted: list[int] = accepted) -> None:
                accepted[-1] += 1
                accept(*args)

            port._connected = connected  # type: ignore[method-assign]
            address = Address("127.0.0.1", port.getHost().port)
            self.crowd(address, 8)
            while sum(accepted) < (8 if gate is None or gate.limit > 8 else gate.limit):
                accepted.append(0)
                await deferLater(reactor, 0)
            self.assertEqual(max(accepted), each)


class Crowded(TlsTestCase):
    """More handshakes than there may be."""

    async def silent(self, address: Address, number: int) -> list[socket.socket]:
        """Clients that connect one after another, and say nothing."""
        sockets = []
        for _ in range(number):
            before = self.began
            sockets.append(socket.create_connection((address.host, address.port)))
            self.addCleanup(sockets[-1].close)
            while self.began == before:
                await deferLater(reactor, 0)
        return sockets

    def limited(self, limit: int) -> Address:
        self.began = 0
        begin = ServerHandshake.makeConnection

        def counting(handshake: ServerHandshake, transport: object) -> None:
            self.began += 1
            begin(handshake, transport)

        self.patch(ServerHandshake, "makeConnection", counting)
        return self.listen(max_handshakes=limit)

    def closed(self, client: socket.socket) -> bool:
        client.setblocking(False)
        try:
            client.recv(1)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        raise AssertionError("closed in another way")

    async def test_who_is_silent_longest_makes_room(self) -> None:
        address = self.limited(3)
        sockets = await self.silent(address, 3)
        sockets[0].sendall(b"\x16\x03\x01")  # the beginning of a ClientHello
        while not any(each._buffer for each in self.termination._handshakes):
            await deferLater(reactor, 0)
        sockets += await self.silent(address, 2)
        while len(self.factory.refusals) < 2:
            await deferLater(reactor, 0)
        await deferLater(reactor, 0)
        self.assertEqual([self.closed(each) for each in sockets], [False, True, True, False, False])
        self.assertEqual(self.termination.counters.failures, {"too_many_handshakes": 2})
        self.assertEqual(self.factory.refusals[0][:20], "too_many_handshakes:")
        self.assertEqual(len(self.termination._handshakes), 3)

    async def test_honest_clients_get_through(self) -> None:
        address = self.limited(3)
        for _ in range(5):
            await self.silent(address, 3)
            client, server = await self.connect(address)
            client.transport.write(b"x")
            self.assertEqual(await server.got(1), b"x")
        self.assertEqual(self.termination.counters.handshakes, 5)

    async def test_no_limit(self) -> None:
        address = self.limited(0)
        await self.silent(address, 30)
        self.assertEqual(self.termination.counters.failures, {})
