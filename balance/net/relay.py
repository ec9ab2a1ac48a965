"""Two connections, and the bytes between them.

Rule of this file: what one side sends, the other is sent, in order, and so are its end (half-close) and its reset. A
side that takes no more stops the other from being read. Nothing here chooses or dials: `balance.tcp.session` and
`balance.http.exchange` did that. Whoever has to know what the bytes mean derives from these
(`balance.websocket.tunnel`).

    each side:  open --EOF--> ended;  both ended, or either reset or out of time: over
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.errors import BackendReset, BackendWriteTimeout, ClientGone, ClientTimeout, ExchangeError, IdleTimeout
from balance.net.deadlines import Timed
from balance.net.splice import AVAILABLE, Splice
from balance.net.tls_transport import TlsConnection

if TYPE_CHECKING:
    from balance.net.deadlines import Deadlines
    from balance.net.transport import EagerConnection
    from balance.observe.counters import ListenerCounters
    from balance.pool.backend import Backend

#: Bytes in one read from which on a connection counts as a bulk transfer. See doc/performance.md.
BULK_SIZE: Final = 64 * 1024
_ANY_NUMBER: Final = 1 << 62


class RelayTimes(NamedTuple):
    """Time limits of a relay, in seconds; 0 is no limit. See `Relay`."""

    idle: float
    read: float
    write: float


class RelayOwner(Protocol):
    """Who is told when it is over."""

    def finished(self, error: ExchangeError | None, bytes_in: int, bytes_out: int) -> None:
        """Called once. Bytes are those from the client and those to it; no error is a good end."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Side:
    """The protocol of one of the two connections, and what paces the other one.

    ``transport`` is None once the connection is lost.
    """

    __slots__ = ("ended", "other", "paused", "relay", "splice", "transport")

    other: Side
    relay: Relay

    def __init__(self) -> None:
        self.transport: EagerConnection | None = None
        #: It sends no more.
        self.ended = False
        #: It is not read, because the other side takes no more.
        self.paused = False
        #: Moves its bytes to the other side within the kernel, once they are many.
        self.splice: Splice | None = None

    def makeConnection(self, transport: object) -> None:
        self.transport = cast("EagerConnection", transport)

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        raise NotImplementedError

    def count(self, size: int) -> None:
        """That many bytes went from this side to the other."""
        raise NotImplementedError

    def stalled(self) -> None:
        """Some of them wait in a pipe."""
        self.relay.paced()

    def drained(self) -> None:
        """What waited in the pipe has gone out."""
        self.relay.paced()
        if self.ended:
            self.relay.side_ended(self)
        elif self.transport is not None:
            self.transport.startReading()

    @property
    def room(self) -> int:
        """How many of the bytes to come nobody has to look at."""
        return _ANY_NUMBER

    # --- ends -------------------------------------------------------------------------------------------------

    def readConnectionLost(self) -> None:
        """It has sent all it will send."""
        self.ended = True
        if self.splice is None or not self.splice.held:
            self.relay.side_ended(self)

    def writeConnectionLost(self) -> None:
        """Our half-close went out, behind all that was queued."""
        self.relay.paced()

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        for splice in (self.splice, self.other.splice):
            if splice is not None:
                splice.close()
        self.relay.side_lost(self, isinstance(reason.value, ConnectionDone))

    # --- back-pressure: this side takes no more for now -------------------------------------------------------

    def pauseProducing(self) -> None:
        other = self.other
        other.paused = True
        if other.transport is not None and not other.ended:
            other.transport.stopReading()
        self.relay.paced()

    def resumeProducing(self) -> None:
        other = self.other
        other.paused = False
        if other.transport is not None and not other.ended:
            other.transport.startReading()
        self.relay.paced()

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    @property
    def pending(self) -> int:
        """Bytes for it that it has not taken."""
        held = self.other.splice.held if self.other.splice is not None else 0
        return held + (self.transport.pending if self.transport is not None else 0)


class ClientSide(Side):
    """The connection that was accepted."""

    __slots__ = ()

    def dataReceived(self, data: bytes) -> None:
        relay = self.relay
        size = len(data)
        relay.counters.bytes_in += size
        relay.backend.bytes_out += size
        relay.bytes_in += size
        relay.deadlines.arm(relay, relay.limit)
        other = self.other.transport
        if other is not None:
            other.write(data)
        if size >= relay.bulk:
            relay.is_bulk(self)

    def count(self, size: int) -> None:
        relay = self.relay
        relay.counters.bytes_in += size
        relay.backend.bytes_out += size
        relay.bytes_in += size
        relay.deadlines.arm(relay, relay.limit)


class BackendSide(Side):
    """The connection that was opened."""

    __slots__ = ()

    def dataReceived(self, data: bytes) -> None:
        relay = self.relay
        size = len(data)
        relay.counters.bytes_out += size
        relay.backend.bytes_in += size
        relay.bytes_out += size
        relay.deadlines.arm(relay, relay.limit)
        other = self.other.transport
        if other is not None:
            other.write(data)
        if size >= relay.bulk:
            relay.is_bulk(self)

    def count(self, size: int) -> None:
        relay = self.relay
        relay.counters.bytes_out += size
        relay.backend.bytes_in += size
        relay.bytes_out += size
        relay.deadlines.arm(relay, relay.limit)


