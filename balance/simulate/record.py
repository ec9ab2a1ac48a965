"""What happened, request by request.

Rule of this file: one number in one array for each thing worth knowing of a request. Nothing is added up while the run
goes on: that is the report's work.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from balance.http.proxy import HttpProxy
    from balance.pool.backend import Backend
    from balance.simulate.clock import SimulatedClock
    from balance.simulate.servers import SimulatedBackend

#: Requests that room is made for at once.
_STEP: Final = 65_536
#: In `route` and `backend`: there was none.
NONE: Final = -1


class Record:
    """Arrays by the number of the request; indexes into ``kinds``, ``routes``, ``backends``, ``reasons``.

    :ivar size: how many requests there were
    :ivar latency: seconds from arrival to answer; `waited` those in a pool's queue
    :ivar health: (seconds, backend, new state)
    :ivar keys: by route: each hash key and the backend that its first request went to
    """

    def __init__(self, kinds: Sequence[str], clock: SimulatedClock) -> None:
        self.kinds = kinds
        self.size = 0
        self.kind = array("H")
        self.route = array("h")
        self.backend = array("h")
        self.status = array("H")
        self.reason = array("B")
        self.attempts = array("H")
        self.arrived_at = array("d")
        self.latency = array("d")
        self.waited = array("d")
        self.queued = array("B")
        self.routes: list[str] = []
        self.backends: list[str] = []
        self.pools: dict[str, list[str]] = {}
        self.reasons: list[str] = [""]
        self.keys: list[dict[bytes, int]] = []
        self.health: list[tuple[float, str, str]] = []
        self.ended_at = 0.0
        self.leases: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self.busy: dict[str, float] = {}
        self.opened: dict[str, int] = {}
        self.retries = 0
        self.retries_refused = 0
        self.lost = 0
        self._room = 0
        self._clock = clock
        self._route_numbers: dict[Any, int] = {}
        self._backend_numbers: dict[Any, int] = {}
        self._reason_numbers: dict[str, int] = {"": 0}

    def begin(self, proxy: HttpProxy, backends: Sequence[Backend]) -> None:
        """What there is."""
        for number, rule in enumerate(proxy.routes.ordered):
            route = rule.target
            self._route_numbers[route] = number
            self.routes.append(route.name)
            self.keys.append({})
            self.pools[route.name] = [backend.name for backend in route.pool.members]
        for number, backend in enumerate(backends):
            self._backend_numbers[backend] = number
            self.backends.append(backend.name)

    def arrived(self, kind: int, at: float) -> int:
        """A request has come; its number."""
        index = self.size
        if index >= self._room:
            self._grow()
        self.kind[index] = kind
        self.arrived_at[index] = at
        self.size = index + 1
        return index

    def record(self, exchange: Any) -> None:
        """A request is over (this stands where an access log stands)."""
        index = exchange.index
        self.latency[index] = self._clock.now - exchange.started
        self.status[index] = exchange.status
        self.attempts[index] = exchange.attempts
        route = exchange.route
        if route is not None:
            number = self.route[index] = self._route_numbers[route]
            backend = exchange.last_backend
            if backend is not None:
                place = self.backend[index] = self._backend_numbers[backend]
                if route.key is not None:
                    key = route.key(exchange.request, exchange.client_ip)
                    if key:
                        self.keys[number].setdefault(key, place)
        if exchange.reason:
            self.reason[index] = self._number_of(exchange.reason)

    def waited_in_queue(self, index: int, seconds: float) -> None:
        """A request has left a pool's queue."""
        self.queued[index] = 1
        self.waited[index] = seconds

    def flush(self) -> None:
        """Nothing is buffered."""

    def finish(self, proxy: HttpProxy, servers: Mapping[Backend, SimulatedBackend]) -> None:
        """The run is over."""
        self.ended_at = self._clock.now
        self.retries = proxy.counters.retries
        self.retries_refused = proxy.retry_budget.refused
        self.lost = proxy.counters.active
        for backend, server in servers.items():
            name = backend.name
            self.leases[name] = backend.requests
            self.failures[name] = backend.failures
            self.peak[name] = server.peak
            self.busy[name] = server.busy
            self.opened[name] = backend.connections_opened

    def _number_of(self, reason: str) -> int:
        number = self._reason_numbers.get(reason)
        if number is None:
            number = self._reason_numbers[reason] = len(self.reasons)
            self.reasons.append(reason)
        return number

    def _grow(self) -> None:
        for numbers in (self.kind, self.status, self.reason, self.attempts, self.queued):
            numbers.frombytes(bytes(_STEP * numbers.itemsize))
        for seconds in (self.arrived_at, self.latency, self.waited):
            seconds.frombytes(bytes(_STEP * seconds.itemsize))
        for places in (self.route, self.backend):
            places.extend([NONE] * _STEP)
        self._room += _STEP
