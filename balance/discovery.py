"""Runs what finds backends.

Rule of this file: a discovery that fails, or says what makes no sense, changes nothing: what it has found before stays,
and the log says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from balance.config.values import address
from balance.interfaces import IDiscovery
from balance.model import Discovered
from balance.pool.discovered import Group

_TIDY: Final = 1.0


class Discovering(Service):
    """One discovery, from the start of Balance to its end."""

    log = Logger()

    def __init__(self, reactor: Any, group: Group, discovery: IDiscovery) -> None:
        self._reactor = reactor
        self._group = group
        self._discovery = discovery
        self._loop = LoopingCall(group.tidy)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(_TIDY, now=False)
        maybeDeferred(self._discovery.start, self.found, self._reactor).addErrback(
            lambda failure: self.log.failure("discovery {name} could not be started", failure, name=self._group.name)
        )

    def stopService(self) -> Any:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return maybeDeferred(self._discovery.stop).addErrback(
            lambda failure: self.log.failure("discovery {name} could not be stopped", failure, name=self._group.name)
        )

    def found(self, given: Sequence[Discovered]) -> None:
        """What the discovery calls."""
        if not self.running:
            return
        before = {each.name for each in self._group.backends}
        try:
            self._group.found([_checked(each) for each in given])
        except Exception:
            self.log.failure("discovery {name}: what it found makes no sense; nothing changes", name=self._group.name)
            return
        after = {each.name for each in self._group.backends}
        if before != after:
            self.log.info(
                "discovery {name}: new {new}, gone {gone}, {count} in all",
                name=self._group.name,
                new=", ".join(sorted(after - before)) or "none",
                gone=", ".join(sorted(before - after)) or "none",
                count=len(after),
            )


def _checked(given: Discovered) -> Discovered:
    """
    :raises ValueError: it makes no sense
    """
    if not isinstance(given, Discovered):
        raise ValueError(f"found {given!r}; needed: balance.model.Discovered")
    if not given.name or given.weight < 0 or given.max_connections < 0:
        raise ValueError(f"{given!r}: a name is needed, and no number below 0")
    return given._replace(address=address(given.address))
