"""Balance inside another Twisted application: no listeners of its own, and no signals.

Rule of this file: what `balance.service` does for a process, less what belongs to the application: opening ports,
taking over signals, and deciding when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import MultiService

from balance.config import Config, made
from balance.http.proxy import HttpProxy
from balance.http.resource import ReverseProxyResource
from balance.registry import INSTALLED, balancer_names
from balance.service import BalanceService


class Embedded(BalanceService):
    """A service that keeps pools, health, deadlines and statistics going for `resource`.

    Give it to your application as a child service, or call ``startService`` and ``stopService`` yourself. Its
    ``listen`` addresses are not opened; `metrics` and `demo_backends` are, if the configuration asks for them.

    :param config: a `Config` made in Python, a mapping, or YAML text: see `balance.config.made`
    :param reactor: the one to run on; the global one by default
    :raises ConfigError: something is wrong with the configuration
    :raises PluginError: a plugin that it asks for is missing or broken
    """

    def __init__(self, config: Config | Mapping[str, Any] | str, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor as default

            reactor = default
        super().__init__(made(config, algorithms=balancer_names(), plugins=INSTALLED), reactor)
        for listener in self.listeners:
            listener.disownServiceParent()
        self.listeners = []

    def resource(self, listener: str = "", *, strip_prefix: bool = False) -> ReverseProxyResource:
        """What to put into a tree of `twisted.web` resources; as often as you like.

        :param listener: name of the listener whose routes it has; the first of mode http by default
        :param strip_prefix: take the path that it is mounted under away before routing and forwarding
        :raises ValueError: there is no such listener of mode http
        """
        for assembly in self.assemblies:
            if isinstance(assembly.proxy, HttpProxy) and listener in ("", assembly.config.label):
                return ReverseProxyResource(assembly.proxy, strip_prefix=strip_prefix)
        raise ValueError(
            f"there is no listener {listener!r} of mode http" if listener else "no listener is of mode http"
        )

    def startService(self) -> None:
        MultiService.startService(self)

    def stopService(self) -> Any:
        """Close the connections to backends that are idle; those in use close when they are done with. Stop your own
        ports first.
        """
        for assembly in self.assemblies:
            for connections in assembly.connections:
                connections.close()
        return super().stopService()
