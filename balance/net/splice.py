"""Bytes from one socket to another within the kernel (Linux' splice(2), as HAProxy's `option splice-auto` does it).

Rule of this file: a splice takes the place of a transport's `doRead` and of the other's `doWrite`, at a moment when
nothing is queued between them; from then on, bytes are either with the kernel's sockets or in one pipe, in order.
Ends and errors are reported by the very return values that `doRead` and `doWrite` have, so nobody else needs to know.
A pipe belongs to a splice only while bytes are in it, so those who take what they are sent share one.
"""

from __future__ import annotations

import fcntl
import os
from errno import EAGAIN, EINTR
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet import main

from balance.net.transport import EagerConnection

#: Size of a pipe, and of a single move. (The most an unprivileged process may ask for.)
PIPE_SIZE: Final = 1024 * 1024
#: A pipe that holds less than a read does is not worth it. (Pipes beyond a user's share of pipe memory are tiny.)
_SMALLEST: Final = 64 * 1024
#: Fewer bytes than that are read and written as usual.
WORTHWHILE: Final = 64 * 1024
_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
AVAILABLE: Final = hasattr(os, "splice")


class Pipe(NamedTuple):
    """Two descriptors, and how many bytes may be between them."""

    read: int
    write: int
    size: int

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """The pipes of a process.

    :param most: in use at a time; what is beyond goes through our own memory
    :param spare: empty ones that are kept
    """

    def __init__(self, most: int = 256, spare: int = 8) -> None:
        self._most = most
        self._spare = spare
        self._free: list[Pipe] = []
        #: Pipes with bytes in them.
        self.used = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None where there is none to be had."""
        if self._free:
            self.used += 1
            return self._free.pop()
        if self.used >= self._most:
            return None
        try:
            read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        pipe = Pipe(read, write, _enlarge(write))
        if pipe.size < _SMALLEST:
            pipe.close()
            return None
        self.used += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """It is empty again."""
        self.used -= 1
        if len(self._free) < self._spare:
            self._free.append(pipe)
        else:
            pipe.close()

    def drop(self, pipe: Pipe) -> None:
        """It is not empty: nobody else may ever get it."""
        self.used -= 1
        pipe.close()


def _enlarge(descriptor: int) -> int:
    """How large the pipe is, after trying to make it larger."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


PIPES: Final = Pipes()


class Mover(Protocol):
    """Whose bytes are moved."""

    @property
    def room(self) -> int:
        """How many of the bytes to come nobody has to look at."""

    def count(self, size: int) -> None:
        """That many bytes have come from the source."""

    def stalled(self) -> None:
        """Some of them wait: the source is not read until `drained`."""

    def drained(self) -> None:
        """Nothing waits any more: the source may be read again."""


class Splice:
    """One direction. ``held`` is the number of bytes in its pipe.

    :param pipes: where pipes come from
    """

    __slots__ = ("_owner", "_pipe", "_pipes", "_source", "_target", "held")

    def __init__(self, source: EagerConnection, target: EagerConnection, owner: Mover, pipes: Pipes = PIPES) -> None:
        self._source = source
        self._target = target
        self._owner = owner
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self.held = 0
        source.by_itself = True
        source.doRead = self.read  # type: ignore[method-assign]
        target.doWrite = self.write  # type: ignore[method-assign]

    def read(self) -> Any:
        """In place of the source's `doRead`."""
        if self.held:
            return None  # what waits goes first; `drained` lets the source be read again
        room = self._owner.room
        pipe = self._pipes.take() if room >= WORTHWHILE and not self._target.pending else None
        if pipe is None:
            return EagerConnection.doRead(self._source)
        try:
            size = os.splice(self._source.fileno(), pipe.write, min(room, pipe.size), flags=_FLAGS)
        except OSError as error:
            self._pipes.give(pipe)
            return None if error.errno in (EAGAIN, EINTR) else main.CONNECTION_LOST
        if not size:
            self._pipes.give(pipe)
            return main.CONNECTION_DONE
        self._pipe = pipe
        self.held = size
        self._owner.count(size)
        if self._move() is not None:
            self._target.broken = True  # `write` meets it again, where it can be reported
        if self.held:
            self._source.stopReading()
            self._target.startWriting()
            self._owner.stalled()
        return None

    def write(self) -> Any:
        """In place of the target's `doWrite`."""
        if not self.held:
            return EagerConnection.doWrite(self._target)
        lost = self._move()
        if lost is None and not self.held:
            self._target.stopWriting()
            self._owner.drained()
        return lost

    def _move(self) -> Any:
        """Out of the pipe, as much as the target takes."""
        pipe = self._pipe
        assert pipe is not None
        try:
            while self.held:
                self.held -= os.splice(pipe.read, self._target.fileno(), self.held, flags=_FLAGS)
        except OSError as error:
            return None if error.errno in (EAGAIN, EINTR) else main.CONNECTION_LOST
        self._pipe = None
        self._pipes.give(pipe)
        return None

    def close(self) -> None:
        """Undo it; what the pipe holds is lost, as a reset loses it."""
        self._source.by_itself = False
        self._source.__dict__.pop("doRead", None)
        self._target.__dict__.pop("doWrite", None)
        pipe, self._pipe, self.held = self._pipe, None, 0
        if pipe is not None:
            self._pipes.drop(pipe)
