"""The WebSocket connections of one listener: how they begin, how many there are, and how they are closed together.

Rule of this file: it counts and it spreads; what is said on a connection is its tunnel's business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from balance.codec.websocket import GOING_AWAY
from balance.errors import Stopping
from balance.net.deadlines import Deadlines, Timed
from balance.net.relay import RelayOwner, RelayTimes, adopt
from balance.websocket.messages import MessageTunnel
from balance.websocket.tunnel import ByteTunnel, Tunnel

if TYPE_CHECKING:
    from balance.observe.counters import ListenerCounters
    from balance.pool.backend import Backend
    from balance.websocket.options import Handshake, MessageOptions, WebSocketOptions

#: Seconds between the steps of `Tunnels.close_all`.
_STEP: Final = 0.25
#: Close codes that are counted each on its own: a peer may send any number.
_CODES_MAX: Final = 64


class Owner(RelayOwner, Protocol):
    """Whose connection it is: `balance.http.exchange.Exchange`."""

    request: Any
    client_ip: str
    route: Any


class Tunnels:
    """
    :param read: seconds for the rest, after one side has ended
    :param write: seconds for a side to take what is sent to it, by progress
    """

    def __init__(self, counters: ListenerCounters, deadlines: Deadlines, *, read: float, write: float) -> None:
        self._counters = counters
        self._deadlines = deadlines
        self._read = read
        self._write = write
        self._open: set[Tunnel] = set()
        self._spread: _Spread | None = None
        self.total = 0
        #: Close code to number of connections that ended with it; under 0, what there were too many different ones of.
        self.closes: dict[int, int] = {}
        self._ended = TunnelCounts()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def counts(self) -> TunnelCounts:
        """Of all connections that there were, and are."""
        counts = TunnelCounts()
        counts.add(self._ended)
        for tunnel in self._open:
            counts.add_tunnel(tunnel)
        return counts

    def open(
        self,
        owner: Owner,
        options: WebSocketOptions,
        handshake: Handshake | None,
        backend: Backend,
        client: Any,
        server: Any,
    ) -> Tunnel:
        """Begin to relay.

        :param owner: its ``finished`` is called when all is over
        :param handshake: needed in messages mode
        :param client: see `balance.http.streams.Line`
        :param server: likewise
        """
        make = ByteTunnel if options.messages is None else MessageTunnel
        tunnel: Any = make(
            owner,
            backend=backend,
            counters=self._counters,
            deadlines=self._deadlines,
            times=RelayTimes(options.idle_timeout, self._read, self._write),
            close_timeout=options.close_timeout,
            client_over=client.over,
            backend_over=server.over,
        )
        self.total += 1
        self._open.add(tunnel)
        client_side, backend_side = tunnel.client_side, tunnel.backend_side
        adopt(client.transport, client_side)
        adopt(server.transport, backend_side)
        tunnel.start()
        if options.messages is not None:
            assert handshake is not None
            _prepare(tunnel, options.messages, handshake, owner)
        if server.data:
            backend_side.dataReceived(server.data)
        if client.data:
            client_side.dataReceived(client.data)
        if self._spread is not None:
            self._spread.add(tunnel)
        return tunnel  # type: ignore[no-any-return]

    def closed(self, tunnel: Tunnel) -> None:
        self._open.discard(tunnel)
        self._ended.add_tunnel(tunnel)
        code = tunnel.close_code
        if code not in self.closes and len(self.closes) >= _CODES_MAX:
            code = 0
        self.closes[code] = self.closes.get(code, 0) + 1

    def close_all(self, seconds: float) -> float:
        """Tell every client that we are going away, evenly over that time, so that they do not all come back at once.

        :returns: seconds after which all should be gone
        """
        if self._spread is None:
            self._spread = _Spread(self._deadlines, list(self._open), seconds)
        patience = max((tunnel.close_timeout for tunnel in self._open), default=0.0)
        return seconds + 2 * patience + 1 if self._open else 0.0

    def kill(self) -> None:
        """Close those that are left now."""
        for tunnel in self._open.copy():
            tunnel.kill()


def _prepare(tunnel: MessageTunnel, options: MessageOptions, handshake: Handshake, owner: Owner) -> None:
    tunnel.attach(options.endpoints, handshake.client_extension, handshake.backend_extension)
    tunnel.ping(options.ping_client, options.ping_backend, options.ping_timeout)
    if options.filters:
        route = owner.route.name if owner.route is not None else ""
        tunnel.filter(options.filters, owner.request, owner.client_ip, route)


class TunnelCounts:
    """Bytes and messages."""

    __slots__ = ("bytes_in", "bytes_out", "messages_in", "messages_out")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = 0

    def add(self, other: TunnelCounts) -> None:
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.messages_in += other.messages_in
        self.messages_out += other.messages_out

    def add_tunnel(self, tunnel: Tunnel) -> None:
        messages_in, messages_out = tunnel.messages
        self.bytes_in += tunnel.bytes_in
        self.bytes_out += tunnel.bytes_out
        self.messages_in += messages_in
        self.messages_out += messages_out


class _Spread(Timed):
    """Closes tunnels step by step."""

    def __init__(self, deadlines: Deadlines, tunnels: list[Tunnel], seconds: float) -> None:
        super().__init__()
        self._deadlines = deadlines
        self._tunnels = tunnels
        self._seconds = seconds
        self._began = deadlines.now
        self._told = 0
        self.timed_out()

    def add(self, tunnel: Tunnel) -> None:
        """One that opened meanwhile."""
        self._tunnels.append(tunnel)
        if not self.deadline:
            self._deadlines.arm(self, _STEP)

    def timed_out(self) -> None:
        """Time for those whose turn it is by now."""
        tunnels = self._tunnels
        passed = self._deadlines.now - self._began + _STEP
        due = len(tunnels) if passed >= self._seconds else math.ceil(len(tunnels) * passed / self._seconds)
        now, self._told = tunnels[self._told : due], max(due, self._told)
        for tunnel in now:
            tunnel.part(GOING_AWAY, Stopping(), "going away")
        if self._told < len(tunnels):
            self._deadlines.arm(self, _STEP)
