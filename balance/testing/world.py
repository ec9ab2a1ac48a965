"""One proxy made of Python objects, with both its ends in the test's hands, byte by byte.

    world = World(backends=2)
    client = world.client()
    client.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    backend = world.accept()            # the proxy dialled; let it succeed
    backend.received()                  # what the backend was sent
    backend.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
    client.received()                   # what the client was sent

Rule of this file: real channels, exchanges, pools and codecs; no sockets, no time but a Clock's; nothing happens that
the test did not ask for. For whole requests against scripted backends see `balance.testing.Application`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from balance.balancing.round_robin import RoundRobin
from balance.codec.forwarding import ForwardingRules
from balance.codec.http1 import HeadLimits
from balance.config import Timeouts
from balance.http.connections import BackendConnections
from balance.http.multiplex import MultiplexedConnections
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
from balance.testing.memory import MemoryDial, MemoryDialer, Peer, client_address

if TYPE_CHECKING:
    from balance.codec.http2.session import Session
    from balance.http.streams import Connections


class World:
    """One proxy with one route, ``all``, over some backends, named b1, b2, ...

    :param backends: how many
    :param max_connections: of each backend
    :param route_options: for `HttpRoute`
    :param rules: other routes over the same pool
    :param http2: makes the sessions of clients' HTTP/2 connections
    :param http2_backends: makes those of backends', which then speak nothing else
    """

    def __init__(
        self,
        backends: int = 1,
        *,
        max_connections: int = 0,
        max_queue: int = 10,
        max_idle: int = 10,
        trusted: Sequence[Any] = (),
        route_options: Mapping[str, Any] | None = None,
        rules: Callable[[Pool], list[Rule[HttpRoute]]] | None = None,
        limits: HeadLimits | None = None,
        retry_attempts: int = 1,
        replay_size: int = 65536,
        via: bool = False,
        http2: Callable[[], Session] | None = None,
        http2_backends: Callable[[], Session] | None = None,
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
        self.connections: dict[Backend, Connections] = {
            backend: MultiplexedConnections(
                backend,
                self.dialer,  # type: ignore[arg-type]
                self.deadlines,
                self.timeouts,
                http2_backends,
            )
            if http2_backends is not None
            else BackendConnections(
                backend,
                self.dialer,  # type: ignore[arg-type]
                self.deadlines,
                self.timeouts,
                limits,
                max_idle=max_idle,
            )
            for backend in self.backends
        }
        self.route = HttpRoute("all", self.pool, **(route_options or {}))
        table = RuleTable(rules(self.pool) if rules else [Rule(name="all", target=self.route)])
        self.proxy = HttpProxy(
            "test",
            table,
            self.connections,
            forwarding=ForwardingRules(trusted, via=via),
            counters=self.counters,
            deadlines=self.deadlines,
            timeouts=self.timeouts,
            head_limits=limits,
            clock=self.clock.seconds,
            retry_budget=RetryBudget(lambda: self.counters.requests, self.deadlines.now),
            retry_attempts=retry_attempts,
            replay_size=replay_size,
            http2=http2,
        )
        self.random = random.Random(1)

    def client(self, host: str = "192.0.2.1") -> Peer:
        """A client has connected."""
        return Peer(self.proxy.buildProtocol(client_address(host)))

    def dial(self) -> MemoryDial:
        """The oldest dial nobody has answered yet."""
        return self.dialer.dials.pop(0)

    def accept(self) -> Peer:
        """Let the oldest dial succeed."""
        return self.dial().accept()

    def advance(self, seconds: float) -> None:
        """Let time pass as a reactor does: tick by tick."""
        steps = max(1, int(seconds / 0.25) + 1)
        for _ in range(steps):
            self.clock.advance(seconds / steps)
