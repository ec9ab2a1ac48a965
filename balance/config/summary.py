"""A configuration on one screen, for ``--check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from balance.config.backends import BackendConfig, LoadBalancer
from balance.config.routes import RouteConfig, TcpRouteConfig
from balance.config.schema import Config, Listener

Routes = Sequence[RouteConfig | TcpRouteConfig]


def summarise(config: Config, routes: Sequence[Routes]) -> str:
    """Listeners, routes, pools. Secrets are left out.

    :param routes: those of each listener, in the order in which they are tried
    """
    lines = ["The configuration is good.", ""]
    for listener, own in zip(config.each_listener, routes, strict=True):
        lines += _listener(listener, own)
    if config.metrics.enabled:
        lines += [f"metrics   {config.metrics.listen}  {config.metrics.path}, /status, /explain", ""]
    lines.append("backends:")
    backends = [backend for listener in config.each_listener for backend in listener.backends]
    lines += [_backend(backend) for backend in dict.fromkeys(backends)]
    lines += [f"notice: {notice}" for notice in config.notices]
    return "\n".join(lines)


def _listener(config: Listener, routes: Routes) -> Iterator[str]:
    name = f"  {config.label}" if config.prefix else ""
    limit = f"  max_connections {config.max_connections}" if config.max_connections else ""
    yield f"listener  {config.mode}  {config.listen}{name}{limit}{'  PROXY headers' if config.accept_proxy else ''}"
    if config.tls.enabled:
        yield f"  TLS {config.tls.min_version} to {config.tls.max_version}, client_auth {config.tls.client_auth}:"
        for certificate in config.tls.served:
            names = ", ".join(certificate.domains) or "the names in it"
            yield f"    {certificate.cert_file}: {names}{' (default)' if certificate.default else ''}"
    kind = "connection" if config.mode == "tcp" else "request"
    if config.http.filters:
        yield f"  filters: {', '.join(each.use for each in config.http.filters)}"
    yield f"  routes, in the order they are tried:{'' if routes else f' every {kind}, to all backends'}"
    for number, route in enumerate(routes, 1):
        yield f"    {number}. {route.name}: {_conditions(route) or f'every {kind}'}{_priority(route)}"
        if isinstance(route, RouteConfig) and route.filters:
            yield f"       filters: {', '.join(each.use for each in route.filters)}"
    yield "  pools:"
    for route in routes:
        if isinstance(route, RouteConfig) and route.resource is not None:
            yield f"    {route.name}: resource {route.resource.use}"
        else:
            yield f"    {route.name}: {_pool(config, route.load_balancer, route.backends)}"
    if not routes:
        yield f"    default: {_pool(config, None, [backend.name for backend in config.backends])}"
    times = ", ".join(f"{name} {value:g}s" for name, value in config.timeouts)
    yield f"  timeouts: {times}"
    yield ""


def _backend(backend: BackendConfig) -> str:
    limit = f"  max_connections {backend.max_connections}" if backend.max_connections else ""
    proxy = f"  PROXY {backend.send_proxy}" if backend.send_proxy else ""
    tls = (
        "" if backend.tls is None or not backend.tls.enabled else f"  TLS{'' if backend.tls.verify else ' UNVERIFIED'}"
    )
    protocol = "" if backend.protocol == "auto" else f"  {backend.protocol}"
    return f"  {backend.name}  {backend.address}  weight {backend.weight}{limit}{proxy}{protocol}{tls}"


def _conditions(route: RouteConfig | TcpRouteConfig) -> str:
    if isinstance(route, TcpRouteConfig):
        parts = [f"server name {route.sni}"] if route.sni else []
        parts += [f"ALPN {', '.join(route.alpn)}"] if route.alpn else []
        return " and ".join(parts)
    parts = [f"host {route.host}"] if route.host else []
    parts += [f"path {route.path_prefix}"] if route.path_prefix else []
    parts += [f"{name}: {value}" for name, value in route.headers.items()]
    parts += [f"method {', '.join(route.methods)}"] if route.methods else []
    parts += [f"client subject {route.client_subject}"] if route.client_subject else []
    parts += [f"client fingerprint {route.client_fingerprint}"] if route.client_fingerprint else []
    if route.client_verified is not None:
        parts.append(f"client {'verified' if route.client_verified else 'not verified'}")
    parts += [f"matcher {matcher.use}" for matcher in route.match]
    return " and ".join(parts)


def _priority(route: RouteConfig | TcpRouteConfig) -> str:
    return f"  (priority {route.priority})" if route.priority else ""


def _pool(config: Listener, own: LoadBalancer | None, backends: Sequence[str]) -> str:
    balancer = own or config.load_balancer
    key = f" by {balancer.hash_key}" if "hash" in balancer.algorithm or "affinity" in balancer.algorithm else ""
    return f"{balancer.algorithm}{key} over {', '.join(backends)}"
