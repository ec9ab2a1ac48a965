"""TLS on real sockets and a stock reactor: handshakes, data, ends, and what goes wrong with them."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from balance.codec.certificates import PeerCertificate
from balance.codec.proxy_protocol import write_proxy_header
from balance.config.tls import BackendTlsConfig, TlsConfig
from balance.errors import BackendError, ConnectTimeout, TlsAlertReceived, TlsCertificateError, TlsProtocolError
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.net.dial import Dialer
from balance.net.listen import listen
from balance.net.preface import ProxyPreface
from balance.net.tls_client import BackendTls
from balance.net.tls_server import TlsTermination
from balance.net.tls_transport import TlsBroken
from test.certificates import Authority, Pair, self_signed

reactor: Any = _reactor


class Recorder(Protocol):
    """Keeps what comes; ``lost`` fires with the kind of the end."""

    transport: Any

    def __init__(self, alpn: str = "") -> None:
        self.alpn = alpn
        self.data = b""
        self.lost: Deferred[Any] = Deferred()
        self._wanted: tuple[int, Deferred[bytes]] | None = None

    def got(self, size: int) -> Deferred[bytes]:
        found: Deferred[bytes] = Deferred()
        self._wanted = size, found
        self.dataReceived(b"")
        return found

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self._wanted is not None and len(self.data) >= self._wanted[0]:
            size, found = self._wanted
            self._wanted = None
            taken, self.data = self.data[:size], self.data[size:]
            found.callback(taken)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    def __init__(self, alpn: str = "") -> None:
        super().__init__(alpn)
        self.ended: Deferred[None] = Deferred()

    def readConnectionLost(self) -> None:
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        pass


class Factory(ServerFactory):
    noisy = False

    def __init__(self, case: TlsTestCase) -> None:
        self.case = case
        self.kind: type[Recorder] = Recorder
        self.trusted = False
        self.refusals: list[str] = []
        self.accepted: Deferred[Recorder] = Deferred()
        self.refused: Deferred[str] = Deferred()
        self.header: Any = None

    def buildProtocol(self, addr: Any) -> Any:
        if not self.trusted:
            return self.handshake()
        return ProxyPreface(self.case.deadlines, 5, self.introduced, lambda error: self.refuse(error.reason))

    def introduced(self, header: Any) -> Any:
        self.header = header
        return self.handshake()

    def handshake(self) -> Any:
        return self.case.termination.handshake(self.established, self.refuse)

    def established(self, transport: Any, hello: Any) -> Recorder:
        protocol = self.kind(transport.alpn)
        reactor.callLater(0, self.accepted.callback, protocol)
        return protocol

    def refuse(self, detail: str) -> None:
        self.refusals.append(detail)
        found, self.refused = self.refused, Deferred()
        found.callback(detail)


class TlsTestCase(TestCase):
    timeout = 30
    folder: ClassVar[Path]
    authority: ClassVar[Authority]
    pair: ClassVar[Pair]

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()  # type: ignore[misc]
        self.folder.mkdir()
        self.authority = Authority(self.folder)  # type: ignore[misc]
        self.pair = self.authority.issue("a.example", "127.0.0.1")  # type: ignore[misc]
        self.deadlines = Deadlines(reactor, 0.02)
        self.deadlines.start()
        self.addCleanup(self.deadlines.stop)
        self.dialer = Dialer(reactor, self.deadlines)
        self.factory = Factory(self)

    def listen(self, pair: Pair | None = None, protocols: tuple[str, ...] = (), path: str = "", **more: Any) -> Address:
        config = TlsConfig(enabled=True, **(pair or self.pair).config, **more)
        self.termination = TlsTermination("test", config, self.deadlines, protocols, answers_plain=True)
        ports = listen(reactor, Address("127.0.0.1", 0, path), self.factory, tls=True)
        for port in ports:
            self.addCleanup(port.stopListening)
        self.addCleanup(self.termination.abandon)
        return Address("", 0, path) if path else Address("127.0.0.1", ports[0].getHost().port)

    def trusting(self, name: str = "a.example", **more: Any) -> BackendTlsConfig:
        return BackendTlsConfig(ca_file=str(self.authority.file), server_name=name, **more)

    def dial(
        self,
        address: Address,
        tls: BackendTls | None,
        kind: type[Recorder] = Recorder,
        timeout: float = 10,
        preface: bytes = b"",
    ) -> Deferred[Recorder]:
        outcome: Deferred[Recorder] = Deferred()

        def connected(protocol: Recorder) -> None:
            self.addCleanup(lambda: protocol.transport and protocol.transport.abortConnection())
            outcome.callback(protocol)

        def failed(error: BackendError) -> None:
            outcome.errback(Failure(error))

        self.dialer.dial(address, kind, timeout, connected, failed, tls=tls, preface=preface)
        return outcome

    async def connect(self, address: Address, **more: Any) -> tuple[Recorder, Recorder]:
        client = await self.dial(address, BackendTls(more.pop("config", self.trusting()), address), **more)
        server = await self.factory.accepted
        self.factory.accepted = Deferred()
        return client, server

    async def failure(self, address: Address, config: BackendTlsConfig, limit: float = 10) -> BackendError:
        try:
            await self.dial(address, BackendTls(config, address), timeout=limit)
        except BackendError as error:
            return error
        self.fail("connected")
        raise AssertionError


class Data(TlsTestCase):
    async def test_both_ways(self) -> None:
        client, server = await self.connect(self.listen())
        client.transport.write(b"question")
        self.assertEqual(await server.got(8), b"question")
        server.transport.writeSequence([b"an", b"swer"])
        self.assertEqual(await client.got(6), b"answer")
        self.assertEqual((server.transport.server_name, server.transport.alpn), ("a.example", ""))
        self.assertIsNone(server.transport.certificate)
        self.assertEqual(self.termination.counters.handshakes, 1)

    async def test_much_with_back_pressure(self) -> None:
        """20 MB, to a reader that pauses: nothing lost, nothing reordered, the writer told, memory bounded."""
        client, server = await self.connect(self.listen())
        data = os.urandom(20 << 20)
        digest, seen, finished = hashlib.sha256(), [0], Deferred[None]()

        def received(piece: bytes) -> None:
            digest.update(piece)
            seen[0] += len(piece)
            client.transport.pauseProducing()
            reactor.callLater(0, client.transport.resumeProducing)
            if seen[0] == len(data):
                finished.callback(None)

        client.dataReceived = received  # type: ignore[method-assign]
        producer = Producer(server.transport, data)
        server.transport.registerProducer(producer, True)
        producer.resumeProducing()
        await finished
        self.assertEqual(digest.digest(), hashlib.sha256(data).digest())
        self.assertGreater(producer.pauses, 3)
        self.assertLess(producer.most, 2 << 20)

    async def test_one_write_of_everything(self) -> None:
        client, server = await self.connect(self.listen())
        data = os.urandom(5 << 20)
        server.transport.write(data)
        server.transport.loseConnection()
        self.assertEqual(await client.got(len(data)), data)
        self.assertIs(await client.lost, ConnectionDone)

    async def test_what_follows_the_handshake_at_once(self) -> None:
        """The request comes in the segment of the client's Finished: no further event of the socket will tell of it."""
        address = self.listen(protocols=("http/1.1",))

        def ask() -> bytes:
            context = ssl.create_default_context(cafile=str(self.authority.file))
            context.set_alpn_protocols(["http/1.1"])
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
            with socket.create_connection((address.host, address.port), 10) as plain:
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        incoming.write(plain.recv(65536))
                tls.write(b"at once" * 5000)
                plain.sendall(outgoing.read())
                return plain.recv(1)

        asked = deferToThread(ask)
        server = await self.factory.accepted
        self.assertEqual(await server.got(35000), b"at once" * 5000)
        self.assertEqual(server.alpn, "http/1.1")
        server.transport.loseConnection()
        await asked

    async def test_unix_socket(self) -> None:
        path = f"/tmp/balance-tls-{os.getpid()}.sock"
        address = self.listen(path=path)
        client, server = await self.connect(address)
        client.transport.write(b"hello")
        self.assertEqual(await server.got(5), b"hello")

    async def test_proxy_header_first(self) -> None:
        """In clear text, before the handshake; in one segment with it."""
        self.factory.trusted = True
        address = self.listen()
        header = write_proxy_header(2, ("203.0.113.7", 4711), ("198.51.100.1", 443))
        client = await self.dial(address, BackendTls(self.trusting(), address), preface=header)
        server = await self.factory.accepted
        self.assertEqual(self.factory.header.source, ("203.0.113.7", 4711))
        client.transport.write(b"hello")
        self.assertEqual(await server.got(5), b"hello")

    async def test_sessions_are_resumed(self) -> None:
        for version in ("1.2", "1.3"):
            self.factory.accepted = Deferred()
            address = self.listen(max_version=version)
            tls = BackendTls(self.trusting(), address)
            for _ in range(3):
                client = await self.dial(address, tls)
                server = await self.factory.accepted
                self.factory.accepted = Deferred()
                server.transport.write(b"x")  # tickets come before it
                await client.got(1)
                client.transport.loseConnection()
                await server.lost
            self.assertEqual((self.termination.counters.handshakes, self.termination.counters.resumed), (3, 2), version)


