"""The whole service from Python objects, without YAML.

    twistd --nodaemon --python examples/embedding/service.tac

listens on port 8080 in front of two backends; LISTEN and BACKENDS in the environment say otherwise.
"""

import os

from twisted.application.service import Application

from balance.config import BackendConfig, Config, Http, LoadBalancer, RouteConfig, Timeouts
from balance.config.values import address, listen_address
from balance.service import makeService

addresses = os.environ.get("BACKENDS", "127.0.0.1:9001 127.0.0.1:9002").split()
backends = tuple(BackendConfig(name=f"api-{n}", address=address(each)) for n, each in enumerate(addresses, 1))
names = tuple(backend.name for backend in backends)
config = Config(
    listen=listen_address(os.environ.get("LISTEN", "127.0.0.1:8080")),
    backends=backends,
    http=Http(
        routes=(
            RouteConfig(
                name="api", path_prefix="/api/", backends=names, load_balancer=LoadBalancer(algorithm="random")
            ),
            RouteConfig(name="rest", backends=names[:1]),
        )
    ),
    timeouts=Timeouts(connect=2.0, read=10.0),
)

application = Application("balance")
makeService(config).setServiceParent(application)
