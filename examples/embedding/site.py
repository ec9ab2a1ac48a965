"""An existing Twisted web application mounts Balance under /shop.

    python examples/embedding/site.py 8000 127.0.0.1:9001 127.0.0.1:9002

Everything else of the application is its own: http://127.0.0.1:8000/ is a page of it, http://127.0.0.1:8000/shop/cart
goes to one of the backends as /cart.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from balance.config import BackendConfig, Config, LoadBalancer
from balance.config.values import address
from balance.embedded import Embedded

reactor: Any = _reactor


def build(backends: list[str]) -> tuple[Site, Embedded]:
    """The application's site, and the service that its part of Balance needs."""
    config = Config(
        backends=tuple(BackendConfig(name=f"shop-{n}", address=address(each)) for n, each in enumerate(backends, 1)),
        load_balancer=LoadBalancer(algorithm="least-connections"),
    )
    balance = Embedded(config)
    root = Resource()
    root.putChild(b"", Data(b"the application's own page\n", "text/plain"))
    root.putChild(b"shop", balance.resource(strip_prefix=True))
    return Site(root), balance


def main(port: str, *backends: str) -> None:
    site, balance = build(list(backends))
    balance.startService()
    listening = reactor.listenTCP(int(port), site, interface="127.0.0.1")
    reactor.addSystemEventTrigger("before", "shutdown", balance.stopService)
    sys.stdout.write(f"http://127.0.0.1:{listening.getHost().port}/\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