def unreadable(der: bytes) -> PeerCertificate:
    raise ValueError("an odd subject")


class Producer:
    def __init__(self, transport: Any, data: bytes) -> None:
        self.transport = transport
        self.left = memoryview(data)
        self.paused = False
        self.pauses = self.most = 0

    def resumeProducing(self) -> None:
        self.paused = False
        while self.left and not self.paused:
            piece, self.left = self.left[:50_000], self.left[50_000:]
            self.transport.write(bytes(piece))
            self.most = max(self.most, self.transport.pending)
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def stopProducing(self) -> None:
        self.left = memoryview(b"")


class Ends(TlsTestCase):
    async def test_close(self) -> None:
        client, server = await self.connect(self.listen())
        server.transport.write(b"bye")
        server.transport.loseConnection()
        self.assertEqual(await client.got(3), b"bye")
        for each in (client, server):
            self.assertIs(await each.lost, ConnectionDone)

    async def test_cut_without_close_notify(self) -> None:
        """A FIN that nobody vouches for: whoever is on the way could have sent it."""
        client, server = await self.connect(self.listen())
        server.transport.write(b"part")
        self.assertEqual(await client.got(4), b"part")
        server.transport.socket.shutdown(socket.SHUT_RDWR)
        self.assertIs(await client.lost, ConnectionLost)

    async def test_half_close(self) -> None:
        """One side ends, the other goes on sending; for TLS 1.2 and 1.3, in both directions."""
        self.factory.kind = HalfRecorder
        for version in ("1.2", "1.3"):
            for first in (0, 1):
                pair = await self.connect(self.listen(max_version=version), kind=HalfRecorder)
                one, other = pair[first], pair[1 - first]
                one.transport.write(b"x" * 300_000)
                one.transport.half_close()
                self.assertEqual(await other.got(300_000), b"x" * 300_000)
                await other.ended  # type: ignore[attr-defined]
                other.transport.write(b"y" * 300_000)
                self.assertEqual(await one.got(300_000), b"y" * 300_000)
                other.transport.loseConnection()
                await one.ended  # type: ignore[attr-defined]
                one.transport.loseConnection()
                self.assertIs(await one.lost, ConnectionDone)

    async def test_abort(self) -> None:
        client, server = await self.connect(self.listen())
        server.transport.write(b"part")
        server.transport.abortConnection()
        self.assertIs(await server.lost, ConnectionAborted)
        self.assertIs(await client.lost, ConnectionLost)

    async def test_nothing_after_the_end(self) -> None:
        client, server = await self.connect(self.listen())
        server.transport.loseConnection()
        server.transport.write(b"too late")
        await client.lost
        self.assertEqual(client.data, b"")
        server.transport.write(b"far too late") if server.transport else None

    async def test_garbage_behind_the_handshake(self) -> None:
        client, server = await self.connect(self.listen())
        client.transport.socket.send(b"\x17\x03\x03\x00\x20" + b"z" * 32)
        self.assertIs(await server.lost, TlsBroken)
        self.assertIs(await client.lost, TlsBroken)  # our alert


