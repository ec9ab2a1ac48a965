"""Every balancing algorithm: what all have in common, and turns, loads and chance one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.balancing.bounded_consistent_hash import BoundedConsistentHash
from balance.balancing.consistent_hash import ConsistentHash
from balance.balancing.least_connections import LeastConnections
from balance.balancing.random import RandomChoice
from balance.balancing.round_robin import RoundRobin
from balance.balancing.weighted_least_connections import WeightedLeastConnections
from balance.balancing.weighted_round_robin import WeightedRoundRobin
from balance.interfaces import IBalancer
from balance.model import Address
from balance.pool.backend import Backend

ALL: dict[str, Callable[[], IBalancer]] = {
    "round robin": RoundRobin,
    "weighted round robin": WeightedRoundRobin,
    "least connections": LeastConnections,
    "weighted least connections": WeightedLeastConnections,
    "consistent hash": lambda: ConsistentHash(20),
    "bounded consistent hash": lambda: BoundedConsistentHash(virtual_nodes=20),
    "random": lambda: RandomChoice(Random(7)),
}


def backends(**weights: int) -> tuple[Backend, ...]:
    return tuple(Backend(name, Address("127.0.0.1", 80), weight=weight) for name, weight in weights.items())


def ready(balancer: IBalancer, members: Sequence[Backend]) -> IBalancer:
    balancer.set_members(members)
    return balancer


def names(balancer: IBalancer, candidates: Sequence[Backend], picks: int) -> str:
    return "".join(balancer.pick(candidates, b"").name for _ in range(picks))


def near(value: float, wanted: float, distance: float) -> bool:
    return abs(value - wanted) <= distance


class EveryBalancer(SynchronousTestCase):
    def test_provides_the_interface(self) -> None:
        for make in ALL.values():
            verifyObject(IBalancer, make())

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(st.data())
    def test_picks_a_candidate_whatever_comes_and_goes(self, data: st.DataObject) -> None:
        weights = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
        members = backends(**{f"b{index}": weight for index, weight in enumerate(weights)})
        balancer = ready(ALL[data.draw(st.sampled_from(sorted(ALL)))](), members)
        for _ in range(12):
            chosen = data.draw(st.sets(st.sampled_from(members), min_size=1))
            candidates = tuple(member for member in members if member in chosen)
            picked = balancer.pick(candidates, data.draw(st.binary(max_size=3)))
            self.assertIn(picked, candidates)
            picked.active += data.draw(st.integers(0, 2))

    def test_weight_zero_is_left_out_by_those_that_weigh(self) -> None:
        members = backends(a=1, z=0, b=2)
        for name in ("weighted round robin", "weighted least connections", "random"):
            balancer = ready(ALL[name](), members)
            for _ in range(50):
                picked = balancer.pick(members, b"")
                picked.active += 1
                self.assertNotEqual(picked.name, "z", name)
            for member in members:
                member.active = 0
        for name in ("consistent hash", "bounded consistent hash"):
            balancer = ready(ALL[name](), members)
            keys = [b"%d" % number for number in range(200)]
            self.assertEqual({balancer.pick(members, key).name for key in keys}, {"a", "b"}, name)

    def test_only_weights_of_zero_share_the_work(self) -> None:
        members = backends(a=0, b=0)
        for name, make in ALL.items():
            balancer = ready(make(), members)
            picked = {balancer.pick(members, b"%d" % number).name for number in range(64)}
            self.assertEqual(picked, {"a", "b"}, name)

    def test_backends_that_no_one_announced_are_served_too(self) -> None:
        members = backends(a=1, b=1)
        for name, make in ALL.items():
            self.assertIn(make().pick(members, b"key"), members, name)

    def test_members_can_be_replaced(self) -> None:
        old, new = backends(a=1, b=1), backends(b=1, c=1)
        for name, make in ALL.items():
            balancer = ready(make(), old)
            balancer.pick(old, b"k")
            balancer.set_members(new)
            picked = {balancer.pick(new, b"%d" % number).name for number in range(64)}
            self.assertEqual(picked, {"b", "c"}, name)


class RoundRobinTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.members = backends(a=1, b=1, c=1, d=1)
        self.balancer = ready(RoundRobin(), self.members)

    def test_goes_round(self) -> None:
        self.assertEqual(names(self.balancer, self.members, 9), "abcdabcda")

    def test_goes_on_where_it_was_when_one_leaves(self) -> None:
        a, b, c, d = self.members
        self.assertEqual(names(self.balancer, self.members, 2), "ab")
        self.assertEqual(names(self.balancer, (a, c, d), 4), "cdac")
        self.assertEqual(names(self.balancer, (a, b, c, d), 4), "dabc")

    def test_nobody_is_skipped_by_one_that_comes_and_goes(self) -> None:
        """A turn kept as a number would point past somebody each time the first of the list leaves."""
        picked = ""
        for number in range(12):
            picked += names(self.balancer, self.members[number % 2 :], 1)
        self.assertEqual(picked, "abcdabcdabcd")

    def test_weight_does_not_matter(self) -> None:
        members = backends(a=9, b=1)
        self.assertEqual(names(ready(RoundRobin(), members), members, 4), "abab")


class WeightedRoundRobinTests(SynchronousTestCase):
    def test_is_smooth(self) -> None:
        """The sequence of nginx's commit message."""
        members = backends(a=5, b=1, c=1)
        self.assertEqual(names(ready(WeightedRoundRobin(), members), members, 14), "aabacaaaabacaa")

    def test_keeps_to_the_weights_while_one_is_away_now_and_then(self) -> None:
        members = backends(a=4, b=2, c=2)
        balancer = ready(WeightedRoundRobin(), members)
        a, b, _ = members
        away = Random(3)
        count: Counter[str] = Counter()
        for _ in range(8000):
            candidates = (a, b) if away.random() < 0.3 else members
            count[balancer.pick(candidates, b"").name] += 1
        # c is there for 5600 of 8000 picks; a and b divide the rest 2:1.
        self.assertTrue(near(count["a"] / count["b"], 2, 0.05))
        self.assertTrue(near(count["c"] / 8000, 0.7 * 0.25, 0.02))

    @settings(deadline=None, derandomize=True, max_examples=30)
    @given(st.integers(), st.lists(st.integers(1, 9), min_size=2, max_size=5))
    def test_nobody_runs_up_a_debt_without_end(self, seed: int, weights: list[int]) -> None:
        chance = Random(seed)
        members = backends(**{f"b{index}": weight for index, weight in enumerate(weights)})
        balancer = WeightedRoundRobin()
        balancer.set_members(members)
        for _ in range(300):
            balancer.pick(tuple(m for m in members if chance.random() < 0.7) or members, b"")
        balancer.pick(members, b"")
        self.assertEqual(sum(balancer._current), 0)
        self.assertLessEqual(max(map(abs, balancer._current)), len(members) * sum(weights))

    def test_a_changed_weight_counts_from_set_members_on(self) -> None:
        members = backends(a=1, b=1)
        balancer = ready(WeightedRoundRobin(), members)
        names(balancer, members, 10)
        members[0].weight = 3
        balancer.set_members(members)
        self.assertEqual(Counter(names(balancer, members, 40)), {"a": 30, "b": 10})


