"""Signals: the first stops, a later one insists, an echo of the first does nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance import signals


class FakeReactor:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def callFromThread(self, callable: Callable[[], object]) -> None:
        callable()

    def stop(self) -> None:
        self.calls.append("stop")


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (*signals.SIGNALS, signal.SIGUSR1):
            before: Any = signal.getsignal(number)
            self.addCleanup(signal.signal, number, before)

    def test_sequence(self) -> None:
        reactor = FakeReactor()
        now = 100.0
        handle = signals.install(reactor, lambda: reactor.calls.append("insist"), lambda: now)
        self.assertIs(signal.getsignal(signal.SIGTERM), handle)
        handle(signal.SIGTERM, None)
        handle(signal.SIGTERM, None)
        self.assertEqual(reactor.calls, ["stop"])
        now += 1
        handle(signal.SIGINT, None)
        handle(signal.SIGINT, None)
        self.assertEqual(reactor.calls, ["stop", "insist", "insist"])

    def test_rotate(self) -> None:
        reactor = FakeReactor()
        signal.signal(signal.SIGUSR1, lambda number, frame: reactor.calls.append("twistd"))
        signals.on_rotate(reactor, lambda: reactor.calls.append("reopen"))
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual(reactor.calls, ["twistd", "reopen"])
