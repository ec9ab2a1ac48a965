"""The connections to one backend: those that wait for work, and how new ones are made.

Rule of this file: the last one used is the first one used again, so that a pool which grew under load shrinks when
the load is gone. An idle connection stays in the reactor's hands, and its end (EOF, reset, or bytes nobody asked for)
takes it out of the list in the same turn of the reactor in which the kernel reports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balance.errors import ExchangeError
from balance.http.http1_client import Http1Connection

if TYPE_CHECKING:
    from balance.codec.http1 import HeadLimits
    from balance.config import Timeouts
    from balance.http.streams import BackendStream
    from balance.net.deadlines import Deadlines
    from balance.net.dial import Dial, Dialer
    from balance.net.tls_client import BackendTls
    from balance.pool.backend import Backend


class BackendConnections:
    """
    :param max_idle: idle connections kept; 0 keeps none
    :param idle_timeout: seconds an idle connection is kept
    :param tls: speak TLS; connections made under other settings are in another object's hands
    """

    __slots__ = (
        "_dialer",
        "_idle",
        "_idle_timeout",
        "_max_idle",
        "backend",
        "closing",
        "deadlines",
        "head_limits",
        "timeouts",
        "tls",
    )

    def __init__(
        self,
        backend: Backend,
        dialer: Dialer,
        deadlines: Deadlines,
        timeouts: Timeouts,
        head_limits: HeadLimits,
        *,
        max_idle: int = 100,
        idle_timeout: float = 90.0,
        tls: BackendTls | None = None,
    ) -> None:
        self.backend = backend
        self.tls = tls
        self.deadlines = deadlines
        self.timeouts = timeouts
        self.head_limits = head_limits
        self.closing = False
        self._dialer = dialer
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._idle: list[Http1Connection] = []

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return len(self._idle)

    def take(self) -> BackendStream | None:
        """A connection that can be used now, or None: `dial` for one."""
        if self._idle:
            self.backend.connections_reused += 1
            return self._idle.pop()
        return None

    def dial(self, connected: Callable[[BackendStream], None], failed: Callable[[ExchangeError], None]) -> Dial:
        """Open a connection within ``timeouts.connect``."""

        def on_connected(protocol: object) -> None:
            assert isinstance(protocol, Http1Connection)
            connected(protocol)

        return self._dialer.dial(
            self.backend.address,
            lambda protocol: Http1Connection(self),
            self.timeouts.connect,
            on_connected,
            failed,
            tls=self.tls,
        )

    def opened(self, connection: Http1Connection) -> None:
        self.backend.connections_opened += 1
        self.backend.connections_open += 1

    def closed(self, connection: Http1Connection) -> None:
        self.backend.connections_open -= 1
        self.forget(connection)

    def line_closed(self) -> None:
        """A connection is gone that was handed over to a tunnel."""
        self.backend.connections_open -= 1

    def put(self, connection: Http1Connection) -> None:
        """Its exchange is over, and it may serve another."""
        if self.closing or len(self._idle) >= self._max_idle:
            connection.close()
        else:
            self._idle.append(connection)
            self.deadlines.arm(connection, self._idle_timeout)

    def forget(self, connection: Http1Connection) -> None:
        """It is no longer of use."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        self.closing = True
        for connection in self._idle.copy():
            connection.close()
