"""The life of a connection at layer 4, until it is a relay. Read it top to bottom.

Rule of this file: this is the only place where the decisions meet, as `balance.http.exchange` is at layer 7: which
route,
which backend, another one when it does not answer, and what is noted when all is over. `balance.net.relay` moves the
bytes.

    accepted -> (ClientHello) -> route -> affinity/balancer -> lease -> connection -> relay -> accounts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.client_hello import ClientHello, HelloReader
from balance.codec.proxy_protocol import write_proxy_header
from balance.errors import (
    ClientGone,
    ClientTimeout,
    ConnectTimeout,
    ExchangeError,
    NoBackend,
    NoRoute,
    QueueFull,
    QueueTimeout,
    Stopping,
)
from balance.net.deadlines import Timed
from balance.net.relay import BackendSide, ClientSide, Relay, adopt

if TYPE_CHECKING:
    from balance.net.dial import Dial
    from balance.net.transport import EagerConnection
    from balance.pool.backend import Backend
    from balance.tcp.proxy import TCPProxyFactory
    from balance.tcp.route import TcpRoute

#: Bytes from a client that are kept while its backend is not connected; then it is not read.
_EARLY_LIMIT: Final = 64 * 1024
_NO_LIMIT: Final = 1e9


@implementer(IHalfCloseableProtocol)
class TcpSession(Timed):
    """One accepted connection, and the accounts of all that comes of it. It is the connection's protocol until a
    backend is connected.

    :param source: the client's address and port, as far as they are known; a PROXY header may have told them
    :param destination: where the client connected to
    :param tlvs: extensions of that header, for backends that are sent one
    :param hello: what the client asked for, where its TLS ends here; None where it passes through, if there is any
    """

    __slots__ = (
        "_dial",
        "_early",
        "_ended",
        "_hello",
        "_over",
        "_paused",
        "_reader",
        "_relay",
        "_waiting",
        "attempts",
        "backend",
        "bytes_in",
        "bytes_out",
        "connecting_until",
        "destination",
        "last_backend",
        "proxy",
        "reason",
        "route",
        "source",
        "started",
        "tlvs",
        "transport",
        "tried",
    )

    def __init__(
        self,
        proxy: TCPProxyFactory,
        source: tuple[str, int] | None,
        destination: tuple[str, int] | None = None,
        tlvs: tuple[tuple[int, bytes], ...] = (),
        *,
        hello: ClientHello | None = None,
    ) -> None:
        super().__init__()
        self.proxy = proxy
        self.source = source
        self.destination = destination
        self.tlvs = tlvs
        self.transport: EagerConnection | None = None
        self.route: TcpRoute | None = None
        self.backend: Backend | None = None
        self.last_backend: Backend | None = None
        self.tried: tuple[Backend, ...] = ()
        self.attempts = 0
        self.started = proxy.clock()
        self.connecting_until = 0.0
        #: Reason code of what ended it; empty for a good end.
        self.reason = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self._hello = hello
        self._reader: HelloReader | None = None
        self._early = b""
        self._ended = False
        self._paused = False
        self._waiting = False
        self._dial: Dial | None = None
        self._relay: Relay | None = None
        self._over = False

    @property
    def client_ip(self) -> str:
        return self.source[0] if self.source is not None else ""

    @property
    def server_name(self) -> str:
        """What the ClientHello asked for, where routes asked to know."""
        return self._hello.server_name if self._hello is not None else ""

    # --- 1: accepted ------------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        proxy = self.proxy
        proxy.opened(self)
        if proxy.routes.asks and self._hello is None:
            self._reader = HelloReader()
            proxy.deadlines.arm(self, proxy.timeouts.head)
        else:
            self._choose_route(self._hello)

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        """The client speaks before its backend is there."""
        self._early += data
        if self.route is None and not self._over:
            self._read_hello()
        elif len(self._early) >= _EARLY_LIMIT and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.stopReading()

    def readConnectionLost(self) -> None:
        self._ended = True
        if self.route is None:
            self.fail(ClientGone())

    def writeConnectionLost(self) -> None:
        """We have not half-closed anything yet."""

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        if not self._over:
            self._abandon()
            self.finished(None if isinstance(reason.value, ConnectionDone) else ClientGone(), len(self._early), 0)
        self.proxy.closed(self)

    # --- 2, 3: what it asks for, and where that goes ----------------------------------------------------------

    def _read_hello(self) -> None:
        assert self._reader is not None
        try:
            hello = self._reader.read(self._early)
        except ExchangeError as error:
            self.fail(error)
            return
        if hello is not None:
            self._reader = None
            self.proxy.deadlines.disarm(self)
            self._choose_route(hello)

    def _choose_route(self, hello: ClientHello | None) -> None:
        self._hello = hello
        rule = self.proxy.routes.match(hello)
        if rule is None:
            self.fail(NoRoute())
            return
        self.route = rule.target
        self.route.requests += 1
        self.proxy.counters.requests += 1
        limit = self.proxy.timeouts.connect
        self.connecting_until = self.proxy.clock() + (limit or _NO_LIMIT)
        self._attempt()

    # --- 4, 5: a backend, a lease, a connection ---------------------------------------------------------------

    def _attempt(self) -> None:
        backend = self._choose()
        if backend is None:
            self._wait_for_place()
        else:
            self._lease(backend)

    def _choose(self) -> Backend | None:
        route = self.route
        assert route is not None
        if route.affinity is not None and not self.tried:
            name = route.affinity.recall(None, self.client_ip)
            backend = route.pool.find(name) if name is not None else None
            if backend is not None:
                return backend
        key = route.key(None, self.client_ip) if route.key is not None else b""  # type: ignore[arg-type]
        return route.pool.pick(key, self.tried)

    def _wait_for_place(self) -> None:
        assert self.route is not None
        pool = self.route.pool
        if pool.enqueue(self):
            self._waiting = True
            self.proxy.deadlines.arm(self, self.proxy.timeouts.queue)
        elif pool.saturated:
            self.fail(QueueFull())
        else:
            self.fail(NoBackend())

    def backend_ready(self) -> None:
        """There is a place: the queue let us in."""
        self._waiting = False
        self.proxy.deadlines.disarm(self)
        self.connecting_until = self.proxy.clock() + (self.proxy.timeouts.connect or _NO_LIMIT)
        self._attempt()

    def _lease(self, backend: Backend) -> None:
        self.backend = self.last_backend = backend
        self.attempts += 1
        backend.lease()
        left = max(0.001, self.connecting_until - self.proxy.clock()) if self.proxy.timeouts.connect else 0.0
        self._dial = self.proxy.dialer.dial(
            backend.address,
            lambda protocol: BackendSide(),
            left,
            self._connected,
            self._dial_failed,
            tls=self.proxy.backend_tls.get(backend),
            preface=self._introduction(backend),
        )

    def _dial_failed(self, error: ExchangeError) -> None:
        """The next candidate at once, as long as there are candidates and time."""
        backend = self.backend
        assert backend is not None
        self._dial = None
        self._drop_lease(error)
        self.tried = (*self.tried, backend)
        in_time = not isinstance(error, ConnectTimeout) and self.proxy.clock() < self.connecting_until
        other = self._choose() if in_time else None
        if other is None:
            self.fail(error)
        else:
            self.proxy.counters.retries += 1
            self.proxy.log_retry(self, error)
            self._lease(other)

    # --- 6: both are there ------------------------------------------------------------------------------------

    def _connected(self, backend_side: BackendSide) -> None:
        proxy, transport, backend, route = self.proxy, self.transport, self.backend, self.route
        assert transport is not None
        assert backend is not None
        assert route is not None
        self._dial = None
        proxy.deadlines.forget(self)
        backend.proved(proxy.deadlines.now)
        backend.connections_opened += 1
        backend.connections_open += 1
        if route.affinity is not None:
            route.affinity.bind(None, self.client_ip, backend.name)
        client_side = ClientSide()
        relay = self._relay = Relay(
            self,
            client_side,
            backend_side,
            backend=backend,
            counters=proxy.counters,
            deadlines=proxy.deadlines,
            times=proxy.times,
            bulk=proxy.bulk_size,
        )
        adopt(transport, client_side)
        early, self._early = self._early, b""
        self.transport = None  # it is the relay's now
        relay.start()
        if early:
            client_side.dataReceived(early)
        if self._ended:
            client_side.readConnectionLost()
        elif self._paused and not client_side.paused:
            transport.startReading()

    def _introduction(self, backend: Backend) -> bytes:
        """What tells a backend that wants to know who its client is."""
        version = self.proxy.send_proxy.get(backend, 0)
        if not version:
            return b""
        return write_proxy_header(version, self.source, self._own_address(), self.tlvs if version == 2 else ())

    def _own_address(self) -> tuple[str, int] | None:
        if self.destination is None and self.transport is not None:
            host = self.transport.getHost()
            if hasattr(host, "port"):
                self.destination = (host.host, host.port)
        return self.destination

    # --- 7: the end -------------------------------------------------------------------------------------------

    def fail(self, error: ExchangeError) -> None:
        """No relay will come of it: the client is closed without a word, as layer 4 has none."""
        self._abandon()
        self.finished(error, len(self._early), 0)
        if self.transport is not None:
            self.transport.abortConnection()

    def timed_out(self) -> None:
        self.fail(QueueTimeout() if self._waiting else ClientTimeout("no ClientHello in time"))

    def kill(self) -> None:
        """Balance does not wait any longer."""
        if self._relay is not None:
            self._relay.abort(Stopping())
        else:
            self.fail(Stopping())

    def _abandon(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._waiting and self.route is not None:
            self._waiting = False
            self.route.pool.leave(self)

    def _drop_lease(self, error: ExchangeError | None) -> None:
        backend, self.backend = self.backend, None
        if backend is not None:
            backend.release(error, self.proxy.deadlines.now)

    def finished(self, error: ExchangeError | None, bytes_in: int, bytes_out: int) -> None:
        """Accounts: the lease, counters, the log. Called once."""
        if self._over:
            return
        self._over = True
        proxy = self.proxy
        proxy.deadlines.forget(self)
        self.bytes_in, self.bytes_out = bytes_in, bytes_out
        if self._relay is not None and self.backend is not None:
            self.backend.connections_open -= 1
        # Connecting was what told of the backend's health; how a long connection ends tells nothing.
        self._drop_lease(ClientGone())
        if error is not None:
            proxy.count_error(self, error)
        if proxy.access_log is not None:
            proxy.access_log.record_session(self)
        if self._relay is not None:
            self._relay = None
            proxy.closed(self)
