"""Eager transports, dialling and listening, over real loopback sockets."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
from errno import EADDRNOTAVAIL, ECONNREFUSED
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from balance.errors import ConnectRefused, ConnectTimeout, DnsFailure, ExchangeError, OutOfResources, Source
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.net.descriptors import use_all_descriptors
from balance.net.dial import Dialer
from balance.net.listen import ListenError, listen
from test.unit.support import no_descriptors

reactor: Any = _reactor


class Recorder(Protocol):
    """Remembers what happens to it; `lost` and `got` fire when there is something to look at."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[str] = Deferred()
        self.events: list[str] = []
        self.waiting: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for wanted, found in self.waiting[:]:
            if len(self.received) >= wanted:
                self.waiting.remove((wanted, found))
                found.callback(self.received)

    def got(self, size: int) -> Deferred[bytes]:
        found: Deferred[bytes] = Deferred()
        self.waiting.append((size, found))
        self.dataReceived(b"")
        return found

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.events.append(reason.type.__name__)
        self.lost.callback(reason.type.__name__)

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class Factory(ServerFactory):
    noisy = False

    def __init__(self) -> None:
        self.accepted: list[Recorder] = []
        self.next: Deferred[Recorder] = Deferred()

    def buildProtocol(self, addr: Any) -> Recorder:
        protocol = Recorder()
        self.accepted.append(protocol)
        reactor.callLater(0, self._announce, protocol)
        return protocol

    def _announce(self, protocol: Recorder) -> None:
        found, self.next = self.next, Deferred()
        found.callback(protocol)


class SocketTestCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.deadlines = Deadlines(reactor, 0.02)
        self.deadlines.start()
        self.addCleanup(self.deadlines.stop)
        self.dialer = Dialer(reactor, self.deadlines)
        self.factory = Factory()

    def listen(self, address: Address = Address("127.0.0.1", 0)) -> Address:  # noqa: B008
        ports = listen(reactor, address, self.factory)
        for port in ports:
            self.addCleanup(port.stopListening)
        if address.path:
            return address
        return Address("127.0.0.1", ports[0].getHost().port)

    def dial(self, address: Address, timeout: float = 5, dialer: Dialer | None = None) -> Deferred[Recorder]:
        outcome: Deferred[Recorder] = Deferred()

        def failed(error: ExchangeError) -> None:
            outcome.errback(Failure(error))

        (dialer or self.dialer).dial(address, lambda protocol: Recorder(), timeout, outcome.callback, failed)
        return outcome

    async def pair(self) -> tuple[Recorder, Recorder]:
        address = self.listen()
        accepted = self.factory.next
        client = await self.dial(address)
        server = await accepted
        for each in (client, server):
            self.addCleanup(each.transport.abortConnection)  # type: ignore[union-attr]
        return client, server


class TransportTests(SocketTestCase):
    async def test_small_messages_go_out_at_once(self) -> None:
        client, server = await self.pair()
        transport: Any = client.transport
        transport.write(b"abc")
        self.assertEqual(transport.pending, 0)
        transport.writeSequence([b"d", b"ef"])
        self.assertEqual(await server.got(6), b"abcdef")
        self.assertNotIn(transport, reactor.getWriters())

    async def test_order_and_back_pressure(self) -> None:
        """30 MB, in pieces of all sizes, to a reader that pauses: nothing lost, nothing reordered, writer told."""
        client, server = await self.pair()
        writer: Any = client.transport
        reader: Any = server.transport
        writer.registerProducer(client, True)
        reader.pauseProducing()
        digest = hashlib.sha256()
        size = 0
        for n in range(3000):
            piece = os.urandom((n * 37) % 20000 + 1)
            digest.update(piece)
            size += len(piece)
            writer.write(piece)
        self.assertIn("pause", client.events)
        self.assertGreater(writer.pending, 1_000_000)
        reader.resumeProducing()
        received = await server.got(size)
        self.assertEqual(hashlib.sha256(received).digest(), digest.digest())
        self.assertEqual(writer.pending, 0)
        self.assertEqual(client.events, ["pause"] * client.events.count("pause") + ["resume"])
        writer.write(b"x")
        await server.got(size + 1)
        writer.unregisterProducer()

    async def test_close_after_everything_is_out(self) -> None:
        client, server = await self.pair()
        transport: Any = client.transport
        transport.write(b"x" * 8_000_000)
        transport.loseConnection()
        self.assertEqual(len(await server.got(8_000_000)), 8_000_000)
        self.assertEqual(await server.lost, "ConnectionDone")
        await client.lost

    async def test_half_close(self) -> None:
        client, server = await self.pair()
        transport: Any = client.transport
        transport.write(b"x" * 3_000_000)
        transport.loseWriteConnection()
        await server.got(3_000_000)
        await server.lost
        await client.lost

    async def test_abort_is_a_reset(self) -> None:
        client, server = await self.pair()
        transport: Any = client.transport
        transport.write(b"bye")
        await server.got(3)
        transport.abortConnection()
        self.assertEqual(await server.lost, "ConnectionLost")
        await client.lost

    async def test_write_to_a_connection_that_was_reset(self) -> None:
        """The error comes by connectionLost, later: never from within write. The kernel reports it once only; the end
        that reading finds afterwards must not be taken for a good one."""
        client, server = await self.pair()
        server.transport.abortConnection()  # type: ignore[union-attr]
        await server.lost
        transport: Any = client.transport
        transport.write(b"a")
        transport.write(b"b")
        self.assertEqual(client.events, [])
        self.assertEqual(await client.lost, "ConnectionLost")

    async def test_addresses(self) -> None:
        client, server = await self.pair()
        ours: Any = client.transport
        theirs: Any = server.transport
        self.assertEqual(ours.getPeer(), theirs.getHost())
        self.assertEqual(ours.getHost(), theirs.getPeer())


