"""A listener of layer 4.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from balance.assembly.build import Assembly, Build
from balance.codec.forwarding import ForwardingRules
from balance.observe.counters import ListenerCounters
from balance.pool.backend import Backend
from balance.routing.sni import SniRule, SniTable
from balance.secure import Watchlist, backend_tls, termination
from balance.tcp.proxy import TCPProxyFactory
from balance.tcp.route import TcpRoute

if TYPE_CHECKING:
    from balance.config import DiscoveryConfig, LoadBalancer, TcpRouteConfig
    from balance.net.tls_client import BackendTls

T = TypeVar("T")


def assemble_tcp(build: Build) -> Assembly:
    config = build.config

    watched = Watchlist()
    secure: dict[Backend, BackendTls] = {}

    def speak(backend: Backend, tls: BackendTls | None) -> None:
        if tls is not None:
            secure[backend] = tls
            watched.add(tls, backend)

    for item in config.backends:
        speak(build.backends[item.name], backend_tls(item.name, item.address, item.tls))

    def opened(backend: Backend, found: DiscoveryConfig) -> None:
        speak(backend, backend_tls(backend.name, backend.address, found.tls))

    def closed(backend: Backend) -> None:
        secure.pop(backend, None)
        watched.forget(backend)

    discoveries = build.groups.build(opened, closed)

    def target(name: str, names: Sequence[str], options: LoadBalancer) -> TcpRoute:
        pool, key, affinity = build.pooled(name, names, options)
        return TcpRoute(name, pool, key=key, affinity=affinity)

    rules = [
        sni_rule(route, target(route.name, route.backends, route.load_balancer or config.load_balancer), order)
        for order, route in enumerate(config.routes)
    ] or [SniRule(name="default", target=target("default", (), config.load_balancer))]
    tls = termination(config, build.deadlines)
    proxy = TCPProxyFactory(
        config.label,
        SniTable(rules),
        forwarding=ForwardingRules(config.trusted_proxies),
        counters=ListenerCounters(config.label),
        deadlines=build.deadlines,
        dialer=build.dialer,
        timeouts=config.timeouts,
        clock=build.clock,
        access_log=build.access_log,
        accept_proxy=config.accept_proxy,
        send_proxy={build.backends[b.name]: int(b.send_proxy[1]) for b in config.backends if b.send_proxy},
        tls=tls,
        backend_tls=secure,
    )
    watched.add(tls)
    pools = tuple(each.target.pool for each in rules)
    return Assembly(config, proxy, build.live, (), pools, watched, discoveries)


def sni_rule(route: TcpRouteConfig, target: T, order: int) -> SniRule[T]:
    return SniRule(name=route.name, target=target, sni=route.sni, alpn=route.alpn, priority=route.priority, order=order)
