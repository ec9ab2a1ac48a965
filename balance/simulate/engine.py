"""A run: the server's own exchanges, over simulated backends, in simulated time.

Rule of this file: everything that decides is the server's: routes, forwarding, affinity, pools, balancers, leases,
queues, passive health, retries and their budget, and the exchange itself, which is `balance.http.exchange.Exchange`.
Simulated are time, connections and the servers behind them; bytes do not exist, so codecs and back-pressure take no
part.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from balance.assembly import Assembly, assemble_all
from balance.errors import BalanceError, ExchangeError
from balance.http.exchange import Exchange
from balance.http.proxy import HttpProxy
from balance.model import Headers, RequestHead, ResponseHead
from balance.net.deadlines import Deadlines
from balance.pool.backend import Backend, sweep
from balance.simulate.clock import SimulatedClock
from balance.simulate.record import Record
from balance.simulate.scenario import BackendTraits, Scenario
from balance.simulate.servers import SimulatedBackend, SimulatedConnection
from balance.simulate.traffic import Traffic

if TYPE_CHECKING:
    from balance.config import Config

_HOUSEKEEPING = 1.0
#: A second attempt has other luck than the first (the golden ratio spreads best).
_OTHER_LUCK = 0.6180339887498949


class SimulatedExchange(Exchange):
    """The server's exchange, which also knows its number and what luck it has. Whoever makes it sets them at once."""

    __slots__ = ("index", "luck", "service")

    index: int
    luck: float
    service: float

    def attempt_started(self, connection: SimulatedConnection) -> None:
        """The request has gone out."""
        luck = self.luck
        if self.attempts > 1:
            luck = (luck + self.attempts * _OTHER_LUCK) % 1.0
        connection.server.begin(connection, luck, self.service)

    def backend_ready(self) -> None:
        self._left_queue()
        super().backend_ready()

    def timed_out(self) -> None:
        self._left_queue()
        super().timed_out()

    def _left_queue(self) -> None:
        record: Any = self.proxy.access_log
        record.waited_in_queue(self.index, self.proxy.clock() - self.started)


class SimulatedClient:
    """A `ClientStream`: one for each client address. It remembers cookies, as browsers do."""

    __slots__ = ("cookies", "forwarding")

    def __init__(self, forwarding: Any) -> None:
        self.forwarding = forwarding
        self.cookies: dict[bytes, bytes] = {}

    def send_response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        if b"set-cookie" in head.headers.names:
            for field in head.headers.get_all(b"set-cookie"):
                name, _, value = field.partition(b";")[0].partition(b"=")
                self.cookies[name] = value

    def add_cookies(self, head: RequestHead) -> None:
        head.headers.add(b"Cookie", b"; ".join(name + b"=" + value for name, value in self.cookies.items()))

    def send_informational(self, head: ResponseHead) -> None:
        """None comes."""

    def send_data(self, data: bytes) -> None:
        """Bodies have no size here."""

    def send_end(self, trailers: Headers | None) -> None:
        """The exchange is over."""

    def abort(self, error: ExchangeError) -> None:
        """The response is cut off."""

    def switch(self, head: ResponseHead) -> Any:
        """No simulated backend agrees to speak another protocol."""
        raise NotImplementedError

    def pause_request(self) -> None:
        """Nothing flows."""

    def resume_request(self) -> None:
        """Nothing flows."""


class _Silent:
    """Failures are told in the report."""

    def __getattr__(self, name: str) -> Any:
        return self._drop

    def _drop(self, *args: Any, **fields: Any) -> None:
        pass


