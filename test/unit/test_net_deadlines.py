"""Deadlines: never early, never more than three ticks late, in any order of arming and disarming."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balance.net.deadlines import Deadlines, Timed

TICK = 0.25
STEP = 0.05
#: The test's clock goes in steps, so that ticks come up to a step late.
LATE = 3 * TICK + 4 * STEP


class Item(Timed):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.fired: list[float] = []

    def timed_out(self) -> None:
        self.fired.append(self.clock.seconds())


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, TICK)
        self.deadlines.start()

    def run_for(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(STEP, end - self.clock.seconds()))

    def test_fires_once(self) -> None:
        item = Item(self.clock)
        self.deadlines.arm(item, 1)
        self.run_for(5)
        self.assertEqual(len(item.fired), 1)
        self.assertEqual(item.deadline, 0)

    def test_zero_is_no_limit(self) -> None:
        item = Item(self.clock)
        self.deadlines.arm(item, 1)
        self.deadlines.arm(item, 0)
        self.run_for(5)
        self.assertEqual(item.fired, [])

    def test_rearmed_from_within(self) -> None:
        deadlines = self.deadlines

        class Again(Item):
            def timed_out(self) -> None:
                super().timed_out()
                deadlines.arm(self, 1)

        item = Again(self.clock)
        deadlines.arm(item, 1)
        self.run_for(10)
        self.assertGreaterEqual(len(item.fired), 6)

    def test_one_that_raises_does_not_keep_the_others(self) -> None:
        class Broken(Item):
            def timed_out(self) -> None:
                raise RuntimeError("broken")

        good = Item(self.clock)
        self.deadlines.arm(Broken(self.clock), 1)
        self.deadlines.arm(good, 1)
        self.run_for(3)
        self.assertEqual(len(good.fired), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_lies_in_one_bucket_however_often_it_is_armed(self) -> None:
        item = Item(self.clock)
        for seconds in range(1000, 0, -1):
            self.deadlines.arm(item, seconds)
            self.deadlines.arm(item, seconds + 5)
        for _ in range(100):
            self.deadlines.arm(item, 1)
        self.run_for(1100)
        self.assertEqual(len(item.fired), 1)
        self.assertEqual(self.deadlines._buckets, {})

    def test_a_long_pause_of_the_process(self) -> None:
        item = Item(self.clock)
        self.deadlines.arm(item, 10)
        self.clock.advance(100_000)
        self.assertEqual(len(item.fired), 1)

    def test_forgotten_is_let_go(self) -> None:
        """Thousands of short connections a second: none may be kept until its time would have come."""
        items = [Item(self.clock) for _ in range(3)]
        for item in items:
            self.deadlines.arm(item, 75)
            self.deadlines.arm(item, 10)
            self.deadlines.disarm(item)
            self.deadlines.forget(item)
            self.deadlines.forget(item)
        self.assertFalse(any(self.deadlines._buckets.values()))
        self.deadlines.arm(items[0], 1)
        self.run_for(100)
        self.assertEqual([len(item.fired) for item in items], [1, 0, 0])

    def test_stop(self) -> None:
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.one_of(st.none(), st.floats(0.01, 20)), st.floats(0.01, 3)), max_size=40
        )
    )
    def test_any_history(self, history: list[tuple[int, float | None, float]]) -> None:
        self.setUp()
        items = [Item(self.clock) for _ in range(3)]
        wanted: list[float | None] = [None] * 3
        for which, seconds, pause in history:
            item = items[which]
            if seconds is None:
                self.deadlines.disarm(item)
                wanted[which] = None
            else:
                self.deadlines.arm(item, seconds)
                wanted[which] = self.clock.seconds() + seconds
            before = [len(each.fired) for each in items]
            self.run_for(pause)
            self.check(items, wanted, before)
        before = [len(each.fired) for each in items]
        self.run_for(30)
        self.check(items, wanted, before)
        self.assertEqual(wanted, [None] * 3)

    def check(self, items: list[Item], wanted: list[float | None], before: list[int]) -> None:
        now = self.clock.seconds()
        for index, item in enumerate(items):
            limit = wanted[index]
            if len(item.fired) > before[index]:
                assert limit is not None
                self.assertGreaterEqual(item.fired[-1], limit - 1e-9)
                self.assertLessEqual(item.fired[-1], limit + LATE)
                wanted[index] = None
            elif limit is not None:
                self.assertLess(now, limit + LATE)
