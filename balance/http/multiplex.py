"""The HTTP/2 connections to one backend.

Rule of this file: as few connections as the backend's limit on streams allows. Requests that come while a connection is
being opened wait for it together, and another one is opened only for those that do not fit. A connection is open when
the backend's SETTINGS have come: until then its limit is not known, and what is above it would be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balance.errors import ConnectTimeout, ExchangeError, NotHttp2
from balance.http.http1_client import Http1Connection
from balance.http.http2_client import Http2BackendStream, Http2Connection
from balance.net.deadlines import Deadlines, Timed

if TYPE_CHECKING:
    from balance.codec.http2.session import Session
    from balance.config import Timeouts
    from balance.http.connections import BackendConnections
    from balance.http.streams import BackendStream, Connecting
    from balance.net.dial import Dial, Dialer
    from balance.net.tls_client import BackendTls
    from balance.pool.backend import Backend


class Waiter(Timed):
    """Somebody who asked for a stream. The same face as `balance.net.dial.Dial`."""

    __slots__ = ("_owner", "connected", "failed")

    def __init__(
        self,
        owner: MultiplexedConnections,
        connected: Callable[[BackendStream], None],
        failed: Callable[[ExchangeError], None],
    ) -> None:
        super().__init__()
        self._owner = owner
        self.connected = connected
        self.failed = failed

    def cancel(self) -> None:
        """Wait no longer. The connection is opened all the same: the next request has it."""
        self._owner.unqueue(self)

    def timed_out(self) -> None:
        """Connections there may be, but none had room in time."""
        if self._owner.unqueue(self):
            self.failed(ConnectTimeout(f"{self._owner.backend.address}: no stream in time"))


class MultiplexedConnections:
    """
    :param session: makes the client session of a connection
    :param tls: speak TLS, and let ALPN choose
    :param http1: takes over where the backend chooses HTTP/1.1; None where it has to speak HTTP/2
    :param idle_timeout: seconds a connection without requests is kept
    :param ping_interval: seconds of silence under work after which the backend is asked for a sign of life; 0 is never
    :param ping_timeout: seconds it has to give one
    """

    __slots__ = (
        "_connections",
        "_dialer",
        "_dials",
        "_http1",
        "_opening",
        "_serving",
        "_session",
        "_streams_seen",
        "_waiting",
        "backend",
        "closing",
        "deadlines",
        "idle_timeout",
        "ping_interval",
        "ping_timeout",
        "timeouts",
        "tls",
    )

    def __init__(
        self,
        backend: Backend,
        dialer: Dialer,
        deadlines: Deadlines,
        timeouts: Timeouts,
        session: Callable[[], Session],
        *,
        tls: BackendTls | None = None,
        http1: BackendConnections | None = None,
        idle_timeout: float = 90.0,
        ping_interval: float = 30.0,
        ping_timeout: float = 10.0,
    ) -> None:
        self.backend = backend
        self.deadlines = deadlines
        self.timeouts = timeouts
        self.idle_timeout = idle_timeout
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.closing = False
        self._dialer = dialer
        self._session = session
        self.tls = tls
        self._http1 = http1
        self._connections: list[Http2Connection] = []
        self._waiting: dict[Waiter, None] = {}
        self._dials: set[Dial] = set()
        #: Connections whose backend has not said its SETTINGS.
        self._opening: set[Http2Connection] = set()
        #: Streams that the backend last allowed on a connection: how many requests one dial is likely to serve. One,
        #: where it chose HTTP/1.1; it may choose otherwise for the next.
        self._streams_seen = 100
        self._serving = False

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        single = self._http1.idle if self._http1 is not None else 0
        return single + sum(not each.streams for each in self._connections)

    def take(self) -> BackendStream | None:
        """A stream that can be used now, or None: `dial` for one."""
        for connection in self._connections:
            if connection.room:
                self.backend.connections_reused += 1
                return Http2BackendStream(connection)
        return self._http1.take() if self._http1 is not None else None

    def dial(self, connected: Callable[[BackendStream], None], failed: Callable[[ExchangeError], None]) -> Connecting:
        """Open a connection within ``timeouts.connect``, or wait for one that is being opened."""
        waiter = Waiter(self, connected, failed)
        self._waiting[waiter] = None
        self.deadlines.arm(waiter, self.timeouts.connect)
        self._dial_enough()
        return waiter

    def unqueue(self, waiter: Waiter) -> bool:
        """It waits no longer; whether it did."""
        self.deadlines.forget(waiter)
        return self._waiting.pop(waiter, self) is None

    @property
    def _expected(self) -> int:
        """How many streams the connections that are being opened are likely to bring."""
        return (len(self._dials) + len(self._opening)) * self._streams_seen

    def _dial_enough(self) -> None:
        if any(not each.session.peer_max_streams for each in self._connections):
            return  # the backend takes none at all for now: further connections would be no better
        while len(self._waiting) > self._expected:
            self._dial()

    def _dial(self) -> None:
        dial: Dial

        def done() -> None:
            self._dials.discard(dial)

        def connected(connection: Http2Connection | Http1Connection) -> None:
            done()
            if isinstance(connection, Http1Connection):
                self._fall_back(connection)
            elif connection.misled:
                connection.cut()
                self.forget(connection, NotHttp2("the backend did not choose it (ALPN)"))

        def failed(error: ExchangeError) -> None:
            done()
            self._failed(error)

        dial = self._dialer.dial(
            self.backend.address,
            self._protocol,
            self.timeouts.connect,
            connected,
            failed,
            tls=self.tls,
        )
        self._dials.add(dial)

    def _protocol(self, chosen: str) -> Http2Connection | Http1Connection:
        """What a new connection speaks. Over TLS, HTTP/2 has to be chosen (RFC 9113, section 3.2)."""
        if self.tls is None:
            return Http2Connection(self, self._session(), b"http")
        if self._http1 is not None and chosen != "h2":
            return Http1Connection(self._http1)
        return Http2Connection(self, self._session(), b"https", misled=chosen != "h2")

    def _fall_back(self, connection: Http1Connection) -> None:
        """The backend chose HTTP/1.1: who has waited longest gets the connection, the others one each."""
        assert self._http1 is not None
        self._streams_seen = 1
        waiter = next(iter(self._waiting), None)
        if waiter is None:
            self._http1.put(connection)
        else:
            self.unqueue(waiter)
            waiter.connected(connection)
        self._dial_enough()

    def _serve(self, connection: Http2Connection) -> None:
        """Give out the room that a connection has, oldest first."""
        while self._waiting and connection.room:
            waiter = next(iter(self._waiting))
            self.unqueue(waiter)
            waiter.connected(Http2BackendStream(connection))

    def _failed(self, error: ExchangeError) -> None:
        """Those whom no other dial is likely to serve have failed with this one."""
        for waiter in list(self._waiting)[self._expected :] if self._waiting else ():
            if self.unqueue(waiter):
                waiter.failed(error)

    def room_changed(self) -> None:
        """A stream has ended, or the backend has changed its limit."""
        if not self._waiting or self._serving:
            return
        self._serving = True
        try:
            for connection in self._connections.copy():
                self._serve(connection)
        finally:
            self._serving = False

    # --- told by the connections --------------------------------------------------------------------------------

    def opened(self, connection: Http2Connection) -> None:
        self.backend.connections_opened += 1
        self.backend.connections_open += 1
        self._opening.add(connection)
        self.deadlines.arm(connection, self.timeouts.connect)

    def settled(self, connection: Http2Connection) -> None:
        """The backend has said how many streams it takes, for the first time or anew."""
        self._streams_seen = max(1, min(100, connection.session.peer_max_streams))
        first = connection in self._opening
        if first:
            self._opening.discard(connection)
            self._connections.append(connection)
            connection.rest()
        self.room_changed()
        if first and self.closing:
            connection.leave()
        self._dial_enough()

    def closed(self, connection: Http2Connection) -> None:
        self.backend.connections_open -= 1
        self.forget(connection, NotHttp2("the backend closed the connection before it said SETTINGS"))

    def forget(self, connection: Http2Connection, error: ExchangeError) -> None:
        """It takes no more requests.

        :param error: why, for those who may have waited for it
        """
        if connection in self._connections:
            self._connections.remove(connection)
        elif connection in self._opening:
            self._opening.discard(connection)
        else:
            return
        self._failed(error)

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        self.closing = True
        for connection in self._connections.copy():
            connection.leave()
        if self._http1 is not None:
            self._http1.close()
