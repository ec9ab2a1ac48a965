"""One layer-4 listener: what its connections share, and their factory.

Rule of this file: it holds, counts and reports; the life of a connection is in `balance.tcp.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from balance.errors import ExchangeError, Source, TlsHandshakeFailed
from balance.net.preface import ProxyPreface
from balance.net.relay import BULK_SIZE, RelayTimes
from balance.tcp.session import TcpSession

if TYPE_CHECKING:
    from balance.codec.forwarding import ForwardingRules
    from balance.codec.proxy_protocol import ProxyHeader
    from balance.config import Timeouts
    from balance.net.deadlines import Deadlines
    from balance.net.dial import Dialer
    from balance.net.tls_client import BackendTls
    from balance.net.tls_server import TlsTermination
    from balance.observe.access_log import AccessLog
    from balance.observe.counters import ListenerCounters
    from balance.pool.backend import Backend
    from balance.routing.sni import SniTable
    from balance.tcp.route import TcpRoute

#: Extensions of a PROXY header that say something about that very header: checksum and padding.
_OF_ONE_HOP: Final = (0x03, 0x04)


class TCPProxyFactory(ServerFactory):
    """
    :param routes: rules in the order they are tried
    :param forwarding: knows whose word about clients is believed
    :param accept_proxy: peers that are trusted begin with a PROXY header
    :param send_proxy: backends that are sent one, with its version
    :param clock: monotonic seconds
    :param tls: connections of clients are TLS, which ends here; None: bytes are taken as they come
    :param backend_tls: backends that are spoken to in TLS
    """

    log = Logger()
    noisy = False
    #: Layer 4 sees no WebSocket.
    tunnels = None

    def __init__(
        self,
        name: str,
        routes: SniTable[TcpRoute],
        *,
        forwarding: ForwardingRules,
        counters: ListenerCounters,
        deadlines: Deadlines,
        dialer: Dialer,
        timeouts: Timeouts,
        clock: Callable[[], float],
        access_log: AccessLog | None = None,
        accept_proxy: bool = False,
        send_proxy: Mapping[Backend, int] | None = None,
        bulk_size: int = BULK_SIZE,
        tls: TlsTermination | None = None,
        backend_tls: Mapping[Backend, BackendTls] | None = None,
    ) -> None:
        self.name = name
        self.routes = routes
        self.forwarding = forwarding
        self.counters = counters
        self.deadlines = deadlines
        self.dialer = dialer
        self.timeouts = timeouts
        self.times = RelayTimes(timeouts.idle, timeouts.read, timeouts.write)
        self.clock = clock
        self.access_log = access_log
        self.accept_proxy = accept_proxy
        self.send_proxy = send_proxy or {}
        self.bulk_size = bulk_size
        self.tls = tls
        self.backend_tls = backend_tls or {}
        self._sessions: set[TcpSession] = set()
        self._drained: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        host = getattr(addr, "host", "")
        source = (host.removeprefix("::ffff:"), getattr(addr, "port", 0)) if host else None
        if self.accept_proxy and self.forwarding.trusts(host):
            return ProxyPreface(
                self.deadlines,
                self.timeouts.head,
                lambda header: self._introduced(header, source),
                lambda error: self.count_refused(host, error),
            )
        return self._begin(source)

    def _introduced(self, header: ProxyHeader, source: tuple[str, int] | None) -> Any:
        if header.local:
            return self._begin(source)
        tlvs = tuple(tlv for tlv in header.tlvs if tlv[0] not in _OF_ONE_HOP)
        return self._begin(header.source, header.destination, tlvs)

    def _begin(self, source: tuple[str, int] | None, *introduced: Any) -> Any:
        """The protocol of a connection whose client is known."""
        if self.tls is not None:
            client = source[0] if source is not None else ""
            return self.tls.handshake(
                lambda transport, hello: TcpSession(self, source, *introduced, hello=hello),
                lambda detail: self.count_refused(client, TlsHandshakeFailed(detail)),
            )
        return TcpSession(self, source, *introduced)

    # --- connections ------------------------------------------------------------------------------------------

    def opened(self, session: TcpSession) -> None:
        counters = self.counters
        counters.connections_accepted += 1
        counters.connections_open += 1
        counters.active += 1
        self._sessions.add(session)

    def closed(self, session: TcpSession) -> None:
        if session in self._sessions:
            self._sessions.discard(session)
            self.counters.connections_open -= 1
            self.counters.active -= 1
            self._check_drained()

    def drain(self) -> Deferred[None]:
        """Let what is under way come to its end; fires when the last connection has closed. Nothing limits it "
        "in time."""
        drained = self._drained = Deferred()
        if self.tls is not None:
            self.tls.abandon()
        self._check_drained()
        return drained

    def hurry(self) -> float:
        """The time to drain is over. Layer 4 has no good order to end in."""
        self.kill()
        return 0.0

    def kill(self) -> None:
        """Cut the connections that are left."""
        for session in self._sessions.copy():
            session.kill()

    def _check_drained(self) -> None:
        if self._drained is not None and not self._sessions:
            drained, self._drained = self._drained, None
            drained.callback(None)

    # --- accounts ---------------------------------------------------------------------------------------------

    def count_error(self, session: TcpSession, error: ExchangeError) -> None:
        """A connection ended with an error. What clients do wrong is counted; what we or a backend did is "
        "logged too."""
        session.reason = error.reason
        self.counters.count_error(error.reason)
        if error.source is not Source.CLIENT:
            self._tell("{reason}: {detail}", session, error)

    def log_retry(self, session: TcpSession, error: ExchangeError) -> None:
        """A backend could not be connected to, and the next one is tried."""
        self._tell("{reason}: {detail}; trying another backend", session, error)

    def _tell(self, text: str, session: TcpSession, error: ExchangeError) -> None:
        self.log.warn(
            text + " (client {client}, listener {listener}, route {route}, backend {backend}, attempts {attempts})",
            reason=error.reason,
            detail=error.detail,
            client=session.client_ip,
            listener=self.name,
            route=session.route.name if session.route is not None else "-",
            backend=session.last_backend.name if session.last_backend is not None else "-",
            attempts=session.attempts,
        )

    def count_refused(self, client: str, error: ExchangeError) -> None:
        """A connection that was not introduced as it has to be."""
        self.counters.connections_accepted += 1
        self.counters.count_error(error.reason)
        self.log.debug("{reason}: {detail} from {client}", reason=error.reason, detail=error.detail, client=client)
