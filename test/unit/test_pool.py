"""Backends and pools: who is available, who waits, and how passive health and the queue play together."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.balancing.consistent_hash import ConsistentHash
from balance.balancing.round_robin import RoundRobin
from balance.errors import BackendReset, ClientGone, ConnectRefused, NoBackend, StaleConnection
from balance.interfaces import ICandidate
from balance.model import Address
from balance.pool.backend import Backend, sweep
from balance.pool.pool import Pool
from balance.resilience.outlier import NEVER, OutlierRules

RULES = OutlierRules(consecutive_failures=2, ejection_time=30)


def backend(name: str, weight: int = 1, limit: int = 0, rules: OutlierRules = RULES) -> Backend:
    return Backend(name, Address("127.0.0.1", 8000), weight=weight, max_connections=limit, outlier=rules)


def pool(*members: Backend, max_queue: int = 8) -> Pool:
    return Pool("pool", members, RoundRobin(), max_queue)


def fail(target: Backend, times: int = 2, now: float = 0.0) -> None:
    for _ in range(times):
        target.lease()
        target.release(ConnectRefused(), now)


def names(members: tuple[Backend, ...]) -> str:
    return "".join(member.name for member in members)


class Waiting:
    """Waits, and leases when it is its turn."""

    def __init__(self, queue: Pool, log: list[str], name: str) -> None:
        self.queue, self.log, self.name = queue, log, name
        self.backend: Backend | None = None

    def backend_ready(self) -> None:
        self.log.append(self.name)
        self.backend = self.queue.pick()
        assert self.backend is not None
        self.backend.lease()


class Refusing(Waiting):
    """Does not want the place any more."""

    def backend_ready(self) -> None:
        self.log.append(self.name)


class Failing(Waiting):
    """Gives the place back at once."""

    def backend_ready(self) -> None:
        super().backend_ready()
        assert self.backend is not None
        self.backend.release(ClientGone(), 0)


class Leases(SynchronousTestCase):
    def test_is_what_balancers_look_at(self) -> None:
        verifyObject(ICandidate, backend("a"))

    def test_counts(self) -> None:
        a = backend("a")
        a.lease()
        a.lease()
        a.release(None, 0)
        self.assertEqual((a.active, a.requests, a.failures), (1, 2, 0))
        a.release(BackendReset(), 0)
        self.assertEqual((a.active, a.requests, a.failures), (0, 2, 1))

    def test_giving_back_what_was_not_taken_is_an_error(self) -> None:
        a = backend("a")
        self.assertRaises(RuntimeError, a.release, None, 0)
        self.assertEqual(a.active, 0)

    def test_authority_names_the_server(self) -> None:
        self.assertEqual(backend("a").authority, b"127.0.0.1:8000")
        self.assertEqual(Backend("b", Address("::1", 81)).authority, b"[::1]:81")
        self.assertEqual(Backend("c", Address("", 0, "/run/c.sock")).authority, b"localhost")


class Availability(SynchronousTestCase):
    def test_full_and_free_again(self) -> None:
        a, b = backend("a", limit=2), backend("b")
        both = pool(a, b)
        a.lease()
        self.assertEqual(names(both.available), "ab")
        a.lease()
        self.assertEqual(names(both.available), "b")
        a.release(None, 0)
        self.assertEqual(names(both.available), "ab")

    def test_every_pool_of_a_backend_knows(self) -> None:
        a, b, c = backend("a", limit=1), backend("b"), backend("c")
        first, second = pool(a, b), pool(c, a)
        a.lease()
        self.assertEqual((names(first.available), names(second.available)), ("b", "c"))
        a.release(None, 0)
        self.assertEqual((names(first.available), names(second.available)), ("ab", "ca"))

    def test_candidates_are_the_same_object_while_nothing_changes(self) -> None:
        a = backend("a", limit=5)
        one = pool(a)
        before = one.available
        a.lease()
        a.release(BackendReset(), 0)
        self.assertIs(one.available, before)

    def test_disabled_takes_nothing_new(self) -> None:
        a, b = backend("a"), backend("b")
        both = pool(a, b)
        a.lease()
        a.set_enabled(False)
        self.assertEqual((names(both.available), a.state, a.enabled), ("b", "disabled", False))
        a.release(None, 0)
        a.set_enabled(True)
        self.assertEqual((names(both.available), a.state), ("ab", "healthy"))

    def test_weight_zero_is_the_last_resort(self) -> None:
        a, spare = backend("a", limit=1), backend("s", weight=0)
        both = pool(a, spare)
        self.assertEqual(names(both.available), "a")
        a.lease()
        self.assertEqual(names(both.available), "s")
        a.release(None, 0)
        self.assertEqual(names(both.available), "a")

    def test_members_can_be_replaced(self) -> None:
        a, b, c = backend("a"), backend("b", limit=1), backend("c")
        changing = pool(a, b)
        changing.set_members([b, c])
        self.assertEqual((names(changing.members), names(changing.available)), ("bc", "bc"))
        b.lease()
        self.assertEqual(names(changing.available), "c")
        before = changing.available
        a.set_enabled(False)
        self.assertIs(changing.available, before)

    def test_two_of_the_same_name_are_refused(self) -> None:
        self.assertRaises(ValueError, pool, backend("a"), backend("a"))


class Picking(SynchronousTestCase):
    def test_asks_the_balancer(self) -> None:
        members = [backend(name) for name in "abc"]
        hashed = Pool("p", members, ConsistentHash())
        keys = [b"%d" % number for number in range(50)]
        self.assertEqual([hashed.pick(key) for key in keys], [hashed.pick(key) for key in keys])
        self.assertEqual({hashed.pick(key) for key in keys}, set(members))

    def test_passes_over_what_was_tried(self) -> None:
        a, b, spare = backend("a"), backend("b"), backend("s", weight=0)
        three = pool(a, b, spare)
        self.assertIs(three.pick(tried=(a,)), b)
        self.assertIs(three.pick(tried=(a, b)), spare)
        self.assertIsNone(three.pick(tried=(a, b, spare)))

    def test_nobody_available(self) -> None:
        a = backend("a", limit=1)
        one = pool(a)
        a.lease()
        self.assertIsNone(one.pick())
        self.assertIsNone(pool().pick())

    def test_finds_by_name_what_is_available(self) -> None:
        a, spare = backend("a", limit=1), backend("s", weight=0)
        both = pool(a, spare)
        self.assertIs(both.find("a"), a)
        self.assertIs(both.find("s"), spare)
        self.assertIsNone(both.find("x"))
        a.lease()
        self.assertIsNone(both.find("a"))


class Queue(SynchronousTestCase):
    def setUp(self) -> None:
        self.a = backend("a", limit=1)
        self.one = pool(self.a, max_queue=3)
        self.log: list[str] = []

    def wait(self, *waiters: Waiting) -> None:
        for waiter in waiters:
            self.assertTrue(self.one.enqueue(waiter))

    def waiting(self, name: str, kind: type[Waiting] = Waiting) -> Waiting:
        return kind(self.one, self.log, name)

    def test_saturated_means_that_waiting_helps(self) -> None:
        self.assertFalse(self.one.saturated)
        self.a.lease()
        self.assertTrue(self.one.saturated)
        self.a.set_enabled(False)
        self.assertFalse(self.one.saturated)
        self.assertFalse(pool().saturated)

    def test_one_is_let_in_for_each_place_oldest_first(self) -> None:
        self.a.lease()
        self.wait(*(self.waiting(name) for name in "123"))
        self.a.release(None, 0)
        self.assertEqual((self.log, self.one.queued), (["1"], 2))
        self.a.release(BackendReset(), 0)
        self.assertEqual(self.log, ["1", "2"])
        self.a.release(None, 0)
        self.assertEqual((self.log, self.a.active), (["1", "2", "3"], 1))

    def test_it_is_bounded(self) -> None:
        self.a.lease()
        self.wait(*(self.waiting(name) for name in "123"))
        self.assertFalse(self.one.enqueue(self.waiting("4")))
        full = pool(backend("b", limit=1), max_queue=0)
        full.members[0].lease()
        self.assertFalse(full.enqueue(self.waiting("5")))

    def test_nobody_queues_where_there_is_room_or_no_hope(self) -> None:
        self.assertFalse(self.one.enqueue(self.waiting("1")))
        self.a.set_enabled(False)
        self.assertFalse(self.one.enqueue(self.waiting("1")))

    def test_who_left_is_not_called(self) -> None:
        first, second = self.waiting("1"), self.waiting("2")
        self.a.lease()
        self.wait(first, second)
        self.one.leave(first)
        self.one.leave(first)
        self.a.release(None, 0)
        self.assertEqual(self.log, ["2"])

    def test_a_place_nobody_takes_goes_to_the_next(self) -> None:
        self.a.lease()
        self.wait(self.waiting("1", Refusing), self.waiting("2", Failing), self.waiting("3"))
        self.a.release(None, 0)
        self.assertEqual((self.log, self.a.active, self.one.queued), (["1", "2", "3"], 1, 0))

    def test_a_long_queue_of_failures_does_not_recurse(self) -> None:
        deep = pool(self.a, max_queue=5000)
        self.a.lease()
        for number in range(5000):
            deep.enqueue(Failing(deep, self.log, str(number)))
        self.a.release(None, 0)
        self.assertEqual((len(self.log), self.a.active), (5000, 0))

    def test_enabling_lets_in_all_there_is_room_for(self) -> None:
        b = backend("b", limit=2)
        two = pool(self.a, b)
        b.set_enabled(False)
        self.a.lease()
        for name in "123":
            self.assertTrue(two.enqueue(Waiting(two, self.log, name)))
        b.set_enabled(True)
        self.assertEqual((self.log, b.active), (["1", "2"], 2))

    def test_pools_that_share_a_backend_take_turns(self) -> None:
        other = pool(self.a)
        self.a.lease()
        for name in "12":
            self.one.enqueue(Waiting(self.one, self.log, "one" + name))
            other.enqueue(Waiting(other, self.log, "other" + name))
        for _ in range(4):
            self.a.release(None, 0)
        self.assertEqual(sorted(self.log[:2]), ["one1", "other1"])
        self.assertEqual(sorted(self.log[2:]), ["one2", "other2"])


class PassiveHealth(SynchronousTestCase):
    def setUp(self) -> None:
        self.changes: list[str] = []
        self.a, self.b = backend("a"), backend("b")
        self.a.on_health = lambda changed: self.changes.append(changed.state)
        self.both = pool(self.a, self.b)

    def test_failures_in_a_row_eject(self) -> None:
        fail(self.a, 1)
        self.a.lease()
        self.a.release(None, 0)
        fail(self.a, 1)
        self.assertEqual(self.a.state, "healthy")
        fail(self.a, 1)
        self.assertEqual((self.a.state, self.a.ejections, names(self.both.available)), ("ejected", 1, "b"))
        self.assertEqual(self.changes, ["ejected"])

    def test_only_what_the_backend_did_counts(self) -> None:
        for error in (ClientGone(), NoBackend(), StaleConnection()) * 3:
            self.a.lease()
            self.a.release(error, 0)
        self.assertEqual((self.a.state, self.a.failures), ("healthy", 0))

    def test_what_proves_nothing_does_not_wash_clean(self) -> None:
        fail(self.a, 1)
        for error in (ClientGone(), StaleConnection()):
            self.a.lease()
            self.a.release(error, 0)
        fail(self.a, 1)
        self.assertEqual(self.a.state, "ejected")

    def test_the_last_one_stays_and_goes_when_another_is_back(self) -> None:
        fail(self.a)
        fail(self.b, 10)
        self.assertEqual((self.b.state, names(self.both.available)), ("healthy", "b"))
        sweep([self.a, self.b], 30)
        self.a.lease()
        self.a.release(None, 30)
        fail(self.b, 1, 31)
        self.assertEqual((self.b.state, names(self.both.available)), ("ejected", "a"))

    def test_a_backend_alone_is_never_ejected(self) -> None:
        alone = backend("c")
        pool(alone)
        fail(alone, 50)
        self.assertEqual(alone.state, "healthy")

    def test_the_smallest_of_its_pools_decides(self) -> None:
        pool(self.a)
        fail(self.a, 50)
        self.assertEqual(self.a.state, "healthy")

    def test_at_most_half_of_a_pool_is_out(self) -> None:
        members = [backend(name) for name in "abcde"]
        five = pool(*members)
        for member in members:
            fail(member)
        self.assertEqual(names(five.available), "cde")

    def test_disabled_ones_do_not_count_as_pool(self) -> None:
        members = [backend(name) for name in "abcd"]
        four = pool(*members)
        members[0].set_enabled(False)
        members[1].set_enabled(False)
        fail(members[2])
        fail(members[3])
        self.assertEqual(names(four.available), "d")

    def test_a_share_of_all_still_leaves_one(self) -> None:
        rules = OutlierRules(consecutive_failures=1, max_ejected=1.0)
        members = [backend(name, rules=rules) for name in "abc"]
        three = pool(*members)
        for member in members:
            fail(member, 1)
        self.assertEqual(names(three.available), "c")

    def test_switched_off(self) -> None:
        members = [backend(name, rules=NEVER) for name in "ab"]
        two = pool(*members)
        fail(members[0], 100)
        sweep(members, 1000)
        self.assertEqual((names(two.available), members[0].failures), ("ab", 100))

    def test_error_rate_ejects_at_a_sweep(self) -> None:
        rules = OutlierRules(0, error_rate=0.5, window=10, minimum_requests=4)
        a, b = backend("a", rules=rules), backend("b", rules=rules)
        two = pool(a, b)
        sweep([a, b], 0)
        for error in (None, ConnectRefused(), None, ConnectRefused()):
            a.lease()
            a.release(error, 0.5)
        self.assertEqual(a.state, "healthy")
        sweep([a, b], 1)
        self.assertEqual((a.state, names(two.available)), ("ejected", "b"))


class Probes(SynchronousTestCase):
    def setUp(self) -> None:
        self.a, self.b = backend("a", limit=3), backend("b")
        self.both = pool(self.a, self.b)

    def eject(self, *, active: int = 0) -> None:
        """Eject `a` at 0, with requests on their way; it is to be probed from 30 on."""
        for _ in range(active):
            self.a.lease()
        fail(self.a)
        self.assertEqual(self.a.state, "ejected")

    def available(self) -> str:
        return names(self.both.available)

    def test_not_before_its_time(self) -> None:
        self.eject()
        sweep([self.a], 29.9)
        self.assertEqual((self.a.state, self.available()), ("ejected", "b"))
        sweep([self.a], 30)
        self.assertEqual((self.a.state, self.available()), ("probing", "ab"))

    def test_one_request_is_let_through(self) -> None:
        self.eject()
        sweep([self.a], 30)
        self.a.lease()
        self.assertEqual((self.a.state, self.available()), ("probing", "b"))
        sweep([self.a], 31)
        self.assertEqual(self.available(), "b")

    def test_success_brings_it_back(self) -> None:
        self.eject()
        sweep([self.a], 30)
        self.a.lease()
        self.a.release(None, 31)
        self.assertEqual((self.a.state, self.available(), self.a.limit), ("healthy", "ab", 3))

    def test_failure_sends_it_away_for_longer(self) -> None:
        self.eject()
        sweep([self.a], 30)
        fail(self.a, 1, 31)
        self.assertEqual((self.a.state, self.a.ejections), ("ejected", 2))
        sweep([self.a], 90)
        self.assertEqual(self.a.state, "ejected")
        sweep([self.a], 91)
        self.assertEqual(self.a.state, "probing")

    def test_a_client_that_leaves_makes_room_for_another_probe(self) -> None:
        self.eject()
        sweep([self.a], 30)
        self.a.lease()
        self.a.release(ClientGone(), 31)
        self.assertEqual((self.a.state, self.available()), ("probing", "ab"))

    def test_old_requests_that_end_before_the_probe_prove_nothing(self) -> None:
        self.eject(active=2)
        sweep([self.a], 30)
        self.a.release(ConnectRefused(), 31)
        self.a.release(None, 31)
        self.assertEqual((self.a.state, self.available(), self.a.limit), ("probing", "ab", 1))

    def test_old_requests_do_not_let_a_second_probe_through(self) -> None:
        self.eject(active=2)
        sweep([self.a], 30)
        self.a.lease()
        self.a.release(ClientGone(), 31)
        self.assertEqual((self.a.active, self.available()), (2, "b"))

    def test_a_probe_without_a_verdict_is_given_up_in_time(self) -> None:
        """An old tunnel stays open, and the client of the probe left: who of the two it was cannot be told."""
        self.eject(active=1)
        sweep([self.a], 30)
        self.a.lease()
        self.a.release(ClientGone(), 31)
        sweep([self.a], 59)
        self.assertEqual(self.available(), "b")
        sweep([self.a], 60)
        self.assertEqual((self.a.state, self.available()), ("probing", "ab"))

    def test_max_connections_holds_while_probing(self) -> None:
        self.eject(active=2)
        self.a.max_connections = 2
        sweep([self.a], 30)
        self.assertEqual(self.available(), "b")

    def test_a_waiter_gets_the_probe(self) -> None:
        self.eject()
        log: list[str] = []
        self.b.max_connections = 1
        self.b.set_enabled(False)
        self.b.set_enabled(True)
        self.b.lease()
        for name in "12":
            self.assertTrue(self.both.enqueue(Waiting(self.both, log, name)))
        sweep([self.a], 30)
        self.assertEqual((log, self.a.active), (["1"], 1))
        self.a.release(None, 31)
        self.assertEqual((log, self.a.state), (["1", "2"], "healthy"))

    def test_left_alone_by_an_operator_it_is_probed_at_once_and_goes_on_being_probed(self) -> None:
        self.eject()
        self.b.set_enabled(False)
        self.assertIsNone(self.both.pick())
        sweep([self.a, self.b], 1)
        self.assertEqual((self.a.state, self.available()), ("probing", "a"))
        fail(self.a, 3, 2)
        self.assertEqual((self.a.state, self.available(), self.a.ejections), ("probing", "a", 1))
        self.b.set_enabled(True)
        fail(self.a, 1, 3)
        self.assertEqual((self.a.state, self.available()), ("ejected", "b"))

    def test_a_failed_probe_ejects_even_where_too_many_are_out(self) -> None:
        """It was out before; an operator made the pool smaller since."""
        a, b, c, d = members = [backend(name) for name in "abcd"]
        four = pool(*members)
        fail(a)
        fail(b, now=10)
        d.set_enabled(False)
        sweep(members, 30)
        fail(a, 1, 31)
        self.assertEqual((a.state, b.state, names(four.available)), ("ejected", "ejected", c.name))

    def test_disabled_and_enabled_while_the_probe_is_out_there_is_no_second_one(self) -> None:
        one, two = backend("one"), backend("two")
        pool(one, two)
        fail(one)
        one.sweep(31.0)
        one.lease()
        one.set_enabled(False)
        one.set_enabled(True)
        self.assertEqual((one.state, one.available), ("probing", False))
        one.release(None, 32.0)
        self.assertEqual((one.state, one.available), ("healthy", True))

    def test_disabled_meanwhile_it_is_probed_when_enabled(self) -> None:
        self.eject()
        self.a.set_enabled(False)
        sweep([self.a], 30)
        self.assertEqual((self.a.state, self.available()), ("disabled", "b"))
        self.a.set_enabled(True)
        self.assertEqual((self.a.state, self.available()), ("probing", "ab"))
