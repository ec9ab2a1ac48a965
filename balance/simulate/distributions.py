"""Where simulated numbers come from.

Rule of this file: a distribution is a table of its quantiles, and a draw is a place between 0 and 1. So the same
request has the same luck under two configurations, and what differs between them is what the configurations did.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import exp, log
from statistics import NormalDist
from typing import Final

#: Quantiles in a table. What happens to fewer than one request in this many is not told apart.
SIZE: Final = 8192
_P99: Final = NormalDist().inv_cdf(0.99)


class Quantiles:
    """A distribution of seconds. ``table[int(place * SIZE)]`` is a draw."""

    __slots__ = ("table",)

    def __init__(self, table: Sequence[float]) -> None:
        self.table = table


def _places() -> list[float]:
    return [(index + 0.5) / SIZE for index in range(SIZE)]


def constant(value: float) -> Quantiles:
    """Always the same."""
    return Quantiles([value] * SIZE)


def uniform(low: float, high: float) -> Quantiles:
    """Anything between the two alike."""
    return Quantiles([low + (high - low) * place for place in _places()])


def exponential(mean: float) -> Quantiles:
    """Without memory."""
    return Quantiles([-mean * log(1.0 - place) for place in _places()])


def lognormal(median: float, p99: float) -> Quantiles:
    """What most servers look like: half of the answers below the median, one in a hundred above ``p99``."""
    sigma = log(p99 / median) / _P99
    normal = NormalDist()
    return Quantiles([median * exp(sigma * normal.inv_cdf(place)) for place in _places()])


class Keys:
    """Which of ``count`` things: ``uniform``, or by Zipf's law with its exponent.

    :param exponent: of Zipf's law, 0 for all alike
    """

    __slots__ = ("_bounds", "count")

    def __init__(self, count: int, exponent: float = 0.0) -> None:
        self.count = count
        self._bounds: list[float] | None = None
        if exponent:
            weights = [1.0 / rank**exponent for rank in range(1, count + 1)]
            total = sum(weights)
            self._bounds = [bound / total for bound in accumulate(weights)]

    def draw(self, place: float) -> int:
        """From 0 to ``count`` - 1; the smaller, the more frequent.

        :param place: from 0 up to, but without, 1
        """
        if self._bounds is None:
            return int(place * self.count)
        return min(bisect_right(self._bounds, place), self.count - 1)
