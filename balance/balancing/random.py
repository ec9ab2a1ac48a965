"""Power of two choices (Mitzenmacher, "The power of two choices in randomized load balancing", 1996).

Rule of this file: look at two, take the less busy. Close to least connections at a fraction of the work, and several
proxies in front of the same backends do not run after the same one, as they do with least connections.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate
from random import Random

from zope.interface import implementer

from balance.balancing.weighted_round_robin import effective_weights
from balance.interfaces import IBalancer, ICandidate


@implementer(IBalancer)
class RandomChoice:
    """Of two candidates drawn by weight, the one with fewer active requests for its weight.

    :param random: where chance comes from; seeded in tests
    """

    __slots__ = ("_bounds", "_candidates", "_generator", "_random", "_weights")

    def __init__(self, random: Random | None = None) -> None:
        self._generator = random or Random()
        self._random = self._generator.random
        self._candidates: Sequence[ICandidate] | None = None
        self._weights: list[int] = []
        #: Running sums of the weights; a draw is a place among them.
        self._bounds: list[int] = []

    def set_members(self, members: Sequence[ICandidate]) -> None:
        """Weights may have changed: read them again."""
        self._candidates = None

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        if candidates is not self._candidates:
            self._candidates = candidates
            self._weights = effective_weights(candidates)
            self._bounds = list(accumulate(self._weights))
        first = self._draw(self._bounds[-1])
        weight = self._weights[first]
        one = candidates[first]
        if weight == self._bounds[-1]:
            return one  # nobody else has any weight
        second = self._draw_other(first, weight)
        other = candidates[second]
        return one if one.active * self._weights[second] <= other.active * weight else other

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        return f"the less busy of two drawn by weight ({chosen.active} active requests); the next draw is another one"

    def __deepcopy__(self, memo: dict[int, object]) -> RandomChoice:
        """With chance of its own: what a copy draws does not change what this one will."""
        copy = RandomChoice(deepcopy(self._generator))
        copy._candidates, copy._weights, copy._bounds = self._candidates, self._weights, self._bounds
        return copy

    def _draw(self, total: int) -> int:
        return self._at(self._random() * total)

    def _draw_other(self, taken: int, weight: int) -> int:
        """Draw from all but one: its stretch is stepped over."""
        place = self._random() * (self._bounds[-1] - weight)
        if place >= self._bounds[taken] - weight:
            place += weight
        return self._at(place)

    def _at(self, place: float) -> int:
        # The upper limit is for a product that rounds up to the total, once in 2**53.
        return bisect_right(self._bounds, place, 0, len(self._bounds) - 1)
