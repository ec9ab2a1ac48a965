"""Passive health of one backend: when it is ejected, for how long, and how it comes back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from balance.resilience.outlier import EJECTED, HEALTHY, NEVER, PROBING, Outlier, OutlierRules


class ConsecutiveFailures(SynchronousTestCase):
    def setUp(self) -> None:
        self.outlier = Outlier(OutlierRules(consecutive_failures=3, ejection_time=30, max_ejection_time=100))

    def eject(self, now: float) -> float:
        """Eject; how long for."""
        self.outlier.eject(now)
        return self.outlier.until - now

    def recover(self, now: float) -> None:
        self.outlier.probe(now)
        self.outlier.succeeded(now)

    def test_the_third_in_a_row_is_reason_enough(self) -> None:
        self.assertEqual([self.outlier.failed() for _ in range(4)], [False, False, True, True])

    def test_a_success_in_between_starts_anew(self) -> None:
        self.outlier.failed()
        self.outlier.failed()
        self.outlier.succeeded(1)
        self.assertEqual([self.outlier.failed() for _ in range(3)], [False, False, True])

    def test_an_ejection_starts_anew(self) -> None:
        for _ in range(3):
            self.outlier.failed()
        self.eject(0)
        self.assertEqual((self.outlier.state, self.outlier.streak, self.outlier.ejections), (EJECTED, 0, 1))

    def test_a_probe_that_succeeds_heals(self) -> None:
        self.eject(0)
        self.outlier.probe(30)
        self.assertEqual(self.outlier.state, PROBING)
        self.outlier.succeeded(31)
        self.assertEqual(self.outlier.state, HEALTHY)
        self.assertFalse(self.outlier.failed())

    def test_one_failure_of_a_probe_is_reason_enough(self) -> None:
        self.eject(0)
        self.outlier.probe(30)
        self.assertTrue(self.outlier.failed())

    def test_success_of_an_old_request_does_not_end_an_ejection(self) -> None:
        self.eject(0)
        self.outlier.succeeded(1)
        self.assertEqual(self.outlier.state, EJECTED)

    def test_each_ejection_lasts_longer_up_to_the_limit(self) -> None:
        lasted = []
        now = 0.0
        for _ in range(5):
            lasted.append(self.eject(now))
            now += lasted[-1]
            self.outlier.probe(now)
        self.assertEqual(lasted, [30, 60, 90, 100, 100])

    def test_soon_after_recovery_it_goes_on_where_it_was(self) -> None:
        self.eject(0)
        self.eject(30)
        self.recover(100)
        self.assertEqual(self.eject(110), 90)

    def test_each_ejection_time_of_health_forgives_one(self) -> None:
        for _ in range(3):
            self.eject(0)
        self.recover(1000)
        self.assertEqual(self.eject(1030), 90)
        self.recover(2000)
        self.assertEqual(self.eject(9000), 30)

    def test_never_means_never(self) -> None:
        outlier = Outlier(NEVER)
        self.assertFalse(any(outlier.failed() for _ in range(100)))
        self.assertFalse(outlier.sample(1, 100, 100))


class ErrorRate(SynchronousTestCase):
    def setUp(self) -> None:
        self.outlier = Outlier(OutlierRules(0, error_rate=0.5, window=10, minimum_requests=20))

    def test_half_of_enough_requests_is_reason_enough(self) -> None:
        self.assertFalse(self.outlier.sample(0, 0, 0))
        self.assertFalse(self.outlier.sample(1, 100, 49))
        self.assertTrue(self.outlier.sample(2, 102, 51))

    def test_few_requests_say_nothing(self) -> None:
        self.outlier.sample(0, 0, 0)
        self.assertFalse(self.outlier.sample(1, 19, 19))
        self.assertTrue(self.outlier.sample(2, 20, 19))

    def test_only_the_window_counts(self) -> None:
        for second in range(20):
            self.assertFalse(self.outlier.sample(second, 1000 * second, 0))
        self.assertFalse(self.outlier.sample(20, 23000, 4000))  # 4000 of 13000 in the last ten seconds
        for second in range(21, 31):
            last = self.outlier.sample(second, 23000 + 100 * second, 4000 + 60 * second)
        self.assertTrue(last)  # 60 of 100 each second; the good times are out of the window

    def test_all_of_the_window_counts(self) -> None:
        self.outlier.sample(0, 0, 0)
        self.assertFalse(self.outlier.sample(9, 100, 0))
        self.assertFalse(self.outlier.sample(10, 200, 60))
        self.assertTrue(self.outlier.sample(19, 300, 120))

    def test_good_times_before_do_not_hide_bad_ones(self) -> None:
        self.outlier.sample(0, 1_000_000, 0)
        self.assertTrue(self.outlier.sample(1, 1_000_040, 20))

    def test_recovery_forgets_the_past(self) -> None:
        self.outlier.sample(0, 0, 0)
        self.assertTrue(self.outlier.sample(1, 100, 100))
        self.outlier.eject(1)
        self.assertFalse(self.outlier.sample(2, 200, 200))
        self.outlier.probe(40)
        self.outlier.succeeded(41)
        self.assertFalse(self.outlier.sample(42, 300, 300))
        self.assertFalse(self.outlier.sample(43, 400, 310))
