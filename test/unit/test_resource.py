"""The twisted.web door: the same exchange, behind a Site, over real sockets."""

from __future__ import annotations

from typing import Any

import treq
from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import Site

from balance.assembly import assemble
from balance.config import loads
from balance.demo import DemoBackends
from balance.http.resource import ReverseProxyResource
from balance.net.deadlines import Deadlines
from balance.net.dial import Dialer

reactor: Any = _reactor


class ResourceTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        demo = DemoBackends([0], reactor)
        demo.startService()
        self.addCleanup(demo.stopService)
        deadlines = Deadlines(reactor)
        deadlines.start()
        self.addCleanup(deadlines.stop)
        port = demo.ports[0].getHost().port
        config = loads(
            f"backends: [{{name: b, address: '127.0.0.1:{port}'}}]\n"
            "http: {max_idle_conns_per_host: 0, routes: [{name: r, backends: [b]}]}"
        )
        self.assembly = assemble(config, deadlines=deadlines, dialer=Dialer(reactor, deadlines), clock=reactor.seconds)
        root = Resource()
        root.putChild(b"whole", ReverseProxyResource(self.assembly.proxy))
        root.putChild(b"app", ReverseProxyResource(self.assembly.proxy, strip_prefix=True))
        listening = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.url = f"http://127.0.0.1:{listening.getHost().port}"
        self.client = treq.client.HTTPClient(Agent(reactor, HTTPConnectionPool(reactor, persistent=False)))

    async def get(self, path: str, **options: Any) -> tuple[int, bytes]:
        response = await self.client.get(self.url + path, **options)
        return response.code, await response.content()

    async def test_mounted(self) -> None:
        self.assertIn(b"GET /whole/x?y", (await self.get("/whole/x?y"))[1])
        self.assertIn(b"GET /x?y", (await self.get("/app/x?y"))[1])
        self.assertIn(b"X-Forwarded-For: 127.0.0.1", (await self.get("/app"))[1])
        self.assertEqual((await self.get("/app/status/404"))[0], 404)
        self.assertEqual(self.assembly.proxy.counters.requests, 4)

    async def test_bodies(self) -> None:
        self.assertEqual(await self.get("/app/bytes/3000000"), (200, b"x" * 3_000_000))
        response = await self.client.post(self.url + "/app/echo", b"abc" * 100_000)
        self.assertEqual(await response.content(), b"abc" * 100_000)
        code, body = await self.get("/app/stream?chunks=3&ms=1")
        self.assertEqual((code, body.count(b"chunk")), (200, 3))

    async def test_head(self) -> None:
        response = await self.client.head(self.url + "/app/bytes/10")
        self.assertEqual(response.headers.getRawHeaders(b"content-length"), [b"10"])
        self.assertEqual(await response.content(), b"")

    async def test_stricter_than_the_site(self) -> None:
        code, _ = await self.get("/app/", headers={"Expect": "200-ok"})
        self.assertEqual(code, 417)
