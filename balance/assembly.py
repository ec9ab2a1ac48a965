"""From a configuration to the objects that serve it.

Rule of this file: this is where names turn into objects, once, at the start. Nothing here opens a socket, and nothing
but this knows both the configuration and what it configures.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.logger import Logger
from twisted.python.failure import Failure

from balance.balancing.round_robin import RoundRobin
from balance.codec.forwarding import ForwardingRules
from balance.codec.http1 import HeadLimits
from balance.config import BackendConfig
from balance.config.websocket import WebSocketConfig, effective
from balance.groups import Groups
from balance.http.filters import FilterChain
from balance.http.proxy import HttpProxy
from balance.http.resource_target import ResourceConnections
from balance.http.route import HeaderEdits, HttpRoute, KeySource
from balance.model import Address
from balance.observe.counters import ListenerCounters
from balance.pool.affinity import StickyCookie, StickyTable, key_source
from balance.pool.backend import Backend
from balance.pool.guard import guarded
from balance.pool.pool import Pool
from balance.reach import Reach
from balance.registry import balancer_factory, build_balancer
from balance.registry import build as build_plugin
from balance.resilience.outlier import NEVER, OutlierRules
from balance.resilience.retry import RetryBudget
from balance.routing.matching import rule_with
from balance.routing.rule import Rule
from balance.routing.sni import SniRule, SniTable
from balance.routing.table import RuleTable
from balance.secure import Watchlist, backend_tls, certificate_fields, private_fields, termination
from balance.sessions import server_sessions
from balance.tcp.proxy import TCPProxyFactory
from balance.tcp.route import TcpRoute
from balance.websocket.options import MessageOptions, WebSocketOptions

if TYPE_CHECKING:
    from balance.config import (
        Config,
        DiscoveryConfig,
        HeaderEditsConfig,
        Listener,
        LoadBalancer,
        PluginConfig,
        RouteConfig,
        TcpRouteConfig,
    )
    from balance.config.tls import BackendTlsConfig
    from balance.http.streams import Connections
    from balance.interfaces import IAffinity, IDiscovery, IHealthRule
    from balance.net.deadlines import Deadlines
    from balance.net.dial import Dialer
    from balance.net.tls_client import BackendTls
    from balance.observe.access_log import AccessLog
    from balance.pool.discovered import Group

T = TypeVar("T")

_log = Logger()


def _report(what: str, error: Exception) -> None:
    """A plugin failed where nobody can log by himself."""
    _log.failure("{what}", failure=Failure(error), what=what)


SESSION_AFFINITY = "session-affinity"


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


def assemble_all(
    config: Config, *, on_health: Callable[[Backend], None] | None = None, **shared: Any
) -> list[Assembly]:
    """Build the proxy of every listener. Backends at the top of the file are one and the same for all of them.

    :param shared: as for `assemble`
    """
    common = _backends(config, on_health)
    private = private_fields(config.each_listener)
    return [
        assemble(
            listener,
            backends=common if listener.backends is config.backends else _backends(listener, on_health),
            private=private,
            **shared,
        )
        for listener in config.each_listener
    ]


def assemble(
    config: Listener,
    *,
    backends: Mapping[str, Backend] | None = None,
    deadlines: Deadlines,
    dialer: Dialer,
    clock: Callable[[], float],
    access_log: AccessLog | None = None,
    on_health: Callable[[Backend], None] | None = None,
    rng: random.Random | None = None,
    private: Collection[bytes] | None = None,
) -> Assembly:
    """Build the proxy of one listener.

    :param backends: those of the configuration, where others use them too
    :param clock: monotonic seconds
    :param rng: for balancers that draw lots
    :param private: fields that no client may send; by default, those that the listener itself vouches for
    :raises TlsError: a certificate cannot be used
    """
    known = _backends(config, on_health) if backends is None else backends
    live = list(known.values())
    build = _Build(
        config,
        known,
        live,
        Groups(config, known, partial(_backend, config, on_health), live),
        deadlines,
        dialer,
        clock,
        access_log,
        rng or random.Random(),
        private_fields([config]) if private is None else private,
    )
    return _assemble_tcp(build) if config.mode == "tcp" else _assemble_http(build)


@dataclass(frozen=True)
class _Build:
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

    def pool(self, name: str, members: Sequence[Backend], options: LoadBalancer) -> Pool:
        balancer = build_balancer(
            options.algorithm,
            {"load_factor": options.load_factor, "virtual_nodes": options.virtual_nodes, "random": self.rng},
            own=options.options,
        )
        balancer = guarded(balancer, options.algorithm, _report)
        return Pool(self.config.prefix + name, members, balancer, options.max_queue)

    def tls_of(
        self, name: str, own: BackendTlsConfig | None = None, protocols: Sequence[str] = ()
    ) -> BackendTls | None:
        """TLS with a backend: as ``own`` says, or the backend itself."""
        item = next(item for item in self.config.backends if item.name == name)
        return backend_tls(name, item.address, item.tls if own is None else own, protocols)


def _assemble_tcp(build: _Build) -> Assembly:
    config = build.config

    watched = Watchlist()
    secure: dict[Backend, BackendTls] = {}

    def speak(backend: Backend, tls: BackendTls | None) -> None:
        if tls is not None:
            secure[backend] = tls
            watched.add(tls, backend)

    for name, backend in build.backends.items():
        speak(backend, build.tls_of(name))

    def opened(backend: Backend, found: DiscoveryConfig) -> None:
        speak(backend, backend_tls(backend.name, backend.address, found.tls, ()))

    def closed(backend: Backend) -> None:
        secure.pop(backend, None)
        watched.forget(backend)

    discoveries = build.groups.build(opened, closed)

    def rule(name: str, names: Sequence[str], options: LoadBalancer, **conditions: Any) -> SniRule[TcpRoute]:
        members = build.groups.members(names)
        affinity, key = _affinity(name, members, options, build.clock)
        route = TcpRoute(name, build.pool(name, members, options), key=key, affinity=affinity)
        build.groups.follow(names, route.pool, affinity)
        return SniRule(name=name, target=route, **conditions)

    rules = [
        rule(
            route.name,
            route.backends,
            route.load_balancer or config.load_balancer,
            **_conditions(route, order),
        )
        for order, route in enumerate(config.routes)
    ] or [rule("default", (), config.load_balancer)]
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


def _conditions(route: TcpRouteConfig, order: int) -> dict[str, Any]:
    return {"sni": route.sni, "alpn": route.alpn, "priority": route.priority, "order": order}


def _assemble_http(build: _Build) -> Assembly:
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
    listener_filters = _filters(config.http.filters)
    rules = _rules(build, listener_filters)
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


def ordered_routes(config: Listener) -> Sequence[RouteConfig | TcpRouteConfig]:
    """The configured routes in the order they are tried, for people to read."""
    if config.mode == "tcp":
        rules = [
            SniRule(name=route.name, target=route, **_conditions(route, order))
            for order, route in enumerate(config.routes)
        ]
        return [rule.target for rule in SniTable(rules).ordered]
    return [
        rule.target
        for rule in RuleTable(_rule(route, route, order) for order, route in enumerate(config.http.routes)).ordered
    ]


def _filters(
    configs: Sequence[PluginConfig], outer: FilterChain | None = None, health: IHealthRule | None = None
) -> FilterChain | None:
    if not configs and outer is None and health is None:
        return None
    return FilterChain([(each.use, build_plugin("filter", each)) for each in configs], outer, health)


def _rule(route: RouteConfig, target: T, order: int) -> Rule[T]:
    matchers = [(each.use, build_plugin("matcher", each)) for each in route.match]
    return rule_with(matchers, _report)(
        name=route.name,
        host=route.host,
        path_prefix=route.path_prefix,
        headers=route.headers,
        methods=route.methods,
        client_subject=route.client_subject,
        client_fingerprint=route.client_fingerprint,
        client_verified=route.client_verified,
        priority=route.priority,
        order=order,
        target=target,
    )


def _backends(config: Listener, on_health: Callable[[Backend], None] | None) -> dict[str, Backend]:
    return {
        item.name: _backend(config, on_health, item.name, item.address, item.weight, item.max_connections)
        for item in config.backends
    }


def _backend(
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


def _rules(build: _Build, listener_filters: FilterChain | None) -> list[Rule[HttpRoute]]:
    """A rule for each route; without routes, one that takes everything to all backends."""
    config = build.config
    rule = config.health_check.rule
    health = None if rule is None else build_plugin("health rule", rule)

    def target(name: str, names: Sequence[str], options: LoadBalancer, **more: Any) -> HttpRoute:
        members = build.groups.members(names)
        affinity, key = _affinity(name, members, options, build.clock)
        route = HttpRoute(name, build.pool(name, members, options), key=key, affinity=affinity, **more)
        build.groups.follow(names, route.pool, affinity)
        return route

    def of(route: RouteConfig) -> HttpRoute:
        more = {**_options(config, route), "filters": _filters(route.filters, listener_filters, health)}
        if route.resource is not None:
            return _resource_route(build, route, route.resource, more)
        return target(route.name, route.backends, route.load_balancer or config.load_balancer, **more)

    if not config.http.routes:
        everything = target(
            "default",
            (),
            config.load_balancer,
            underscore_headers=config.http.underscore_headers,
            max_body=config.limits.body_size,
            websocket=_websocket(config, None),
            filters=_filters((), listener_filters, health),
        )
        return [Rule(name="default", target=everything)]
    return [_rule(route, of(route), order) for order, route in enumerate(config.http.routes)]


def _resource_route(build: _Build, route: RouteConfig, resource: PluginConfig, more: Mapping[str, Any]) -> HttpRoute:
    """A route whose only backend is inside this process."""
    inside = Backend(f"resource:{route.name}", Address("", 0, resource.use), outlier=NEVER)
    pool = Pool(build.config.prefix + route.name, [inside], RoundRobin())
    root = build_plugin("resource", resource)
    served = ResourceConnections(inside, root, build.deadlines, build.config.timeouts)
    ignored = WebSocketOptions(enabled=False, ignore=True)  # a resource answers, and takes nothing over
    return HttpRoute(route.name, pool, connections={inside: served}, **{**more, "websocket": ignored})


def _options(config: Listener, route: RouteConfig) -> dict[str, Any]:
    """What a route asks for besides its pool; the listener's where it says nothing."""
    return {
        "request_edits": _edits(route.request_headers),
        "response_edits": _edits(route.response_headers),
        "host": "" if route.host_header == "pass" else route.host_header,
        "underscore_headers": route.underscore_headers or config.http.underscore_headers,
        "max_body": config.limits.body_size if route.max_body_size is None else route.max_body_size,
        "websocket": _websocket(config, route.websocket),
    }


