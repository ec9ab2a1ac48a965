"""Filters that leave a request only some of its backends, and these are full: it queues like any other."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance.balancing.round_robin import RoundRobin
from balance.errors import BackendReset
from balance.model import Address
from balance.pool.backend import Backend
from balance.pool.pool import Pool
from balance.testing import Application, Call, Reply, Silence
from test.unit.test_discovery import TOLD, one

FILTER = "test.unit.acme:asked_for"
#: Each serves one request a time, in that many seconds.
SECONDS = {"a": 3.0, "b": 1.0, "c": 1.0}


def application(**keys: Any) -> Application:
    """A route to a and b that does what clients ask for; c is of the same listener."""
    app = Application(
        {
            "backends": [{"name": name, "address": f"{name}:1", "max_connections": 1} for name in SECONDS],
            "http": {"routes": [{"name": "r", "backends": ["a", "b"], "filters": [FILTER]}]},
            "timeouts": {"queue": "60s"},
            **keys,
        }
    )
    for name, seconds in SECONDS.items():
        app.backends[name].always(Reply(after=seconds))
    return app


def start(app: Application, only: str = "") -> Call:
    call = app.start("GET", "http://x/", headers={"X-Only": only} if only else {})
    app.settle()
    return call


class Narrowed(SynchronousTestCase):
    def outcome(self, app: Application, call: Call) -> tuple[Any, ...]:
        app.finish(call)
        return call.status, call.backend, round(call.seconds)

    def test_it_waits_for_its_own(self) -> None:
        """Though others of its pool are free; and those who may have them do not wait behind it."""
        app = application()
        first, second, third = (start(app, "a") for _ in range(3))
        self.assertEqual((app.pool("r").queued, second.done), (2, False))
        self.assertEqual(self.outcome(app, start(app)), (200, "b", 1))
        self.assertEqual(self.outcome(app, first), (200, "a", 3))
        self.assertEqual(self.outcome(app, second), (200, "a", 6))
        self.assertEqual(self.outcome(app, third), (200, "a", 9))
        self.assertEqual(app.pool("r").queued, 0)

    def test_in_one_queue_with_all(self) -> None:
        app = application()
        busy = start(app, "a"), start(app, "b")
        waiting = start(app, "a"), start(app), start(app, "b"), start(app, "a b")
        self.assertEqual(app.pool("r").queued, 4)
        self.assertEqual([self.outcome(app, call)[0] for call in busy], [200, 200])
        # b is free at 1, 2 and 3, as is a at 3: b serves whoever may have it, and a the one who waits for it.
        expected = [(200, "a", 6), (200, "b", 2), (200, "b", 3), (200, "b", 4)]
        self.assertEqual([self.outcome(app, call) for call in waiting], expected)

    def test_limits_of_the_queue(self) -> None:
        app = application(load_balancer={"max_queue": 1}, timeouts={"queue": "2s"})
        start(app, "a")
        late, refused = start(app, "a"), start(app, "a")
        self.assertEqual((refused.status, refused.reason), (503, "queue_full"))
        self.assertEqual(self.outcome(app, late)[0], 503)
        self.assertEqual((late.reason, app.pool("r").queued), ("queue_timeout", 0))

    def test_nobody_waits_without_hope(self) -> None:
        app = application()
        app.member("a").set_enabled(False)
        self.assertEqual(start(app, "a").reason, "no_backend")

    def test_backends_of_no_pool_of_the_route(self) -> None:
        """Its queue would not hear of their places."""
        app = application()
        first, second = start(app, "c"), start(app, "c")
        self.assertEqual((second.status, second.reason), (503, "no_backend"))
        self.assertEqual(self.outcome(app, first), (200, "c", 1))

    def test_a_client_that_leaves(self) -> None:
        app = application()
        first, second, third = (start(app, "a") for _ in range(3))
        second.cancel()
        app.settle()
        self.assertEqual(app.pool("r").queued, 1)
        self.assertEqual(self.outcome(app, third), (200, "a", 6))
        self.assertEqual(first.status, 200)

    def test_what_is_found_meanwhile_is_not_among_them(self) -> None:
        app = Application(
            {
                "discovery": [TOLD],
                "http": {"routes": [{"name": "r", "backends": ["api"], "filters": [FILTER]}]},
                "timeouts": {"queue": "5s"},
            }
        )
        first = one("1", max_connections=1)
        app.found("api", first)
        app.backends["api/1"].always(Reply(after=3.0))
        start(app, "api/1")
        call = start(app, "api/1")
        app.found("api", first, one("2"))
        self.assertEqual((call.done, app.pool("r").queued), (False, 1))
        self.assertEqual(self.outcome(app, call), (200, "api/1", 6))
        self.assertEqual(app.backends["api/2"].received, [])

    def test_its_backend_is_gone(self) -> None:
        """It waits as long as it may, and no longer."""
        app = Application(
            {
                "discovery": [TOLD],
                "http": {"routes": [{"name": "r", "backends": ["api"], "filters": [FILTER]}]},
                "timeouts": {"queue": "5s"},
            }
        )
        app.found("api", one("1", max_connections=1), one("2"))
        app.backends["api/1"].always(Silence())
        served, waiting = start(app, "api/1"), start(app, "api/1")
        app.found("api", one("2"))
        served.cancel()
        app.settle()
        self.assertFalse(waiting.done)
        app.finish(waiting)
        self.assertEqual((waiting.status, waiting.reason), (503, "queue_timeout"))


class OfThePool(SynchronousTestCase):
    """What `Pool.enqueue` promises to who wants only some."""

    def setUp(self) -> None:
        a, b = (Backend(name, Address("h", 1), max_connections=1) for name in "ab")
        self.a, self.b = a, b
        self.pool = Pool("p", [a, b], RoundRobin(), 8)
        self.log: list[str] = []

    def wait(self, name: str, *only: Backend) -> None:
        test, pool = self, self.pool

        class Waiting:
            def backend_ready(self) -> None:
                rest = [each for each in pool.members if only and each not in only]
                backend = pool.pick(b"", rest)
                assert backend is not None, "woken for nothing"
                backend.lease()
                test.log.append(name + backend.name)

        self.assertTrue(self.pool.enqueue(Waiting(), only or None))

    def test_who_is_let_in(self) -> None:
        self.a.lease()
        self.b.lease()
        self.wait("1", self.a)
        self.wait("2", self.b)
        self.wait("3")
        self.wait("4", self.b)
        self.b.release(None, 0)
        self.assertEqual(self.log, ["2b"])
        self.b.release(BackendReset(), 0)
        self.assertEqual(self.log, ["2b", "3b"])
        self.a.release(None, 0)
        self.assertEqual(self.log, ["2b", "3b", "1a"])
        self.a.release(None, 0)
        self.assertEqual((self.log, self.pool.queued), (["2b", "3b", "1a"], 1))
        self.assertEqual(self.pool.available, (self.a,))

    def test_no_queue_where_there_is_room_or_no_hope(self) -> None:
        self.a.lease()
        self.assertTrue(self.pool.saturated_among([self.a]))
        self.assertFalse(self.pool.saturated_among([self.a, self.b]))
        self.assertFalse(self.pool.enqueue(object(), [self.b]))  # type: ignore[arg-type]
        self.b.set_enabled(False)
        self.assertFalse(self.pool.enqueue(object(), [self.b]))  # type: ignore[arg-type]
        self.assertFalse(self.pool.saturated_among([]))
