"""A whole Balance in memory: the real routes, pools, exchanges and codecs; no sockets, and no time but a clock's.

Rule of this file: it puts together and lets time pass. Everything that decides is what the server has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.task import Clock

from balance.assembly import Assembly, assemble_all
from balance.codec.certificates import PeerCertificate
from balance.config import Config, load, made
from balance.http.exchange import Exchange
from balance.http.proxy import HttpProxy
from balance.model import Address, Discovered
from balance.net.deadlines import Deadlines
from balance.pool.backend import Backend, sweep
from balance.pool.pool import Pool
from balance.registry import INSTALLED, balancer_names
from balance.testing.backend import FakeBackend
from balance.testing.client import Call, Client
from balance.testing.memory import MemoryDial, MemoryDialer, Peer, client_address
from balance.testing.messages import FieldsLike, Received

#: Seconds between looks at passive health, as the service does it.
_HOUSEKEEPING: Final = 1.0


class Application:
    """What a configuration describes, ready to be asked.

    :param config: YAML text, a mapping of the same shape, or a `Config` made in Python
    :param seed: of everything random
    :raises ConfigError: something is wrong with the configuration
    :ivar clock: `twisted.internet.task.Clock`; begins at 0
    :ivar backends: a `FakeBackend` for each backend of the configuration, by name
    :ivar calls: every request made through `start`, in order
    :ivar health: what passive health did: (seconds, backend, new state)
    """

    def __init__(self, config: str | Mapping[str, Any] | Config, *, seed: int = 1) -> None:
        checked = made(config, algorithms=balancer_names(), plugins=INSTALLED)
        self._prepare()
        self._take(
            assemble_all(
                checked,
                deadlines=self.deadlines,
                dialer=self.dialer,
                clock=self.clock.seconds,
                access_log=self,
                on_health=self._health_changed,
                rng=random.Random(seed),
            )
        )

    @classmethod
    def load(cls, path: str, *, seed: int = 1) -> Application:
        """From a configuration file.

        :raises ConfigError: it cannot be read, or something in it is wrong
        """
        return cls(load(path, algorithms=balancer_names(), plugins=INSTALLED), seed=seed)

    @classmethod
    def of_assemblies(cls, build: Callable[[Application], Sequence[Assembly]]) -> Application:
        """From objects that you put together yourself.

        :param build: gets this application, with its ``clock``, ``deadlines`` and ``dialer``, to build with
        """
        app = cls.__new__(cls)
        app._prepare()
        app._take(build(app))
        return app

    def _prepare(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.deadlines.start()
        self.dialer: Any = _Network(self)
        self.backends: dict[str, FakeBackend] = {}
        self.calls: list[Call] = []
        self.health: list[tuple[float, str, str]] = []
        self._clients: list[Client] = []
        #: To find the call that an exchange belongs to.
        self.by_channel: dict[object, Client] = {}
        self.by_exchange: dict[object, Call] = {}
        self._by_address: dict[object, FakeBackend] = {}
        self._settling = False
        self._unsettled = False

    def _take(self, assemblies: Sequence[Assembly]) -> None:
        #: What each listener was turned into, in the order of the configuration.
        self.assemblies = list(assemblies)
        self._meet_backends()
        self.clock.callLater(_HOUSEKEEPING, self._keep_house)

    # --- asking ------------------------------------------------------------------------------------------------

    def client(
        self,
        address: str = "192.0.2.1",
        *,
        listener: str | None = None,
        keep_cookies: bool = False,
        certificate: PeerCertificate | None = None,
    ) -> Client:
        """A client with one connection.

        :param certificate: the one it shows to a listener with TLS
        :param address: its IP address
        :param listener: name of the listener it connects to; by default the first of mode http
        :param keep_cookies: send back what Set-Cookie told it, as a browser does
        """
        return Client(self, address, listener, keep_cookies, certificate=certificate)

    def start(
        self,
        method: str,
        url: str,
        *,
        headers: FieldsLike = (),
        body: str | bytes | None = b"",
        client: str = "192.0.2.1",
        listener: str | None = None,
    ) -> Call:
        """Send a request on a connection of its own, which is closed after it, and do not wait; see `Client.start`.

        :param client: IP address it comes from
        """
        once = Client(self, client, listener, keep_cookies=False, once=True)
        return once.start(method, url, headers=headers, body=body)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: FieldsLike = (),
        body: str | bytes | None = b"",
        client: str = "192.0.2.1",
        listener: str | None = None,
        within: float = 300.0,
    ) -> Call:
        """Send a request on a connection of its own, and let time pass until it is over; see `Client.request`."""
        call = self.start(method, url, headers=headers, body=body, client=client, listener=listener)
        return self.finish(call, within=within)

    def get(self, url: str, **options: Any) -> Call:
        """`request` with GET."""
        return self.request("GET", url, **options)

    def post(self, url: str, body: str | bytes | None = b"", **options: Any) -> Call:
        """`request` with POST."""
        return self.request("POST", url, body=body, **options)

    def connect(
        self,
        address: str = "192.0.2.1",
        *,
        listener: str | None = None,
        certificate: PeerCertificate | None = None,
    ) -> Peer:
        """A bare connection, for bytes of your own; `settle` lets Balance and the fakes go on. Of a listener with TLS:
        as it is when the handshake is over, in clear text.

        :param certificate: the client's
        """
        proxy = self._assembly(listener).proxy
        if isinstance(proxy, HttpProxy) and proxy.tls is not None:
            return Peer(proxy.build_negotiated(address, _Secured(certificate)))  # type: ignore[arg-type]
        return Peer(proxy.buildProtocol(client_address(address)))

    # --- time --------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass: everything that falls due happens in its order."""
        end = self.clock.seconds() + seconds
        self.settle()
        while self._step(end):
            pass
        self.clock.advance(max(0.0, end - self.clock.seconds()))
        self.settle()

    def finish(self, call: Call, *, within: float = 300.0) -> Call:
        """Let time pass until a call is over.

        :raises AssertionError: it is not over within that many seconds
        """
        end = self.clock.seconds() + within
        self.settle()
        while not call.done and self._step(end):
            pass
        if not call.done:
            raise AssertionError(f"{call!r} is not over after {within:g} s")
        return call

    def settle(self) -> None:
        """Let all bytes arrive that are on their way, without letting time pass."""
        self._unsettled = True
        if self._settling:
            return
        self._settling = True
        try:
            while self._unsettled:
                self._unsettled = False
                ends: list[Client | FakeBackend] = [*self._clients, *self.backends.values()]
                while sum(end.pump() for end in ends):
                    pass
        finally:
            self._settling = False
        self._clients = [client for client in self._clients if client.connected]

    def _step(self, end: float) -> bool:
        """On to the next moment at which something happens; False when that is after the end."""
        due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end + 1)
        if due > end:
            return False
        self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.settle()
        return True

    def found(self, discovery: str, *backends: Discovered) -> None:
        """Let a discovery of the configuration find these, and no others; each gets a fake.

        :param discovery: its name
        """
        groups = {group.name: group for each in self.assemblies for group, _ in each.discoveries}
        groups[discovery].found(backends)
        self._meet_backends()

    def _meet_backends(self) -> None:
        for backend in self._members:
            if backend.name not in self.backends:
                self.backends[backend.name] = FakeBackend(backend.name, self.clock, self.attribute)
            self._by_address.setdefault(backend.address, self.backends[backend.name])

    @property
    def _members(self) -> tuple[Backend, ...]:
        return tuple(dict.fromkeys(backend for each in self.assemblies for backend in each.backends))

    def _keep_house(self) -> None:
        sweep(self._members, self.deadlines.now)
        self.clock.callLater(_HOUSEKEEPING, self._keep_house)

    # --- inside ------------------------------------------------------------------------------------------------

    def proxy(self, listener: str | None = None) -> HttpProxy:
        """The proxy of a listener of mode http, by default the first: its counters, its routes."""
        proxy = self._assembly(listener).proxy
        assert isinstance(proxy, HttpProxy)
        return proxy

    def pool(self, name: str) -> Pool:
        """The pool of the route of that name (``listener/route`` where there are several listeners)."""
        pools = {pool.name: pool for each in self.assemblies for pool in each.pools}
        return pools[name]

    def member(self, name: str) -> Backend:
        """Balance's view of a backend: state, leases, counters."""
        return next(backend for backend in self._members if backend.name == name)

    def _assembly(self, listener: str | None) -> Assembly:
        named = {each.config.label: each for each in self.assemblies}
        if listener is not None:
            return named[listener]
        http = [each for each in self.assemblies if isinstance(each.proxy, HttpProxy)]
        if not http:
            raise ValueError("there is no listener of mode http")
        return http[0]

    def fake_at(self, address: Address) -> FakeBackend:
        """The fake that stands at an address: the first backend of the configuration that has it."""
        return self._by_address[address]

    def _health_changed(self, backend: Backend) -> None:
        self.health.append((self.clock.seconds(), backend.name, backend.state))

    # --- the access log: what exchanges tell when they end -----------------------------------------------------

    def record(self, exchange: Exchange) -> None:
        """An exchange has ended."""
        client = self.by_channel.get(exchange.client)
        if client is not None:
            client.see(exchange)

    def record_session(self, session: object) -> None:
        """A connection at layer 4 has ended."""

    def flush(self) -> None:
        """Nothing is buffered."""

    def connected(self, client: Client, channel: object) -> None:
        """A client has opened a connection."""
        self.by_channel[channel] = client
        self._clients.append(client)

    def attribute(self, received: Received) -> None:
        """A backend has received a request: on whose behalf?"""
        call = self.by_exchange.get(received.owner)
        if call is not None:
            call.sent.append(received)


class _Secured:
    """What is left of a handshake when it is over."""

    alpn = ""

    def __init__(self, certificate: PeerCertificate | None) -> None:
        self.certificate = certificate


class _Network(MemoryDialer):
    """Hands each dial to the fake that stands at its address."""

    def __init__(self, app: Application) -> None:
        super().__init__()
        self._app = app

    def dial(
        self,
        address: Address,
        factory: Callable[[str], Any],
        timeout: float,
        ok: Any,
        failed: Any,
        *,
        tls: Any = None,
        preface: bytes = b"",
    ) -> MemoryDial:
        dial = MemoryDial(address, factory, timeout, ok, failed)
        dial.tls, dial.preface = tls, preface
        self._app.fake_at(address).dialled(dial)
        return dial
