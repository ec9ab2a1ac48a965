"""A named set of backends behind one balancer, and the queue of those who wait for a place.

Rule of this file: who is available is worked out when that changes, never when somebody asks. A place that becomes free
goes to whoever has waited longest of those who can use it, before anybody new can see it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, cast

from balance.interfaces import IBalancer
from balance.pool.backend import Backend

_Pick = Callable[[Sequence[Backend], bytes], Backend]


class Waiter(Protocol):
    """Who queues."""

    def backend_ready(self) -> None:
        """There is room: pick and lease now, before returning, or leave it to the next one."""


class Pool:
    """Backends for one route, with the balancer's state over just these.

    :param members: in the order of the configuration, names unique
    :param max_queue: waiters at a time; 0 for no queue
    """

    __slots__ = ("_by_name", "_pick", "_waiters", "_waking", "available", "balancer", "max_queue", "members", "name")

    def __init__(self, name: str, members: Sequence[Backend], balancer: IBalancer, max_queue: int = 0) -> None:
        self.name = name
        self.balancer = balancer
        self.max_queue = max_queue
        self.members: tuple[Backend, ...] = ()
        self._by_name: dict[str, Backend] = {}
        #: Who may be picked now; the same object until that changes. Backends of weight 0 only if there are no others.
        self.available: tuple[Backend, ...] = ()
        self._pick = cast(_Pick, balancer.pick)
        #: Oldest first; with the members that one waits for, or None for whichever.
        self._waiters: OrderedDict[Waiter, Collection[Backend] | None] = OrderedDict()
        self._waking = False
        self.set_members(members)

    def set_members(self, members: Sequence[Backend]) -> None:
        """Add and remove backends, or make changed weights known.

        :raises ValueError: two have the same name
        """
        by_name = {backend.name: backend for backend in members}
        if len(by_name) < len(members):
            raise ValueError(f"pool {self.name}: two backends of the same name")
        for backend in self.members:
            backend.detach(self)
        self.members = tuple(members)
        self._by_name = by_name
        for backend in self.members:
            backend.attach(self)
        self.balancer.set_members(self.members)
        self.refresh()
        self.wake()

    # --- choosing ------------------------------------------------------------------------------------------------

    def pick(self, key: bytes = b"", tried: Collection[Backend] = ()) -> Backend | None:
        """Choose a backend; None when none is available that was not tried. The caller leases it at once.

        :param key: the hash key of the request, for balancers that want one
        :param tried: backends that this request has failed on
        """
        candidates = self.candidates(tried) if tried else self.available
        return self._pick(candidates, key) if candidates else None

    def candidates(self, tried: Collection[Backend] = ()) -> tuple[Backend, ...]:
        """Whom the balancer may choose from; empty when nobody is available that was not tried."""
        if not tried:
            return self.available
        return _first_choice([b for b in self.members if b.active < b.limit and b not in tried])

    def find(self, name: str) -> Backend | None:
        """The backend of that name, if it is available. One of weight 0 too: it keeps the clients it has."""
        backend = self._by_name.get(name)
        return backend if backend is not None and backend.active < backend.limit else None

    @property
    def saturated(self) -> bool:
        """Nothing is available, but that can change as soon as a request ends: it makes sense to queue."""
        return not self.available and any(backend.limit for backend in self.members)

    def saturated_among(self, only: Collection[Backend]) -> bool:
        """As `saturated`, of some of the members."""
        limits = [backend.limit for backend in self.members if backend in only]
        return any(limits) and not self._has_room(only)

    def _has_room(self, only: Collection[Backend]) -> bool:
        return any(backend.active < backend.limit for backend in self.members if backend in only)

    # --- queueing ------------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many are waiting."""
        return len(self._waiters)

    def enqueue(self, waiter: Waiter, only: Collection[Backend] | None = None) -> bool:
        """Wait for a place; False when the queue is full, or there is nothing to wait for.

        :param only: members that one of is wanted; None for whichever
        """
        hope = self.saturated if only is None else self.saturated_among(only)
        if len(self._waiters) >= self.max_queue or not hope:
            return False
        self._waiters[waiter] = only
        return True

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer. Does nothing for one that does not wait."""
        self._waiters.pop(waiter, None)

    # --- told by the backends ----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Who is available has changed."""
        self.available = _first_choice([backend for backend in self.members if backend.active < backend.limit])

    def wake(self) -> None:
        """There may be room: let in whoever waits for it, oldest first, as long as there is."""
        if self._waking:
            return  # a waiter that was let in is gone again already; the loop below goes on
        self._waking = True
        try:
            while self.available and (waiter := self._next()) is not None:
                del self._waiters[waiter]
                waiter.backend_ready()
        finally:
            self._waking = False

    def _next(self) -> Waiter | None:
        """Who has waited longest of those who can use what there is."""
        for waiter, only in self._waiters.items():
            if only is None or self._has_room(only):
                return waiter
        return None

    def can_spare(self, backend: Backend, share: float) -> bool:
        """Whether a backend may be ejected: another one is in service, and no more than that share is out then."""
        enabled = [member for member in self.members if member.enabled]
        others = sum(member.in_service for member in enabled if member is not backend)
        return others > 0 and len(enabled) - others <= share * len(enabled)

    @property
    def deserted(self) -> bool:
        """Nobody is in service, because an operator took out those whom passive health had left."""
        return not any(member.in_service for member in self.members)


def _first_choice(backends: list[Backend]) -> tuple[Backend, ...]:
    """Those with weight; the others only if there are none."""
    return tuple([backend for backend in backends if backend.weight] or backends)
