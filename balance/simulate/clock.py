"""Simulated time.

Rule of this file: what is due happens in the order of its time, and of its making where times are equal. Nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

_Event = tuple[float, int, Callable[[Any], None], Any]


class SimulatedClock:
    """A heap of things to come; stands where a reactor stands (`balance.net.deadlines.Clock`).

    :ivar now: seconds since the start
    """

    __slots__ = ("_heap", "_numbers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[_Event] = []
        self._numbers = count().__next__

    def seconds(self) -> float:
        return self.now

    def at(self, time: float, function: Callable[[Any], None], argument: Any) -> None:
        """Call ``function(argument)`` at that time. It cannot be taken back: the function finds out by itself."""
        heappush(self._heap, (time, self._numbers(), function, argument))

    def callLater(self, delay: float, callable: Callable[[], object]) -> _Call:
        call = _Call(callable)
        self.at(self.now + delay, _Call.fire, call)
        return call

    def run_until(self, time: float) -> None:
        """Let everything happen that is due up to then."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            now, _, function, argument = heappop(heap)
            self.now = now
            function(argument)
        self.now = time

    def step(self) -> bool:
        """Let the next thing happen; False when there is none."""
        if not self._heap:
            return False
        self.now, _, function, argument = heappop(self._heap)
        function(argument)
        return True


class _Call:
    """A delayed call, as Twisted has it."""

    __slots__ = ("_callable",)

    def __init__(self, callable: Callable[[], object]) -> None:
        self._callable: Callable[[], object] | None = callable

    def active(self) -> bool:
        return self._callable is not None

    def cancel(self) -> None:
        self._callable = None

    def fire(self) -> None:
        function, self._callable = self._callable, None
        if function is not None:
            function()
