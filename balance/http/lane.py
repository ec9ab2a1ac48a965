"""Waiting for filters, in the right order.

Rule of this file: what a filter may wait for is written as a generator, a step; whatever it yields is waited for here,
with a time limit, and what comes behind it waits too. A step that need not wait costs no more than its calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from balance.errors import FilterTimeout
from balance.net.deadlines import Timed

if TYPE_CHECKING:
    from balance.http.exchange import Exchange

_log = Logger()
#: Yields what filters return, and is sent what that came to.
Step = Generator[Any, Any, None]
_LATER: Final = (Deferred, CoroutineType)


class Lane(Timed):
    """Steps in one direction, one after the other. While one waits, what comes behind it is held back."""

    __slots__ = ("_closed", "_exchange", "_held", "_step", "_steps", "_waiting", "name")

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        #: The filter that is at work.
        self.name = ""
        self._exchange = exchange
        self._step: Step | None = None
        self._steps: deque[Step] | None = None
        self._waiting: Deferred[Any] | None = None
        self._held = False
        self._closed = False

    @property
    def free(self) -> bool:
        """Nothing is waited for."""
        return self._waiting is None

    def run(self, step: Step) -> None:
        """Do this now, or when everything before it is done."""
        if self._step is None:
            self._step = step
            self._go(None)
            return
        if self._steps is None:
            self._steps = deque()
        self._steps.append(step)
        if self._waiting is not None:
            self._hold()

    def _go(self, value: Any) -> None:
        """Go on with a value, or with a Failure, until there is nothing to do or something to wait for."""
        step = self._step
        assert step is not None
        while True:
            try:
                if isinstance(value, Failure):
                    result = value.throwExceptionIntoGenerator(step)
                else:
                    result = step.send(value)
            except StopIteration:
                if self._closed:
                    self._step = None
                    return
                if not self._steps:
                    break
                step = self._step = self._steps.popleft()
                value = None
                continue
            except Exception as error:
                self._step = None
                if not self._closed:
                    self._exchange.filtering.failed(self.name, error)
                return
            if self._closed:
                step.close()
                return
            value = result
            if isinstance(result, _LATER):
                results = self._wait(result)
                if not results:
                    return
                value = results[0]
        self._step = None
        if self._held:
            self._held = False
            self._exchange.filtering.release(self)

    def _wait(self, later: Deferred[Any] | CoroutineType[Any, Any, Any]) -> list[Any]:
        """What it came to, if it has; else nothing, and `_go` follows."""
        results: list[Any] = []
        try:
            deferred = later if isinstance(later, Deferred) else Deferred.fromCoroutine(later)
        except Exception:
            return [Failure()]
        deferred.addBoth(results.append)
        if not results:
            self._waiting = deferred
            proxy = self._exchange.proxy
            proxy.deadlines.arm(self, proxy.timeouts.filter)
            self._hold()
            deferred.addBoth(lambda _: self._fired(deferred, results))
        return results

    def _fired(self, deferred: Deferred[Any], results: list[Any]) -> None:
        if self._waiting is deferred:
            self._waiting = None
            self._exchange.proxy.deadlines.forget(self)
            self._go(results[0])

    def timed_out(self) -> None:
        self._cancel()
        self._go(Failure(FilterTimeout(f"filter {self.name}")))

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self._exchange.filtering.hold(self)

    def _cancel(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            try:
                waiting.cancel()
            except Exception:
                _log.failure("filter {name}: what it waits for cannot be cancelled", name=self.name)

    def close(self) -> None:
        """The exchange is over: nothing is waited for any more."""
        self._closed = True
        self._exchange.proxy.deadlines.forget(self)
        for step in self._steps or ():
            step.close()
        self._steps = None
        if self._waiting is not None:
            step, self._step = self._step, None  # type: ignore[assignment]
            self._cancel()
            step.close()
