"""Round robin: each in turn.

Rule of this file: the turn is kept as *who had it last*, not as a number. When a backend leaves the candidates or comes
back, the turn goes to the next one in the pool's own order, so that nobody is skipped or served twice for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from balance.interfaces import IBalancer, ICandidate


@implementer(IBalancer)
class RoundRobin:
    """Candidates one after the other, whatever their weight. Costs about 100 ns."""

    __slots__ = ("_candidates", "_next", "_order")

    def __init__(self) -> None:
        self._order: dict[str, int] = {}
        self._candidates: Sequence[ICandidate] = ()
        #: Index into `_candidates` of the one whose turn it is.
        self._next = 0

    def set_members(self, members: Sequence[ICandidate]) -> None:
        """Take over the pool's order; whoever had the last turn keeps it, if still a member."""
        self._order = {member.name: index for index, member in enumerate(members)}

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        if candidates is not self._candidates:
            self._resume(candidates)
        index = self._next
        chosen = candidates[index]
        index += 1
        self._next = index if index < len(candidates) else 0
        return chosen

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        return "its turn" if len(candidates) > 1 else "the only one"

    def _resume(self, candidates: Sequence[ICandidate]) -> None:
        """Find whose turn it is among other candidates than last time."""
        order = self._order
        last = order.get(self._candidates[self._next - 1].name, -1) if self._candidates else -1
        self._candidates = candidates
        self._next = 0
        for index, candidate in enumerate(candidates):
            if order.get(candidate.name, -1) > last:
                self._next = index
                break
