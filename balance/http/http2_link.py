"""What the two ends of HTTP/2 have in common: one connection, its session, and the pace of its streams.

Rule of this file: the session decides what the protocol allows, the exchange what happens to a request; here bytes are
carried between them and the transport, with one write for all that the streams of a turn have to say. A stream's
flow-control window opens when its data was passed on, so who does not read stalls that stream and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from balance.net.deadlines import Deadlines, Timed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from balance.codec.http2.events import Event
    from balance.codec.http2.session import Session
    from balance.config import Timeouts
    from balance.net.transport import EagerConnection


class Http2Stream(Timed):
    """One stream of a link.

    ``held`` is what flow control counts of the data that came while the other side took no more; ``seen`` the bytes
    that waited for the peer's window when somebody last looked.
    """

    __slots__ = ("blocked", "held", "paused", "seen", "stream_id")

    def __init__(self, stream_id: int) -> None:
        super().__init__()
        self.stream_id = stream_id
        #: The other side takes no more of what the peer sends.
        self.paused = False
        self.held = 0
        #: The peer's window takes no more of what we send.
        self.blocked = False
        self.seen = 0

    def lost(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def transport_paused(self) -> None:
        """The connection takes no more for now."""
        raise NotImplementedError

    def transport_resumed(self) -> None:
        raise NotImplementedError


class _SettingsLimit(Timed):
    """The time that the peer has to acknowledge our SETTINGS. Nobody stops it: it looks once whether they are."""

    __slots__ = ("_late",)

    def __init__(self, late: Callable[[], None]) -> None:
        super().__init__()
        self._late = late

    def timed_out(self) -> None:
        self._late()


S = TypeVar("S", bound=Http2Stream)


class Http2Link(Timed, Generic[S]):
    """A connection that speaks HTTP/2. Protocol and push producer of its transport."""

    __slots__ = (
        "_pending_seen",
        "_receiving",
        "_scheduled",
        "_settings",
        "closing",
        "deadlines",
        "session",
        "stalled",
        "streams",
        "timeouts",
        "transport",
    )

    def __init__(self, session: Session, deadlines: Deadlines, timeouts: Timeouts) -> None:
        super().__init__()
        self.session = session
        self.deadlines = deadlines
        self.timeouts = timeouts
        self.transport: EagerConnection | None = None
        self.streams: dict[int, S] = {}
        #: The last bytes are on their way; nothing is read any more.
        self.closing = False
        #: The transport has more than enough.
        self.stalled = False
        self._receiving = False
        self._scheduled = False
        self._pending_seen = 0
        self._settings: _SettingsLimit | None = None

    # --- what the ends do differently ---------------------------------------------------------------------------

    def handle(self, events: Sequence[Event]) -> None:
        """React to what the session reports."""
        raise NotImplementedError

    def stream_over(self, stream: S) -> None:
        """Nothing more is to be said on a stream."""
        raise NotImplementedError

    def count(self, received: int, sent: int) -> None:
        """Keep accounts of bytes."""
        raise NotImplementedError

    def rest(self) -> None:
        """Set the time limit for a connection whose transport takes what is written."""
        raise NotImplementedError

    # --- bytes --------------------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = cast("EagerConnection", transport)
        self.transport.registerProducer(self, True)
        self._settings = _SettingsLimit(self._settings_late)
        self.deadlines.arm(self._settings, self.session.start())
        self.changed()

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        if self.closing:
            return
        self.count(len(data), 0)
        self._receiving = True
        try:
            self.handle(self.session.receive(data, self.deadlines.now))
        finally:
            self._receiving = False
        self.flush()

    def changed(self) -> None:
        """The session has something to send: it goes out with what else this turn brings."""
        if not self._receiving and not self._scheduled:
            self._scheduled = True
            self.deadlines.turn.at_end(self.flush)

    def flush(self) -> None:
        """Send what the session has put out."""
        self._scheduled = False
        data = self.session.take()
        if data and self.transport is not None:
            self.count(0, len(data))
            self.transport.write(data)

    def _settings_late(self) -> None:
        self._settings = None
        if not self.closing:
            self.handle(self.session.settings_late())

    def close(self) -> None:
        """Send what there is, and close."""
        transport = self.transport
        if transport is None or self.closing:
            return
        self.flush()
        self.closing = True
        self._pending_seen = transport.pending
        transport.unregisterProducer()  # a paused one would keep it from closing
        self.deadlines.arm(self, self.timeouts.write)
        transport.loseConnection()

    def cut(self) -> None:
        """Close without waiting for anything."""
        if self.transport is not None:
            self.closing = True
            self.transport.abortConnection()

    def lose(self) -> None:
        """The transport is gone: so are the streams."""
        self.transport = None  # no cycle is left: memory is free at once, without the collector
        self.closing = True
        self.deadlines.forget(self)
        if self._settings is not None:
            self.deadlines.forget(self._settings)
            self._settings = None
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self.deadlines.forget(stream)
            stream.lost()

    # --- back-pressure of the whole connection ------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Who does not read is not read: otherwise each PING would make our queue longer."""
        transport = self.transport
        if transport is None:
            return
        self.stalled = True
        self._pending_seen = transport.pending
        self.deadlines.arm(self, self.timeouts.write)
        transport.pauseProducing()
        for stream in list(self.streams.values()):
            stream.transport_paused()

    def resumeProducing(self) -> None:
        self.stalled = False
        if self.closing or self.transport is None:
            return
        self.deadlines.disarm(self)
        self.rest()
        self.transport.resumeProducing()
        for stream in list(self.streams.values()):
            if not self.stalled:
                stream.transport_resumed()

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    def moved(self) -> bool:
        """Whether a transport that was full has taken something since: then it gets more time."""
        pending = self.transport.pending if self.transport is not None else 0
        moved = 0 < pending < self._pending_seen
        self._pending_seen = pending
        if moved:
            self.deadlines.arm(self, self.timeouts.write)
        return moved

    # --- flow control of one stream -----------------------------------------------------------------------------

    def passed_on(self, stream: S, size: int) -> None:
        """Data of a stream went to the other side; if that takes no more for now, its window stays shut."""
        if stream.paused:
            stream.held += size
        elif size:
            self.session.acknowledge(stream.stream_id, size)

    def reopen(self, stream: S) -> None:
        """The other side takes more again."""
        stream.paused = False
        if stream.held:
            held, stream.held = stream.held, 0
            self.session.acknowledge(stream.stream_id, held)
            self.changed()

    def blocks(self, stream: S, waiting: int) -> None:
        """The peer's window is shut: it gets time by progress."""
        stream.blocked = True
        stream.seen = waiting
        self.deadlines.arm(stream, self.timeouts.write)

    def progressed(self, stream: S) -> bool:
        """Whether a blocked stream's peer has taken something since somebody looked: then it gets more time."""
        waiting = self.session.waiting(stream.stream_id)
        moved = waiting < stream.seen
        stream.seen = waiting
        if moved:
            self.deadlines.arm(stream, self.timeouts.write)
        return moved

    def forget(self, stream: S) -> None:
        """A stream is over."""
        self.deadlines.forget(stream)
        self.streams.pop(stream.stream_id, None)
