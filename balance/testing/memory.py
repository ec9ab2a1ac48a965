"""Connections in memory: what stands in the place of sockets in a test.

Rule of this file: bytes and ends, nothing of HTTP. A `Peer` is the far end of a connection, a `MemoryDialer` the
network between Balance and its backends; both do only what the test tells them to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from balance.errors import ConnectRefused, ExchangeError
from balance.model import Address


def client_address(host: str, port: int = 54321) -> IPv4Address | IPv6Address:
    """A TCP address as Twisted has it."""
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


class MemoryTransport(StringTransport):
    """A transport that remembers how it was closed, and can be told that the peer reads slowly."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.1", 54321))
        self.aborted = False
        self.half_closed = False
        self.protocol: Any = None
        #: Bytes that the peer has not taken.
        self.pending = 0
        #: Whom it belongs to, once it was handed over by who had it first.
        self.spliceable = False
        self.unacknowledged = 0

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnected = True

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def half_close(self) -> None:
        self.half_closed = True

    def stopReading(self) -> None:
        self.pauseProducing()

    def startReading(self) -> None:
        self.resumeProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True

    finish = loseConnection

    @property
    def closed(self) -> bool:
        """Balance closed the connection, or its half of it, or reset it."""
        return self.aborted or self.disconnecting or self.half_closed

    @property
    def paused(self) -> bool:
        """Balance takes no more for now (back-pressure)."""
        return bool(self.producerState == "paused")


class Peer:
    """The far end of a connection. ``gone`` once it was closed or reset.

    :param protocol: Balance's end of it, such as `HttpProxy.buildProtocol` makes it
    """

    _numbers = itertools.count()

    def __init__(self, protocol: Any) -> None:
        self.number = next(self._numbers)
        self.gone = False
        self.transport = MemoryTransport()
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    @property
    def protocol(self) -> Any:
        """Balance's end, which may hand the connection over to another protocol."""
        return self.transport.protocol

    def send(self, data: bytes) -> None:
        """Let bytes arrive at Balance."""
        self.protocol.dataReceived(data)

    def received(self) -> bytes:
        """What came since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def end(self) -> None:
        """End its own sending side (FIN), where Balance's end can live with that."""
        self.protocol.readConnectionLost()

    def close(self) -> None:
        """End the connection in good order (FIN)."""
        self.gone = True
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def reset(self) -> None:
        """Break the connection (RST)."""
        self.gone = True
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def stall(self, pending: int = 100_000) -> None:
        """Stop reading: the transport tells its producer, as a real one does."""
        self.transport.pending = pending
        if self.transport.producer is not None:
            self.protocol.pauseProducing()

    def unstall(self) -> None:
        """Read again."""
        self.transport.pending = 0
        self.protocol.resumeProducing()


class MemoryDial:
    """A dial under way: `accept` or `refuse` it."""

    def __init__(self, address: Address, factory: Callable[[str], Any], timeout: float, ok: Any, failed: Any) -> None:
        self.address = address
        #: The TLS that the real dialer would speak first, and what it would send even before (a PROXY header).
        self.tls: Any = None
        self.preface = b""
        #: Seconds Balance waits for the connection at most; 0 for ever. Nobody watches it but the test.
        self.timeout = timeout
        self.cancelled = False
        self._factory = factory
        self._ok = ok
        self._failed = failed

    def cancel(self) -> None:
        self.cancelled = True

    def accept(self) -> Peer:
        """The backend takes the connection; its end of it, in clear text whatever it is on the wire."""
        peer = Peer(self._factory(""))
        peer.transport.write(self.preface)
        self._ok(peer.protocol)
        return peer

    def refuse(self, error: ExchangeError | None = None) -> None:
        """The connection fails, by default because nobody listens there."""
        self._failed(error or ConnectRefused())


class MemoryDialer:
    """Stands where `balance.net.dial.Dialer` stands. ``dials`` are those that nobody has answered yet."""

    def __init__(self) -> None:
        self.dials: list[MemoryDial] = []

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
        self.dials.append(dial)
        return dial
