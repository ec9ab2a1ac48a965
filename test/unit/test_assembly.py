"""From a configuration to objects: each key has its effect."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balance.assembly import Assembly, assemble, ordered_routes
from balance.config import loads
from balance.http.route import HttpRoute
from balance.net.deadlines import Deadlines
from balance.pool.affinity import StickyCookie, StickyTable
from balance.sessions import client_sessions, server_sessions
from balance.websocket.options import WebSocketOptions
from test.unit.support import MemoryDialer, Peer

BACKENDS = "backends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2', weight: 3, max_connections: 7}]\n"
GET = b"GET / HTTP/1.1\r\nHost: x.example\r\n\r\n"


def build(text: str) -> tuple[Assembly, MemoryDialer]:
    dialer = MemoryDialer()
    clock = Clock()
    assembly = assemble(
        loads(BACKENDS + text),
        deadlines=Deadlines(clock),
        dialer=dialer,  # type: ignore[arg-type]
        clock=clock.seconds,
        rng=random.Random(1),
    )
    return assembly, dialer


def routes(assembly: Assembly) -> list[HttpRoute]:
    return [rule.target for rule in assembly.proxy.routes.ordered]


class AssemblyTests(SynchronousTestCase):
    def test_without_routes(self) -> None:
        assembly, _ = build("")
        (route,) = routes(assembly)
        self.assertEqual(route.name, "default")
        self.assertEqual([b.name for b in route.pool.members], ["a", "b"])
        self.assertEqual([(b.weight, b.max_connections) for b in assembly.backends], [(1, 0), (3, 7)])

    def test_routes_share_backends_and_have_their_own_balancers(self) -> None:
        assembly, _ = build("http: {routes: [{name: r, backends: [a]}, {name: s, host: s.x, backends: [b, a]}]}")
        first, second = routes(assembly)
        self.assertEqual((first.name, second.name), ("s", "r"))
        self.assertIs(first.pool.members[1], second.pool.members[0])
        self.assertIsNot(first.pool.balancer, second.pool.balancer)
        self.assertEqual([r.name for r in ordered_routes(assembly.config)], ["s", "r"])

    def test_algorithms_and_keys(self) -> None:
        for algorithm, key in (("round-robin", False), ("random", False), ("consistent-hash", True)):
            assembly, _ = build(f"load_balancer: {{algorithm: {algorithm}}}")
            self.assertEqual(routes(assembly)[0].key is not None, key)

    def test_time_to_acknowledge_settings(self) -> None:
        for name in ("lean", "h2"):
            config = loads(f"{BACKENDS}http: {{http2_session: {name}, http2: {{settings_timeout: 3s}}}}")
            serve = server_sessions(config)
            assert serve is not None
            self.assertEqual((serve().start(), client_sessions(config, config.backends[0])().start()), (3.0, 3.0))

    def test_affinity(self) -> None:
        assembly, _ = build("load_balancer: {algorithm: session-affinity}")
        self.assertIsInstance(routes(assembly)[0].affinity, StickyTable)
        text = "load_balancer: {algorithm: session-affinity, hash_key: 'cookie:SRV', secret: 'sixteen letters!'}"
        cookies = []
        for _ in range(2):
            affinity = routes(build(text)[0])[0].affinity
            assert isinstance(affinity, StickyCookie)
            cookies.append(affinity.bind(None, "", "a"))
        self.assertEqual(cookies[0], cookies[1])

    def test_edits_host_and_limits(self) -> None:
        assembly, dialer = build(
            "http: {via: true, forwarded: true, routes: [{name: r, backends: [a], host_header: backend, "
            "request_headers: {set: {X-Team: t}, remove: [Cookie]}, response_headers: {add: {X-Served: yes-b}}, "
            "max_body_size: 1KiB, underscore_headers: drop}]}"
        )
        client = Peer(assembly.proxy.buildProtocol(None))
        client.send(GET[:-2] + b"Cookie: a=b\r\nA_B: 1\r\n\r\n")
        backend = dialer.dials.pop().accept()
        sent = backend.received()
        self.assertIn(b"Host: h:1\r\n", sent)
        self.assertIn(b"X-Team: t\r\n", sent)
        self.assertIn(b"Via: 1.1 balance\r\n", sent)
        self.assertIn(b'Forwarded: for=unknown;host="x.example";proto=http\r\n', sent)
        self.assertNotIn(b"Cookie", sent)
        self.assertNotIn(b"A_B", sent)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"X-Served: yes-b\r\nVia: 1.1 balance\r\n", client.received())
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n")
        self.assertIn(b"HTTP/1.1 413 ", client.received())

    def test_refused_underscores(self) -> None:
        assembly, _ = build("http: {underscore_headers: refuse}")
        client = Peer(assembly.proxy.buildProtocol(None))
        client.send(GET[:-2] + b"A_B: 1\r\n\r\n")
        self.assertIn(b"HTTP/1.1 400 ", client.received())

    def test_passive_health(self) -> None:
        assembly, _ = build("health_check: {consecutive_failures: 2, ejection_time: 7s}")
        rules = assembly.backends[0].health.rules
        self.assertEqual((rules.consecutive_failures, rules.ejection_time), (2, 7.0))
        assembly, _ = build("health_check: {enable_passive_checks: false}")
        self.assertEqual(assembly.backends[0].health.rules.consecutive_failures, 0)


class WebSocketRoutes(SynchronousTestCase):
    """A route says what differs from its listener, key by key; bytes are relayed unless messages are asked for."""

    def options(self, http: str) -> WebSocketOptions:
        assembly, _ = build(f"http: {http}")
        options = assembly.proxy.routes.ordered[0].target.websocket  # type: ignore[union-attr]
        assert isinstance(options, WebSocketOptions)
        return options

    def test_defaults(self) -> None:
        options = self.options("{}")
        self.assertEqual((options.enabled, options.idle_timeout, options.messages), (True, 3600, None))

    def test_switched_off(self) -> None:
        self.assertFalse(self.options("{enable_websocket: false}").enabled)
        route = "routes: [{name: r, backends: [a], websocket: {enabled: true}}]"
        self.assertTrue(self.options(f"{{enable_websocket: false, {route}}}").enabled)

    def test_key_by_key(self) -> None:
        options = self.options(
            "{websocket: {idle_timeout: 5m, origins: [https://a.example]},"
            " routes: [{name: r, backends: [a], websocket: {idle_timeout: 9s}}]}"
        )
        self.assertEqual((options.idle_timeout, options.origins), (9, {b"https://a.example"}))

    def test_messages(self) -> None:
        for key in ("messages: true", "max_message_size: 1MiB", "max_frame_size: 1kB", "ping_client: 30s"):
            self.assertIsNotNone(self.options(f"{{websocket: {{{key}}}}}").messages, key)
        for key in ("messages: false", "ping_timeout: 1s", "subprotocols: [a]", "max_frame_size: 0"):
            self.assertIsNone(self.options(f"{{websocket: {{{key}}}}}").messages, key)
