"""Statistics sinks, and the one that comes with Balance."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from balance.config import ConfigError
from balance.interfaces import IStatisticsSink
from balance.observe.status import status
from balance.registry import find
from balance.reporting.run import Reporting
from balance.reporting.statsd import Statsd
from balance.service import _views, make_service
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
