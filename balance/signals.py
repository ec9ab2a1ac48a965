"""Signals. SIGTERM and SIGINT: the first asks to stop, the second insists. SIGUSR1: logs were moved away.

Rule of this file: a stop that was asked for is not a failure, so the process exits with 0. `twistd` would end it with
the signal that came (its reactor remembers the number), therefore the handlers are ours.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Seconds within which a second signal is the first one again: a shell, a supervisor and `timeout` may all pass it on.
SAME_REQUEST = 0.5


class _Reactor(Protocol):
    def callFromThread(self, callable: Callable[[], object]) -> object: ...

    def stop(self) -> object: ...


def install(
    reactor: _Reactor, insist: Callable[[], None], seconds: Callable[[], float] = time.monotonic
) -> Callable[[int, object], None]:
    """Take the signals over. To be called once the reactor runs: it installs its own handlers when it starts.

    :param insist: called from the second signal on, in the reactor's thread
    :param seconds: a clock that only goes forward
    :returns: the handler
    """
    first: float | None = None

    def handle(number: int, frame: object) -> None:
        nonlocal first
        now = seconds()
        asked, first = first, now if first is None else first  # before anything else: handlers interrupt each other
        if asked is None:
            reactor.callFromThread(reactor.stop)
        elif now - asked >= SAME_REQUEST:
            reactor.callFromThread(insist)

    for number in SIGNALS:
        signal.signal(number, handle)
    return handle


def on_rotate(reactor: _Reactor, reopen: Callable[[], None]) -> None:
    """Reopen a log at SIGUSR1, after whatever `twistd` does then (it rotates its own).

    :param reopen: called in the reactor's thread
    """
    before = signal.getsignal(signal.SIGUSR1)

    def handle(number: int, frame: Any) -> None:
        if callable(before):
            before(number, frame)
        reactor.callFromThread(reopen)

    signal.signal(signal.SIGUSR1, handle)