class Refused(TlsTestCase):
    """Handshakes of clients that come to nothing."""

    async def talk(self, address: Address, *pieces: bytes) -> bytes:
        def ask() -> bytes:
            with socket.create_connection((address.host, address.port), 10) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer = b""
                try:
                    for piece in pieces:
                        plain.sendall(piece)
                    while data := plain.recv(65536):
                        answer += data
                except ConnectionError:
                    pass
                return answer

        return await deferToThread(ask)

    async def test_garbage(self) -> None:
        address = self.listen()
        for data, reason in [
            (b"\x00\x01\x02", "not_tls"),
            (b"SSH-2.0-OpenSSH\r\n", "not_tls"),
            (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "bad_client_hello"),
            (b"\x16\x03\x01\xff\xff", "bad_client_hello"),
            (b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + b"x" * 20_000, "bad_client_hello"),
        ]:
            refused = self.factory.refused
            await self.talk(address, data)
            self.assertTrue((await refused).startswith(reason + ": "), self.factory.refusals)

    async def test_plain_http(self) -> None:
        address = self.listen()
        answer = await self.talk(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "))
        self.assertIn(b"This port speaks TLS", answer)
        self.assertEqual(self.termination.counters.failures, {"plain_http": 1})

    async def test_time_limit(self) -> None:
        address = self.listen(handshake_timeout="100ms")
        self.assertEqual(await self.talk(address), b"")
        self.assertEqual(await self.talk(address, b"\x16\x03\x01\x02"), b"")
        self.assertEqual(self.termination.counters.failures, {"timeout": 2})

    async def test_gone(self) -> None:
        address = self.listen()
        refused = self.factory.refused
        with socket.create_connection((address.host, address.port)) as plain:
            plain.send(b"\x16\x03\x01")
        self.assertIn("closed", await refused)

    async def test_no_protocol_in_common(self) -> None:
        address = self.listen(protocols=("http/1.1",))
        tls = BackendTls(self.trusting(), address, ("h2", "foo"))
        with self.assertRaises(TlsAlertReceived) as caught:
            await self.dial(address, tls)
        self.assertIn("no_application_protocol", caught.exception.detail)
        self.assertEqual(self.termination.counters.failures, {"no_application_protocol": 1})

    async def test_no_version_in_common(self) -> None:
        address = self.listen(min_version="1.3")
        error = await self.failure(address, self.trusting(max_version="1.2"))
        self.assertIsInstance(error, TlsAlertReceived)
        self.assertEqual(self.termination.counters.failures, {"unsupported_protocol": 1})

    async def test_odd_server_names(self) -> None:
        """Bytes that are no host name never get to where they could be logged or looked up."""
        address = self.listen()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="aaaa.example")
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        hello = outgoing.read()
        for name in (b"\xff\xfe.example..", b"a\nb\x00.example", b"..aa.example"):
            answer = await self.talk(address, hello.replace(b"aaaa.example", name))
            self.assertEqual(answer[:1], b"\x15")
        self.assertEqual(self.termination.counters.failures, {"bad_client_hello": 3})
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_client_certificates(self) -> None:
        mine = self.authority.issue(subject="somebody")
        stranger = self_signed(self.folder, "stranger")
        auth = {"client_ca_file": str(self.authority.file)}
        address = self.listen(client_auth="require", max_version="1.2", **auth)
        _, server = await self.connect(address, config=self.trusting(**mine.config))
        self.assertEqual(server.transport.certificate.subject, "CN=somebody")
        self.assertEqual(len(server.transport.certificate.fingerprint), 64)
        for config in (self.trusting(), self.trusting(**stranger.config)):
            self.assertIsInstance(await self.failure(address, config), TlsAlertReceived)
        self.assertEqual(len(self.termination.counters.failures), 2, self.termination.counters.failures)
        address = self.listen(client_auth="request", **auth)
        _, server = await self.connect(address)
        self.assertIsNone(server.transport.certificate)

    async def test_huge_chain(self) -> None:
        """200 kB of certificates, all of them good: OpenSSL's limit is 100."""
        filler = b"".join(self.authority.issue(f"{n}.example").cert.read_bytes() for n in range(20)) * 20
        mine = self.authority.issue(subject="somebody", extra=filler)
        self.assertGreater(len(filler), 200_000)
        address = self.listen(client_auth="require", client_ca_file=str(self.authority.file), max_version="1.2")
        error = await self.failure(address, self.trusting(**mine.config))
        self.assertIsInstance(error, TlsAlertReceived | TlsProtocolError)
        self.assertEqual(list(self.termination.counters.failures), ["excessive_message_size"])

    async def test_a_certificate_that_cannot_be_read(self) -> None:
        """OpenSSL takes it, and nobody knows what its subject says: no connection, and no traceback."""
        mine = self.authority.issue(subject="somebody")
        self.patch(PeerCertificate, "of", unreadable)
        address = self.listen(client_auth="require", client_ca_file=str(self.authority.file), max_version="1.2")
        refused = self.factory.refused
        await self.dial(address, BackendTls(self.trusting(**mine.config), address))
        self.assertIn("bad_client_certificate", await refused)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_abandoned(self) -> None:
        address = self.listen()
        talking = ensureDeferred(self.talk(address, b"\x16\x03\x01"))
        while not self.termination._handshakes:
            await deferLater(reactor, 0.01)
        self.termination.abandon()
        self.assertEqual(await talking, b"")


