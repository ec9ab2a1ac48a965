"""Time limits without a timer for each of them.

Rule of this file: arming is a comparison and two stores. One coarse clock looks, each tick, at one bucket of things
that may have expired; a thing whose deadline was moved on meanwhile is put into a later bucket then, not when it was
moved.
(The lazy timer of libevent and of Linux's TCP keep-alive.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from twisted.logger import Logger

from balance.net.turn import Turn

_NEVER: Final = float("inf")


class _DelayedCall(Protocol):
    def cancel(self) -> None: ...

    def active(self) -> bool: ...


class Clock(Protocol):
    """What is needed of a reactor (IReactorTime); `twisted.internet.task.Clock` has it too."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[[], object]) -> _DelayedCall: ...


class Timed:
    """Something with a time limit. ``deadline`` is 0 while there is none.

    ``_due`` is when the bucket it lies in comes up; it lies in one at most.
    """

    __slots__ = ("_due", "deadline")

    def __init__(self) -> None:
        self.deadline = 0.0
        self._due = _NEVER

    def timed_out(self) -> None:
        """The limit has passed, and none is set now."""
        raise NotImplementedError


class Deadlines:
    """The time limits of one reactor.

    A limit fires at the first tick after it has passed: never early, and up to three ticks late.

    :param clock: calls back
    :param tick: seconds between looks
    :param seconds: tells the time, and only goes forward (a reactor's own jumps when the machine's clock is set)
    """

    _log = Logger()

    def __init__(self, clock: Clock, tick: float = 0.25, seconds: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._seconds = seconds or clock.seconds
        self._tick = tick
        self._call: _DelayedCall | None = None
        #: The same clock's turns.
        self.turn = Turn(clock)
        self._buckets: dict[int, set[Timed]] = {}
        #: Seconds, as of the last tick.
        self.now = self._seconds()
        #: `now` may be a tick old: so that nothing ever fires early, limits count from the tick to come.
        self._soonest = self.now + tick
        self._swept = int(self.now / tick)

    def start(self) -> None:
        """Begin to tick."""
        self._look_at_clock()
        self._call = self._clock.callLater(self._tick, self._on_tick)

    def _look_at_clock(self) -> None:
        self.now = self._seconds()
        self._soonest = self.now + self._tick

    def stop(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def soon(self, callback: Callable[[], object]) -> None:
        """Call back in the next turn of the reactor."""
        self._clock.callLater(0, callback)

    def arm(self, timed: Timed, seconds: float) -> None:
        """Give it ``seconds`` from now, whatever it had before. 0 or less: no limit."""
        if seconds <= 0:
            timed.deadline = 0.0
            return
        deadline = timed.deadline = self._soonest + seconds
        if deadline < timed._due:
            if timed._due != _NEVER:
                self._take_out(timed)
            self._put(timed, deadline)

    def disarm(self, timed: Timed) -> None:
        """No limit for now. It stays where it lies: most are armed again soon."""
        timed.deadline = 0.0

    def forget(self, timed: Timed) -> None:
        """No limit any more: it is at its end, and nothing here may keep it alive."""
        timed.deadline = 0.0
        if timed._due != _NEVER:
            self._take_out(timed)

    def _take_out(self, timed: Timed) -> None:
        bucket = self._buckets.get(round(timed._due / self._tick))
        if bucket is not None:
            bucket.discard(timed)
        timed._due = _NEVER

    def _put(self, timed: Timed, deadline: float) -> None:
        """Into the bucket that comes up next after the deadline."""
        bucket = int(deadline / self._tick) + 1
        timed._due = bucket * self._tick
        waiting = self._buckets.get(bucket)
        if waiting is None:
            self._buckets[bucket] = {timed}
        else:
            waiting.add(timed)

    def _on_tick(self) -> None:
        self._call = self._clock.callLater(self._tick, self._on_tick)
        self._look_at_clock()
        last = int(self.now / self._tick)
        if last - self._swept > len(self._buckets):
            due = sorted(bucket for bucket in self._buckets if bucket <= last)
        else:
            due = [bucket for bucket in range(self._swept + 1, last + 1) if bucket in self._buckets]
        self._swept = last
        for bucket in due:
            waiting = self._buckets.pop(bucket)
            while waiting:  # one that fires may forget others
                self._look(waiting.pop())

    def _look(self, timed: Timed) -> None:
        timed._due = _NEVER
        deadline = timed.deadline
        if not deadline:
            return
        if deadline > self.now:
            self._put(timed, deadline)
            return
        timed.deadline = 0.0
        try:
            timed.timed_out()
        except Exception:
            self._log.failure("a time limit could not be enforced")
