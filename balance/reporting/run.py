"""Runs what takes statistics.

Rule of this file: a sink that fails is logged, and nobody else notices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from balance.interfaces import IStatisticsSink

#: The numbers of now: see `balance.observe.status`.
Snapshot = Callable[[], dict[str, Any]]


class Reporting(Service):
    """One sink, from the start of Balance to its end."""

    log = Logger()

    def __init__(self, reactor: Any, use: str, sink: IStatisticsSink, snapshot: Snapshot) -> None:
        self._reactor = reactor
        self._use = use
        self._sink = sink
        self._snapshot = snapshot

    def startService(self) -> None:
        super().startService()
        self.begin()

    def begin(self) -> None:
        """Start the sink."""
        maybeDeferred(self._sink.start, self._snapshot, self._reactor).addErrback(
            lambda failure: self.log.failure("statistics sink {use} could not be started", failure, use=self._use)
        )

    def stopService(self) -> Any:
        super().stopService()
        return maybeDeferred(self._sink.stop).addErrback(
            lambda failure: self.log.failure("statistics sink {use} could not be stopped", failure, use=self._use)
        )
