"""Simulated backends: what stands in the place of `balance.http.connections` and of servers behind it.

Rule of this file: messages, not bytes: a request is there, and after a while its answer. How it fails is told to the
exchange in the errors of the server's own tree, so what follows from a failure is the server's own decision.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING, Any, Final

from balance.errors import BackendReset, ConnectRefused, ConnectTimeout, ExchangeError, ResponseTimeout, StaleConnection
from balance.model import Headers, RequestHead, ResponseHead
from balance.simulate.clock import SimulatedClock
from balance.simulate.distributions import SIZE, Quantiles
from balance.simulate.scenario import FailureConfig

if TYPE_CHECKING:
    from balance.config import Timeouts
    from balance.pool.backend import Backend

#: Seconds until a broken one says so.
_ERROR_SECONDS: Final = 0.001


class SimulatedBackend:
    """One server and the connections to it (what an exchange sees of `BackendConnections`).

    :param workers: requests it works on at a time; 0 for any number
    :param connect: seconds to open a connection
    :ivar busy: seconds it has spent on requests
    """

    __slots__ = (
        "_active",
        "_clock",
        "_connect",
        "_failure",
        "_free",
        "_idle",
        "_idle_timeout",
        "_max_idle",
        "_table",
        "_timeouts",
        "backend",
        "busy",
        "closing",
        "peak",
    )

    def __init__(
        self,
        backend: Backend,
        clock: SimulatedClock,
        timeouts: Timeouts,
        latency: Quantiles,
        *,
        connect: float = 0.0005,
        workers: int = 0,
        max_idle: int = 100,
        idle_timeout: float = 90.0,
    ) -> None:
        self.backend = backend
        self.busy = 0.0
        #: Most requests at a time.
        self.peak = 0
        self.closing = False
        self._clock = clock
        self._timeouts = timeouts
        self._table = latency.table
        self._connect = connect
        #: When each worker is free.
        self._free = [0.0] * workers
        heapify(self._free)
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout or float("inf")
        self._idle: list[SimulatedConnection] = []
        self._active: dict[SimulatedConnection, None] = {}
        self._failure: FailureConfig | None = None

    # --- what an exchange asks for ----------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        return len(self._idle)

    def take(self) -> SimulatedConnection | None:
        if not self._idle:
            return None
        connection = self._idle.pop()
        if self._clock.now - connection.since > self._idle_timeout:
            self._idle.clear()  # the others have been idle for longer
            return None
        self.backend.connections_reused += 1
        connection.reused = True
        return connection

    def dial(self, connected: Callable[[Any], None], failed: Callable[[ExchangeError], None]) -> SimulatedDial:
        dial = SimulatedDial(self, connected, failed)
        failure = self._failure
        clock = self._clock
        if failure is not None and failure.kind == "refuse":
            clock.at(clock.now + self._connect, SimulatedDial.refuse, dial)
        elif failure is not None and failure.kind == "blackhole":
            if self._timeouts.connect:
                clock.at(clock.now + self._timeouts.connect, SimulatedDial.time_out, dial)
        else:
            clock.at(clock.now + self._connect, SimulatedDial.succeed, dial)
        return dial

    # --- requests ---------------------------------------------------------------------------------------------

    def begin(self, connection: SimulatedConnection, luck: float, service: float) -> None:
        """A request has come on a connection.

        :param luck: decides how long it takes, and whether it meets a failure
        :param service: seconds, if they are known; below 0: as the latency says
        """
        clock = self._clock
        now = clock.now
        failure = self._failure
        if service < 0:
            service = self._table[int(luck * SIZE)]
        outcome: Callable[[Any], None] = SimulatedConnection.answer
        if failure is not None and (failure.share >= 1 or luck * 7919.0 % 1.0 < failure.share):
            outcome, service = self._failing(failure, service)
        self._active[connection] = None
        if len(self._active) > self.peak:
            self.peak = len(self._active)
        end = now + service
        if self._free:
            begin = self._free[0]
            end = (begin if begin > now else now) + service
            heapreplace(self._free, end)
        self.busy += service
        read = self._timeouts.read
        if read and end - now > read:
            end, outcome = now + read, SimulatedConnection.time_out
        clock.at(end, outcome, connection)

    def _failing(self, failure: FailureConfig, service: float) -> tuple[Callable[[Any], None], float]:
        kind = failure.kind
        if kind == "slow":
            return SimulatedConnection.answer, service * failure.factor
        if kind == "error":
            return SimulatedConnection.answer_error, _ERROR_SECONDS
        if kind in ("silent", "blackhole"):
            return SimulatedConnection.answer, failure.until - self._clock.now + service
        return SimulatedConnection.reset, service / 2

    def ended(self, connection: SimulatedConnection, keep: bool) -> None:
        """A request is over."""
        del self._active[connection]
        if keep and len(self._idle) < self._max_idle:
            connection.since = self._clock.now
            self._idle.append(connection)
        else:
            self.backend.connections_open -= 1

    # --- failures ---------------------------------------------------------------------------------------------

    def fail(self, failure: FailureConfig) -> None:
        """Something goes wrong from now on."""
        self._failure = failure
        if failure.kind in ("refuse", "blackhole"):
            self.backend.connections_open -= len(self._idle)
            self._idle.clear()
            if failure.kind == "refuse":  # the process is gone, and what it worked on with it
                for connection in sorted(self._active, key=lambda connection: connection.number):
                    connection.reset()

    def recover(self, failure: FailureConfig) -> None:
        """It is over, unless something else goes wrong by now."""
        if self._failure is failure:
            self._failure = None


class SimulatedDial:
    """A connection that is being opened."""

    __slots__ = ("_connected", "_failed", "_over", "_server")

    def __init__(self, server: SimulatedBackend, connected: Any, failed: Any) -> None:
        self._server = server
        self._connected = connected
        self._failed = failed
        self._over = False

    def cancel(self) -> None:
        self._over = True

    def succeed(self) -> None:
        if not self._over:
            self._server.backend.connections_opened += 1
            self._server.backend.connections_open += 1
            self._connected(SimulatedConnection(self._server))

    def refuse(self) -> None:
        if not self._over:
            self._failed(ConnectRefused())

    def time_out(self) -> None:
        if not self._over:
            self._failed(ConnectTimeout())


class SimulatedConnection:
    """A `BackendStream` (`balance.http.streams`), used by one exchange after the other.

    A request that was broken off takes its connection with it: so what was to happen there finds no exchange any more,
    and never that of another request.
    """

    __slots__ = ("exchange", "number", "reused", "server", "since")

    def __init__(self, server: SimulatedBackend) -> None:
        self.server = server
        self.exchange: Any = None
        #: The older, the smaller.
        self.number = server.backend.connections_opened
        self.reused = False
        self.since = 0.0

    def start(self, exchange: Any, request: RequestHead, host: bytes, data: bytes, ended: bool) -> None:
        self.exchange = exchange
        exchange.attempt_started(self)

    def answer(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.server.ended(self, True)
            exchange.response(ResponseHead(200, b"OK", Headers()), b"", True)

    def answer_error(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.server.ended(self, True)
            exchange.response(ResponseHead(500, b"Internal Server Error", Headers()), b"", True)

    def reset(self) -> None:
        # As `Http1Connection` tells them apart: not a byte of the answer has come.
        self._fail(StaleConnection() if self.reused else BackendReset())

    def time_out(self) -> None:
        self._fail(ResponseTimeout())

    def _fail(self, error: ExchangeError) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.server.ended(self, False)
            exchange.failed(error)

    def cancel(self) -> None:
        if self.exchange is not None:
            self.exchange = None
            self.server.ended(self, False)

    def send_data(self, data: bytes) -> None:
        """Bodies have no size here."""

    def send_end(self, trailers: Headers | None) -> None:
        """Nor an end."""

    def pause_response(self) -> None:
        """Nor anything to pause."""

    def resume_response(self) -> None:
        """Nor to resume."""
