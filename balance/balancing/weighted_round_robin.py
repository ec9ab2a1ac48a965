"""Smooth weighted round robin, as nginx does it.

Rule of this file: on each pick every candidate gains its weight; the one with most is chosen and pays the sum. So
5:1:1 comes as ``a a b a c a a``, not as a burst of five (nginx, ``ngx_http_upstream_round_robin.c``).
What a backend has gained or owes is kept while it is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zope.interface import implementer

from balance.interfaces import IBalancer, ICandidate

_LOWEST: Final = -(1 << 62)


@implementer(IBalancer)
class WeightedRoundRobin:
    """Candidates in proportion to their weights, well mixed. Linear in their number."""

    __slots__ = ("_candidates", "_current", "_saved", "_total", "_weights")

    def __init__(self) -> None:
        self._candidates: Sequence[ICandidate] = ()
        self._current: list[int] = []
        self._weights: list[int] = []
        self._total = 0
        self._saved: dict[str, int] = {}

    def set_members(self, members: Sequence[ICandidate]) -> None:
        """Forget backends that are gone, and read the weights anew."""
        self._save()
        names = {member.name for member in members}
        self._saved = {name: current for name, current in self._saved.items() if name in names}
        self._candidates = ()
        self._current = []

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        if candidates is not self._candidates:
            self._resume(candidates)
        current = self._current
        best, most = 0, _LOWEST
        for index, weight in enumerate(self._weights):
            gained = current[index] = current[index] + weight
            if gained > most and weight:
                best, most = index, gained
        current[best] -= self._total
        return candidates[best]

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        total = sum(self._weights)
        return f"its turn: {self._weights[list(candidates).index(chosen)]} of {total} turns are its share"

    def _save(self) -> None:
        for candidate, current in zip(self._candidates, self._current, strict=True):
            self._saved[candidate.name] = current

    def _resume(self, candidates: Sequence[ICandidate]) -> None:
        self._save()
        self._candidates = candidates
        self._weights = effective_weights(candidates)
        self._total = sum(self._weights)
        self._current = [self._saved.get(candidate.name, 0) for candidate in candidates]


def effective_weights(candidates: Sequence[ICandidate]) -> list[int]:
    """Their weights; all 1 where all of them are 0, because somebody has to do the work."""
    weights: list[int] = [candidate.weight for candidate in candidates]
    return weights if any(weights) else [1] * len(weights)
