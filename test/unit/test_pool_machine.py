"""Anything may happen to backends and pools in any order: what has to hold all the same.

Two pools share one of three backends. Requests come, some of them for some backends only, end well or badly, queue, give
up; time passes; an operator takes backends out and puts them back. The model is nothing but the list of leases and the queues.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from balance.balancing.least_connections import LeastConnections
from balance.balancing.round_robin import RoundRobin
from balance.errors import ClientGone, ConnectRefused, ExchangeError, StaleConnection
from balance.model import Address
from balance.pool.backend import Backend, sweep
from balance.pool.pool import Pool
from balance.resilience.outlier import OutlierRules

RULES = OutlierRules(2, ejection_time=10, max_ejection_time=30, error_rate=0.5, window=5, minimum_requests=4)

ENDS: dict[str, Callable[[], ExchangeError | None]] = {
    "good": lambda: None,
    "refused": ConnectRefused,
    "client gone": ClientGone,
    "stale": StaleConnection,
}

#: What a waiter does when it is its turn: keep the lease, end it so at once, or not take it.
BEHAVIOURS = ("keep", "decline", *ENDS)


class Waiter:
    def __init__(self, machine: Machine, pool: Pool, behaviour: str, only: tuple[Backend, ...] | None) -> None:
        self.machine, self.pool, self.behaviour, self.only = machine, pool, behaviour, only

    @property
    def has_room(self) -> bool:
        return any(member.available for member in self.pool.members if self.only is None or member in self.only)

    def backend_ready(self) -> None:
        queue = self.machine.queues[self.pool]
        turn = next((waiter for waiter in queue if waiter.has_room), None)
        assert turn is self, "woken out of turn, twice, or after leaving"
        queue.remove(self)
        if self.behaviour != "decline":
            lease = self.machine.take(self.pool, self.only)
            assert lease is not None, "woken for nothing"
            if self.behaviour != "keep":
                self.machine.give_back(lease, self.behaviour)


class Machine(RuleBasedStateMachine):
    @initialize(
        limits=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=3, max_size=3),
        weights=st.lists(st.integers(0, 2), min_size=3, max_size=3),
    )
    def start(self, limits: list[int], weights: list[int]) -> None:
        self.now = 0.0
        self.backends = [
            Backend(
                name, Address("::1", 80), weight=weight, max_connections=limit, outlier=RULES, on_health=self.changed
            )
            for name, limit, weight in zip("abc", limits, weights, strict=True)
        ]
        self.states = {backend: backend.state for backend in self.backends}
        a, b, c = self.backends
        self.pools = [Pool("p", [a, b, c], LeastConnections(), 3), Pool("q", [b, c], RoundRobin(), 3)]
        self.queues: dict[Pool, list[Waiter]] = {pool: [] for pool in self.pools}
        #: (backend, the probe it was let through in, if any)
        self.leases: list[tuple[Backend, float | None]] = []

    def changed(self, backend: Backend) -> None:
        before, self.states[backend] = self.states[backend], backend.state
        assert before != backend.state
        if (before, backend.state) == ("healthy", "ejected"):
            for pool in self.pools:
                if backend in pool.members:
                    enabled = [member for member in pool.members if member.enabled]
                    out = [member for member in enabled if member.health.state != "healthy"]
                    assert len(out) < len(enabled), "the last one was ejected"
                    assert len(out) <= len(enabled) / 2

    def take(self, pool: Pool, only: tuple[Backend, ...] | None) -> tuple[Backend, float | None] | None:
        backend = pool.pick(b"key", [] if only is None else [each for each in pool.members if each not in only])
        if backend is None:
            return None
        assert backend.available
        return self.lease(backend)

    def lease(self, backend: Backend) -> tuple[Backend, float | None]:
        lease = (backend, backend.health.until if backend.state == "probing" else None)
        self.leases.append(lease)
        backend.lease()
        return lease

    def give_back(self, lease: tuple[Backend, float | None], how: str) -> None:
        self.leases.remove(lease)
        lease[0].release(ENDS[how](), self.now)

    @rule(
        which=st.integers(0, 1), behaviour=st.sampled_from(BEHAVIOURS), some=st.sampled_from(["", "", "b", "bc", "a"])
    )
    def request(self, which: int, behaviour: str, some: str) -> None:
        pool = self.pools[which]
        only = tuple(backend for backend in self.backends if backend.name in some) if some else None
        if self.take(pool, only) is None:
            waiter = Waiter(self, pool, behaviour, only)
            hope = any(member.limit for member in pool.members if only is None or member in only)
            assert hope is (pool.saturated if only is None else pool.saturated_among(only))
            self.queues[pool].append(waiter)
            if not pool.enqueue(waiter, only):
                self.queues[pool].remove(waiter)
                assert not hope or len(self.queues[pool]) == 3

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 20), how=st.sampled_from(sorted(ENDS)))
    def end(self, which: int, how: str) -> None:
        self.give_back(self.leases[which % len(self.leases)], how)

    @precondition(lambda self: any(self.queues.values()))
    @rule(which=st.integers(0, 20))
    def leave(self, which: int) -> None:
        waiting = [waiter for queue in self.queues.values() for waiter in queue]
        waiter = waiting[which % len(waiting)]
        self.queues[waiter.pool].remove(waiter)
        waiter.pool.leave(waiter)

    @rule(which=st.integers(0, 2), how=st.sampled_from(sorted(ENDS)), times=st.integers(1, 3))
    def series(self, which: int, how: str, times: int) -> None:
        """One backend, chosen by a sticky client, say."""
        backend = self.backends[which]
        for _ in range(times):
            if backend.available:
                self.lease(backend)
                self.give_back(self.leases[-1], how)

    @rule(seconds=st.sampled_from([0.5, 1, 10, 40]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        sweep(self.backends, self.now)
        for pool in self.pools:
            enabled = [member.state for member in pool.members if member.enabled]
            assert not enabled or {"healthy", "probing"} & set(enabled), "there is a backend, and no way to it"

    @rule(which=st.integers(0, 2))
    def switch(self, which: int) -> None:
        backend = self.backends[which]
        backend.set_enabled(not backend.enabled)

    @invariant()
    def active_is_the_number_of_leases(self) -> None:
        for backend in self.backends:
            assert backend.active == sum(lease[0] is backend for lease in self.leases)

    @invariant()
    def available_is_what_it_would_be_if_worked_out_now(self) -> None:
        for backend in self.backends:
            full = backend.max_connections and backend.active >= backend.max_connections
            if backend.state == "healthy":
                assert backend.available is not bool(full)
            elif backend.state != "probing" or full:
                assert not backend.available
        for pool in self.pools:
            able = [member for member in pool.members if member.available]
            assert pool.available == tuple([member for member in able if member.weight] or able)

    @invariant()
    def one_probe_at_a_time(self) -> None:
        for backend in self.backends:
            if backend.state == "probing":
                probes = [lease for lease in self.leases if lease == (backend, backend.health.until)]
                assert len(probes) <= 1
                assert not (probes and backend.available)
                assert backend.available or backend.active, "nothing will ever bring it back"

    @invariant()
    def nobody_waits_where_there_is_room(self) -> None:
        for pool in self.pools:
            assert pool.queued == len(self.queues[pool])
            assert not any(waiter.has_room for waiter in self.queues[pool])

    @invariant()
    def states_are_told(self) -> None:
        assert self.states == {backend: backend.state for backend in self.backends}


class AnythingMayHappen(SynchronousTestCase):
    def test_what_holds_all_the_same(self) -> None:
        run_state_machine_as_test(
            Machine, settings=settings(deadline=None, derandomize=True, max_examples=300, stateful_step_count=50)
        )
