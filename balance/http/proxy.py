"""One listener's reverse proxy: what its exchanges share, and the factory of its connections.

Rule of this file: it holds, counts and reports; the life of a request is in `balance.http.exchange`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from balance.errors import ExchangeError, Source, TlsHandshakeFailed
from balance.http.http1_server import Http1Channel
from balance.http.http2_server import H2Connection
from balance.net.preface import ProxyPreface
from balance.net.tls_handshake import ServerHandshake
from balance.websocket.tunnels import Tunnels

if TYPE_CHECKING:
    from balance.codec.forwarding import ForwardingRules
    from balance.codec.http1 import HeadLimits
    from balance.codec.http2.session import Session
    from balance.config import Timeouts
    from balance.http.exchange import Exchange
    from balance.http.filters import FilterChain
    from balance.http.route import HttpRoute
    from balance.http.streams import Connections
    from balance.net.deadlines import Deadlines
    from balance.net.tls_server import TlsTermination
    from balance.net.tls_transport import TlsConnection
    from balance.observe.access_log import AccessLog
    from balance.observe.counters import ListenerCounters
    from balance.pool.backend import Backend
    from balance.resilience.retry import RetryBudget
    from balance.routing.table import RuleTable
    from balance.websocket.tunnel import Tunnel


class HttpProxy(ServerFactory):
    """
    :param routes: rules in the order they are tried, each with its `HttpRoute`
    :param connections: how every backend of every route is reached
    :param clock: monotonic seconds
    :param retry_attempts: replays of one request, besides trying other backends after a failed connect
    :param replay_size: bytes of a request body kept for a replay
    :param accept_proxy: peers that are trusted begin with a PROXY header
    :param drain_spread: seconds over which WebSocket connections are closed when the time to drain is over
    :param tls: connections are TLS; None for clear text
    :param filters: see every exchange, before there is a route
    :param http2: makes the session of an HTTP/2 connection; None where only HTTP/1 is spoken
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        name: str,
        routes: RuleTable[HttpRoute],
        connections: Mapping[Backend, Connections],
        *,
        forwarding: ForwardingRules,
        counters: ListenerCounters,
        deadlines: Deadlines,
        timeouts: Timeouts,
        head_limits: HeadLimits,
        clock: Callable[[], float],
        retry_budget: RetryBudget,
        retry_attempts: int = 1,
        replay_size: int = 64 * 1024,
        access_log: AccessLog | None = None,
        scheme: bytes = b"http",
        accept_proxy: bool = False,
        drain_spread: float = 5.0,
        tls: TlsTermination | None = None,
        filters: FilterChain | None = None,
        http2: Callable[[], Session] | None = None,
    ) -> None:
        self.name = name
        self.routes = routes
        self.connections = connections
        self.forwarding = forwarding
        self.counters = counters
        self.deadlines = deadlines
        self.timeouts = timeouts
        self.head_limits = head_limits
        self.clock = clock
        self.retry_budget = retry_budget
        self.retry_attempts = retry_attempts
        self.replay_size = replay_size
        self.access_log = access_log
        self.filters = filters
        #: Exchanges note when they began: only the access log asks.
        self.timing = access_log is not None
        self.draining = False
        self.drain_spread = drain_spread
        #: WebSocket connections, open and past.
        self.tunnels = Tunnels(counters, deadlines, read=timeouts.read, write=timeouts.write)
        self._scheme = scheme
        self._accept_proxy = accept_proxy
        self.tls = tls
        self._http2 = http2
        self._channels: set[Http1Channel | H2Connection] = set()
        self._drained: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Http1Channel | ProxyPreface | ServerHandshake:  # type: ignore[override]
        host = getattr(addr, "host", "").removeprefix("::ffff:")
        if self._accept_proxy and self.forwarding.trusts(host):
            return ProxyPreface(
                self.deadlines,
                self.timeouts.head,
                lambda header: self._begin(header.source[0] if header.source is not None else host),
                lambda error: self._count_preface(host, error),
            )
        return self._begin(host)

    def _begin(self, client: str) -> Http1Channel | ServerHandshake:
        """The protocol of a connection whose client is known."""
        if self.tls is not None:
            return self.tls.handshake(
                lambda transport, hello: self.build_negotiated(client, transport),
                lambda detail: self._count_preface(client, TlsHandshakeFailed(detail)),
            )
        return Http1Channel(self, self.forwarding.for_peer(client, self._scheme))

    def build_negotiated(self, client: str, transport: TlsConnection) -> Http1Channel | H2Connection:
        """The protocol of a connection that is secure: by what ALPN chose (``transport.alpn``; empty for nothing).

        :param client: its address
        """
        forwarding = self.forwarding.for_peer(client, b"https", transport.certificate)
        if self._http2 is not None and transport.alpn == "h2":
            return H2Connection(self, forwarding, self._http2())
        return Http1Channel(self, forwarding)

    def _count_preface(self, client: str, error: ExchangeError) -> None:
        """A connection that was not introduced as it has to be: not one request came of it."""
        self.counters.connections_accepted += 1
        self.counters.count_error(error.reason)
        self.log.debug("{reason}: {detail} from {client}", reason=error.reason, detail=error.detail, client=client)

    def take_over(self, channel: Http1Channel, data: bytes) -> bool:
        """A connection begins with the preface of HTTP/2, in clear text (prior knowledge; RFC 9113, section 3.3).

        :returns: False where HTTP/2 is not spoken, or the connection has said something else before
        """
        transport = channel.release() if self._http2 is not None else None
        if transport is None or self._http2 is None:
            return False
        connection = H2Connection(self, channel.forwarding, self._http2())
        self._channels.discard(channel)
        self.counters.connections_open -= 1
        self.counters.connections_accepted -= 1
        transport.protocol = connection
        connection.makeConnection(transport)
        connection.dataReceived(data)
        return True

    # --- connections ------------------------------------------------------------------------------------------

    def channel_opened(self, channel: Http1Channel | H2Connection) -> None:
        self.counters.connections_accepted += 1
        self.counters.connections_open += 1
        self._channels.add(channel)

    def channel_switched(self, channel: Http1Channel) -> None:
        """Its connection belongs to a tunnel now."""
        self._channels.discard(channel)

    def channel_closed(self, channel: Http1Channel | H2Connection) -> None:
        self.counters.connections_open -= 1
        self._channels.discard(channel)
        self._check_drained()

    def line_closed(self) -> None:
        """A connection is gone that was handed over to a tunnel."""
        self.counters.connections_open -= 1

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self.tunnels.closed(tunnel)
        self._check_drained()

    def drain(self) -> Deferred[None]:
        """Finish what is under way; fires when the last connection has closed. Nothing limits it in time."""
        self.draining = True
        drained = self._drained = Deferred()
        if self.tls is not None:
            self.tls.abandon()
        for channel in self._channels.copy():
            channel.drain()
        self._check_drained()
        return drained

    def hurry(self) -> float:
        """The time to drain is over: cut the requests that are left, and begin to close tunnels in good order.

        :returns: seconds that those may take
        """
        for channel in self._channels.copy():
            if not channel.tunnels:
                channel.kill()
        return self.tunnels.close_all(self.drain_spread)

    def kill(self) -> None:
        """Cut the connections that are left."""
        for channel in self._channels.copy():
            channel.kill()
        self.tunnels.kill()

    def _check_drained(self) -> None:
        if self._drained is not None and not self._channels and not self.tunnels:
            drained, self._drained = self._drained, None
            drained.callback(None)

    # --- accounts ---------------------------------------------------------------------------------------------

    def count_error(self, exchange: Exchange, error: ExchangeError) -> None:
        """An exchange ended with an error. What clients do wrong is counted; what we or a backend did is logged too."""
        exchange.reason = error.reason
        self.counters.count_error(error.reason)
        if error.source is not Source.CLIENT:
            request = exchange.request
            self.log.warn(
                "{reason}: {method} {host} {target} from {client}: {detail} "
                "(listener {listener}, route {route}, backend {backend}, attempts {attempts}, status {status})",
                reason=error.reason,
                method=_text(request.method),
                host=_text(request.host),
                target=_text(request.target),
                client=exchange.client_ip,
                detail=error.detail,
                listener=self.name,
                route=exchange.route.name if exchange.route is not None else "-",
                backend=exchange.last_backend.name if exchange.last_backend is not None else "-",
                attempts=exchange.attempts,
                status=exchange.status,
            )

    def count_header_bytes(self, session: Session) -> None:
        """An HTTP/2 connection has ended: what its heads took, before HPACK and after it."""
        self.counters.header_bytes_plain += session.plain_header_bytes
        self.counters.header_bytes_packed += session.packed_header_bytes

    def count_refused(self, channel: Http1Channel | H2Connection, error: ExchangeError) -> None:
        """A request head could not be read: there is no exchange to account it to."""
        self.counters.requests += 1
        self.counters.responses[error.status // 100] += 1
        self.counters.count_error(error.reason)
        self.log.debug(
            "{reason}: {detail} from {client}",
            reason=error.reason,
            detail=error.detail,
            client=channel.forwarding.address,
        )

    def log_rebound(self, exchange: Exchange, bound: str) -> None:
        """A client's backend is gone, and affinity gave it another one."""
        self.log.info(
            "affinity: {client} was bound to {old}, which is not available; now bound to {new}",
            client=exchange.client_ip,
            old=bound,
            new=exchange.backend.name if exchange.backend is not None else "-",
        )


def _text(raw: bytes) -> str:
    """Bytes of a request in a log line: nothing in them can end the line."""
    return raw[:256].decode("ascii", "backslashreplace")
