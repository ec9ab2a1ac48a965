"""Bytes from one socket to another within the kernel (Linux' splice(2), as HAProxy's `option splice-auto` does it).

Rule of this file: a splice takes the place of a transport's `doRead` and of the other's `doWrite`, at a moment when
nothing is queued between them; from then on, bytes are either with the kernel's sockets or in one pipe, in order.
Ends and errors are reported by the very return values that `doRead` and `doWrite` have, so nobody else needs to know.
"""

from __future__ import annotations

import fcntl
import os
from errno import EAGAIN, EINTR
from typing import Any, Final, Protocol

from twisted.internet import main

from balance.net.transport import EagerConnection

#: Size of a pipe, and of a single move. (The most an unprivileged process may ask for.)
PIPE_SIZE: Final = 1024 * 1024
_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
AVAILABLE: Final = hasattr(os, "splice")


class Mover(Protocol):
    """Whose bytes are moved."""

    ended: bool

    def count(self, size: int) -> None: ...

    @property
    def relay(self) -> Any: ...


class Splice:
    """One direction. ``held`` is the number of bytes in the pipe."""

    __slots__ = ("_owner", "_read", "_size", "_source", "_target", "_write", "held")

    def __init__(self, source: EagerConnection, target: EagerConnection, owner: Mover, pipe: tuple[int, int]) -> None:
        self._source = source
        self._target = target
        self._owner = owner
        self._read, self._write = pipe
        self._size = 65536
        try:
            self._size = fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # the user's share of pipe memory is used up: a small pipe does it, too
        self.held = 0

    @classmethod
    def between(cls, source: EagerConnection, target: EagerConnection, owner: Mover) -> Splice | None:
        """Take over; None where the platform cannot, or no descriptors are left."""
        if not AVAILABLE:
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        splice = cls(source, target, owner, pipe)
        source.doRead = splice.read  # type: ignore[method-assign]
        target.doWrite = splice.write  # type: ignore[method-assign]
        return splice

    def read(self) -> Any:
        """In place of the source's `doRead`."""
        if self.held:
            return None  # what waits goes first; `write` lets the source be read again
        try:
            size = os.splice(self._source.fileno(), self._write, self._size, flags=_FLAGS)
        except OSError as error:
            return None if error.errno in (EAGAIN, EINTR) else main.CONNECTION_LOST
        if not size:
            return main.CONNECTION_DONE
        self.held = size
        self._owner.count(size)
        if self._move() or self.held:
            self._source.stopReading()
            self._target.startWriting()  # `write` goes on, and meets an error where it can be reported
        return None

    def write(self) -> Any:
        """In place of the target's `doWrite`."""
        if self.held:
            lost = self._move()
            if lost is not None:
                return lost
            if self.held:
                return None
            self._owner.count(0)  # progress, for time limits
            if self._owner.ended:
                self._owner.relay.splice_drained(self._owner)
            elif self._source.connected and not self._source.disconnecting:
                self._source.startReading()
        return EagerConnection.doWrite(self._target)

    def _move(self) -> Any:
        """Out of the pipe, as much as the target takes."""
        try:
            while self.held:
                self.held -= os.splice(self._read, self._target.fileno(), self.held, flags=_FLAGS)
        except OSError as error:
            if error.errno not in (EAGAIN, EINTR):
                return main.CONNECTION_LOST
        return None

    def close(self) -> None:
        """Give the pipe back; what it holds is lost, as a reset loses it."""
        if self._write >= 0:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1
            self.held = 0
            self._source.__dict__.pop("doRead", None)
            self._target.__dict__.pop("doWrite", None)
