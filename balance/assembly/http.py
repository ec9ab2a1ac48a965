"""A listener of layer 7.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.assembly.build import Assembly, Build
from balance.assembly.routes import filter_chain, rules_of
from balance.codec.forwarding import ForwardingRules
from balance.codec.http1 import HeadLimits
from balance.config import BackendConfig
from balance.http.proxy import HttpProxy
from balance.observe.counters import ListenerCounters
from balance.pool.backend import Backend
from balance.reach import Reach
from balance.resilience.retry import RetryBudget
from balance.routing.table import RuleTable
from balance.secure import Watchlist, certificate_fields, termination
from balance.sessions import server_sessions

if TYPE_CHECKING:
    from balance.config import DiscoveryConfig


def assemble_http(build: Build) -> Assembly:
    config, backends, clock = build.config, build.backends, build.clock
    deadlines, access_log = build.deadlines, build.access_log
    limits = HeadLimits(config.limits.head_size, config.limits.header_fields, config.limits.uri_length)
    watched = Watchlist()
    reach = Reach(config, deadlines, build.dialer, watched)
    items = {item.name: item for item in config.backends}
    connections = {backend: reach.connections(items[name], backend) for name, backend in backends.items()}
    kept = [*connections.values()]

    def opened(backend: Backend, found: DiscoveryConfig) -> None:
        item = BackendConfig(name=backend.name, address=backend.address, tls=found.tls)
        connections[backend] = reach.connections(item, backend)
        kept.append(connections[backend])

    def closed(backend: Backend) -> None:
        gone = connections.pop(backend)
        kept.remove(gone)
        gone.close()
        watched.forget(backend)

    discoveries = build.groups.build(opened, closed)
    counters = ListenerCounters(config.label)
    listener_filters = filter_chain(config.http.filters)
    rules = rules_of(build, listener_filters)
    for route in config.http.routes:
        if route.tls is not None:
            own = {backends[name]: reach.connections(items[name], backends[name], route.tls) for name in route.backends}
            next(rule.target for rule in rules if rule.name == route.name).connections = own
            kept += own.values()
    tls = termination(config, deadlines)
    proxy = HttpProxy(
        config.label,
        RuleTable(rules),
        connections,
        forwarding=ForwardingRules(
            config.trusted_proxies,
            forwarded=config.http.forwarded,
            via=config.http.via,
            certificate=certificate_fields(config),
            private=build.private,
        ),
        counters=counters,
        deadlines=deadlines,
        timeouts=config.timeouts,
        head_limits=limits,
        clock=clock,
        retry_budget=RetryBudget(
            lambda: counters.requests, deadlines.now, config.retries.budget, config.retries.min_budget
        ),
        retry_attempts=config.retries.attempts,
        replay_size=config.retries.replay_size,
        access_log=access_log,
        accept_proxy=config.accept_proxy,
        drain_spread=config.http.websocket.drain_spread,
        tls=tls,
        filters=listener_filters,
        http2=server_sessions(config, connect=all(rule.target.websocket.enabled for rule in rules)),
    )
    watched.add(tls)
    pools = tuple(rule.target.pool for rule in rules)
    return Assembly(config, proxy, build.live, kept, pools, watched, discoveries)
