"""SIGTERM and SIGINT: the first asks to stop, the second insists.

Rule of this file: a stop that was asked for is not a failure, so the process exits with 0. `twistd` would end it with
the signal that came (its reactor remembers the number), therefore the handlers are ours.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Reactor(Protocol):
    def callFromThread(self, callable: Callable[[], object]) -> object: ...

    def stop(self) -> object: ...


def install(reactor: _Reactor, insist: Callable[[], None]) -> None:
    """Take the signals over. To be called once the reactor runs: it installs its own handlers when it starts.

    :param insist: called from the second signal on, in the reactor's thread
    """
    stopping = False

    def handle(number: int, frame: object) -> None:
        nonlocal stopping
        reactor.callFromThread(insist if stopping else reactor.stop)
        stopping = True

    for number in SIGNALS:
        signal.signal(number, handle)
