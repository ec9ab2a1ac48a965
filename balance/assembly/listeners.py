"""Listeners, of either mode.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from balance.assembly.build import Assembly, Build, backend_of, backends_of
from balance.assembly.http import assemble_http
from balance.assembly.routes import http_rule
from balance.assembly.tcp import assemble_tcp, sni_rule
from balance.groups import Groups
from balance.pool.backend import Backend
from balance.routing.sni import SniTable
from balance.routing.table import RuleTable
from balance.secure import private_fields

if TYPE_CHECKING:
    from balance.config import Config, Listener, RouteConfig, TcpRouteConfig
    from balance.net.deadlines import Deadlines
    from balance.net.dial import Dialer
    from balance.observe.access_log import AccessLog


def assemble_all(
    config: Config, *, on_health: Callable[[Backend], None] | None = None, **shared: Any
) -> list[Assembly]:
    """Build the proxy of every listener. Backends at the top of the file are one and the same for all of them.

    :param shared: as for `assemble`
    """
    common = backends_of(config, on_health)
    private = private_fields(config.each_listener)
    return [
        assemble(
            listener,
            backends=common if listener.backends is config.backends else backends_of(listener, on_health),
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
    known = backends_of(config, on_health) if backends is None else backends
    live = list(known.values())
    build = Build(
        config,
        known,
        live,
        Groups(config, known, partial(backend_of, config, on_health), live),
        deadlines,
        dialer,
        clock,
        access_log,
        rng or random.Random(),
        private_fields([config]) if private is None else private,
    )
    return assemble_tcp(build) if config.mode == "tcp" else assemble_http(build)


def ordered_routes(config: Listener) -> Sequence[RouteConfig | TcpRouteConfig]:
    """The configured routes in the order they are tried, for people to read."""
    if config.mode == "tcp":
        sni_rules = [sni_rule(route, route, order) for order, route in enumerate(config.routes)]
        return [rule.target for rule in SniTable(sni_rules).ordered]
    rules = [http_rule(route, route, order) for order, route in enumerate(config.http.routes)]
    return [rule.target for rule in RuleTable(rules).ordered]