class Run:
    """One configuration under one scenario.

    :param listener: name of the listener that the requests come to; by default the first of mode http
    :raises BalanceError: there is no such listener; the scenario names a backend that the configuration does not have
    """

    def __init__(self, config: Config, scenario: Scenario, traffic: Traffic, *, listener: str = "") -> None:
        self.clock = SimulatedClock()
        self.traffic = traffic
        self.scenario = scenario
        self.record = Record(traffic.kinds, self.clock)
        deadlines = self._deadlines = Deadlines(self.clock)
        built = assemble_all(
            config,
            deadlines=deadlines,
            dialer=None,
            clock=self.clock.seconds,
            on_health=self._health_changed,
            rng=Random(scenario.seed),
        )
        self.assembly = _listener(built, listener)
        assert isinstance(self.assembly.proxy, HttpProxy)
        self.proxy: HttpProxy = self.assembly.proxy
        self.backends = self.assembly.backends
        self.servers = {backend: self._server(backend) for backend in self.backends}
        self._schedule_failures()
        proxy: Any = self.proxy
        proxy.connections = self.servers
        for rule in self.proxy.routes.ordered:
            rule.target.connections = None  # TLS of its own or not: there are no bytes here
        proxy.access_log = self.record
        proxy.log = _Silent()
        self.record.begin(self.proxy, self.backends)

    def go(self) -> Record:
        """Let it happen; what came of it."""
        clock, proxy, record = self.clock, self.proxy, self.record
        clients: dict[str, SimulatedClient] = {}
        self._deadlines.start()
        clock.at(_HOUSEKEEPING, self._keep_house, None)
        scheme = b"http" if proxy.tls is None else b"https"
        for at, kind, head, address, luck, service in self.traffic.arrivals():
            clock.run_until(at)
            client = clients.get(address)
            if client is None:
                client = clients[address] = SimulatedClient(proxy.forwarding.for_peer(address, scheme))
            elif client.cookies:
                client.add_cookies(head)
            exchange = SimulatedExchange(proxy, client, head, at)
            exchange.index = record.arrived(kind, at)
            exchange.luck = luck
            exchange.service = service
            exchange.begin(b"", True)
        # What is under way comes to its end: every wait has a limit, or an answer on its way.
        while proxy.counters.active and clock.step():
            pass
        record.finish(proxy, self.servers)
        return record

    def _keep_house(self, _: None) -> None:
        sweep(self.backends, self._deadlines.now)
        self.clock.at(self.clock.now + _HOUSEKEEPING, self._keep_house, None)

    def _health_changed(self, backend: Backend) -> None:
        self.record.health.append((self.clock.now, backend.name, backend.state))

    def _server(self, backend: Backend) -> SimulatedBackend:
        traits = self.scenario.backends.get(backend.name) or self.scenario.backends.get("*") or BackendTraits()
        http = self.assembly.config.http
        return SimulatedBackend(
            backend,
            self.clock,
            self.assembly.config.timeouts,
            traits.latency.quantiles,
            connect=traits.connect,
            workers=traits.workers,
            max_idle=http.max_idle_conns_per_host,
            idle_timeout=http.idle_conn_timeout,
        )

    def _schedule_failures(self) -> None:
        by_name = {backend.name: self.servers[backend] for backend in self.backends}
        for failure in self.scenario.failures:
            if failure.backend != "*" and failure.backend not in by_name:
                continue  # of the other configuration, in a comparison; `check_names` knows of slips
            for name, server in by_name.items():
                if failure.backend in ("*", name):
                    self.clock.at(failure.at, server.fail, failure)
                    self.clock.at(failure.until, server.recover, failure)


def check_names(scenario: Scenario, configs: list[Config]) -> None:
    """
    :raises BalanceError: the scenario names a backend that no configuration has
    """
    known = {backend.name for config in configs for each in (config, *config.listeners) for backend in each.backends}
    named = [*scenario.backends, *(failure.backend for failure in scenario.failures)]
    for name in named:
        if name != "*" and name not in known:
            raise BalanceError(
                f"the scenario names a backend {name!r}; the configuration has {', '.join(sorted(known))}"
            )


def _listener(built: list[Assembly], name: str) -> Assembly:
    http = [assembly for assembly in built if isinstance(assembly.proxy, HttpProxy)]
    if not http:
        raise BalanceError("there is no listener of mode http: it is requests that are simulated")
    if not name:
        return http[0]
    for assembly in http:
        if name in (assembly.config.label, str(assembly.config.listen)):
            return assembly
    raise BalanceError(
        f"no listener of mode http is called {name!r}; there are {', '.join(a.config.label for a in http)}"
    )