class DialTests(SocketTestCase):
    async def test_refused(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            error = await self.failure(Address("127.0.0.1", taken.getsockname()[1]))
        self.assertIsInstance(error, ConnectRefused)
        self.assertIn("refused", error.detail)

    async def failure(self, address: Address, limit: float = 5, dialer: Dialer | None = None) -> ExchangeError:
        try:
            await self.dial(address, limit, dialer)
        except ExchangeError as error:
            return error
        self.fail("connected")
        raise AssertionError

    async def test_second_address_of_a_name(self) -> None:
        """`localhost` is ::1 first, and the server is on 127.0.0.1 only."""
        address = self.listen()
        dead = (int(socket.AF_INET6), ("::1", address.port, 0, 0))
        good = (int(socket.AF_INET), ("127.0.0.1", address.port))
        asked: list[str] = []

        def resolve(host: str, port: int) -> list[tuple[int, Any]]:
            asked.append(host)
            return [dead, good]

        dialer = Dialer(reactor, self.deadlines, resolve=resolve)
        for _ in range(3):
            client = await self.dial(Address("somewhere.example", address.port), dialer=dialer)
            client.transport.abortConnection()  # type: ignore[union-attr]
            await client.lost
        self.assertEqual(asked, ["somewhere.example"])
        for server in self.factory.accepted:
            await server.lost

    async def test_a_name_is_asked_for_once_however_many_wait(self) -> None:
        """A slow resolver must not be given a thread for each request that wants the name."""
        address = self.listen()
        asked: list[str] = []

        def resolve(host: str, port: int) -> list[tuple[int, Any]]:
            asked.append(host)
            return [(int(socket.AF_INET), ("127.0.0.1", address.port))]

        dialer = Dialer(reactor, self.deadlines, resolve=resolve)
        dials = [self.dial(Address("slow.example", address.port), dialer=dialer) for _ in range(20)]
        for dial in dials:
            client = await dial
            client.transport.abortConnection()  # type: ignore[union-attr]
            await client.lost
        for server in self.factory.accepted:
            await server.lost
        self.assertEqual(asked, ["slow.example"])

    async def test_unknown_name(self) -> None:
        def resolve(host: str, port: int) -> list[tuple[int, Any]]:
            raise socket.gaierror("no such name")

        error = await self.failure(Address("x.invalid", 80), dialer=Dialer(reactor, self.deadlines, resolve=resolve))
        self.assertIsInstance(error, DnsFailure)

    async def test_no_descriptors(self) -> None:
        """No backend is to blame for that; but one that refused is, whatever else could not be tried."""
        address = self.listen()
        running: Deferred[None] = Deferred()
        reactor.callWhenRunning(running.callback, None)
        await running
        with no_descriptors():
            error = await self.failure(address)
        self.assertIsInstance(error, OutOfResources)
        self.assertIs(error.source, Source.BALANCE)
        for numbers in ([ECONNREFUSED], [ECONNREFUSED, EADDRNOTAVAIL], [EADDRNOTAVAIL, ECONNREFUSED]):
            outcome: list[ExchangeError] = []
            dial = self.dialer.dial(address, lambda protocol: Recorder(), 5, self.fail, outcome.append)
            for number in numbers:
                dial._note(number)
            dial._next()
            self.assertIsInstance(outcome[0], ConnectRefused)

    def test_all_descriptors_that_are_allowed(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
        self.assertEqual(use_all_descriptors(), hard)

    async def test_timeout(self) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            error = await self.failure(Address("127.0.0.1", full.getsockname()[1]), 0.1)
            for filler in fillers:
                filler.close()
        self.assertIsInstance(error, ConnectTimeout)

    async def test_cancel(self) -> None:
        address = self.listen()
        called: list[object] = []
        dial = self.dialer.dial(address, lambda protocol: Recorder(), 5, called.append, called.append)
        dial.cancel()
        dial.cancel()
        await self.dial(address)  # some turns of the reactor
        self.assertEqual(called, [])
        for server in self.factory.accepted:
            server.transport.abortConnection()  # type: ignore[union-attr]
            await server.lost

    async def test_unix(self) -> None:
        path = self.mktemp()
        self.listen(Address("", 0, path))
        accepted = self.factory.next
        client = await self.dial(Address("", 0, path))
        server = await accepted
        client.transport.write(b"hi")  # type: ignore[union-attr]
        self.assertEqual(await server.got(2), b"hi")
        client.transport.loseConnection()  # type: ignore[union-attr]
        await server.lost
        await client.lost


class ListenTests(SocketTestCase):
    def test_in_use(self) -> None:
        address = self.listen()
        with self.assertRaises(ListenError) as caught:
            listen(reactor, address, self.factory)
        self.assertEqual(str(caught.exception), f"cannot listen on 127.0.0.1:{address.port}: Address already in use")

    def test_not_ours(self) -> None:
        with self.assertRaises(ListenError):
            listen(reactor, Address("192.0.2.1", 0), self.factory)

    async def test_all_addresses(self) -> None:
        address = self.listen(Address("", 0))
        for host in ("127.0.0.1", "::1"):
            accepted = self.factory.next
            client = await self.dial(Address(host, address.port))
            server = await accepted
            self.assertEqual(server.transport.getPeer().host, host)  # type: ignore[union-attr]
            client.transport.abortConnection()  # type: ignore[union-attr]
            await client.lost
            await server.lost

    async def test_left_over_unix_socket(self) -> None:
        path = self.mktemp()
        left = socket.socket(socket.AF_UNIX)
        left.bind(path)
        left.close()
        self.listen(Address("", 0, path))
        with self.assertRaises(ListenError):
            listen(reactor, Address("", 0, path), self.factory)
