"""Layer 4 in memory: the ways a connection begins, and any order of bytes, ends, resets, pressure and time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from balance.balancing.round_robin import RoundRobin
from balance.codec.forwarding import ForwardingRules
from balance.codec.proxy_protocol import parse_proxy_header, write_proxy_header
from balance.config import Timeouts
from balance.config.values import network
from balance.errors import ConnectTimeout, OutOfResources
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.observe.counters import ListenerCounters
from balance.pool.affinity import StickyTable, key_source
from balance.pool.backend import Backend
from balance.pool.pool import Pool
from balance.routing.sni import SniRule, SniTable
from balance.tcp.proxy import TCPProxyFactory
from balance.tcp.route import TcpRoute
from test.unit.support import Clock, MemoryDialer
from test.unit.test_client_hello import REAL


class Wire:
    """A connection as `EagerConnection` is one, and its far end. What is written while the far end is stalled waits."""

    _numbers = itertools.count()
    disconnecting = False
    #: Of what was sent, what the far end's machine has not taken yet.
    unacknowledged = 0

    def __init__(self) -> None:
        self.number = next(self._numbers)
        self.protocol: Any = None
        self.producer: Any = None
        self.reading = True
        #: What the far end has got, whether it saw the end, and how the connection went: "", "closed", "aborted".
        self.got = b""
        self.saw_end = False
        self.gone = ""
        self.stalled = False
        self.waiting = b""
        self.paused = False
        self._half = self._closing = False

    @property
    def pending(self) -> int:
        return len(self.waiting)

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.9", 443)

    # --- what Balance does with it
    def write(self, data: bytes) -> None:
        if self.gone:
            return
        assert not self._half
        assert not self._closing
        if not self.stalled and not self.waiting:
            self.got += data
            return
        self.waiting += data
        if self.producer is not None and not self.paused and len(self.waiting) > 10:
            self.paused = True
            self.producer.pauseProducing()

    def half_close(self) -> None:
        self._half = True
        self._flush()

    def loseConnection(self) -> None:
        self._closing = True
        self._flush()

    finish = loseConnection

    def abortConnection(self) -> None:
        self._lose("aborted", ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True

    def _flush(self) -> None:
        if (self.stalled and self.waiting) or self.gone:
            return  # where nothing waits, an end goes out whatever the far end reads
        self.got, self.waiting = self.got + self.waiting, b""
        if self.producer is not None and self.paused:
            self.paused = False
            self.producer.resumeProducing()
        if self._half and not self.saw_end:
            self.protocol.writeConnectionLost()
        if self._half or self._closing:
            self.saw_end = True
        if self._closing:
            self._lose("closed", ConnectionDone())

    def _lose(self, how: str, reason: Exception) -> None:
        if not self.gone:
            self.gone = how
            self.protocol.connectionLost(Failure(reason))

    # --- what the far end does
    def connect(self, protocol: Any) -> Wire:
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def end(self) -> None:
        self.reading = False
        self.protocol.readConnectionLost()

    def reset(self) -> None:
        self._lose("reset", ConnectionLost())

    def stall(self) -> None:
        self.stalled = True

    def unstall(self) -> None:
        self.stalled = False
        self._flush()


class TcpWorld:
    """One layer-4 listener over some backends."""

    def __init__(
        self,
        backends: int = 1,
        *,
        rules: Sequence[dict[str, Any]] = ({},),
        max_connections: int = 0,
        max_queue: int = 5,
        affinity: bool = False,
        trusted: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.deadlines.start()
        self.dialer = MemoryDialer()
        self.counters = ListenerCounters("t")
        self.backends = [
            Backend(f"b{n}", Address("10.0.0.1", n), max_connections=max_connections) for n in range(1, backends + 1)
        ]
        self.pool = Pool("p", self.backends, RoundRobin(), max_queue)
        sticky = StickyTable(key_source("source-ip"), 60, self.clock.seconds) if affinity else None
        table = SniTable(
            [
                SniRule(name=f"r{n}", target=TcpRoute(f"r{n}", self.pool, affinity=sticky), **each)
                for n, each in enumerate(rules)
            ]
        )
        send_proxy = {self.backends[0]: options.pop("send_proxy", 0)}
        self.proxy = TCPProxyFactory(
            "t",
            table,
            forwarding=ForwardingRules([network(each) for each in trusted]),
            counters=self.counters,
            deadlines=self.deadlines,
            dialer=self.dialer,
            timeouts=options.pop("timeouts", Timeouts()),
            clock=self.clock.seconds,  # type: ignore[arg-type]
            send_proxy=send_proxy,
            bulk_size=1 << 60,
            **options,
        )

    def client(self, host: str = "192.0.2.1") -> Wire:
        return Wire().connect(self.proxy.buildProtocol(IPv4Address("TCP", host, 5)))

    def accept(self) -> Wire:
        dial = self.dialer.dials.pop(0)
        wire = Wire().connect(dial._factory(""))
        wire.protocol.transport.write(dial.preface)
        dial._ok(wire.protocol)
        return wire

    def refuse(self, error: Any = None) -> None:
        self.dialer.dials.pop(0).refuse(error)

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25) + 1):
            self.clock.advance(0.25)


class Beginnings(TestCase):
    def test_bytes_ends_and_accounts(self) -> None:
        world = TcpWorld()
        client = world.client()
        client.send(b"early ")
        backend = world.accept()
        client.send(b"late")
        self.assertEqual(backend.got, b"early late")
        client.end()
        self.assertTrue(backend.saw_end)
        backend.send(b"answer")
        backend.end()
        self.assertEqual((client.got, client.gone, backend.gone), (b"answer", "closed", "closed"))
        self.assertEqual((world.counters.bytes_in, world.counters.bytes_out), (10, 6))
        self.assertEqual((world.backends[0].active, world.counters.connections_open, world.counters.errors), (0, 0, {}))

    def test_what_comes_early_is_bounded(self) -> None:
        world = TcpWorld()
        client = world.client()
        client.send(b"x" * 70_000)
        self.assertFalse(client.reading)
        backend = world.accept()
        self.assertTrue(client.reading)
        self.assertEqual(len(backend.got), 70_000)

    def test_an_early_end_is_passed_on(self) -> None:
        world = TcpWorld()
        client = world.client()
        client.send(b"all")
        client.end()
        backend = world.accept()
        self.assertEqual((backend.got, backend.saw_end), (b"all", True))

    def test_the_next_candidate_at_once(self) -> None:
        world = TcpWorld(3)
        client = world.client()
        world.refuse()
        world.refuse()
        self.assertEqual(world.counters.retries, 2)
        world.accept()
        self.assertEqual((client.gone, sum(b.active for b in world.backends)), ("", 1))

    def test_no_candidate_is_left(self) -> None:
        world = TcpWorld(2)
        client = world.client()
        world.refuse()
        world.refuse()
        self.assertEqual((client.gone, world.counters.errors), ("aborted", {"connect_refused": 1}))
        self.assertEqual((world.counters.connections_open, sum(b.active for b in world.backends)), (0, 0))

    def test_one_time_limit_for_all_candidates(self) -> None:
        world = TcpWorld(3)
        client = world.client()
        self.assertEqual(world.dialer.dials[0].timeout, 5.0)
        world.clock.advance(3)
        world.refuse()
        self.assertAlmostEqual(world.dialer.dials[0].timeout, 2.0)
        world.clock.advance(2)
        world.refuse(ConnectTimeout())
        self.assertEqual((client.gone, world.counters.errors), ("aborted", {"connect_timeout": 1}))

    def test_failed_connects_take_a_backend_out_and_one_success_brings_it_back(self) -> None:
        world = TcpWorld(2)
        for _ in range(10):
            world.client()
            if world.dialer.dials[0].address.port == 1:
                world.refuse()
            world.accept()
        self.assertEqual(world.backends[0].state, "ejected")
        world.advance(31)
        for backend in world.backends:
            backend.sweep(world.deadlines.now)
        self.assertEqual(world.backends[0].state, "probing")
        for _ in range(2):
            world.client()
        held = [world.accept() for _ in range(2)]  # long connections: being accepted is what proves it
        self.assertEqual(world.backends[0].state, "healthy")
        self.assertTrue(held)

    def test_the_queue(self) -> None:
        world = TcpWorld(max_connections=1, max_queue=1)
        first, second, third = world.client(), world.client(), world.client()
        self.assertEqual((third.gone, world.counters.errors), ("aborted", {"queue_full": 1}))
        backend = world.accept()
        first.reset()
        self.assertEqual(backend.gone, "aborted")
        world.accept()
        second.send(b"mine")
        waiting = world.client()
        world.advance(6)
        self.assertEqual((waiting.gone, world.counters.errors["queue_timeout"]), ("aborted", 1))

    def test_a_client_that_leaves_while_we_dial(self) -> None:
        world = TcpWorld()
        client = world.client()
        client.reset()
        self.assertTrue(world.dialer.dials[0].cancelled)
        self.assertEqual((world.backends[0].active, world.counters.connections_open), (0, 0))

    def test_affinity(self) -> None:
        world = TcpWorld(3, affinity=True)
        world.client("192.0.2.1")
        port = world.dialer.dials[0].address.port
        world.accept()
        for _ in range(3):
            world.client("192.0.2.1")
            self.assertEqual(world.dialer.dials[0].address.port, port)
            world.accept()

    def test_server_name(self) -> None:
        world = TcpWorld(rules=[{"sni": "a.example.com"}])
        data, _ = REAL[0]
        client = world.client()
        for byte in data[:-1]:
            client.send(bytes([byte]))
            self.assertFalse(world.dialer.dials)
        client.send(data[-1:] + b"more")
        self.assertEqual(world.accept().got, data + b"more")

    def test_server_name_refused(self) -> None:
        for data, reason in [(b"GET /", "bad_client_hello"), (REAL[1][0], "no_route")]:
            world = TcpWorld(rules=[{"sni": "a.example.com"}])
            client = world.client()
            client.send(data)
            self.assertEqual((client.gone, world.counters.errors), ("aborted", {reason: 1}))
        world = TcpWorld(rules=[{"sni": "a.example.com"}])
        client = world.client()
        world.advance(11)
        self.assertEqual((client.gone, world.counters.errors), ("aborted", {"client_timeout": 1}))
        client = world.client()
        client.end()
        self.assertEqual(client.gone, "aborted")
        self.assertEqual(world.counters.connections_open, 0)

    def test_proxy_headers(self) -> None:
        header = write_proxy_header(2, ("203.0.113.7", 99), ("198.51.100.1", 443))
        world = TcpWorld(accept_proxy=True, trusted=["192.0.2.0/24"], send_proxy=1)
        client = world.client()
        for byte in header:
            client.send(bytes([byte]))
        client.send(b"hi")
        self.assertEqual(world.accept().got, b"PROXY TCP4 203.0.113.7 198.51.100.1 99 443\r\nhi")
        for data, reason in [(b"X", "bad_proxy_header"), (b"", "client_timeout")]:
            client = world.client()
            if data:
                client.send(data)
            world.advance(11)
            self.assertEqual((client.gone, world.counters.errors[reason]), ("aborted", 1))
        stranger = world.client("198.51.100.77")
        stranger.send(header)
        got = world.accept().got
        parsed = parse_proxy_header(got)
        assert parsed is not None
        self.assertEqual((parsed[0].source, got[parsed[1] :]), (("198.51.100.77", 5), header))

    def test_extensions_are_handed_on(self) -> None:
        tlvs = [(0x02, b"a.example"), (0x04, b"padding"), (0xE5, b"vpc")]
        header = write_proxy_header(2, ("203.0.113.7", 99), ("198.51.100.1", 443), tlvs)
        world = TcpWorld(accept_proxy=True, trusted=["192.0.2.0/24"], send_proxy=2)
        world.client().send(header)
        parsed = parse_proxy_header(world.accept().got)
        assert parsed is not None
        self.assertEqual(parsed[0].tlvs, ((0x02, b"a.example"), (0xE5, b"vpc")))
        local = world.client()
        local.send(write_proxy_header(2, None, None) + b"hi")
        parsed = parse_proxy_header(world.accept().got)
        assert parsed is not None
        self.assertEqual(parsed[0].source, ("192.0.2.1", 5))

    def test_time_limits(self) -> None:
        world = TcpWorld()
        client = world.client()
        backend = world.accept()
        world.advance(70)
        client.send(b"x")
        world.advance(70)
        self.assertEqual(client.gone, "")
        world.advance(10)
        self.assertEqual((client.gone, backend.gone, world.counters.errors), ("closed", "closed", {"idle_timeout": 1}))
        client = world.client()
        backend = world.accept()
        client.stall()
        backend.send(b"x" * 100)
        self.assertFalse(backend.reading)
        world.advance(31)
        self.assertEqual(
            (client.gone, backend.gone, world.counters.errors["client_timeout"]), ("aborted", "aborted", 1)
        )

    def limits(self, **options: Any) -> tuple[TcpWorld, Wire, Wire]:
        world = TcpWorld(timeouts=Timeouts().model_copy(update={"write": 10.0, "read": 40.0, "idle": 100.0}), **options)
        client = world.client()
        return world, client, world.accept()

    def test_which_limit_holds(self) -> None:
        """It follows from what waits and who has ended, in whatever order that came about."""
        world, client, backend = self.limits()
        client.stall()
        backend.stall()
        backend.send(b"x" * 100)
        client.send(b"x" * 100)
        backend.unstall()  # the client still takes nothing
        world.advance(12)
        self.assertEqual((client.gone, world.counters.errors), ("aborted", {"client_timeout": 1}))

        world, client, backend = self.limits()
        backend.stall()
        client.send(b"x" * 100)
        client.end()
        world.advance(8)
        backend.unstall()  # now it has the question, and thinks
        self.assertTrue(backend.saw_end)
        world.advance(38)
        backend.send(b"answer")
        self.assertEqual(client.got, b"answer")
        world.advance(42)
        self.assertEqual((client.gone, world.counters.errors), ("closed", {"idle_timeout": 1}))

        world, client, backend = self.limits()
        backend.stall()
        client.send(b"x" * 100)
        backend.unstall()
        world.advance(98)
        self.assertEqual(client.gone, "")
        world.advance(4)
        self.assertEqual((client.gone, world.counters.errors), ("closed", {"idle_timeout": 1}))

    def test_a_slow_client_is_not_one_that_takes_nothing(self) -> None:
        """It takes what the kernel has long had, and the kernel wants nothing more of us for a while."""
        world, client, backend = self.limits()
        client.stall()
        client.unacknowledged = 1000
        backend.send(b"x" * 100)
        for _ in range(9):
            client.unacknowledged -= 100
            world.advance(10)
        self.assertEqual(client.gone, "")
        world.advance(21)
        self.assertEqual((client.gone, world.counters.errors), ("aborted", {"client_timeout": 1}))

    def test_no_descriptors_is_no_fault_of_a_backend(self) -> None:
        world = TcpWorld(2)
        for _ in range(20):
            client = world.client()
            world.refuse(OutOfResources())
            world.refuse(OutOfResources())
            self.assertEqual(client.gone, "aborted")
        self.assertEqual(world.counters.errors, {"out_of_resources": 20})
        self.assertEqual([(b.state, b.failures, b.active) for b in world.backends], [("healthy", 0, 0)] * 2)

    def test_drain_and_kill(self) -> None:
        world = TcpWorld()
        client = world.client()
        backend = world.accept()
        waiting = world.client()
        drained: list[None] = []
        world.proxy.drain().addCallback(drained.append)
        self.assertFalse(drained)
        world.proxy.kill()
        self.assertEqual([client.gone, backend.gone, waiting.gone], ["aborted"] * 3)
        self.assertEqual((len(drained), world.counters.errors), (1, {"stopping": 2}))


class Anything(RuleBasedStateMachine):
    """One client, one backend; nothing is lost, reordered or made up, and the accounts are right at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.world = TcpWorld()
        self.client = self.world.client()
        self.backend: Wire | None = None
        self.sent: dict[int, bytes] = {self.client.number: b""}
        self.ended: set[int] = set()
        self.cut = False

    def _wire(self, which: bool) -> Wire | None:
        return self.client if which else self.backend

    @precondition(lambda self: self.backend is None and not self.client.gone)
    @rule(works=st.integers(0, 3))
    def dial(self, works: int) -> None:
        if works:
            self.backend = self.world.accept()
            self.sent[self.backend.number] = b""
        else:
            self.world.refuse()
            self.cut = True

    @rule(which=st.booleans(), size=st.integers(1, 40))
    def send(self, which: bool, size: int) -> None:
        wire = self._wire(which)
        if wire is None or wire.gone or wire.number in self.ended or not wire.reading:
            return
        data = bytes(range(size))
        self.sent[wire.number] += data
        wire.send(data)

    @rule(which=st.booleans())
    def end(self, which: bool) -> None:
        wire = self._wire(which)
        if wire is not None and not wire.gone and wire.number not in self.ended and wire.reading:
            self.ended.add(wire.number)
            wire.end()

    @rule(which=st.booleans(), often=st.integers(0, 4))
    def reset(self, which: bool, often: int) -> None:
        wire = self._wire(which)
        if not often and wire is not None and not wire.gone:
            self.cut = True
            wire.reset()

    @rule(which=st.booleans(), stall=st.booleans())
    def pressure(self, which: bool, stall: bool) -> None:
        wire = self._wire(which)
        if wire is not None and not wire.gone:
            if stall:
                wire.stall()
            else:
                wire.unstall()

    @rule(seconds=st.sampled_from([1, 20, 80]))
    def time(self, seconds: int) -> None:
        before = [self.client.gone, self.backend.gone if self.backend else ""]
        self.world.advance(seconds)
        if before != [self.client.gone, self.backend.gone if self.backend else ""]:
            self.cut = True

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        if self.backend is None:
            assert self.client.got == b""
            return
        for source, target in ((self.client, self.backend), (self.backend, self.client)):
            sent = self.sent[source.number]
            assert sent.startswith(target.got)
            if not self.cut:
                assert target.got + target.waiting == sent
                if target.saw_end:
                    assert source.number in self.ended
                    assert target.got == sent
                if source.number in self.ended and not target.stalled:
                    assert target.saw_end

    @invariant()
    def a_stalled_side_stops_the_other(self) -> None:
        for source, target in ((self.client, self.backend), (self.backend, self.client)):
            if source and target and not source.gone and target.paused and target.waiting:
                assert not source.reading

    @invariant()
    def accounts(self) -> None:
        wires = [wire for wire in (self.client, self.backend) if wire is not None]
        if all(wire.gone for wire in wires):
            assert self.world.backends[0].active == 0
            assert self.world.backends[0].connections_open == 0
            assert self.world.counters.connections_open == 0
            assert self.world.counters.active == 0
        elif self.backend is not None and any(wire.gone for wire in wires):
            assert any(wire.stalled for wire in wires if not wire.gone)  # only what is queued may keep one


class AnyOrder(TestCase):
    def test_what_holds_all_the_same(self) -> None:
        run_state_machine_as_test(
            Anything, settings=settings(deadline=None, derandomize=True, max_examples=400, stateful_step_count=30)
        )
