"""Twisted's epoll reactor with a shorter way for our own connections.

Rule of this file: only the plain cases are short (something to read on one of our connections, one that was dialled,
one to accept). Everything else, errors and writes that wait and other people's descriptors, goes Twisted's way.
"""

from __future__ import annotations

import errno
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet import main
from twisted.python import log

try:
    from twisted.internet.epollreactor import EPollReactor
except ImportError:  # not Linux
    EPollReactor = None  # type: ignore[assignment,misc]

from balance.net.connecting import Connecting
from balance.net.ports import EagerPort
from balance.net.transport import TRY_LATER, EagerConnection, Outbox


def install_lean_reactor() -> bool:
    """Make `LeanEPollReactor` the reactor, if there is none yet and the platform has epoll.

    Balance works on any reactor; on others it costs some microseconds more for each event.

    :returns: whether it is installed now
    """
    if "twisted.internet.reactor" in sys.modules or EPollReactor is None:
        return False
    from twisted.internet.main import installReactor

    installReactor(LeanEPollReactor())
    return True


#: Events that are handled in one step, and bytes that are read in it, more or less.
STEP_EVENTS: Final = 64
_STEP_BYTES: Final = 512 * 1024

if EPollReactor is not None:
    _IN, _OUT = select.EPOLLIN, select.EPOLLOUT
    #: Something to read; and that, and after it the end of both directions.
    _READABLE = (_IN, select.EPOLLIN | select.EPOLLHUP)

    class LeanEPollReactor(EPollReactor):
        """A turn goes in steps: some connections are read, then what they said is handled, then what that made is sent.

        So the kernel's reading, our own work and the kernel's sending run many times in a row each, and are found in
        the processor's caches (vector packet processing, as VPP does it). No log context, and no three calls, for each
        event.
        """

        def __init__(self) -> None:
            #: Connections with something to send.
            self.outbox = Outbox()
            self._at_end: list[Callable[[], object]] = []
            super().__init__()

        def at_end_of_turn(self, work: Callable[[], object]) -> None:
            """Call it when all that the poller reported has been handled; it does not raise. What `callLater` with no
            delay does, for a tenth of its cost."""
            self._at_end.append(work)

        def doPoll(self, timeout: float | None) -> None:
            if self._at_end:
                timeout = 0.0
            try:
                events = self._poller.poll(-1 if timeout is None else timeout, max(1, len(self._selectables)))
            except OSError as error:
                if error.errno == errno.EINTR:
                    return
                raise
            if len(events) <= STEP_EVENTS:
                self._step(events)
            else:
                # What one step closes, another may take the number of: those events are nobody's any more.
                selectables = self._selectables
                owned = [(selectables.get(fd), (fd, event)) for fd, event in events]
                for start in range(0, len(owned), STEP_EVENTS):
                    step = owned[start : start + STEP_EVENTS]
                    self._step([each for owner, each in step if selectables.get(each[0]) is owner])
            if self._at_end:
                self.outbox.open = True
                works, self._at_end = self._at_end, []
                for work in works:
                    work()
                self.outbox.send()

        doIteration = doPoll

        def _step(self, events: Sequence[tuple[int, int]]) -> None:
            selectables = self._selectables
            # Read.
            ready: list[tuple[EagerConnection, bytes | None]] = []
            failed: list[EagerConnection] = []
            others: list[tuple[Any, int, int]] = []
            left = _STEP_BYTES
            for fd, event in events:
                selectable = selectables.get(fd)
                if event not in _READABLE or not isinstance(selectable, EagerConnection):
                    others.append((selectable, fd, event))
                elif left <= 0 or selectable.by_itself:
                    ready.append((selectable, None))  # it reads by itself
                else:
                    try:
                        data = selectable.socket.recv(selectable.read_size)
                    except OSError as error:
                        if error.args[0] not in TRY_LATER:
                            failed.append(selectable)
                        continue
                    left -= len(data)
                    ready.append((selectable, data))
            # Handle.
            outbox = self.outbox
            outbox.open = True
            why: BaseException | None
            for connection, found in ready:
                if connection.reading:
                    try:
                        why = connection.doRead() if found is None else connection.received(found)
                    except BaseException as error:  # whatever it is: the others of this step have been read
                        log.err()
                        why = error
                    if why is not None:
                        self._over(connection, why)
                elif found:  # an earlier one of this step closed it, or paused it
                    connection.keep(found)
            for connection in failed:
                if connection.connected:
                    self._over(connection, main.CONNECTION_LOST)
            for selectable, fd, event in others:
                # Not closed by an earlier event, with its number given to another one.
                if selectable is not None and selectables.get(fd) is selectable:
                    self._handle_other(selectable, fd, event)
            # Send.
            outbox.send()

        def _over(self, connection: EagerConnection, why: BaseException) -> None:
            """It cannot be read any more."""
            if why is main.CONNECTION_DONE:
                try:
                    connection.input_ended()
                    return
                except BaseException as error:
                    log.err()
                    why = error
            try:
                self._disconnectSelectable(connection, why, True)
            except BaseException:
                log.err()

        def _handle_other(self, selectable: Any, fd: int, event: int) -> None:
            if event == _OUT and isinstance(selectable, Connecting):
                try:
                    selectable.connected()
                except BaseException as error:
                    log.err()
                    self._disconnectSelectable(selectable, error, False)
            elif event == _IN and isinstance(selectable, EagerPort):
                selectable.doRead()
            else:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)

        def deliver_kept(self, connection: EagerConnection) -> None:
            """It is read again, and some was read already: that first."""
            found = connection.kept()
            if not found:
                return
            why: BaseException | None
            try:
                why = connection.received(found)
            except BaseException as error:
                log.err()
                why = error
            if why is not None:
                self._over(connection, why)
            elif connection.reading:
                self.addReader(connection)

        def addReader(self, reader: Any) -> None:
            """As ever; and a connection takes over the descriptor of the `Connecting` it comes from."""
            fd = reader.fileno()
            if fd in self._writes and isinstance(self._selectables[fd], Connecting):
                self._poller.modify(fd, _IN)
                self._writes.discard(fd)
                self._reads.add(fd)
                self._selectables[fd] = reader
            else:
                super().addReader(reader)
