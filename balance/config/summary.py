"""A configuration on one screen, for ``--check``."""

from __future__ import annotations

from collections.abc import Sequence

from balance.config.schema import Config, LoadBalancer, RouteConfig


def summarise(config: Config, routes: Sequence[RouteConfig]) -> str:
    """Listeners, routes, pools. Secrets are left out.

    :param routes: those of the configuration, in the order in which they are tried
    """
    lines = ["The configuration is good.", "", f"listener  {config.mode}  {config.listen}"]
    if config.metrics.enabled:
        lines.append(f"metrics   {config.metrics.listen}  {config.metrics.path}, /status")
    lines += ["", "routes, in the order they are tried:"]
    lines += [f"  {number}. {_route(route)}" for number, route in enumerate(routes, 1)] or [
        "  every request, to all backends"
    ]
    lines += ["", "pools:"]
    if routes:
        lines += [f"  {route.name}: {_pool(config, route.load_balancer, route.backends)}" for route in routes]
    else:
        lines.append(f"  default: {_pool(config, None, [backend.name for backend in config.backends])}")
    lines += ["", "backends:"]
    for backend in config.backends:
        limit = f"  max_connections {backend.max_connections}" if backend.max_connections else ""
        lines.append(f"  {backend.name}  {backend.address}  weight {backend.weight}{limit}")
    times = ", ".join(f"{name} {value:g}s" for name, value in config.timeouts)
    lines += ["", f"timeouts: {times}"]
    lines += [f"notice: {notice}" for notice in config.notices]
    return "\n".join(lines)


def _route(route: RouteConfig) -> str:
    parts = [f"host {route.host}"] if route.host else []
    parts += [f"path {route.path_prefix}"] if route.path_prefix else []
    parts += [f"{name}: {value}" for name, value in route.headers.items()]
    parts += [f"method {', '.join(route.methods)}"] if route.methods else []
    priority = f"  (priority {route.priority})" if route.priority else ""
    return f"{route.name}: {' and '.join(parts) or 'every request'}{priority}"


def _pool(config: Config, own: LoadBalancer | None, backends: Sequence[str]) -> str:
    balancer = own or config.load_balancer
    key = f" by {balancer.hash_key}" if "hash" in balancer.algorithm or "affinity" in balancer.algorithm else ""
    return f"{balancer.algorithm}{key} over {', '.join(backends)}"
