"""What counts against a backend, when a rule of one's own says so."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.config import ConfigError
from balance.errors import BackendReset, ClientGone, StaleConnection
from balance.interfaces import IHealthRule
from balance.resilience.verdict import BackendErrors
from balance.testing import Application, Refuse, Reply, Reset

BACKENDS = [{"name": "a", "address": "h:1"}, {"name": "b", "address": "h:2"}]


def application(rule: Any, **keys: Any) -> Application:
    health = {"consecutive_failures": 3, "ejection_time": "10s", **({} if rule is None else {"rule": rule})}
    return Application({"backends": BACKENDS, "health_check": health, **keys})


def never(status: int, error: Any) -> bool:
    return False


def broken(status: int, error: Any) -> bool:
    raise ZeroDivisionError


class Rules(SynchronousTestCase):
    def states(self, app: Application, asked: int = 12) -> list[str]:
        for _ in range(asked):
            app.get("http://x/")
        return [app.member(name).state for name in "ab"]

    def test_without_one_a_response_is_a_success(self) -> None:
        app = application(None)
        app.backends["a"].always(Reply(status=503))
        self.assertEqual(self.states(app), ["healthy", "healthy"])
        verifyObject(IHealthRule, BackendErrors())
        verdicts = [
            BackendErrors().is_failure(0, error) for error in (None, BackendReset(), ClientGone(), StaleConnection())
        ]
        self.assertEqual(verdicts, [False, True, False, False])

    def test_statuses(self) -> None:
        app = application("statuses")
        app.backends["a"].always(Reply(status=503))
        self.assertEqual(self.states(app), ["ejected", "healthy"])
        self.assertEqual(app.member("a").failures, 3)
        self.assertEqual({app.get("http://x/").status for _ in range(4)}, {200})
        app.backends["a"].always(Reply(body="well again"))
        app.advance(11)
        self.assertEqual(self.states(app), ["healthy", "healthy"])

    def test_other_statuses(self) -> None:
        app = application({"use": "statuses", "options": {"statuses": [404, "418-420"]}})
        for status, state in ((503, "healthy"), (419, "ejected")):
            app.backends["a"].always(Reply(status=status))
            self.assertEqual(self.states(app)[0], state)

    def test_errors_count_all_the_same(self) -> None:
        app = application("statuses")
        app.backends["a"].always(Reset())
        self.assertEqual(self.states(app), ["ejected", "healthy"])

    def test_a_rule_that_forgives(self) -> None:
        app = application("test.unit.test_health_rule:never")
        app.backends["a"].always(Refuse())
        self.assertEqual(self.states(app), ["healthy", "healthy"])
        self.assertEqual(app.member("a").failures, 0)

    def test_a_rule_that_fails(self) -> None:
        app = application("test.unit.test_health_rule:broken")
        app.backends["a"].always(Reset())
        self.assertEqual(self.states(app), ["ejected", "healthy"])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_with_filters_and_leases(self) -> None:
        app = application("statuses", http={"filters": ["request-id"]})
        app.get("http://x/")
        call = app.start("GET", "http://x/")
        call.cancel()
        app.settle()
        self.assertEqual([app.member(name).active for name in "ab"], [0, 0])
        self.assertEqual(app.proxy().counters.active, 0)

    def test_told(self) -> None:
        for rule, message in (
            ({"use": "statuses", "options": {"statuses": [99]}}, "options.statuses: found 99; a status is needed"),
            ("test.unit.test_health_rule:BACKENDS", "IHealthRule"),
            ("nothing", "no health rule 'nothing' is installed; there are: statuses"),
        ):
            with self.assertRaises(ConfigError) as caught:
                application(rule)
            self.assertIn(message, str(caught.exception))
        with self.assertRaises(ConfigError) as caught:
            application("statuses", mode="tcp")
        self.assertIn("health_check.rule: mode tcp sees no responses", str(caught.exception))
