"""Statistics sinks, and those that come with Balance."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.test.requesthelper import DummyRequest
from zope.interface.verify import verifyObject

from balance.config import ConfigError, Metrics
from balance.interfaces import IStatisticsSink
from balance.model import Address
from balance.net.listen import ListenError
from balance.observe.status import status
from balance.registry import find
from balance.reporting.pages import Pages
from balance.reporting.run import Reporting
from balance.reporting.statsd import Statsd
from balance.service import MetricsService, _views, make_service
from balance.testing import Application


def sink(**options: Any) -> Statsd:
    return find("sink", "statsd").build({"address": "127.0.0.1:8125", **options})  # type: ignore[no-any-return]


class Lines(SynchronousTestCase):
    def test_what_is_sent(self) -> None:
        app = Application({"backends": [{"name": "a.1", "address": "h:1"}]})
        views = _views(app.assemblies)
        statsd = sink(prefix="eu.balance")
        verifyObject(IStatisticsSink, statsd)
        app.get("http://x/")
        app.get("http://x/")
        lines = set(statsd.lines(status(views)))
        for line in (
            b"eu.balance.listeners._8080.requests:2|c",
            b"eu.balance.listeners._8080.active_requests:0|g",
            b"eu.balance.backends.a_1.requests:2|c",
            b"eu.balance.backends.a_1.connections.reused:1|c",
            b"eu.balance.backends.a_1.weight:1|g",
            b"eu.balance.pools.default.queued:0|g",
        ):
            self.assertIn(line, lines)
        app.get("http://x/")
        self.assertIn(b"eu.balance.backends.a_1.requests:1|c", set(statsd.lines(status(views))))
        quiet = b"\n".join(statsd.lines(status(views)))
        self.assertNotIn(b"|c", quiet)


class FakePort:
    def __init__(self) -> None:
        self.packets: list[tuple[bytes, Any]] = []
        self.stopped = False

    def write(self, packet: bytes, address: Any) -> None:
        self.packets.append((packet, address))

    def stopListening(self) -> None:
        self.stopped = True


class Running(SynchronousTestCase):
    def test_a_life(self) -> None:
        clock: Any = Clock()
        port = FakePort()
        clock.listenUDP = lambda number, protocol: port
        many = {"name": "n", "requests": 0, "active_requests": 1}
        snapshot: dict[str, Any] = {
            "listeners": [{**many, "name": f"n{n}"} for n in range(100)],
            "pools": [],
            "backends": [],
        }
        service = Reporting(clock, "statsd", sink(interval="5s"), lambda: snapshot)
        service.startService()
        self.assertEqual(port.packets, [])
        clock.advance(5)
        self.assertTrue(len(port.packets) > 1)
        self.assertTrue(all(len(packet) <= 1400 for packet, _ in port.packets))
        self.assertEqual({address for _, address in port.packets}, {("127.0.0.1", 8125)})
        lines = b"\n".join(packet for packet, _ in port.packets).split(b"\n")
        self.assertEqual(len(lines), 100)
        service.stopService()
        self.assertTrue(port.stopped)
        count = len(port.packets)
        clock.advance(50)
        self.assertEqual(len(port.packets), count)

    def test_one_that_fails(self) -> None:
        class Broken:
            def start(self, snapshot: Any, reactor: Any) -> None:
                raise OSError("no route")

            def stop(self) -> None:
                raise OSError("never started")

        service = Reporting(Clock(), "broken", Broken(), dict)  # type: ignore[arg-type]
        service.startService()
        service.stopService()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)

    def test_told(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            Application({"backends": [{"name": "a", "address": "h:1"}], "statistics": [{"use": "statsd"}]})
        self.assertIn("statistics[0].options.address: this key is missing", str(caught.exception))


class FakeReactor(Clock):
    """Notes who listens where; ``taken`` is a port that somebody else has."""

    def __init__(self, taken: int = 0) -> None:
        super().__init__()
        self.taken = taken
        self.open: dict[int, Any] = {}

    def listenTCP(self, port: int, site: Any, interface: str) -> Any:
        if port == self.taken:
            raise CannotListenError(interface, port, OSError("taken"))
        self.open[port] = site
        return SimpleNamespace(stopListening=lambda: self.open.pop(port) and None)


class OfMetrics(SynchronousTestCase):
    """What `metrics` shows, run as a sink like any other."""

    METRICS = Metrics(enabled=True, listen=Address("127.0.0.1", 9090), path="/m")

    def ask(self, site: Any, uri: bytes) -> bytes:
        request = DummyRequest([b""])
        request.uri, request.method = uri, b"GET"
        return site.resource.render(request)  # type: ignore[no-any-return]

    def test_a_life(self) -> None:
        app = Application({"backends": [{"name": "a", "address": "h:1"}]})
        reactor: Any = FakeReactor()
        pages = Pages(self.METRICS, lambda query: (400, {"error": "what?"}))
        verifyObject(IStatisticsSink, pages)
        pages.start(lambda: status(_views(app.assemblies)), reactor)
        site = reactor.open[9090]
        self.assertIn(b'balance_backend_requests_total{backend="a"} 0.0', self.ask(site, b"/m"))
        app.get("http://x/")
        self.assertIn(b'balance_backend_requests_total{backend="a"} 1.0', self.ask(site, b"/m"))
        self.assertEqual(json.loads(self.ask(site, b"/status")), status(_views(app.assemblies)))
        self.assertEqual(json.loads(self.ask(site, b"/explain")), {"error": "what?"})
        pages.stop()
        pages.stop()
        self.assertEqual(reactor.open, {})

    def test_it_is_bound_with_the_listeners(self) -> None:
        reactor: Any = FakeReactor()
        service = MetricsService(reactor, self.METRICS, Pages(self.METRICS), dict)
        for _ in range(2):
            service.privilegedStartService()
            self.assertEqual(list(reactor.open), [9090])
            service.startService()
            service.stopService()
            self.assertEqual(reactor.open, {})

    def test_nothing_starts_where_it_cannot(self) -> None:
        service = MetricsService(FakeReactor(taken=9090), self.METRICS, Pages(self.METRICS), dict)
        with self.assertRaises(ListenError) as caught:
            service.privilegedStartService()
        self.assertEqual(str(caught.exception), "cannot listen on 127.0.0.1:9090: taken")
        service.stopService()


class Receiver(DatagramProtocol):
    def __init__(self) -> None:
        self.got: Deferred[bytes] = Deferred()

    def datagramReceived(self, datagram: bytes, address: Any) -> None:
        if not self.got.called:
            self.got.callback(datagram)


class Real(TestCase):
    timeout = 20

    async def test_over_udp(self) -> None:
        from twisted.internet import reactor as default

        reactor: Any = default
        receiver = Receiver()
        port = reactor.listenUDP(0, receiver, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        use = {"use": "statsd", "options": {"address": f"127.0.0.1:{port.getHost().port}", "interval": "100ms"}}
        service = make_service(
            {"listen": "127.0.0.1:1", "backends": [{"name": "a", "address": "h:1"}], "statistics": [use]},
            reactor,
        )
        (reporting,) = [each for each in service if isinstance(each, Reporting)]
        reporting.startService()
        datagram = await receiver.got
        self.assertIn(b"balance.backends.a.weight:1|g", datagram)
        await deferLater(reactor, 0)
        await reporting.stopService()
