"""A socket whose connect is under way.

Rule of this file: one outcome, once. The kernel says "writable" when it is over, well or not, and puts an error or a
hang-up beside that when it is not.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from errno import ECONNREFUSED
from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadWriteDescriptor)
class Connecting:
    """
    :param outcome: given the socket, which is the callee's from then on, and an errno; 0 for connected
    """

    __slots__ = ("_outcome", "_reactor", "_socket")

    def __init__(self, sock: socket.socket, reactor: Any, outcome: Callable[[socket.socket, int], None]) -> None:
        self._socket = sock
        self._reactor = reactor
        self._outcome: Callable[[socket.socket, int], None] | None = outcome
        reactor.addWriter(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "dial"

    def connected(self) -> None:
        """The poller saw that it is writable, and nothing else. Whoever asks for the socket next (`addReader`) takes
        its place with the poller, too: only `LeanEPollReactor`, which can do that, calls this."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome(self._socket, 0)

    def doRead(self) -> None:
        """Not asked for."""

    def doWrite(self) -> None:
        """It is over, and how has to be asked."""
        self._over(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def connectionLost(self, reason: Failure) -> None:
        """The poller saw an error or a hang-up before it saw anything else."""
        if self._outcome is not None:
            self._over(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or ECONNREFUSED)

    def close(self) -> None:
        """Nobody waits for the outcome any more."""
        if self._outcome is not None:
            self._outcome = None
            self._reactor.removeWriter(self)
            self._socket.close()

    def _over(self, number: int) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._reactor.removeWriter(self)
            outcome(self._socket, number)