class Relay(Timed):
    """A client and a backend that have found each other.

    It has one time limit: ``times.idle`` for silence on both sides; ``times.write`` while a side does not take what is
    sent to it; ``times.read`` once one side has ended, for the rest of the other. All by progress.

    :param owner: hears of the end
    :param counters: of the listener
    :param bulk: a read of that many bytes or more is a sign of a bulk transfer
    """

    __slots__ = (
        "_over",
        "_waiting_seen",
        "backend",
        "backend_side",
        "bulk",
        "bytes_in",
        "bytes_out",
        "client_side",
        "counters",
        "deadlines",
        "limit",
        "owner",
        "times",
    )

    def __init__(
        self,
        owner: RelayOwner,
        client: Side,
        backend_side: Side,
        *,
        backend: Backend,
        counters: ListenerCounters,
        deadlines: Deadlines,
        times: RelayTimes,
        bulk: int = BULK_SIZE,
    ) -> None:
        super().__init__()
        self.owner = owner
        self.backend = backend
        self.counters = counters
        self.deadlines = deadlines
        self.times = times
        self.limit = times.idle
        self.bulk = bulk
        #: Bytes from the client, and to it.
        self.bytes_in = 0
        self.bytes_out = 0
        self._over = False
        self._waiting_seen = 0
        self.client_side: Side = client
        self.backend_side: Side = backend_side
        client.other, backend_side.other = backend_side, client
        client.relay = backend_side.relay = self

    def start(self) -> None:
        """Both are connected; the client's transport is already the client side's."""
        self.deadlines.arm(self, self.limit)
        for side in (self.client_side, self.backend_side):
            if side.transport is not None:
                side.transport.bufferSize = 0  # whatever waits stops the other side, and is under a time limit
                side.transport.registerProducer(side, True)
            if isinstance(side.transport, TlsConnection):
                self.bulk = _ANY_NUMBER  # the kernel cannot move what has to be encrypted

    def is_bulk(self, side: Side) -> None:
        """A side fills its reads: let the kernel move its bytes, as soon as nothing of it is left here."""
        source, target = side.transport, side.other.transport
        if side.splice is not None or source is None or target is None or target.pending:
            return
        if AVAILABLE and source.spliceable and target.spliceable:
            side.splice = Splice(source, target, side)

    # --- ends -------------------------------------------------------------------------------------------------

    def side_ended(self, side: Side) -> None:
        """A side will send no more, and all it sent is with the other's transport."""
        other = side.other
        if other.transport is None:
            return
        other.transport.unregisterProducer()
        self.paced()
        if other.ended and not (other.splice is not None and other.splice.held):
            self._close()
        else:
            other.transport.half_close()

    def _close(self) -> None:
        """Both have ended; what is queued still goes out."""
        for side in (self.client_side, self.backend_side):
            if side.transport is not None:
                side.transport.unregisterProducer()
                side.transport.finish()

    def side_lost(self, side: Side, clean: bool) -> None:
        """A connection is gone."""
        other = side.other.transport
        error: ExchangeError | None = None
        if other is not None and not (side.ended and side.other.ended):
            # Not all was sent or received: whoever is left has to see that it was cut.
            error = ClientGone() if side is self.client_side else BackendReset()
            if clean and not side.other.pending:
                other.unregisterProducer()
                other.loseConnection()
            else:
                other.abortConnection()
        if other is None or error is not None:
            self._finish(error)
        if other is None:
            self.deadlines.forget(self)  # what went out last may have set a limit once more
            gone = side.other
            del gone.other, gone.relay, side.other, side.relay  # no cycle is left: memory is free at once

    def abort(self, error: ExchangeError) -> None:
        """Cut both."""
        sides = self.client_side, self.backend_side
        self._finish(error)
        for side in sides:
            if side.transport is not None:
                side.transport.abortConnection()

    def _finish(self, error: ExchangeError | None) -> None:
        if not self._over:
            self._over = True
            self.deadlines.forget(self)
            self.owner.finished(error, self.bytes_in, self.bytes_out)

    # --- time -------------------------------------------------------------------------------------------------

    def paced(self) -> None:
        """Bytes have begun to wait, or do so no longer, or a side has ended: another limit may hold from now on."""
        times = self.times
        if self.client_side.pending or self.backend_side.pending:
            self.limit = times.write
            self._waiting_seen = self._waiting()
        elif self.client_side.ended or self.backend_side.ended:
            self.limit = times.read
        else:
            self.limit = times.idle
        self.deadlines.arm(self, self.limit)

    def _waiting(self) -> int:
        """Bytes that came from one side and that the other's machine has not taken: a slow one may take some for a
        long time before the kernel wants more of us."""
        return sum(
            side.pending + side.transport.unacknowledged
            for side in (self.client_side, self.backend_side)
            if side.transport is not None
        )

    def timed_out(self) -> None:
        if self.client_side.pending or self.backend_side.pending:
            waiting, seen = self._waiting(), self._waiting_seen
            if waiting < seen:
                self._waiting_seen = waiting
                self.deadlines.arm(self, self.limit)
                return
        if self.client_side.pending:
            self.abort(ClientTimeout("the client takes nothing"))
        elif self.backend_side.pending:
            self.abort(BackendWriteTimeout())
        else:
            self._expire()

    def _expire(self) -> None:
        """Silence: an orderly end, for both to see."""
        self._finish(IdleTimeout())
        self._close()


def adopt(transport: Any, side: Side) -> None:
    """Hand a connection that another protocol had until now to a side."""
    transport.protocol = side
    side.transport = transport