def _websocket(config: Listener, own: WebSocketConfig | None) -> WebSocketOptions:
    asked = effective(config.http.enable_websocket, config.http.websocket, own)
    return WebSocketOptions(
        enabled=asked.enabled,
        ignore=asked.if_disabled == "ignore",
        origins=asked.origins,
        idle_timeout=asked.idle_timeout,
        close_timeout=asked.close_timeout,
        subprotocols=asked.subprotocols,
        messages=_messages(asked) if asked.needs_messages else None,
    )


def _messages(asked: WebSocketConfig) -> MessageOptions:
    from balance.websocket.autobahn_adapter import AutobahnEndpoints  # large, and few need it

    return MessageOptions(
        AutobahnEndpoints(
            max_message=asked.max_message_size,
            max_frame=asked.max_frame_size,
            compress_client=asked.compression.client,
            compress_backend=asked.compression.backend,
            context_takeover=asked.compression.context_takeover,
        ),
        ping_client=asked.ping_client,
        ping_backend=asked.ping_backend,
        ping_timeout=asked.ping_timeout,
        filters=[build_plugin("websocket_filter", each) for each in asked.filters],
    )


def _edits(edits: HeaderEditsConfig | None) -> HeaderEdits | None:
    return None if edits is None else HeaderEdits(edits.set, edits.add, edits.remove)


def _affinity(
    name: str, members: Sequence[Backend], options: LoadBalancer, clock: Callable[[], float]
) -> tuple[IAffinity | None, KeySource | None]:
    """Who remembers clients, and what the balancer hashes."""
    factory = balancer_factory(options.algorithm)
    if options.algorithm != SESSION_AFFINITY:
        return None, key_source(options.hash_key) if factory.needs_key else None
    kind, _, cookie = options.hash_key.partition(":")
    if kind == "cookie":
        names = [backend.name for backend in members]
        return StickyCookie(cookie, _secret(name, options), names, ttl=options.affinity_ttl), None
    return StickyTable(key_source(options.hash_key), options.affinity_ttl, clock), None


def _secret(name: str, options: LoadBalancer) -> bytes:
    """Without a configured secret, one for the life of this process: cookies of an earlier one are then not recalled,
    and their clients are bound anew.
    """
    if options.secret:
        return hashlib.blake2b(options.secret.encode(), person=b"balance-affinity").digest()
    return os.urandom(32)
