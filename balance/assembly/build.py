"""What the assembly of either mode begins with, and what comes out of it.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure

from balance.assembly.affinity import affinity_of
from balance.groups import Groups
from balance.http.proxy import HttpProxy
from balance.http.route import KeySource
from balance.model import Address
from balance.pool.backend import Backend
from balance.pool.guard import guarded
from balance.pool.pool import Pool
from balance.registry import build_balancer
from balance.resilience.outlier import NEVER, OutlierRules
from balance.secure import Watchlist
from balance.tcp.proxy import TCPProxyFactory

if TYPE_CHECKING:
    from balance.config import Listener, LoadBalancer
    from balance.http.streams import Connections
    from balance.interfaces import IAffinity, IDiscovery
    from balance.net.deadlines import Deadlines
    from balance.net.dial import Dialer
    from balance.observe.access_log import AccessLog
    from balance.pool.discovered import Group

_log = Logger()


def report(what: str, error: Exception) -> None:
    """A plugin failed where nobody can log by himself."""
    _log.failure("{what}", failure=Failure(error), what=what)


@dataclass(frozen=True)
class Assembly:
    """What a listener was turned into. ``connections`` are those that are kept, of mode http: of each backend, and of
    each TLS setting that a route has of its own. ``tls`` is what looks at its files from time to time. ``discoveries``
    find backends: `backends`, `connections` and `tls` are up to date with what they have found.
    """

    config: Listener
    proxy: HttpProxy | TCPProxyFactory
    backends: Sequence[Backend]
    connections: Sequence[Connections]
    pools: tuple[Pool, ...]
    tls: Watchlist = field(default_factory=Watchlist)
    discoveries: tuple[tuple[Group, IDiscovery], ...] = ()


@dataclass(frozen=True)
class Build:
    """What both modes are made from."""

    config: Listener
    backends: Mapping[str, Backend]
    live: list[Backend]
    groups: Groups
    deadlines: Deadlines
    dialer: Dialer
    clock: Callable[[], float]
    access_log: AccessLog | None
    rng: random.Random
    private: Collection[bytes]

    def pooled(
        self, name: str, names: Sequence[str], options: LoadBalancer
    ) -> tuple[Pool, KeySource | None, IAffinity | None]:
        """The pool of a route, what its balancer hashes, and who remembers its clients; all of it up to date with what
        discoveries find.

        :param names: of backends and discoveries; none are all of them
        """
        members = self.groups.members(names)
        affinity, key = affinity_of(name, members, options, self.clock)
        pool = self._pool(name, members, options)
        self.groups.follow(names, pool, affinity)
        return pool, key, affinity

    def _pool(self, name: str, members: Sequence[Backend], options: LoadBalancer) -> Pool:
        balancer = build_balancer(
            options.algorithm,
            {"load_factor": options.load_factor, "virtual_nodes": options.virtual_nodes, "random": self.rng},
            own=options.options,
        )
        balancer = guarded(balancer, options.algorithm, report)
        return Pool(self.config.prefix + name, members, balancer, options.max_queue)


def backends_of(config: Listener, on_health: Callable[[Backend], None] | None) -> dict[str, Backend]:
    return {
        item.name: backend_of(config, on_health, item.name, item.address, item.weight, item.max_connections)
        for item in config.backends
    }


def backend_of(
    config: Listener,
    on_health: Callable[[Backend], None] | None,
    name: str,
    address: Address,
    weight: int,
    max_connections: int,
) -> Backend:
    health = config.health_check
    rules = NEVER
    if health.enable_passive_checks:
        rules = OutlierRules(
            consecutive_failures=health.consecutive_failures,
            ejection_time=health.ejection_time,
            max_ejection_time=health.max_ejection_time,
            max_ejected=health.max_ejected,
            error_rate=health.error_rate_threshold,
            window=health.passive_check_window,
        )
    return Backend(name, address, weight=weight, max_connections=max_connections, outlier=rules, on_health=on_health)
