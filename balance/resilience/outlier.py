"""Passive health: judging a backend by the traffic it gets (Envoy calls it outlier detection).

Rule of this file: one backend, no timer, no pool. It is told what happened and when; whether the pool can do without
the backend is for others to know. Times are seconds on any clock that only goes forward.

    healthy --failures in a row, or too many of all--> ejected --time is over--> probing --success--> healthy
                                                          ^------------------------failure------'
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

HEALTHY: Final = "healthy"
EJECTED: Final = "ejected"
PROBING: Final = "probing"


@dataclass(frozen=True, slots=True)
class OutlierRules:
    """When a backend is taken out, and for how long.

    The defaults are Envoy's, but for the share: half a pool instead of a tenth, as most pools are small.

    :param consecutive_failures: failures in a row that eject a backend; 0 for never
    :param ejection_time: seconds of the first ejection; the n-th in a short time lasts n times that
    :param max_ejection_time: seconds no ejection exceeds
    :param max_ejected: share of a pool, 0 to 1, that may be out at a time; the last backend never is
    :param error_rate: share of failed requests, above 0 to 1, that ejects a backend; 0 for never
    :param window: seconds over which the error rate is taken
    :param minimum_requests: fewer requests in the window than this say nothing about a rate
    """

    consecutive_failures: int = 5
    ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejected: float = 0.5
    error_rate: float = 0.0
    window: float = 60.0
    minimum_requests: int = 20


DEFAULT_RULES: Final = OutlierRules()
#: Passive health switched off: failures are counted, and nothing follows.
NEVER: Final = OutlierRules(consecutive_failures=0)


class Outlier:
    """The passive health of one backend.

    `state` is `HEALTHY`, `EJECTED` or `PROBING`; `streak` counts failures in a row; `ejections` counts up for
    statistics; `until` is when the ejection ends, or when a probe that brought no verdict is given up.
    """

    __slots__ = ("_level", "_recovered_at", "_samples", "ejections", "rules", "state", "streak", "until")

    def __init__(self, rules: OutlierRules) -> None:
        self.rules = rules
        self.state = HEALTHY
        self.streak = 0
        self.ejections = 0
        self.until = 0.0
        #: How many times `ejection_time` the last ejection was; sinks by one for each `ejection_time` of health.
        self._level = 0
        self._recovered_at = 0.0
        #: (time, requests ended, failures) at each look, none older than the window but the first.
        self._samples: deque[tuple[float, int, int]] = deque()

    def succeeded(self, now: float) -> None:
        """A request ended well."""
        self.streak = 0
        if self.state is PROBING:
            self.state = HEALTHY
            self._recovered_at = now
            self._samples.clear()

    def failed(self) -> bool:
        """A request failed through the backend's fault; whether that is reason to eject it."""
        self.streak += 1
        if self.state is PROBING:
            return True
        limit = self.rules.consecutive_failures
        return self.state is HEALTHY and 0 < limit <= self.streak

    def eject(self, now: float) -> None:
        """Take the backend out: for longer, if it has been out lately."""
        rules = self.rules
        if self.state is HEALTHY:
            self._level = max(0, self._level - int((now - self._recovered_at) // rules.ejection_time))
        self._level += 1
        self.until = now + min(rules.ejection_time * self._level, rules.max_ejection_time)
        self.state = EJECTED
        self.streak = 0
        self.ejections += 1

    def probe(self, now: float) -> None:
        """The time is over (or the last probe was): let one request through."""
        self.state = PROBING
        self.until = now + self.rules.ejection_time

    def sample(self, now: float, ended: int, failures: int) -> bool:
        """Look at the error rate, about once a second; whether it is reason to eject the backend.

        :param ended: requests that have ended since the start, however they did
        :param failures: those of them that failed through the backend's fault
        """
        rules = self.rules
        if not rules.error_rate or self.state is not HEALTHY:
            return False
        samples = self._samples
        samples.append((now, ended, failures))
        while len(samples) > 1 and samples[1][0] <= now - rules.window:
            samples.popleft()
        _, ended_before, failures_before = samples[0]
        requests = ended - ended_before
        return requests >= max(1, rules.minimum_requests) and failures - failures_before >= rules.error_rate * requests
