"""When another attempt is safe, and how many the backends can bear.

Rule of this file: safety is a matter of the protocol (RFC 9110, section 9.2.2), so nothing can switch it off; the
budget is a matter of load, and takes no time on the way of a request that goes well.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Final

from balance.errors import ExchangeError, Retry

#: RFC 9110, section 9.2.2, without TRACE, which is not served.
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

#: Seconds after which 63 % of the past is forgotten. Finagle's budget has the same.
WINDOW: Final = 10.0


def is_idempotent(method: bytes) -> bool:
    """Whether doing it twice is meant to be the same as doing it once. Methods are case-sensitive."""
    return method in _IDEMPOTENT


def may_retry(error: ExchangeError, method: bytes, *, replayable: bool) -> bool:
    """Whether another attempt is safe.

    :param error: what ended the attempt; knows how far the request had come
    :param replayable: the whole request body so far is still at hand
    """
    if error.retry in (Retry.UNSENT, Retry.UNPROCESSED):
        return replayable
    return error.retry is Retry.IDEMPOTENT and replayable and is_idempotent(method)


class RetryBudget:
    """Retries as a share of the requests of late, so that they cannot multiply an overload (Finagle's ``RetryBudget``;
    the minimum is Envoy's).

    Requests are not counted here but read from a counter when a retry is wanted. They are taken to have come evenly
    since the last reading.

    :param requests: gives the number of requests since the start; only ever grows
    :param now: seconds, on the clock that `withdraw` is given
    :param ratio: retries for each request
    :param minimum: retries within the window that are allowed however few requests there are
    :param window: seconds in which the past fades
    """

    __slots__ = ("_minimum", "_ratio", "_recent", "_requests", "_retries", "_seen", "_then", "_window", "refused")

    def __init__(
        self,
        requests: Callable[[], int],
        now: float,
        ratio: float = 0.2,
        minimum: int = 3,
        window: float = WINDOW,
    ) -> None:
        self._requests = requests
        self._ratio = ratio
        self._minimum = minimum
        self._window = window
        self._seen = requests()
        self._then = now
        self._recent = 0.0
        self._retries = 0.0
        #: Retries that were wanted and not granted.
        self.refused = 0

    def withdraw(self, now: float) -> bool:
        """Take one retry out of the budget, if it holds one.

        :param now: seconds, on a clock that only goes forward
        """
        self._fade(now)
        if self._retries >= max(self._minimum, self._ratio * self._recent):
            self.refused += 1
            return False
        self._retries += 1
        return True

    def _fade(self, now: float) -> None:
        """Bring both counts to now: old ones fade by exp(-t / window), those that came since faded on the way."""
        total = self._requests()
        new, self._seen = total - self._seen, total
        ages = max(0.0, now - self._then) / self._window
        self._then = now
        if ages:
            kept = exp(-ages)
            self._recent = self._recent * kept + new * (1 - kept) / ages
            self._retries *= kept
        else:
            self._recent += new
