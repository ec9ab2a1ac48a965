"""``twistd balance``: options and the service.

Rule of this file: the configuration is read before `twistd` does anything that cannot be undone (daemonise, write a pid
file), so a mistake in it is told to whoever typed the command, on standard error, with exit status 1.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from balance.net.reactor import install_lean_reactor


class Options(usage.Options):
    """Options of `twistd balance`."""

    synopsis = "[options]"
    longdesc = "A reverse proxy and load balancer, set up by one YAML file."
    optParameters = [["config", "c", "etc/balance.yaml", "The configuration file."]]
    optFlags = [["check", None, "Read the configuration, print what it means, and exit: 0 if it is good, 1 if not."]]

    def postOptions(self) -> None:
        # Before anything imports twisted.internet.reactor, which would choose another one.
        install_lean_reactor()
        self["loaded"] = self._load()

    def _load(self) -> Any:
        from balance.config import ConfigError, load
        from balance.registry import INSTALLED, PluginError, balancer_names

        try:
            config = load(self["config"], algorithms=balancer_names(), plugins=INSTALLED)
            if self["check"]:
                sys.stdout.write(self._summary(config))
                raise SystemExit(0)
        except (ConfigError, PluginError) as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None
        return config

    def _summary(self, config: Any) -> str:
        from balance.assembly import ordered_routes
        from balance.config import summarise

        return summarise(config, [ordered_routes(listener) for listener in config.each_listener]) + "\n"


def makeService(options: Options) -> IService:
    """What `twistd` runs. Its ports are open when this returns, before `twistd` daemonises or sheds privileges: so a
    port in use, too, is told to whoever typed the command.

    :raises SystemExit: a port cannot be opened, or a plugin that the configuration asks for is broken
    """
    from balance.net.listen import ListenError
    from balance.registry import PluginError
    from balance.secure import TlsError
    from balance.service import make_service

    try:
        service = make_service(options["loaded"])
        service.privilegedStartService()
    except (ListenError, PluginError, TlsError) as error:
        raise SystemExit(f"balance: {error}") from None
    return service
