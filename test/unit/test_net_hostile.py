"""What goes wrong in a step must stay one connection's, and in order: on the stock reactor and on the lean one."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import ServerFactory
from twisted.trial.unittest import SynchronousTestCase

from balance.errors import ExchangeError
from balance.model import Address
from balance.net import reactor as lean
from balance.net.dial import Dial
from balance.net.listen import listen
from balance.net.reactor import LeanEPollReactor
from test.unit.test_net_reactor import Ends, Heard


class Hostile(Ends):
    def test_resumed_by_a_timer(self) -> None:
        """What was kept comes before what has come since."""
        case: Any = self
        pairs = self.readable_together(5)
        others = self.first_decides(pairs, lambda transport: transport.pauseProducing())
        for n, (_heard, far) in enumerate(pairs):
            far.sendall(b"%d again" % n)
        for heard in others:
            transport: Any = heard.transport
            self.reactor.callLater(0, transport.resumeProducing)
        self.until(lambda: all(b"again" in heard.got for heard, _far in pairs))
        for _ in range(3):
            self.reactor.iterate(0)
        case.assertEqual([heard.got for heard, _far in pairs], [b"%d;%d again" % (n, n) for n in range(5)])

    def test_a_loss_that_raises(self) -> None:
        """What the others of the same step were sent is not lost with it."""
        case: Any = self
        pairs = [self.accepted() for _ in range(5)]

        def lost(reason: Any = None) -> None:
            raise ZeroDivisionError

        for heard, far in pairs[:2]:
            heard.connectionLost = lost  # type: ignore[method-assign]
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pairs[0][0].dataReceived = lambda data: 1 // 0  # type: ignore[assignment,method-assign,return-value]
        pairs[0][1].sendall(b"hello")
        pairs[1][1].close()
        for _heard, far in pairs[2:]:
            far.sendall(b"hello")
        self.until(lambda: all(heard.got for heard, _far in pairs[2:]))
        case.assertEqual(len(case.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_no_mere_exception(self) -> None:
        """As SystemExit, or what libraries in Rust raise when they panic."""
        case: Any = self
        pairs = [self.accepted() for _ in range(5)]

        def leave(data: bytes) -> None:
            raise SystemExit

        pairs[0][0].dataReceived = leave  # type: ignore[method-assign]
        for _heard, far in pairs:
            far.sendall(b"hello")
        self.until(lambda: all(heard.got for heard, _far in pairs[1:]))
        case.assertEqual(len(case.flushLoggedErrors(SystemExit)), 1)

    def test_last_words_before_it_raises(self) -> None:
        case: Any = self
        heard, far = self.accepted()

        def hear(data: bytes) -> None:
            heard.transport.write(b"last words")  # type: ignore[union-attr]
            raise ZeroDivisionError

        heard.dataReceived = hear  # type: ignore[method-assign]
        far.sendall(b"go on")
        self.until(lambda: heard.told)
        case.assertEqual(far.recv(100), b"last words")
        case.assertEqual(len(case.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_last_words_before_its_end(self) -> None:
        """It is sent something in the step in which it ends: its peer may have closed one half only."""
        case: Any = self
        self.kind = Heard
        first, first_far = self.accepted()
        others = [self.accepted() for _ in range(4)]
        first.dataReceived = lambda data: [heard.transport.write(b"last words") for heard, _far in others]  # type: ignore[assignment,method-assign,misc,return-value,union-attr]
        first_far.sendall(b"go on")
        for _heard, far in others:
            far.shutdown(socket.SHUT_WR)
        self.until(lambda: all(heard.told for heard, _far in others))
        case.assertEqual([far.recv(100) for _heard, far in others], [b"last words"] * 4)

    def test_a_protocol_that_cannot_begin(self) -> None:
        """Its connection is cut, and the next one with its descriptor is a good one."""
        case: Any = self
        factory = ServerFactory()
        factory.noisy = False

        def begin(transport: Any) -> None:
            raise ZeroDivisionError

        def build(addr: Any) -> Heard:
            heard = self.serve()
            if len(self.served) == 1:
                heard.makeConnection = begin  # type: ignore[method-assign]
            return heard

        factory.buildProtocol = build  # type: ignore[assignment,method-assign]
        ports = listen(self.reactor, Address("127.0.0.1", 0), factory)
        case.addCleanup(ports[0].stopListening)
        where = "127.0.0.1", ports[0].getHost().port
        first = self.far(socket.create_connection(where))
        self.until(lambda: self.served and self.served[0].told)
        case.assertRaises(ConnectionResetError, first.recv, 1)
        case.assertEqual(len(case.flushLoggedErrors(ZeroDivisionError)), 1)
        far = self.far(socket.create_connection(where))
        far.sendall(b"hello")
        self.until(lambda: len(self.served) > 1 and self.served[1].got)


class OnTheStockReactor(Hostile, SynchronousTestCase):
    make = EPollReactor


class OnTheLeanReactor(Hostile, SynchronousTestCase):
    make = LeanEPollReactor

    def test_a_producer_that_cannot_pause(self) -> None:
        """It costs its own connection, not what others have to send in the same step."""
        (first, first_far), (slow, _), (other, other_far) = [self.accepted() for _ in range(3)]
        crowded: Any = slow.transport
        with self.assertRaises(BlockingIOError):
            while True:
                crowded.socket.send(bytes(100_000))
        producer: Any = type("", (), {})()
        producer.pauseProducing = lambda: 1 // 0
        producer.stopProducing = lambda: None
        crowded.bufferSize = 0
        crowded.registerProducer(producer, True)

        def hear(data: bytes) -> None:
            for heard in (slow, other):
                heard.transport.write(b"to you")  # type: ignore[union-attr]

        first.dataReceived = hear  # type: ignore[method-assign]
        first_far.sendall(b"go on")
        self.until(lambda: slow.told)
        self.assertEqual(slow.told, ["ConnectionAborted"])
        self.assertEqual(other_far.recv(100), b"to you")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_number_that_is_used_again(self) -> None:
        """What the poller said of one that is closed since is not said of the next one with its descriptor."""
        dead = self.far_listener()
        port = dead.getsockname()[1]
        dead.close()
        taken = self.far_listener()
        first, far = self.accepted()
        far.sendall(b"go on")  # the poller tells it first
        told: list[ExchangeError] = []
        there: list[Heard] = []

        def dial(port: int) -> Dial:
            return self.dialer.dial(Address("127.0.0.1", port), lambda alpn: Heard(), 5, there.append, told.append)

        refused = dial(port)
        before = {writer.fileno() for writer in self.reactor.getWriters()}

        def hear(data: bytes) -> None:
            refused.cancel()
            dial(taken.getsockname()[1])
            self.assertEqual({writer.fileno() for writer in self.reactor.getWriters()}, before)

        first.dataReceived = hear  # type: ignore[method-assign]
        self.until(lambda: there or told)
        self.assertEqual((len(there), told), (1, []))

    def test_more_than_a_step_reads(self) -> None:
        """Beyond its bytes, connections read for themselves; nothing is lost, and nothing is read twice."""
        self.patch(lean, "_STEP_BYTES", 4)
        pairs = [self.accepted() for _ in range(6)]
        for n, (_heard, far) in enumerate(pairs):
            far.sendall(b"%d has the floor" % n)
            far.shutdown(socket.SHUT_WR)
        self.until(lambda: all(heard.told for heard, _far in pairs))
        self.assertEqual([heard.got for heard, _far in pairs], [b"%d has the floor" % n for n in range(6)])
        self.assertEqual([heard.told for heard, _far in pairs], [["read ended"]] * 6)

    def test_a_number_that_is_used_again_in_another_step(self) -> None:
        self.patch(lean, "STEP_EVENTS", 1)
        self.test_a_number_that_is_used_again()
