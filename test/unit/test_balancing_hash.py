"""Consistent hashing, free and bounded: who owns a key, what moves when backends change, and how loads stay bounded."""

from __future__ import annotations

from collections import Counter
from math import ceil
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.balancing.bounded_consistent_hash import BoundedConsistentHash
from balance.balancing.consistent_hash import ConsistentHash
from balance.balancing.ring import Ring, hash64
from balance.model import Address
from balance.pool.backend import Backend

KEYS = [b"10.0.%d.%d" % (number // 250, number % 250) for number in range(10000)]


def backends(**weights: int) -> tuple[Backend, ...]:
    return tuple(Backend(name, Address("127.0.0.1", 80), weight=weight) for name, weight in weights.items())


def near(value: float, wanted: float, distance: float) -> bool:
    return abs(value - wanted) <= distance


def numbered(count: int) -> tuple[Backend, ...]:
    return backends(**{f"b{index}": 1 for index in range(count)})


def owners(members: tuple[Backend, ...], candidates: tuple[Backend, ...] | None = None) -> dict[bytes, str]:
    balancer = ConsistentHash()
    balancer.set_members(members)
    return {key: balancer.pick(candidates or members, key).name for key in KEYS}


class ConsistentHashTests(SynchronousTestCase):
    def test_spread_is_even(self) -> None:
        count = Counter(owners(numbered(10)).values())
        for share in count.values():
            self.assertTrue(near(share / 1000, 1, 0.25))

    def test_spread_follows_weight(self) -> None:
        count = Counter(owners(backends(a=1, b=3)).values())
        self.assertTrue(near(count["b"] / len(KEYS), 0.75, 0.05))

    def test_adding_one_of_n_moves_one_nth_and_only_to_it(self) -> None:
        before, after = owners(numbered(9)), owners(numbered(10))
        moved = [key for key in KEYS if before[key] != after[key]]
        self.assertTrue(near(len(moved) / len(KEYS), 1 / 10, 0.03))
        self.assertEqual({after[key] for key in moved}, {"b9"})

    def test_removing_one_of_n_moves_its_keys_alone(self) -> None:
        members = numbered(10)
        before, after = owners(members), owners(members[:3] + members[4:])
        self.assertEqual({before[key] for key in KEYS if before[key] != after[key]}, {"b3"})
        self.assertTrue(near(sum(before[key] != after[key] for key in KEYS) / len(KEYS), 1 / 10, 0.03))

    def test_an_unavailable_one_is_walked_past_as_if_removed(self) -> None:
        members = numbered(10)
        without = members[:3] + members[4:]
        self.assertEqual(owners(members, without), owners(without))

    def test_keys_of_one_that_is_away_spread_over_all_others(self) -> None:
        members = numbered(5)
        before, after = owners(members), owners(members, members[1:])
        heirs = Counter(after[key] for key in KEYS if before[key] == "b0")
        self.assertEqual(len(heirs), 4)
        self.assertLess(max(heirs.values()) / sum(heirs.values()), 0.5)

    def test_more_weight_takes_keys_and_gives_none(self) -> None:
        before, after = owners(backends(a=1, b=1)), owners(backends(a=1, b=2))
        self.assertEqual({after[key] for key in KEYS if before[key] != after[key]}, {"b"})

    def test_order_of_members_does_not_matter(self) -> None:
        members = numbered(6)
        self.assertEqual(owners(members), owners(members[::-1]))

    def test_owners_are_the_same_in_every_process_and_release(self) -> None:
        """Written down: a change here sends every client of every user to another backend."""
        self.assertEqual(hash64(b"10.0.0.1"), 6021020536128996326)
        found = owners(numbered(5))
        self.assertEqual([found[key] for key in KEYS[:8]], ["b1", "b4", "b3", "b0", "b0", "b3", "b3", "b2"])

    def test_requests_without_a_key_take_turns(self) -> None:
        members = numbered(3)
        balancer = ConsistentHash()
        balancer.set_members(members)
        self.assertEqual([balancer.pick(members, b"").name for _ in range(4)], ["b0", "b1", "b2", "b0"])


class RingTests(SynchronousTestCase):
    def test_has_virtual_nodes_times_weight_points(self) -> None:
        self.assertEqual(len(Ring(backends(a=1, b=3), 150)), 600)

    def test_walks_once_round(self) -> None:
        members = backends(a=2, b=1)
        alive = {member.name: member for member in members}
        walked = Counter(owner.name for owner in Ring(members, 10).walk(b"key", alive))
        self.assertEqual(walked, {"a": 20, "b": 10})

    def test_keys_beyond_the_last_point_belong_to_the_first(self) -> None:
        members = backends(a=1, b=1)
        ring = Ring(members, 1)
        alive = {member.name: member for member in members}
        last = max(ring._points)
        first_owner = ring._owners[0]
        beyond = next(b"%d" % number for number in range(100000) if hash64(b"%d" % number) >= last)
        found = ring.first(beyond, alive)
        assert found is not None
        self.assertEqual(found.name, first_owner)

    def test_nobody_on_it_owns_nothing(self) -> None:
        self.assertIsNone(Ring(()).first(b"key", {}))
        self.assertIsNone(Ring(backends(a=1)).first(b"key", {}))

    def test_refuses_rings_without_points(self) -> None:
        self.assertRaises(ValueError, Ring, (), 0)


class BoundedConsistentHashTests(SynchronousTestCase):
    def test_is_consistent_hashing_while_loads_are_low(self) -> None:
        members = numbered(5)
        balancer = BoundedConsistentHash()
        balancer.set_members(members)
        free = owners(members)
        # Nothing is active: the bound is ceil(1.25 / 5) = 1 for everybody, and nobody has reached it.
        self.assertEqual(
            {key: balancer.pick(members, key).name for key in KEYS[:500]}, {k: free[k] for k in KEYS[:500]}
        )

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(
        st.lists(st.integers(1, 4), min_size=1, max_size=6),
        st.floats(1.05, 3),
        st.lists(st.integers(0, 5), max_size=80),
    )
    def test_nobody_exceeds_the_bound(self, weights: list[int], factor: float, keys: list[int]) -> None:
        members = backends(**{f"b{index}": weight for index, weight in enumerate(weights)})
        balancer = BoundedConsistentHash(factor, 30)
        balancer.set_members(members)
        for total, key in enumerate(keys, 1):
            chosen = balancer.pick(members, b"%d" % key)
            chosen.active += 1
            self.assertLessEqual(chosen.active, ceil(factor * total * (chosen.weight / sum(weights))))

    def test_a_hot_key_spreads_only_as_far_as_it_has_to(self) -> None:
        members = numbered(10)
        balancer = BoundedConsistentHash()
        balancer.set_members(members)
        for member in members:
            member.active = 10
        picked = []
        for _ in range(4):
            picked.append(balancer.pick(members, b"hot"))
            picked[-1].active += 1
        # ceil(1.25 * 104 / 10) is 13: the fourth finds the owner full.
        self.assertEqual([owner is picked[0] for owner in picked], [True, True, True, False])

    def test_load_stays_bounded_under_random_arrivals_and_departures(self) -> None:
        members = numbered(8)
        balancer = BoundedConsistentHash()
        balancer.set_members(members)
        chance = Random(11)
        active: list[Backend] = []
        for _ in range(4000):
            if active and chance.random() < 0.48:
                active.pop(chance.randrange(len(active))).active -= 1
            chosen = balancer.pick(members, b"%d" % int(chance.expovariate(0.2)))
            chosen.active += 1
            active.append(chosen)
            self.assertLessEqual(chosen.active, ceil(1.25 * len(active) / 8))

    def test_requests_without_a_key_go_to_the_least_loaded(self) -> None:
        members = numbered(3)
        balancer = BoundedConsistentHash()
        balancer.set_members(members)
        members[0].active = members[2].active = 1
        self.assertEqual(balancer.pick(members, b"").name, "b1")

    def test_refuses_a_bound_that_cannot_hold(self) -> None:
        self.assertRaises(ValueError, BoundedConsistentHash, 1.0)
        self.assertRaises(ValueError, BoundedConsistentHash, float("nan"))
