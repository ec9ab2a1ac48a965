"""From a configuration to connections: how backends are reached.

Rule of this file: like `balance.assembly`, which uses it, it makes objects once, at the start; and it alone says what a
backend's `protocol` means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.codec.http1 import HeadLimits
from balance.http.connections import BackendConnections
from balance.http.multiplex import MultiplexedConnections
from balance.secure import backend_tls
from balance.sessions import client_sessions

if TYPE_CHECKING:
    from balance.config import BackendConfig, Listener
    from balance.config.tls import BackendTlsConfig
    from balance.http.streams import Connections
    from balance.net.deadlines import Deadlines
    from balance.net.dial import Dialer
    from balance.net.tls_client import BackendTls
    from balance.pool.backend import Backend
    from balance.secure import Watchlist

HTTP1 = "http/1.1"
HTTP2 = "h2"


class Reach:
    """Makes the connections of one listener.

    :param watched: told of all TLS that they speak
    """

    def __init__(self, config: Listener, deadlines: Deadlines, dialer: Dialer, watched: Watchlist) -> None:
        self._config = config
        self._deadlines = deadlines
        self._dialer = dialer
        self._watched = watched
        limits = config.limits
        self._limits = HeadLimits(limits.head_size, limits.header_fields, limits.uri_length)

    def connections(self, item: BackendConfig, backend: Backend, own: BackendTlsConfig | None = None) -> Connections:
        """To one backend.

        :param own: a route's TLS, in place of the backend's
        """
        chosen = item.tls if own is None else own
        secure = chosen is not None and chosen.enabled
        if item.protocol == HTTP1 or (item.protocol == "auto" and not secure):
            return self._http1(backend, self._secure(item, backend, own, (HTTP1,)))
        auto = item.protocol == "auto"
        tls = self._secure(item, backend, own, (HTTP2, HTTP1) if auto else (HTTP2,))
        http = self._config.http
        return MultiplexedConnections(
            backend,
            self._dialer,
            self._deadlines,
            self._config.timeouts,
            client_sessions(self._config, item),
            tls=tls,
            http1=self._http1(backend, tls) if auto else None,
            idle_timeout=http.idle_conn_timeout,
            ping_interval=http.http2.ping_interval,
            ping_timeout=http.http2.ping_timeout,
        )

    def _http1(self, backend: Backend, tls: BackendTls | None) -> BackendConnections:
        http = self._config.http
        return BackendConnections(
            backend,
            self._dialer,
            self._deadlines,
            self._config.timeouts,
            self._limits,
            max_idle=http.max_idle_conns_per_host,
            idle_timeout=http.idle_conn_timeout,
            tls=tls,
        )

    def _secure(
        self, item: BackendConfig, backend: Backend, own: BackendTlsConfig | None, protocols: tuple[str, ...]
    ) -> BackendTls | None:
        made = backend_tls(item.name, item.address, item.tls if own is None else own, protocols)
        self._watched.add(made, backend)
        return made
