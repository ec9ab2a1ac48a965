"""A whole HTTP proxy in memory: real channels, exchanges, pools and codecs; no sockets, no time but a Clock's.

world = World(backends=2)
client = world.client()
client.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
backend = world.accept()            # the proxy dialled; let it succeed
backend.received()                  # what the backend was sent
backend.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
client.received()                   # what the client was sent
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from balance.balancing.round_robin import RoundRobin
from balance.codec.forwarding import ForwardingRules
from balance.codec.http1 import HeadLimits
from balance.config import Timeouts
from balance.errors import BackendError, ConnectRefused
from balance.http.connections import BackendConnections
from balance.http.proxy import HttpProxy
from balance.http.route import HttpRoute
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.observe.counters import ListenerCounters
from balance.pool.backend import Backend
from balance.pool.pool import Pool
from balance.resilience.retry import RetryBudget
from balance.routing.rule import Rule
from balance.routing.table import RuleTable


class MemoryTransport(StringTransport):
    """A transport that remembers how it was closed, and can be told that the peer reads slowly."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.1", 54321))
        self.aborted = False
        self.half_closed = False
        #: Bytes that the peer has not taken.
        self.pending = 0

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnected = True

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def loseConnection(self) -> None:
        self.disconnecting = True

    @property
    def closed(self) -> bool:
        return self.aborted or self.disconnecting or self.half_closed


class Peer:
    """The far end of a connection. ``gone`` once it was closed or reset."""

    _numbers = itertools.count()

    def __init__(self, protocol: Any) -> None:
        self.number = next(self._numbers)
        self.gone = False
        self.protocol = protocol
        self.transport = MemoryTransport()
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def received(self) -> bytes:
        """What came since the last call."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def close(self) -> None:
        self.gone = True
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def reset(self) -> None:
        self.gone = True
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def stall(self, pending: int = 100_000) -> None:
        """The peer stops reading: the transport tells its producer, as a real one does."""
        self.transport.pending = pending
        if self.transport.producer is not None:
            self.protocol.pauseProducing()

    def unstall(self) -> None:
        self.transport.pending = 0
        self.protocol.resumeProducing()


class MemoryDial:
    """A dial under way."""

    def __init__(self, address: Address, factory: Callable[[], Any], timeout: float, ok: Any, failed: Any) -> None:
        self.address = address
        self.timeout = timeout
        self.cancelled = False
        self._factory = factory
        self._ok = ok
        self._failed = failed

    def cancel(self) -> None:
        self.cancelled = True

    def accept(self) -> Peer:
        peer = Peer(self._factory())
        self._ok(peer.protocol)
        return peer

    def refuse(self, error: BackendError | None = None) -> None:
        self._failed(error or ConnectRefused())


class MemoryDialer:
    """Stands where `balance.net.dial.Dialer` stands."""

    def __init__(self) -> None:
        self.dials: list[MemoryDial] = []

    def dial(self, address: Address, factory: Callable[[], Any], timeout: float, ok: Any, failed: Any) -> MemoryDial:
        dial = MemoryDial(address, factory, timeout, ok, failed)
        self.dials.append(dial)
        return dial


class World:
    """One proxy with one route over some backends, named b1, b2, ..."""

    def __init__(
        self,
        backends: int = 1,
        *,
        max_connections: int = 0,
        max_queue: int = 10,
        max_idle: int = 10,
        trusted: Sequence[Any] = (),
        route_options: dict[str, Any] | None = None,
        rules: Callable[[Pool], list[Rule[HttpRoute]]] | None = None,
        limits: HeadLimits | None = None,
        retry_attempts: int = 1,
        replay_size: int = 65536,
        via: bool = False,
    ) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.deadlines.start()
        self.dialer = MemoryDialer()
        self.timeouts = Timeouts()
        self.counters = ListenerCounters("test")
        self.backends = [
            Backend(f"b{n}", Address("10.0.0.1", 8000 + n), max_connections=max_connections)
            for n in range(1, backends + 1)
        ]
        self.pool = Pool("test", self.backends, RoundRobin(), max_queue=max_queue)
        limits = limits or HeadLimits()
        connections = {
            backend: BackendConnections(
                backend,
                self.dialer,
                self.deadlines,
                self.timeouts,
                limits,
                max_idle=max_idle,  # type: ignore[arg-type]
            )
            for backend in self.backends
        }
        self.connections = connections
        self.route = HttpRoute("all", self.pool, **(route_options or {}))
        table = RuleTable(rules(self.pool) if rules else [Rule(name="all", target=self.route)])
        self.proxy = HttpProxy(
            "test",
            table,
            connections,
            forwarding=ForwardingRules(trusted, via=via),
            counters=self.counters,
            deadlines=self.deadlines,
            timeouts=self.timeouts,
            head_limits=limits,
            clock=self.clock.seconds,
            retry_budget=RetryBudget(lambda: self.counters.requests, self.deadlines.now),
            retry_attempts=retry_attempts,
            replay_size=replay_size,
        )
        self.random = random.Random(1)

    def client(self, host: str = "192.0.2.1") -> Peer:
        return Peer(self.proxy.buildProtocol(IPv4Address("TCP", host, 54321)))

    def dial(self) -> MemoryDial:
        """The oldest dial nobody has answered yet."""
        return self.dialer.dials.pop(0)

    def accept(self) -> Peer:
        return self.dial().accept()

    def advance(self, seconds: float) -> None:
        """Let time pass as a reactor does: tick by tick."""
        steps = max(1, int(seconds / 0.25) + 1)
        for _ in range(steps):
            self.clock.advance(seconds / steps)
