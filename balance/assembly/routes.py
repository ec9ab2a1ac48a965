"""The routes of layer 7: rules, and what they lead to.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from balance.assembly.build import Build, report
from balance.assembly.websocket import websocket_options
from balance.balancing.round_robin import RoundRobin
from balance.http.filters import FilterChain
from balance.http.resource_target import ResourceConnections
from balance.http.route import HeaderEdits, HttpRoute
from balance.model import Address
from balance.pool.backend import Backend
from balance.pool.pool import Pool
from balance.registry import build as build_plugin
from balance.resilience.outlier import NEVER
from balance.routing.matching import rule_with
from balance.routing.rule import Rule
from balance.websocket.options import WebSocketOptions

if TYPE_CHECKING:
    from balance.config import HeaderEditsConfig, Listener, LoadBalancer, PluginConfig, RouteConfig
    from balance.interfaces import IHealthRule

T = TypeVar("T")


def rules_of(build: Build, listener_filters: FilterChain | None) -> list[Rule[HttpRoute]]:
    """A rule for each route; without routes, one that takes everything to all backends."""
    config = build.config
    rule = config.health_check.rule
    health = None if rule is None else build_plugin("health rule", rule)

    def target(name: str, names: Sequence[str], options: LoadBalancer, **more: Any) -> HttpRoute:
        pool, key, affinity = build.pooled(name, names, options)
        return HttpRoute(name, pool, key=key, affinity=affinity, **more)

    def of(route: RouteConfig) -> HttpRoute:
        more = {**_options(config, route), "filters": filter_chain(route.filters, listener_filters, health)}
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
            websocket=websocket_options(config, None),
            filters=filter_chain((), listener_filters, health),
        )
        return [Rule(name="default", target=everything)]
    return [http_rule(route, of(route), order) for order, route in enumerate(config.http.routes)]


def http_rule(route: RouteConfig, target: T, order: int) -> Rule[T]:
    matchers = [(each.use, build_plugin("matcher", each)) for each in route.match]
    return rule_with(matchers, report)(
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


def _resource_route(build: Build, route: RouteConfig, resource: PluginConfig, more: Mapping[str, Any]) -> HttpRoute:
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
        "websocket": websocket_options(config, route.websocket),
    }


def _edits(edits: HeaderEditsConfig | None) -> HeaderEdits | None:
    return None if edits is None else HeaderEdits(edits.set, edits.add, edits.remove)


def filter_chain(
    configs: Sequence[PluginConfig], outer: FilterChain | None = None, health: IHealthRule | None = None
) -> FilterChain | None:
    if not configs and outer is None and health is None:
        return None
    return FilterChain([(each.use, build_plugin("filter", each)) for each in configs], outer, health)
