"""Fake backends: servers in memory that do what the test tells them.

Rule of this file: a fake reads requests strictly, keeps them, and plays its script. It never decides anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from balance.errors import BackendError, ConnectRefused, ConnectTimeout
from balance.testing.behaviour import (
    CLOSE,
    RESET,
    Answer,
    Behaviour,
    Blackhole,
    Close,
    OnConnect,
    OnRequest,
    Refuse,
    Reply,
    Silence,
    Step,
    is_early,
    steps,
)
from balance.testing.memory import MemoryDial, Peer
from balance.testing.messages import Received, cut_head, feed

if TYPE_CHECKING:
    from twisted.internet.task import Clock


class FakeBackend:
    """One server. Without a script it answers every request with 200 and its own name.

    :ivar received: every request it got, in order; the last may still be coming
    :ivar dials: how many times Balance tried to connect to it
    """

    def __init__(self, name: str, clock: Clock, attribute: Callable[[Received], None]) -> None:
        self.name = name
        #: Told of each request that is received.
        self.attribute = attribute
        self.received: list[Received] = []
        self.dials = 0
        self._clock = clock
        self._default: Behaviour = Reply(body=f"{name}\n")
        self._script: deque[Behaviour] = deque()
        self._connections: list[FakeConnection] = []
        #: Those nobody has looked at yet.
        self._dials: list[MemoryDial] = []

    # --- what the test says -----------------------------------------------------------------------------------

    def always(self, behaviour: Behaviour) -> FakeBackend:
        """Do this from now on, whenever nothing of `then` is left."""
        self._default = behaviour
        self._shut_if_refusing()
        return self

    def then(self, *behaviours: Behaviour) -> FakeBackend:
        """Do these, each for one request (or one attempt to connect), before what is done always."""
        self._script += behaviours
        self._shut_if_refusing()
        return self

    def down(self) -> FakeBackend:
        """The server stops: connections are closed, new ones refused. `up` starts it again."""
        return self.always(Refuse())

    def up(self) -> FakeBackend:
        """Answer every request with 200 and the name; forget the script."""
        self._script.clear()
        return self.always(Reply(body=f"{self.name}\n"))

    def cut(self) -> FakeBackend:
        """Break every connection now (RST), whatever goes on there."""
        for connection in self._connections.copy():
            connection.end(RESET)
        return self

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def __repr__(self) -> str:
        return f"<FakeBackend {self.name}, {len(self.received)} requests received>"

    # --- what Balance does ------------------------------------------------------------------------------------

    def dialled(self, dial: MemoryDial) -> None:
        """Balance wants a connection."""
        self.dials += 1
        self._dials.append(dial)

    def pump(self) -> bool:
        """Answer dials, read what has arrived on all connections; whether there was anything."""
        dials, self._dials = self._dials, []
        for dial in dials:
            self._answer(dial)
        return bool(dials) or sum(connection.pump() for connection in self._connections.copy()) > 0

    def _answer(self, dial: MemoryDial) -> None:
        behaviour = self._next()
        if isinstance(behaviour, OnConnect):
            self._take()
        if isinstance(behaviour, Blackhole):
            if dial.timeout:
                self._clock.callLater(dial.timeout, self._refuse, dial, ConnectTimeout())
        elif not isinstance(behaviour, Refuse):
            self._accept(dial)
        elif behaviour.after > 0:
            self._clock.callLater(behaviour.after, self._refuse, dial, ConnectRefused())
        else:
            self._refuse(dial, ConnectRefused())

    def behaviour(self) -> OnRequest:
        """What is to be done with a request whose head is here. Who refuses connections closes this one."""
        behaviour = self._next()
        if isinstance(behaviour, OnConnect):
            return Close(early=True)
        self._take()
        return behaviour

    def closed(self, connection: FakeConnection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)

    def done(self) -> None:
        """A response is out: who refuses from now on closes its connections first."""
        self._shut_if_refusing()

    def _next(self) -> Behaviour:
        return self._script[0] if self._script else self._default

    def _take(self) -> Behaviour:
        return self._script.popleft() if self._script else self._default

    def _accept(self, dial: MemoryDial) -> None:
        if not dial.cancelled:
            # Known before Balance hears of it: it writes its request at once.
            self._connections.append(connection := FakeConnection(self, self._clock))
            connection.opened(dial)

    @staticmethod
    def _refuse(dial: MemoryDial, error: BackendError) -> None:
        if not dial.cancelled:
            dial.refuse(error)

    def _shut_if_refusing(self) -> None:
        if isinstance(self._next(), OnConnect):
            for connection in self._connections.copy():
                if connection.idle:
                    connection.end(CLOSE)


class FakeConnection:
    """One connection to a fake."""

    def __init__(self, backend: FakeBackend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._buffer = b""
        self._request: Received | None = None
        self._behaviour: OnRequest = Silence()
        self._answering = False
        self._waiting: list[bytes] = []
        self._calls: list[Any] = []
        self.peer: Peer

    def opened(self, dial: MemoryDial) -> None:
        self.peer = dial.accept()

    @property
    def idle(self) -> bool:
        """Nothing is asked, nothing is being answered."""
        return self._request is None and not self._answering and not self._buffer

    def pump(self) -> bool:
        """Read what Balance sent, see what it closed, and send what waited; whether there was anything."""
        transport = self.peer.transport
        data = self.peer.received()
        if data:
            self._buffer += data
            self._read()
        if transport.closed and not self.peer.gone:
            self.end(CLOSE)
            return True
        if self._waiting and not transport.paused:
            waiting, self._waiting = self._waiting, []
            for piece in waiting:
                self._send(piece)
            return True
        return bool(data)

    def _read(self) -> None:
        while self._buffer and not self.peer.gone:
            request = self._request
            if request is None:
                if self._buffer.startswith(b"PRI * HTTP/2"):
                    raise AssertionError(
                        f"{self._backend.name}: fakes speak HTTP/1.1; leave its `protocol` out of the test"
                    )
                cut = cut_head(self._buffer)
                if cut is None:
                    return
                block, self._buffer = cut
                request = self._request = Received(self._backend.name, self.peer.number, self._clock.seconds(), block)
                request.owner = getattr(self.peer.protocol, "exchange", None)
                self._backend.received.append(request)
                self._backend.attribute(request)
                self._begin(request)
            if not request.complete:
                data, self._buffer = self._buffer, b""
                if data:
                    self._buffer = feed(request, data)
            if request.complete:
                self._request = None
                self._ended(request)

    def _begin(self, request: Received) -> None:
        behaviour = self._behaviour = self._backend.behaviour()
        if isinstance(behaviour, Answer) and is_early(behaviour):
            self._play(steps(behaviour, request))

    def _ended(self, request: Received) -> None:
        behaviour = self._behaviour
        if not isinstance(behaviour, Answer) or not is_early(behaviour):
            self._play(steps(behaviour if isinstance(behaviour, Answer) else behaviour(request), request))

    def _play(self, todo: list[Step]) -> None:
        self._answering = True
        if todo:  # a silent one is never done
            self._step(todo)

    def _step(self, todo: list[Step]) -> None:
        """Do what has no delay at once, and the rest when its time has come."""
        while todo and not self.peer.gone:
            (delay, data, end), *todo = todo
            if delay > 0:
                self._calls.append(self._clock.callLater(delay, self._step, [(0.0, data, end), *todo]))
                return
            if data:
                self._send(data)
            if end in (CLOSE, RESET):
                self.end(end)
                return
        self._answering = False
        self._backend.done()

    def _send(self, data: bytes) -> None:
        if self.peer.transport.paused or self._waiting:
            self._waiting.append(data)
        elif not self.peer.gone:
            self.peer.send(data)

    def end(self, how: str) -> None:
        """The connection is over."""
        if self.peer.gone:
            return
        for call in self._calls:
            if call.active():
                call.cancel()
        self._backend.closed(self)
        if how == RESET:
            self.peer.reset()
        else:
            self.peer.close()
