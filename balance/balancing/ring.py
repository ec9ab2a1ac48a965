"""A hash ring (Karger et al., "Consistent hashing and random trees", STOC 1997).

Rule of this file: a point depends on nothing but a backend's name and the point's number. So adding or removing a
backend, or changing its weight, moves no key between two others, and every process and release agrees where a key
belongs.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from balance.interfaces import ICandidate

#: Points for each unit of weight, as in the original Balance. Spread over 10 equal backends is then within about 10 %.
VIRTUAL_NODES: Final = 150

_BLOCK = struct.Struct(">8Q")


def hash64(key: bytes) -> int:
    """A stable, well mixed 64-bit hash (BLAKE2b, RFC 7693: the fastest of that kind in the standard library)."""
    return int.from_bytes(blake2b(key, digest_size=8).digest())


class Ring:
    """Where each member's points are. Immutable.

    :param members: those without weight get no points, unless all are without
    :param virtual_nodes: points for each unit of weight
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, members: Sequence[ICandidate], virtual_nodes: int = VIRTUAL_NODES) -> None:
        if virtual_nodes < 1:
            raise ValueError("virtual_nodes must be 1 or more")
        spare = not any(member.weight for member in members)
        points = sorted(
            (point, member.name)
            for member in members
            for point in _points(member.name, virtual_nodes * (1 if spare else member.weight))
        )
        self._points = [point for point, _ in points]
        self._owners: list[str] = [name for _, name in points]

    def first(self, key: bytes, alive: Mapping[str, ICandidate]) -> ICandidate | None:
        """The first owner after the key that is among ``alive``, or None where none of them is on the ring."""
        if not self._owners:
            return None
        # Indexes from -len to 0: so the one past the last is the first again.
        owner = alive.get(self._owners[bisect_right(self._points, hash64(key)) - len(self._owners)])
        if owner is not None:
            return owner
        return next(self.walk(key, alive), None)

    def walk(self, key: bytes, alive: Mapping[str, ICandidate]) -> Iterator[ICandidate]:
        """Owners after the key that are among ``alive``, once round, some of them again and again."""
        owners = self._owners
        start = bisect_right(self._points, hash64(key))
        for index in range(start - len(owners), start):
            owner = alive.get(owners[index])
            if owner is not None:
                yield owner

    def __len__(self) -> int:
        return len(self._points)

    def owner(self, key: bytes) -> str | None:
        """The name of the first owner after the key, whether it is available or not; None on an empty ring."""
        if not self._owners:
            return None
        return self._owners[bisect_right(self._points, hash64(key)) - len(self._owners)]

    def __deepcopy__(self, memo: dict[int, object]) -> Ring:
        return self


def _points(name: str, count: int) -> Iterator[int]:
    """That many points of a backend; each digest gives eight."""
    for block in range(0, count, 8):
        digest = blake2b(f"{name}#{block // 8}".encode(), digest_size=64).digest()
        yield from _BLOCK.unpack(digest)[: count - block]


class RingView:
    """The ring of a pool, as seen through the candidates of the moment."""

    __slots__ = ("_candidates", "_main", "_spare", "_virtual_nodes", "alive", "ring")

    def __init__(self, virtual_nodes: int = VIRTUAL_NODES) -> None:
        self._virtual_nodes = virtual_nodes
        self._candidates: Sequence[ICandidate] | None = None
        self._main = self._spare = self.ring = Ring((), virtual_nodes)
        #: The candidates, by name.
        self.alive: dict[str, ICandidate] = {}

    def set_members(self, members: Sequence[ICandidate]) -> None:
        """Members without weight get a ring of their own, for the time when nobody else is left."""
        self._main = Ring([member for member in members if member.weight], self._virtual_nodes)
        self._spare = Ring([member for member in members if not member.weight], self._virtual_nodes)
        self._candidates = None

    def look(self, candidates: Sequence[ICandidate]) -> None:
        """Make ``ring`` and ``alive`` fit the candidates. Free as long as they are the same object."""
        if candidates is not self._candidates:
            self._candidates = candidates
            self.alive = {candidate.name: candidate for candidate in candidates}
            self.ring = self._main if any(candidate.weight for candidate in candidates) else self._spare
