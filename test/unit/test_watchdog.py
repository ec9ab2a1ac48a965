"""The watchdog: what it tells, and of whom."""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from balance.watchdog import Watch, Watchdog


def frame(name: str, module: str, back: bool = False) -> FrameType:
    """The frame of a function of that name, in a module of that name."""
    scope: dict[str, Any] = {"__name__": module, "sys": sys}
    exec(f"def {name}(): return sys._getframe()", scope)
    return scope[name]()  # type: ignore[no-any-return]


class Watching(SynchronousTestCase):
    def setUp(self) -> None:
        self.watch = Watch(0.1, {"acme.auth": "acme.auth:require_token", "balance.plugins.x": "x"})
        self.watch.look(0.0, 0.0, lambda: None)

    def look(self, now: float, mark: float, where: FrameType) -> str:
        return self.watch.look(now, mark, lambda: where)

    def test_a_loop_that_runs(self) -> None:
        for step in range(1, 20):
            self.assertEqual(self.look(step * 0.05, step * 0.05 - 0.03, frame("f", "acme.auth")), "")

    def test_a_plugin(self) -> None:
        self.assertEqual(self.look(0.05, 0.0, frame("f", "acme.auth")), "")
        told = self.look(0.15, 0.0, frame("slow", "acme.auth"))
        self.assertIn("blocked for 150 ms (plugin acme.auth:require_token)", told)
        self.assertIn("in slow", told)

    def test_a_module_of_the_same_package(self) -> None:
        self.look(0.05, 0.0, frame("f", "x"))
        self.assertIn("plugin acme.auth:require_token", self.look(0.15, 0.0, frame("f", "acme.helpers")))

    def test_no_plugin(self) -> None:
        self.look(0.05, 0.0, frame("f", "x"))
        self.assertIn("no plugin is on the stack", self.look(0.15, 0.0, frame("f", "balance.http.exchange")))

    def test_once_and_when_it_is_over(self) -> None:
        self.look(0.05, 0.0, frame("f", "x"))
        self.assertIn("blocked", self.look(0.15, 0.0, frame("f", "x")))
        self.assertEqual(self.look(0.2, 0.0, frame("f", "x")), "")
        self.assertEqual(self.look(0.25, 0.0, frame("f", "x")), "")
        told = self.look(0.3, 0.28, frame("f", "x"))
        self.assertIn("runs again; it was blocked for about 250 ms", told)
        self.assertIn("blocked for 120 ms", self.look(0.4, 0.28, frame("f", "x")))

    def test_a_loop_that_waits_is_not_blocked(self) -> None:
        self.look(0.05, 0.0, frame("f", "x"))
        self.assertEqual(self.look(0.15, 0.0, frame("doPoll", "twisted.internet.epollreactor")), "")

    def test_a_machine_that_was_asleep(self) -> None:
        self.assertEqual(self.look(60.0, 0.0, frame("f", "x")), "")


def block_the_loop() -> None:
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        pass


class Living(TestCase):
    @inlineCallbacks
    def test_a_real_loop(self) -> Any:
        told: list[str] = []

        def observe(event: Any) -> None:
            if "told" in event:
                told.append(event["told"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        dog = Watchdog(reactor, 0.1, {__name__: "test:plugin"})
        dog.startService()
        self.addCleanup(dog.stopService)
        yield _later(0.2)
        self.assertEqual(told, [])
        block_the_loop()
        yield _later(0.2)
        self.assertIn("(plugin test:plugin)", told[0])
        self.assertIn("in block_the_loop", told[0])
        self.assertIn("runs again", told[1])


def _later(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)  # type: ignore[arg-type]
