"""Least connections: whoever has least to do.

Rule of this file: ties go in turn. When traffic is light most picks are ties, and giving those to the first of the list
would leave the others idle.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from balance.balancing.round_robin import RoundRobin
from balance.interfaces import IBalancer, ICandidate


@implementer(IBalancer)
class LeastConnections:
    """The candidate with the fewest active requests, whatever its weight; round robin among equals."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns = RoundRobin()

    def set_members(self, members: Sequence[ICandidate]) -> None:
        self._turns.set_members(members)

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        active = [candidate.active for candidate in candidates]
        least = min(active)
        equals = active.count(least)
        if equals == 1:
            return candidates[active.index(least)]
        if equals == len(active):
            return self._turns.pick(candidates, key)
        return self._turns.pick([c for c, n in zip(candidates, active, strict=True) if n == least], key)

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        equals = [candidate.name for candidate in candidates if candidate.active == chosen.active]
        turn = f"; {', '.join(equals)} have as many and take turns" if len(equals) > 1 else ""
        return f"the fewest active requests: {chosen.active}{turn}"
