"""Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018; arXiv:1608.01350).

Rule of this file: nobody gets more than ``load_factor`` times its fair share of the active requests. A key whose owner
is at its bound goes to the next one on the ring, so a hot key spreads only as far as it has to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

from zope.interface import implementer

from balance.balancing.least_connections import LeastConnections
from balance.balancing.ring import VIRTUAL_NODES, RingView
from balance.interfaces import IBalancer, ICandidate

LOAD_FACTOR: Final = 1.25


@implementer(IBalancer)
class BoundedConsistentHash:
    """The owner of the key, or the next with room. Requests without a key go to the least loaded.

    :param load_factor: the bound, in fair shares; above 1
    :param virtual_nodes: points on the ring for each unit of weight
    :raises ValueError: `load_factor` is not above 1
    """

    __slots__ = ("_least", "_load_factor", "_view")

    def __init__(self, load_factor: float = LOAD_FACTOR, virtual_nodes: int = VIRTUAL_NODES) -> None:
        if not load_factor > 1:
            raise ValueError("load_factor must be above 1")
        self._load_factor = load_factor
        self._view = RingView(virtual_nodes)
        self._least = LeastConnections()

    def set_members(self, members: Sequence[ICandidate]) -> None:
        self._view.set_members(members)
        self._least.set_members(members)

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        if key:
            view = self._view
            view.look(candidates)
            bound = self._bound(candidates)
            for owner in view.ring.walk(key, view.alive):
                if owner.active < bound(owner):
                    return owner
        return self._least.pick(candidates, key)

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        if not key:
            return "the request has no key, so it goes to the least busy"
        bound = self._bound(candidates)
        owner = self._view.ring.owner(key)
        if owner == chosen.name:
            return (
                f"it owns the key's place on the ring, with {chosen.active} of at most {bound(chosen)} active requests"
            )
        held = self._view.alive.get(owner or "")
        state = "is not available" if held is None else f"is at its bound of {bound(held)} active requests"
        return f"{owner} owns the key's place on the ring and {state}; this is the next one with room"

    def _bound(self, candidates: Sequence[ICandidate]) -> Callable[[ICandidate], int]:
        """How many active requests each may have before a key of its own goes elsewhere."""
        weights: int = sum([candidate.weight for candidate in candidates])
        # This request counts too: then somebody is always below the bound, which is at least 1.
        load = self._load_factor * (sum([candidate.active for candidate in candidates]) + 1)
        return lambda owner: ceil(load * (owner.weight / weights if weights else 1 / len(candidates)))
