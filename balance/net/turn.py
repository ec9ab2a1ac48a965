"""Work that is put together over one turn of the reactor, and done once at its end.

Rule of this file: the first to ask in a turn pays for a call by the reactor, the others for an entry in a list. It
makes one write out of what many streams of a connection have to say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.logger import Logger


class Later(Protocol):
    """What is needed of a reactor."""

    def callLater(self, delay: float, callable: Callable[[], object]) -> Any: ...


class Turn:
    """The end of the turn that is under way.

    :param clock: calls back, as soon as it can; by `at_end_of_turn`, where it has that (`LeanEPollReactor`)
    """

    __slots__ = ("_ask", "_waiting")

    _log = Logger()

    def __init__(self, clock: Later) -> None:
        self._ask: Callable[[Callable[[], None]], object] = getattr(clock, "at_end_of_turn", None) or partial(
            clock.callLater, 0
        )
        self._waiting: list[Callable[[], None]] = []

    def at_end(self, work: Callable[[], None]) -> None:
        """Do it when everything that waits has been read. Whoever asks twice is called twice."""
        if not self._waiting:
            self._ask(self._end)
        self._waiting.append(work)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            try:
                work()
            except BaseException:
                self._log.failure("work at the end of a turn failed")
