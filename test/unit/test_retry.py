"""Which requests may be tried again (RFC 9110, section 9.2.2), and how many of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.errors import BackendReset, ConnectRefused, ConnectTimeout, DnsFailure, ResponseTimeout, StaleConnection
from balance.resilience.retry import RetryBudget, is_idempotent, may_retry


class MayRetry(SynchronousTestCase):
    def test_what_was_never_sent_may_be_sent_whatever_it_is(self) -> None:
        for error in (ConnectRefused(), ConnectTimeout(), DnsFailure()):
            for method in (b"GET", b"POST", b"PATCH", b"X"):
                self.assertTrue(may_retry(error, method, replayable=True))

    def test_a_stale_connection_is_for_idempotent_methods(self) -> None:
        allowed = [
            method
            for method in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"POST", b"PATCH", b"LINK", b"get")
            if may_retry(StaleConnection(), method, replayable=True)
        ]
        self.assertEqual(allowed, [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])

    def test_without_its_body_no_request_is_repeated(self) -> None:
        for error in (ConnectRefused(), StaleConnection()):
            self.assertFalse(may_retry(error, b"PUT", replayable=False))

    def test_what_the_backend_may_have_acted_on_is_not_repeated(self) -> None:
        for error in (BackendReset(), ResponseTimeout()):
            self.assertFalse(may_retry(error, b"GET", replayable=True))

    def test_methods_are_case_sensitive(self) -> None:
        self.assertTrue(is_idempotent(b"GET"))
        self.assertFalse(is_idempotent(b"Get"))


class Budget(SynchronousTestCase):
    def setUp(self) -> None:
        self.requests = 0
        self.budget = RetryBudget(lambda: self.requests, 0.0, ratio=0.2, minimum=3, window=10)

    def granted(self, now: float, wanted: int) -> int:
        return sum(self.budget.withdraw(now) for _ in range(wanted))

    def test_a_few_are_always_granted(self) -> None:
        self.assertEqual(self.granted(1, 10), 3)
        self.assertEqual(self.budget.refused, 7)

    def test_a_fifth_of_the_requests_is_granted(self) -> None:
        self.requests = 1000
        self.assertEqual(self.granted(0, 1000), 200)

    def test_steady_failure_gets_a_fifth_in_the_long_run(self) -> None:
        total = 0
        for second in range(1, 301):
            self.requests += 100
            if second == 200:
                total = 0
            total += self.granted(second, 100)
        self.assertTrue(1900 <= total <= 2150, total)  # 101 seconds of 100 requests, all of which want a retry

    def test_spent_retries_come_back_with_time(self) -> None:
        self.assertEqual(self.granted(1, 10), 3)
        self.assertEqual(self.granted(1, 10), 0)
        self.assertEqual(self.granted(60, 10), 3)

    def test_requests_of_long_ago_earn_nothing(self) -> None:
        self.requests = 1_000_000
        self.budget.withdraw(0)
        self.assertEqual(self.granted(1000, 100), 3)

    def test_a_long_silence_of_retries_does_not_save_up(self) -> None:
        """An hour at 100 a second: what counts is about the last ten seconds."""
        self.requests = 360_000
        self.assertTrue(180 <= self.granted(3600, 1000) <= 200)

    @settings(deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50), st.integers(0, 30)), max_size=40))
    def test_never_grants_more_than_its_share_of_everything(self, steps: list[tuple[float, int, int]]) -> None:
        self.setUp()
        now, granted = 0.0, 0
        for wait, requests, wanted in steps:
            now += wait
            self.requests += requests
            granted += self.granted(now, wanted)
        # A fifth, and the minimum (with what rounds up to a whole retry) at the start and again in every window.
        self.assertLessEqual(granted, 0.2 * self.requests + 4 * (1 + now / 10) + 1e-6)
