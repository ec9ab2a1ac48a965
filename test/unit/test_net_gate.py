"""The limit on clients' connections: by itself, and in front of real ports."""

from __future__ import annotations

import socket
import tempfile
from errno import ECONNABORTED
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from balance.config import loads
from balance.config.summary import summarise
from balance.model import Address
from balance.net.gate import Gate
from balance.net.listen import listen
from balance.service import make_service

reactor: Any = _reactor


class FakePort:
    """Remembers whether it is read."""

    def __init__(self) -> None:
        self.reading = self.connected = True
        self.disconnecting = False

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False


class Gates(SynchronousTestCase):
    @given(st.integers(1, 4), st.lists(st.booleans(), max_size=30))
    def test_read_while_there_is_room(self, limit: int, comings: list[bool]) -> None:
        shut: list[int] = []
        gate = Gate(limit, lambda: shut.append(gate.open))
        ports = gate.ports = [FakePort(), FakePort()]
        times = 0
        for comes in comings:
            if comes and gate.room:
                gate.opened()
                times += not gate.room
            elif not comes and gate.open:
                gate.closed()
            self.assertEqual([port.reading for port in ports], [gate.open < limit] * 2)
        self.assertEqual(shut, [limit] * times)

    def test_ports_that_are_closing_are_left_alone(self) -> None:
        gate = Gate(1, lambda: None)
        closed, closing = FakePort(), FakePort()
        closed.connected, closing.disconnecting = False, True
        gate.ports = [closed, closing]
        gate.opened()
        gate.closed()
        self.assertEqual((closed.reading, closing.reading), (False, False))


class Client(Protocol):
    """A connection that was accepted."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.lost.callback(None)


class Counting(ServerFactory):
    """``accepted`` fires when as many as that have come."""

    noisy = False

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def buildProtocol(self, addr: Any) -> Client:
        self.clients.append(Client())
        for wanted, fires in self._waiting:
            if wanted == len(self.clients):
                reactor.callLater(0, fires.callback, None)
        return self.clients[-1]

    def accepted(self, number: int) -> Deferred[None]:
        fires: Deferred[None] = Deferred()
        if len(self.clients) >= number:
            fires.callback(None)
        else:
            self._waiting.append((number, fires))
        return fires


class OnceAborted:
    """A listening socket, one of whose clients was gone (ECONNABORTED) when it was its turn."""

    def __init__(self, sock: socket.socket, at: int) -> None:
        self._socket = sock
        self._at = at
        self.calls = 0

    def accept(self) -> Any:
        self.calls += 1
        if self.calls == self._at:
            raise ConnectionAbortedError(ECONNABORTED, "aborted")
        return self._socket.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class Ports(TestCase):
    """Clients connect in the kernel, whether they are accepted or not."""

    timeout = 20
    LIMIT = 3

    def listen(self, address: Address, *, tls: bool = False) -> Any:
        self.factory = Counting()
        self.shut = 0
        self.gate = Gate(self.LIMIT, self.count_shut)
        self.ports = listen(reactor, address, self.factory, tls=tls, gate=self.gate)
        for port in self.ports:
            self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        return self.ports[0].getHost()

    def count_shut(self) -> None:
        self.shut += 1

    async def close_all(self) -> None:
        for client in self.factory.clients:
            if client.connected and client.transport is not None:
                client.transport.abortConnection()
            await client.lost

    def connect(self, host: Any, family: int = socket.AF_INET) -> socket.socket:
        sock = socket.socket(family)
        self.addCleanup(sock.close)
        sock.connect(host)
        return sock

    async def some_turns(self) -> None:
        for _ in range(5):
            await deferLater(reactor, 0)

    async def check(self, connect: Any) -> None:
        sockets = [connect() for _ in range(8)]
        await self.factory.accepted(3)
        for gone in range(5):
            await self.some_turns()
            self.assertEqual(len(self.factory.clients), 3 + gone)
            self.assertEqual((self.gate.open, self.shut), (3, 1 + gone))
            sockets[gone].close()
            await self.factory.accepted(4 + gone)
        for each in sockets:
            each.close()
        for client in self.factory.clients:
            await client.lost
        self.assertEqual((len(self.factory.clients), self.gate.open), (8, 0))

    async def test_tcp(self) -> None:
        host = self.listen(Address("127.0.0.1", 0))
        await self.check(lambda: self.connect(("127.0.0.1", host.port)))

    async def test_tls(self) -> None:
        """A handshake that is not finished takes a place, too."""
        host = self.listen(Address("127.0.0.1", 0), tls=True)
        await self.check(lambda: self.connect(("127.0.0.1", host.port)))

    async def test_unix(self) -> None:
        path = self.mktemp()
        self.listen(Address("", 0, path))
        await self.check(lambda: self.connect(path, socket.AF_UNIX))

    async def test_all_addresses_share_the_places(self) -> None:
        host = self.listen(Address("", 0))
        hosts = [(("127.0.0.1", host.port), socket.AF_INET), (("::1", host.port), socket.AF_INET6)] * 4
        await self.check(lambda: self.connect(*hosts.pop()))

    async def test_one_that_is_gone_before_it_is_accepted(self) -> None:
        """Twisted's way goes on from there, and no further than there is room."""
        host = self.listen(Address("127.0.0.1", 0))
        (port,) = self.ports
        port.socket = OnceAborted(port.socket, 3)
        await self.check(lambda: self.connect(("127.0.0.1", host.port)))
        self.assertGreater(port.socket.calls, 3)

    async def test_a_place_is_given_back_once(self) -> None:
        host = self.listen(Address("127.0.0.1", 0))
        self.connect(("127.0.0.1", host.port))
        await self.factory.accepted(1)
        transport: Any = self.factory.clients[0].transport
        for _ in range(2):
            transport.connectionLost(Failure(Exception()))
        self.assertEqual(self.gate.open, 0)

    async def test_stopped_while_full(self) -> None:
        host = self.listen(Address("127.0.0.1", 0))
        for _ in range(4):
            self.connect(("127.0.0.1", host.port))
        await self.factory.accepted(3)
        await self.ports[0].stopListening()
        await self.close_all()
        await self.some_turns()
        self.assertEqual(len(self.factory.clients), 3)


class Configured(TestCase):
    timeout = 20

    async def test_counted_and_told_once(self) -> None:
        folder = tempfile.TemporaryDirectory()  # paths of sockets are short
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/socket"
        config = loads(f"listen: 'unix:{path}'\nmax_connections: 1\nbackends: [{{name: a, address: 'h:1'}}]")
        self.assertIn("  max_connections 1", summarise(config, [[]]))
        service = make_service(config, reactor)
        (listener,) = service.listeners
        said: list[str] = []

        def observe(event: Any) -> None:
            said.append(event.get("log_format") or "")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        listener.startService()
        self.addCleanup(listener.stopService)
        counters = service.assemblies[0].proxy.counters
        for number in range(1, 4):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                while counters.connections_open < 1:
                    await deferLater(reactor, 0)
            while counters.connections_open:
                await deferLater(reactor, 0)
            self.assertEqual((counters.connections_paused, counters.connections_limit), (number, 1))
        self.assertEqual(len([text for text in said if "max_connections" in text]), 1)