class LeastConnectionsTests(SynchronousTestCase):
    def test_takes_the_least_busy(self) -> None:
        members = backends(a=1, b=1, c=1)
        members[0].active, members[1].active, members[2].active = 3, 1, 2
        self.assertEqual(names(ready(LeastConnections(), members), members, 3), "bbb")

    def test_equals_take_turns(self) -> None:
        members = backends(a=1, b=1, c=1)
        balancer = ready(LeastConnections(), members)
        self.assertEqual(names(balancer, members, 6), "abcabc")
        members[0].active = 5
        self.assertEqual(names(balancer, members, 5), "bcbcb")

    def test_weighted_is_fair_to_size(self) -> None:
        members = backends(a=3, b=1)
        balancer = ready(WeightedLeastConnections(), members)
        for _ in range(400):
            balancer.pick(members, b"").active += 1
        self.assertEqual([member.active for member in members], [300, 100])

    def test_weighted_spreads_light_traffic_by_weight(self) -> None:
        members = backends(a=3, b=1)
        balancer = ready(WeightedLeastConnections(), members)
        self.assertEqual(Counter(names(balancer, members, 40)), {"a": 30, "b": 10})


class RandomTests(SynchronousTestCase):
    def test_idle_backends_get_their_weight(self) -> None:
        members = backends(a=1, b=2, c=5)
        count = Counter(names(ready(RandomChoice(Random(1)), members), members, 16000))
        for name, share in (("a", 1 / 8), ("b", 2 / 8), ("c", 5 / 8)):
            self.assertTrue(near(count[name] / 16000, share, 0.02))

    def test_two_choices_keep_loads_together(self) -> None:
        """One choice of 32 with 6400 requests leaves the busiest some 35 above the mean; two leave it about 3."""
        members = backends(**{f"b{index}": 1 for index in range(32)})
        balancer = ready(RandomChoice(Random(2)), members)
        for _ in range(6400):
            balancer.pick(members, b"").active += 1
        self.assertLessEqual(max(member.active for member in members), 205)

    def test_the_busier_of_two_is_never_taken(self) -> None:
        members = backends(a=1, b=1)
        members[0].active = 1
        self.assertEqual(names(ready(RandomChoice(Random(3)), members), members, 50), "b" * 50)
