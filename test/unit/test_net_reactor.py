"""Connections from dial to end, on the stock reactor and on the lean one: each test runs on both, on a reactor of its
own, driven by hand.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from balance.errors import ConnectRefused, ExchangeError
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.net.dial import Dialer
from balance.net.listen import listen
from balance.net.reactor import STEP_EVENTS, LeanEPollReactor


class Heard(Protocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.told.append(reason.type.__name__)


@implementer(IHalfCloseableProtocol)
class HalfHeard(Heard):
    def readConnectionLost(self) -> None:
        self.told.append("read ended")

    def writeConnectionLost(self) -> None:
        self.told.append("write ended")


class Ends:
    """Connections on a reactor. A far end is a plain blocking socket."""

    make: Callable[[], Any]

    def setUp(self) -> None:
        case: Any = self
        self.reactor = type(self).make()
        case.addCleanup(self.reactor.removeAll)
        self.deadlines = Deadlines(self.reactor, 0.05)
        self.dialer = Dialer(self.reactor, self.deadlines)
        self.kind: type[Heard] = HalfHeard
        self.served: list[Heard] = []

    def until(self, there: Callable[[], Any]) -> None:
        for _ in range(200):
            if there():
                return
            self.reactor.iterate(0.05)
        raise AssertionError("it never came")

    def far_listener(self) -> socket.socket:
        case: Any = self
        sock = socket.create_server(("127.0.0.1", 0))
        sock.settimeout(5)
        case.addCleanup(sock.close)
        return sock

    def dialled(self, listener: socket.socket) -> tuple[Heard, socket.socket]:
        """A connection that we opened, and its far end."""
        found: list[Heard] = []
        self.dialer.dial(
            Address("127.0.0.1", listener.getsockname()[1]), lambda alpn: self.kind(), 5, found.append, self.refuse
        )
        self.until(lambda: found)
        return found[0], self.far(listener.accept()[0])

    def far(self, sock: socket.socket) -> socket.socket:
        case: Any = self
        sock.settimeout(5)
        case.addCleanup(sock.close)
        return sock

    def accepted(self) -> tuple[Heard, socket.socket]:
        """A connection that we accepted, and its far end."""
        case: Any = self
        factory = ServerFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: self.serve()  # type: ignore[assignment,method-assign]
        ports = listen(self.reactor, Address("127.0.0.1", 0), factory)
        case.addCleanup(ports[0].stopListening)
        before = len(self.served)
        sock = self.far(socket.create_connection(("127.0.0.1", ports[0].getHost().port)))
        self.until(lambda: len(self.served) > before)
        return self.served[-1], sock

    def serve(self) -> Heard:
        self.served.append(self.kind())
        return self.served[-1]

    def refuse(self, error: ExchangeError) -> None:
        raise AssertionError(error)

    def both(self) -> list[tuple[Heard, socket.socket]]:
        return [self.dialled(self.far_listener()), self.accepted()]

    def readable_together(self, count: int) -> list[tuple[Heard, socket.socket]]:
        """Connections that all have something to read in the next turn."""
        pairs = [self.accepted() for _ in range(count)]
        for n, (_heard, far) in enumerate(pairs):
            far.sendall(b"%d;" % n)
        return pairs

    def first_decides(self, pairs: list[tuple[Heard, socket.socket]], decide: Callable[[Any], None]) -> list[Heard]:
        """The first one that hears anything decides about all others. Those, in any order."""
        decided: list[Heard] = []

        def hear(heard: Heard, data: bytes) -> None:
            heard.got += data
            if not decided:
                decided.append(heard)
                for other, _far in pairs:
                    if other is not heard:
                        decide(other.transport)

        for heard, _far in pairs:
            heard.dataReceived = lambda data, heard=heard: hear(heard, data)  # type: ignore[method-assign,misc]
        self.until(lambda: decided)
        return [heard for heard, _far in pairs if heard is not decided[0]]


class Connections(Ends):
    """The tests."""

    # --- the life of a connection -----------------------------------------------------------------------------

    def test_there_and_back(self) -> None:
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            transport.write(b"to you")
            case.assertEqual(far.recv(100), b"to you")
            far.sendall(b"and back")
            self.until(lambda heard=heard: heard.got)  # type: ignore[misc]
            case.assertEqual(heard.got, b"and back")
            case.assertEqual(self.reactor.getWriters(), [])
            case.assertIn(transport, self.reactor.getReaders())

    def test_nothing_waits_for_more(self) -> None:
        case: Any = self
        for heard, _far in self.both():
            transport: Any = heard.transport
            case.assertTrue(transport.getTcpNoDelay())

    def test_the_far_end_ends_first(self) -> None:
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            far.shutdown(socket.SHUT_WR)
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            case.assertEqual(heard.told, ["read ended"])
            case.assertNotIn(transport, self.reactor.getReaders())  # or the poller would tell it for ever
            transport.write(b"last words")
            transport.finish()
            case.assertEqual(heard.told, ["read ended", "ConnectionDone"])
            case.assertEqual(far.recv(100), b"last words")
            case.assertEqual(far.recv(100), b"")

    def test_one_that_does_not_know_halves(self) -> None:
        case: Any = self
        self.kind = Heard
        for heard, far in self.both():
            far.shutdown(socket.SHUT_WR)
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            case.assertEqual(heard.told, ["ConnectionDone"])

    def test_a_reset_is_no_good_end(self) -> None:
        case: Any = self
        for heard, far in self.both():
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            case.assertEqual(heard.told, ["ConnectionLost"])

    def test_a_reset_behind_an_end(self) -> None:
        """First it says that it sends no more, then it does not take what we send."""
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            far.shutdown(socket.SHUT_WR)
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            transport.write(b"too late")
            transport.write(b"and now it is known")
            self.until(lambda heard=heard: len(heard.told) > 1)  # type: ignore[misc]
            case.assertEqual(heard.told, ["read ended", "ConnectionLost"])

    def test_a_reset_that_a_write_met(self) -> None:
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            transport.write(b"nobody there")
            case.assertTrue(transport.broken)
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            case.assertEqual(heard.told, ["ConnectionLost"])

    # --- several at once: an earlier one of a turn decides about a later one ------------------------------------

    def test_paused_by_an_earlier_one(self) -> None:
        """What was read already is not delivered before it is wanted, not twice, and not behind what comes later."""
        case: Any = self
        pairs = self.readable_together(5)
        others = self.first_decides(pairs, lambda transport: transport.pauseProducing())
        for _ in range(3):
            self.reactor.iterate(0)
        case.assertEqual([heard.got for heard in others], [b""] * 4)
        for n, (_heard, far) in enumerate(pairs):
            far.sendall(b"%d again" % n)
            far.shutdown(socket.SHUT_WR)
        for heard in others:
            transport: Any = heard.transport
            transport.resumeProducing()
            transport.pauseProducing()
        for _ in range(3):
            self.reactor.iterate(0)
        case.assertEqual([heard.got for heard in others], [b""] * 4)
        for heard in others:
            transport = heard.transport
            transport.resumeProducing()
        self.until(lambda: all(heard.told for heard, _far in pairs))
        case.assertEqual([heard.got for heard, _far in pairs], [b"%d;%d again" % (n, n) for n in range(5)])
        case.assertEqual([heard.told for heard, _far in pairs], [["read ended"]] * 5)

    def test_closed_by_an_earlier_one(self) -> None:
        case: Any = self
        for end in ("loseConnection", "abortConnection", "finish"):
            others = self.first_decides(self.readable_together(5), lambda transport, end=end: getattr(transport, end)())  # type: ignore[misc]
            self.until(lambda others=others: all(heard.told for heard in others))  # type: ignore[misc]
            case.assertEqual([heard.got for heard in others], [b""] * 4)
            case.assertEqual(len({heard.told[0] for heard in others}), 1)

    def test_a_reset_while_it_is_paused(self) -> None:
        """It is told as a reset whenever it is told, never as a good end."""
        case: Any = self
        pairs = [self.accepted() for _ in range(5)]
        for _heard, far in pairs:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
        pairs[0][0].connectionLost = lambda reason=None: [h.transport.pauseProducing() for h, _ in pairs[1:]]  # type: ignore[assignment,method-assign,misc,union-attr]
        for _ in range(3):
            self.reactor.iterate(0)
        for heard, _far in pairs[1:]:
            transport: Any = heard.transport
            if transport.connected:
                transport.resumeProducing()
        self.until(lambda: all(heard.told for heard, _far in pairs[1:]))
        case.assertEqual([heard.told for heard, _far in pairs[1:]], [["ConnectionLost"]] * 4)

    def test_more_than_one_step(self) -> None:
        case: Any = self
        pairs = [self.accepted() for _ in range(STEP_EVENTS * 2 + 5)]
        for heard, far in pairs:
            heard.dataReceived = heard.transport.write  # type: ignore[method-assign,union-attr]
            far.sendall(b"and back")
        for _ in range(4):
            self.reactor.iterate(0.01)
        case.assertEqual([far.recv(100) for _heard, far in pairs], [b"and back"] * len(pairs))

    def test_an_exception_is_one_connections(self) -> None:
        case: Any = self
        pairs = self.readable_together(3)
        pairs[1][0].dataReceived = lambda data: 1 // 0  # type: ignore[assignment,method-assign,return-value]
        self.until(lambda: pairs[0][0].got and pairs[2][0].got and pairs[1][0].told)
        case.assertEqual(pairs[1][0].told, ["ZeroDivisionError"])
        case.assertEqual(pairs[0][0].told + pairs[2][0].told, [])
        case.assertEqual(len(case.flushLoggedErrors(ZeroDivisionError)), 1)

    # --- what is written within a turn ------------------------------------------------------------------------

    def written(self, write: Callable[[Any], None]) -> tuple[Heard, socket.socket]:
        """Write while something is being handled."""
        heard, far = self.accepted()
        done: list[bytes] = []

        def hear(data: bytes) -> None:
            write(heard.transport)
            done.append(data)

        heard.dataReceived = hear  # type: ignore[method-assign]
        far.sendall(b"go on")
        self.until(lambda: done)
        return heard, far

    def all_of(self, far: socket.socket, size: int) -> bytes:
        got = b""
        while len(got) < size:
            self.reactor.iterate(0)
            got += far.recv(1 << 20)
        return got

    def test_small_and_large_in_order(self) -> None:
        case: Any = self
        pieces = [b"a", b"", b"b" * 100, b"c" * 20_000, b"d", b"e" * 16_384, b"f", b"g" * 100_000, b"h"]
        _heard, far = self.written(lambda transport: [transport.write(piece) for piece in pieces])
        wanted = b"".join(pieces)
        case.assertEqual(self.all_of(far, len(wanted)), wanted)

    def test_nothing_is_left_behind(self) -> None:
        """Whoever asks, ends or cuts within the turn does so behind what was written."""
        case: Any = self
        for end in ("half_close", "loseWriteConnection", "loseConnection", "finish"):
            _heard, far = self.written(lambda t, end=end: (t.write(b"last words"), getattr(t, end)()))  # type: ignore[misc]
            case.assertEqual(far.recv(100), b"last words")
            self.until(lambda far=far: select.select([far], [], [], 0)[0])  # type: ignore[misc]
            case.assertEqual(far.recv(100), b"")
        _heard, far = self.written(lambda t: (t.write(b"before the reset"), t.abortConnection()))
        case.assertEqual(far.recv(100), b"before the reset")
        waits: list[int] = []
        _heard, far = self.written(lambda t: (t.write(b"asked for"), waits.append(t.pending)))
        case.assertEqual((far.recv(100), waits), (b"asked for", [0]))

    def test_nobody_takes_it(self) -> None:
        """A producer is paused as soon as the kernel takes no more, and nothing is lost."""
        case: Any = self
        told: list[str] = []
        size = 0

        def write(transport: Any) -> None:
            nonlocal size
            producer: Any = type("", (), {})()
            producer.pauseProducing = lambda: told.append("pause")
            producer.resumeProducing = lambda: told.append("resume")
            producer.stopProducing = lambda: told.append("stop")
            transport.bufferSize = 0
            transport.registerProducer(producer, True)
            while not told:
                transport.write(bytes(10_000))
                size += 10_000

        _heard, far = self.written(write)
        case.assertEqual(told, ["pause"])
        far.setblocking(False)
        got = [0]
        self.until(lambda: self.drain(far, got) or "resume" in told)
        self.until(lambda: self.drain(far, got) or got[0] == size)

    # --- we end it --------------------------------------------------------------------------------------------

    def test_closing_is_told_later(self) -> None:
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            transport.loseConnection()
            case.assertEqual(heard.told, [])
            transport.write(b"added")  # as with any transport of Twisted's: it still goes out
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            case.assertEqual(heard.told, ["ConnectionDone"])
            case.assertEqual(far.recv(100), b"added")
            case.assertEqual(far.recv(100), b"")

    def test_finishing_is_told_at_once(self) -> None:
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            transport.finish()
            case.assertEqual(heard.told, ["ConnectionDone"])
            case.assertEqual(far.recv(100), b"")
            transport.finish()
            transport.loseConnection()
            transport.abortConnection()
            self.reactor.iterate(0)
            case.assertEqual(heard.told, ["ConnectionDone"])

    def test_what_waits_goes_out_first(self) -> None:
        case: Any = self
        for end in ("loseConnection", "finish"):
            for heard, far in self.both():
                transport: Any = heard.transport
                size = 0
                while not transport.pending:
                    case.assertTrue(transport.connected)
                    transport.write(bytes(100_000))
                    size += 100_000
                getattr(transport, end)()
                self.reactor.iterate(0)
                case.assertEqual(heard.told, [])
                far.setblocking(False)
                got = [0]
                self.until(lambda heard=heard, far=far, got=got: self.drain(far, got) or heard.told)  # type: ignore[misc]
                far.setblocking(True)
                while data := far.recv(1 << 20):
                    got[0] += len(data)
                case.assertEqual(got[0], size)
                case.assertEqual(heard.told, ["ConnectionDone"])

    def drain(self, far: socket.socket, got: list[int]) -> None:
        try:
            while data := far.recv(1 << 20):
                got[0] += len(data)
        except BlockingIOError:
            pass

    def test_closed_and_then_aborted(self) -> None:
        case: Any = self
        for heard, far in self.both():
            transport: Any = heard.transport
            transport.loseConnection()
            transport.abortConnection()
            self.until(lambda heard=heard: heard.told)  # type: ignore[misc]
            case.assertEqual(heard.told, ["ConnectionAborted"])
            with case.assertRaises(ConnectionResetError):
                far.recv(100)

    # --- turns ------------------------------------------------------------------------------------------------

    def test_the_end_of_a_turn(self) -> None:
        """After everything that is read, once, and soon even where nothing is read."""
        case: Any = self
        done: list[str] = []
        turn = self.deadlines.turn
        turn.at_end(lambda: done.append("first"))
        turn.at_end(lambda: turn.at_end(lambda: done.append("in a turn of its own")))
        turn.at_end(lambda: 1 // 0)
        turn.at_end(lambda: done.append("last"))
        case.assertEqual(done, [])
        before = self.reactor.seconds()
        self.reactor.callLater(30, lambda: None)
        while len(done) < 3:
            self.reactor.runUntilCurrent()
            if len(done) < 3:
                self.reactor.doIteration(self.reactor.timeout())
        case.assertLess(self.reactor.seconds() - before, 20)  # it did not wait for the timer
        case.assertEqual(done, ["first", "last", "in a turn of its own"])
        case.assertEqual(len(case.flushLoggedErrors(ZeroDivisionError)), 1)
        self.reactor.iterate(0)
        case.assertEqual(len(done), 3)

    # --- dials that fail --------------------------------------------------------------------------------------

    def test_nobody_listens(self) -> None:
        case: Any = self
        listener = self.far_listener()
        port = listener.getsockname()[1]
        listener.close()
        failed: list[ExchangeError] = []
        self.dialer.dial(Address("127.0.0.1", port), lambda alpn: Heard(), 5, self.refuse, failed.append)  # type: ignore[arg-type]
        case.assertEqual(failed, [])  # never before `dial` has returned
        self.until(lambda: failed)
        case.assertIsInstance(failed[0], ConnectRefused)
        case.assertEqual(self.reactor.getWriters(), [])

    def test_no_such_unix_socket(self) -> None:
        """It fails within the system call, and is told later all the same."""
        case: Any = self
        failed: list[ExchangeError] = []
        path = case.mktemp()
        self.dialer.dial(Address("", 0, path), lambda alpn: Heard(), 5, self.refuse, failed.append)  # type: ignore[arg-type]
        case.assertEqual(failed, [])
        self.until(lambda: failed)
        case.assertIsInstance(failed[0], ConnectRefused)

    def test_a_factory_that_raises(self) -> None:
        """It is logged, and the poller has nothing left that it would tell for ever."""
        case: Any = self

        def broken(alpn: str) -> Heard:
            raise ZeroDivisionError

        listener = self.far_listener()
        self.dialer.dial(Address("127.0.0.1", listener.getsockname()[1]), broken, 5, self.refuse, self.refuse)  # type: ignore[arg-type]
        self.far(listener.accept()[0])
        logged: list[Any] = []
        self.until(lambda: logged.extend(case.flushLoggedErrors(ZeroDivisionError)) or logged)
        case.assertEqual(self.reactor.getWriters(), [])

    def test_given_up(self) -> None:
        case: Any = self
        listener = self.far_listener()
        dial = self.dialer.dial(
            Address("127.0.0.1", listener.getsockname()[1]),
            lambda alpn: Heard(),
            5,
            self.refuse,  # type: ignore[arg-type]
            self.refuse,
        )
        dial.cancel()
        for _ in range(3):
            self.reactor.iterate(0)
        case.assertEqual(self.reactor.getWriters(), [])
        case.assertEqual(self.far(listener.accept()[0]).recv(1), b"")


class OnTheStockReactor(Connections, SynchronousTestCase):
    make = EPollReactor


class OnTheLeanReactor(Connections, SynchronousTestCase):
    make = LeanEPollReactor
