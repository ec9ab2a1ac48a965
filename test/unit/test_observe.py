"""Statistics and the access log."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyChannel, DummyRequest

from balance.errors import ConnectRefused
from balance.model import Headers, RequestHead
from balance.net.deadlines import Deadlines
from balance.observe.access_log import AccessLog
from balance.observe.prometheus import exposition
from balance.observe.site import metrics_site
from balance.observe.status import status
from balance.observe.views import Views
from balance.service import Housekeeping, _views
from balance.testing import Application, Refuse
from test.certificates import Authority
from test.unit.support import World

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def exchange(target: bytes = b"/", agent: bytes = b"curl", **more: Any) -> Any:
    head = RequestHead(b"GET", target, b"a.example", Headers.of((b"User-Agent", agent)))
    values = {
        "request": head,
        "client_ip": "192.0.2.1",
        "status": 200,
        "body_in": 0,
        "body_out": 5,
        "reason": "",
        "attempts": 1,
        "started": 10.0,
        "route": SimpleNamespace(name="r"),
        "last_backend": SimpleNamespace(name="b1"),
        "tunnel": None,
        "proxy": SimpleNamespace(name="l", clock=lambda: 10.25),
    }
    return SimpleNamespace(**{**values, **more})


class AccessLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()

    def lines(self) -> list[str]:
        with open(self.path, encoding="ascii") as file:
            return file.read().splitlines()

    def test_combined(self) -> None:
        log = AccessLog(self.path, now=lambda: 0.0)
        log.record(exchange())
        self.assertFalse(os.path.exists(self.path))
        log.flush()
        self.assertEqual(
            self.lines(),
            ['192.0.2.1 - - [01/Jan/1970:00:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl" b1 1 - 0.250000'],
        )

    def test_json(self) -> None:
        log = AccessLog(self.path, "json", now=lambda: 1.5)
        log.record(exchange(status=0, reason="client_gone", last_backend=None, route=None))
        log.flush()
        record = json.loads(self.lines()[0])
        self.assertEqual((record["status"], record["reason"], record["backend"]), (499, "client_gone", None))
        self.assertEqual((record["time"], record["seconds"]), (1.5, 0.25))

    def test_nothing_a_client_sends_ends_a_line(self) -> None:
        for kind in ("combined", "json"):
            log = AccessLog(self.path, kind)
            log.record(exchange(b'/"\\\x80', b'x" 200 \xff\t"evil'))
            log.flush()
        plain, packed = self.lines()
        self.assertIn(r'"GET /\x22\x5c\x80 HTTP/1.1"', plain)
        self.assertIn(r'"x\x22 200 \xff\x09\x22evil"', plain)
        self.assertEqual(json.loads(packed)["target"], '/"\\' + r"\x80")

    def test_flushes_itself_when_much_is_waiting(self) -> None:
        log = AccessLog(self.path)
        for _ in range(1000):
            log.record(exchange())
        self.assertGreater(len(self.lines()), 500)

    def test_reopen(self) -> None:
        log = AccessLog(self.path)
        log.record(exchange())
        log.flush()
        os.rename(self.path, self.path + ".1")
        log.record(exchange())
        log.reopen()
        log.record(exchange())
        log.flush()
        self.assertEqual(len(self.lines()), 1)

    def test_a_disk_that_refuses_is_counted(self) -> None:
        log = AccessLog("/nonexistent/folder/log")
        log.record(exchange())
        log.flush()
        self.assertEqual(log.lost, 1)

    def test_housekeeping_goes_on(self) -> None:
        """What fails once, of the log or of anything else, is told, and does not end what time does."""
        clock = Clock()
        log = AccessLog(self.path)
        flushes: list[None] = []

        def flush() -> None:
            flushes.append(None)
            raise ZeroDivisionError

        self.patch(log, "flush", flush)
        service = Housekeeping(clock, Deadlines(clock), [], log)
        service.startService()
        clock.pump([1.0] * 3)
        self.assertEqual(len(flushes), 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)


class StatisticsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = world = World(backends=2)
        client = world.client()
        client.send(GET)
        world.accept().send(OK)
        client.send(GET)
        world.dial().refuse(ConnectRefused("no"))
        world.dialer.dials.clear()
        self.views = Views([world.proxy], world.backends, [world.pool], lambda b: world.connections[b].idle)

    def value(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families(exposition(status(self.views)).decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        raise AssertionError(f"no {name} {labels}")

    def test_prometheus(self) -> None:
        self.assertEqual(self.value("balance_requests_total", listener="test"), 2)
        self.assertEqual(self.value("balance_backend_requests_total", backend="b1"), 2)
        self.assertEqual(self.value("balance_backend_failures_total", backend="b2"), 1)
        self.assertEqual(self.value("balance_backend_up", backend="b1", state="healthy"), 1)
        self.assertEqual(self.value("balance_retries_total", listener="test"), 1)
        self.assertEqual(self.value("balance_route_requests_total", route="all"), 2)
        self.assertEqual(self.value("balance_backend_connections_opened_total", backend="b1"), 1)
        self.assertEqual(self.value("balance_sent_bytes_total", listener="test"), len(OK))

    def test_every_counter_is_there_before_it_counts(self) -> None:
        self.assertEqual(self.value("balance_pool_queued_requests", pool="test"), 0)
        self.assertEqual(self.value("balance_responses_total", **{"class": "5xx"}), 0)

    def test_status_is_json(self) -> None:
        report = json.loads(json.dumps(status(self.views)))
        self.assertEqual(report["listeners"][0]["requests"], 2)
        self.assertEqual([b["name"] for b in report["backends"]], ["b1", "b2"])
        self.assertEqual(report["backends"][0]["address"], "10.0.0.1:8001")


LISTENER, BACKEND = ("listener",), ("backend",)
#: Every metric, and its labels: dashboards stand on them.
METRICS = {
    "balance_requests": LISTENER,
    "balance_connections_accepted": LISTENER,
    "balance_connections_paused": LISTENER,
    "balance_received_bytes": LISTENER,
    "balance_sent_bytes": LISTENER,
    "balance_retries": LISTENER,
    "balance_http2_connections": LISTENER,
    "balance_http2_plain_header_bytes": LISTENER,
    "balance_http2_packed_header_bytes": LISTENER,
    "balance_active_requests": LISTENER,
    "balance_connections_open": LISTENER,
    "balance_connections_limit": LISTENER,
    "balance_responses": ("class", "listener"),
    "balance_errors": ("listener", "reason"),
    "balance_route_requests": ("listener", "route"),
    "balance_pool_queued_requests": ("pool",),
    "balance_websocket_open": LISTENER,
    "balance_websocket_opened": LISTENER,
    "balance_websocket_bytes": ("direction", "listener"),
    "balance_websocket_messages": ("direction", "listener"),
    "balance_websocket_closes": ("code", "listener"),
    "balance_backend_requests": BACKEND,
    "balance_backend_failures": BACKEND,
    "balance_backend_ejections": BACKEND,
    "balance_backend_connections_opened": BACKEND,
    "balance_backend_connections_reused": BACKEND,
    "balance_backend_received_bytes": BACKEND,
    "balance_backend_sent_bytes": BACKEND,
    "balance_backend_active_requests": BACKEND,
    "balance_backend_connections_open": BACKEND,
    "balance_backend_weight": BACKEND,
    "balance_backend_up": ("backend", "state"),
    "balance_backend_connections_idle": BACKEND,
    "balance_tls_handshakes": LISTENER,
    "balance_tls_resumed": LISTENER,
    "balance_tls_failures": ("listener", "reason"),
    "balance_tls_reloads": ("listener", "result"),
    "balance_tls_certificate_expiry_seconds": ("certificate", "listener"),
}


class SnapshotTests(SynchronousTestCase):
    """One thing feeds everything that shows statistics."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        pair = Authority(folder).issue("a.example")
        app = Application(
            {
                "listeners": [
                    {"name": "h", "listen": ":81", "tls": {"enabled": True, **pair.config}},
                    {"name": "t", "listen": ":82", "mode": "tcp"},
                ],
                "backends": [{"name": "a", "address": "h:1"}],
            }
        )
        app.backends["a"].always(Refuse())
        app.get("https://x/", listener="h")
        proxy = app.proxy("h")
        assert proxy.tls is not None
        proxy.tls.counters.count_failure("tls_no_common")
        proxy.tls.counters.reload_failures = 3
        proxy.tunnels.closes.update({1006: 1, 1000: 2})
        self.snapshot = status(_views(app.assemblies))
        self.families = list(text_string_to_metric_families(exposition(self.snapshot).decode()))

    def test_every_metric(self) -> None:
        found = {family.name: tuple(sorted(family.samples[0].labels)) for family in self.families}
        self.assertEqual(found, METRICS)

    def test_numbers_of_a_certificate(self) -> None:
        by_name = {family.name: family.samples for family in self.families}
        (expiry,) = by_name["balance_tls_certificate_expiry_seconds"]
        self.assertAlmostEqual(expiry.value / 86400, 20, places=1)
        reloads = {sample.labels["result"]: sample.value for sample in by_name["balance_tls_reloads"]}
        self.assertEqual(reloads, {"good": 0, "bad": 3})

    def test_it_is_json_and_nothing_is_lost_by_that(self) -> None:
        self.patch(time, "time", lambda: 1e9)
        again = json.loads(json.dumps(self.snapshot))
        self.assertEqual(again, self.snapshot)
        self.assertEqual(exposition(again), exposition(self.snapshot))


class SiteTests(SynchronousTestCase):
    def render(self, uri: bytes) -> tuple[int | None, bytes]:
        site = metrics_site("/metrics", lambda: b"m 1\n", lambda: {"a": 1})
        request = DummyRequest([b""])
        request.uri = uri
        request.method = b"GET"
        request.channel = DummyChannel()
        body = site.resource.render(request)
        return request.responseCode, body if isinstance(body, bytes) else b"".join(request.written)

    def test_pages(self) -> None:
        self.assertEqual(self.render(b"/metrics"), (None, b"m 1\n"))
        self.assertEqual(self.render(b"/metrics?x=1"), (None, b"m 1\n"))
        self.assertEqual(json.loads(self.render(b"/status")[1]), {"a": 1})
        self.assertEqual(self.render(b"/other")[0], 404)
