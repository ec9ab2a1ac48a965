"""``dns``: a backend for each address of a name, asked for again and again.

Rule of this file: a name that cannot be resolved now keeps the addresses it had; one that resolves to nothing, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from balance.config.values import Duration
from balance.interfaces import IDiscovery
from balance.model import Address, Discovered


@implementer(IDiscovery)
class DnsDiscovery:
    """Resolves a name through the system's resolver (or the one that the reactor has), without blocking."""

    log = Logger()

    class Options(BaseModel):
        """What the configuration may say."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        host: str = Field(min_length=1, description="The name.")
        port: int = Field(ge=1, le=65535, description="Port of every backend.")
        interval: Duration = Field(default=30.0, ge=0.1, description="Between two questions.")
        weight: int = Field(default=1, ge=0, description="Of every backend.")
        max_connections: int = Field(default=0, ge=0, description="Of every backend.")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop: LoopingCall | None = None
        self._found: Callable[[Sequence[Discovered]], None] | None = None
        self._reactor: Any = None
        self._asking = False

    def start(self, found: Callable[[Sequence[Discovered]], None], reactor: Any) -> None:
        self._found = found
        self._reactor = reactor
        self._loop = LoopingCall(self._ask)
        self._loop.clock = reactor
        self._loop.start(self._options.interval)

    def stop(self) -> None:
        self._found = None
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def _ask(self) -> None:
        if not self._asking:
            self._asking = True
            self._reactor.nameResolver.resolveHostName(_Answers(self._answered), self._options.host, self._options.port)

    def _answered(self, hosts: list[str]) -> None:
        self._asking = False
        if self._found is None:
            return
        options = self._options
        if not hosts:
            self.log.warn("discovery dns: {host} has no address now; nothing changes", host=options.host)
            return
        self._found(
            [
                Discovered(str(address), address, options.weight, options.max_connections)
                for address in (Address(host, options.port) for host in sorted(set(hosts)))
            ]
        )


@implementer(IResolutionReceiver)
class _Answers:
    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._hosts: list[str] = []

    def resolutionBegan(self, resolutionInProgress: object) -> None: ...

    def addressResolved(self, address: Any) -> None:
        self._hosts.append(address.host)

    def resolutionComplete(self) -> None:
        self._done(self._hosts)
