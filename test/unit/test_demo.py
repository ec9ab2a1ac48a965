"""Demo backends, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from balance.demo import DemoBackends
from balance.net.listen import ListenError

reactor: Any = _reactor


class DemoTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.service = DemoBackends([0, 0], reactor)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.client = treq.client.HTTPClient(Agent(reactor, pool))
        self.url = f"http://127.0.0.1:{self.service.ports[0].getHost().port}"

    async def get(self, path: str, **options: Any) -> tuple[int, bytes]:
        response = await self.client.get(self.url + path, **options)
        return response.code, await response.content()

    async def test_about(self) -> None:
        code, body = await self.get("/a?b=c", headers={"X-Test": "1"})
        self.assertEqual(code, 200)
        self.assertIn(b"Hello from demo-0", body)
        self.assertIn(b"GET /a?b=c", body)
        code, body = await self.get("/", headers={"Accept": "application/json"})
        self.assertEqual(json.loads(body)["method"], "GET")

    async def test_pages(self) -> None:
        self.assertEqual((await self.get("/status/503"))[0], 503)
        self.assertEqual(await self.get("/bytes/200000"), (200, b"x" * 200000))
        self.assertEqual(await self.get("/bytes/0"), (200, b""))
        code, body = await self.get("/stream?chunks=3&ms=1")
        self.assertEqual((code, body.count(b"chunk ")), (200, 3))
        code, body = await self.get("/slow?ms=1")
        self.assertIn(b"Hello", body)
        response = await self.client.post(self.url + "/echo", b"body" * 1000)
        self.assertEqual(await response.content(), b"body" * 1000)

    async def test_bad_parameters(self) -> None:
        for path in ("/slow?ms=x", "/slow?ms=-1", "/bytes/99999999999999", "/status/9", "/stream?chunks=1e9"):
            self.assertEqual((await self.get(path))[0], 400, path)

    def test_port_in_use(self) -> None:
        port = self.service.ports[0].getHost().port
        with self.assertRaises(ListenError) as caught:
            DemoBackends([port], reactor).startService()
        self.assertIn(f"127.0.0.1:{port}", str(caught.exception))
