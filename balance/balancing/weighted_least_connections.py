"""Weighted least connections: whoever has least to do for its size.

Rule of this file: load is active requests by weight, and equals take smooth weighted turns, as in nginx's
``least_conn``. So light traffic, where everybody is idle and equal, is spread by weight too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zope.interface import implementer

from balance.balancing.weighted_round_robin import WeightedRoundRobin, effective_weights
from balance.interfaces import IBalancer, ICandidate

_NEVER: Final = float("inf")


@implementer(IBalancer)
class WeightedLeastConnections:
    """The candidate with the fewest active requests for each unit of weight."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns = WeightedRoundRobin()

    def set_members(self, members: Sequence[ICandidate]) -> None:
        self._turns.set_members(members)

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        weights = effective_weights(candidates)
        # A float quotient is exact enough: equal fractions give equal quotients (IEEE 754 division rounds correctly).
        load = [c.active / weight if weight else _NEVER for c, weight in zip(candidates, weights, strict=True)]
        least = min(load)
        equals = load.count(least)
        if equals == 1:
            return candidates[load.index(least)]
        if equals == len(load):
            return self._turns.pick(candidates, key)
        return self._turns.pick([c for c, n in zip(candidates, load, strict=True) if n == least], key)

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        weights = dict(zip((candidate.name for candidate in candidates), effective_weights(candidates), strict=True))
        return (
            f"the fewest active requests for its weight: {chosen.active} by {weights[chosen.name]}; equals take turns"
        )