class Backends(TlsTestCase):
    """Whom we do not trust."""

    async def test_certificates(self) -> None:
        for pair, name, message in [
            (self.pair, "other.example", "Hostname mismatch"),
            (self.pair, "127.0.0.2", "IP address mismatch"),
            (self_signed(self.folder, "a.example"), "a.example", "self-signed certificate"),
            (self.authority.issue("a.example", days=-1), "a.example", "certificate has expired"),
            (self.authority.issue("a.example", since=3), "a.example", "certificate is not yet valid"),
        ]:
            address = self.listen(pair)
            error = await self.failure(address, self.trusting(name))
            self.assertIsInstance(error, TlsCertificateError)
            self.assertIn(message, error.detail)
            self.assertIn(str(address), error.detail)
        self.assertIsInstance(await self.failure(self.listen(), BackendTlsConfig()), TlsCertificateError)

    async def test_addresses_and_no_verification(self) -> None:
        config = BackendTlsConfig(ca_file=str(self.authority.file))
        _, server = await self.connect(self.listen(), config=config)
        self.assertEqual(server.transport.server_name, "")  # no names for addresses (RFC 6066)
        await self.connect(self.listen(self_signed(self.folder, "z")), config=BackendTlsConfig(verify=False))

    async def test_not_tls(self) -> None:
        class Plain(ServerFactory):
            noisy = False

            def buildProtocol(self, addr: IPv4Address) -> Protocol:
                protocol = Protocol()
                protocol.dataReceived = lambda data: protocol.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore
                return protocol

        class Closing(Plain):
            def buildProtocol(self, addr: IPv4Address) -> Protocol:
                protocol = Protocol()
                protocol.dataReceived = lambda data: protocol.transport.loseConnection()  # type: ignore
                return protocol

        class Silent(Plain):
            def buildProtocol(self, addr: IPv4Address) -> Protocol:
                return Protocol()

        for kind, expected in ((Plain, TlsProtocolError), (Closing, TlsProtocolError), (Silent, ConnectTimeout)):
            (port,) = listen(reactor, Address("127.0.0.1", 0), kind())
            self.addCleanup(port.stopListening)
            address = Address("127.0.0.1", port.getHost().port)
            error = await self.failure(address, self.trusting(), limit=1 if kind is Silent else 10)
            self.assertIsInstance(error, expected, error.detail)
        self.assertIn("TLS handshake not finished", error.detail)
