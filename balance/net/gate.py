"""How many connections of clients a listener has at a time, at all its ports together.

Rule of this file: a place is taken when a connection is accepted and given back when its socket is closed, whatever
became of it meanwhile (TLS, HTTP/2, a tunnel). When all are taken nothing is accepted: clients wait in the kernel's
queue, and the next one is let in when a place is given back, as with HAProxy's ``maxconn``. Ports and transports
without a gate know nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.failure import Failure

from balance.net.ports import ACCEPTS, EagerPort, EagerUnixPort
from balance.net.transport import EagerConnection


class Gate:
    """
    :param limit: connections at a time, 1 at least
    :param shut: called whenever the last place was taken
    """

    __slots__ = ("_shut", "limit", "open", "ports")

    def __init__(self, limit: int, shut: Callable[[], None]) -> None:
        self.limit = limit
        self._shut = shut
        #: Connections there are.
        self.open = 0
        #: Those that are guarded.
        self.ports: Sequence[Any] = ()

    @property
    def room(self) -> int:
        """How many more may be accepted."""
        return self.limit - self.open

    def opened(self) -> None:
        self.open += 1
        if self.open == self.limit:
            for port in self.ports:
                port.stopReading()
            self._shut()

    def closed(self) -> None:
        self.open -= 1
        if self.open == self.limit - 1:
            for port in self.ports:
                if port.connected and not port.disconnecting:
                    port.startReading()


class _Guarded:
    """A port that accepts no more than its gate has room for."""

    gate: Gate
    accepts = most = ACCEPTS

    def doRead(self) -> None:
        self.accepts = self.numberAccepts = min(self.most, self.gate.room)  # Unix ports heed the latter: Twisted's way
        super().doRead()  # type: ignore[misc]


class GuardedPort(_Guarded, EagerPort):
    """A listening port with a gate."""


class GuardedUnixPort(_Guarded, EagerUnixPort):
    """A listening Unix socket with a gate."""


class _Counted(EagerConnection):
    """A connection that takes one of the places."""

    server: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.server.gate.opened()

    def connectionLost(self, reason: Failure) -> None:
        if hasattr(self, "socket"):  # Twisted may say it twice
            self.server.gate.closed()
        super().connectionLost(reason)


def guard(gate: Gate, ports: Sequence[Any]) -> None:
    """Put the gate in front of guarded ports, whose kind of transport is settled by now."""
    gate.ports = ports
    for port in ports:
        port.gate = gate
        port.most = port.accepts
        port.transport = type(f"Counted{port.transport.__name__}", (_Counted, port.transport), {})
