"""Backends that come and go while Balance runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.config import ConfigError
from balance.discovery import Discovering
from balance.finding.dns import DnsDiscovery
from balance.interfaces import IDiscovery
from balance.model import Address, Discovered
from balance.net.deadlines import Deadlines
from balance.observe.status import status
from balance.pool.backend import Backend
from balance.pool.discovered import Group
from balance.registry import find
from balance.secure import TlsError
from balance.service import Everyone, Housekeeping, _views
from balance.testing import Application, Silence
from test.certificates import Authority
from test.unit import acme

TOLD = {"name": "api", "use": "test.unit.acme:Told"}


def one(name: str, port: int = 0, **options: Any) -> Discovered:
    return Discovered(name, Address("10.0.0.1", port or 8000 + int(name)), **options)


class Found(SynchronousTestCase):
    """What follows when something was found."""

    def application(self, **keys: Any) -> Application:
        return Application({"discovery": [TOLD], **keys})

    def serving(self, app: Application, asked: int = 12, **options: Any) -> set[str | None]:
        return {app.get("http://x/", **options).backend for _ in range(asked)}

    def test_nothing_yet(self) -> None:
        call = self.application().get("http://x/")
        self.assertEqual((call.status, call.reason), (503, "no_backend"))

    def test_backends_come_and_go(self) -> None:
        app = self.application()
        app.found("api", one("1"), one("2"))
        self.assertEqual(self.serving(app), {"api/1", "api/2"})
        app.found("api", one("2"), one("3"))
        self.assertEqual(self.serving(app), {"api/2", "api/3"})
        app.found("api")
        self.assertEqual(app.get("http://x/").status, 503)

    def test_every_algorithm(self) -> None:
        for name in ("weighted-round-robin", "least-connections", "weighted-least-connections", "consistent-hash",
                     "bounded-consistent-hash", "session-affinity", "random"):  # fmt: skip
            app = self.application(load_balancer={"algorithm": name})
            self.assertEqual(app.get("http://x/").status, 503, name)
            app.found("api", one("1"))
            self.assertEqual(self.serving(app), {"api/1"}, name)
            app.found("api", one("2"))
            self.assertEqual(self.serving(app), {"api/2"}, name)

    def test_routes_name_them(self) -> None:
        app = self.application(
            backends=[{"name": "fixed", "address": "h:1"}],
            http={
                "routes": [
                    {"name": "both", "path_prefix": "/both", "backends": ["fixed", "api"]},
                    {"name": "found", "backends": ["api"]},
                ]
            },
        )
        app.found("api", one("1"))
        self.assertEqual({app.get("http://x/both").backend for _ in range(6)}, {"fixed", "api/1"})
        self.assertEqual(self.serving(app), {"api/1"})

    def test_state_is_kept(self) -> None:
        app = self.application()
        app.found("api", one("1"), one("2"))
        app.member("api/1").set_enabled(False)
        app.found("api", one("1"), one("2"), one("3"))
        self.assertEqual(self.serving(app), {"api/2", "api/3"})
        app.found("api", one("1", port=9), one("2"), one("3"))
        self.assertEqual(self.serving(app), {"api/1", "api/2", "api/3"})  # another address: another server

    def test_what_is_under_way_is_finished(self) -> None:
        app = self.application()
        app.found("api", one("1"))
        client = app.client()
        client.request("GET", "http://x/")
        slow = app.start("GET", "http://x/")
        app.backends["api/1"].always(Silence())
        waiting = app.start("GET", "http://x/")
        app.settle()
        leaving = app.member("api/1")
        app.found("api", one("2"))
        self.assertEqual(self.serving(app), {"api/2"})
        self.assertEqual((slow.status, waiting.done, leaving.active), (200, False, 1))
        waiting.cancel()
        app.settle()
        app.found("api", one("2"))
        self.assertEqual(leaving.connections_open, 0)
        self.assertEqual([backend.name for backend in app.assemblies[0].backends], ["api/2"])
        self.assertEqual([each.backend.name for each in app.assemblies[0].connections], ["api/2"])

    def test_sticky_cookies(self) -> None:
        app = self.application(load_balancer={"algorithm": "session-affinity", "hash_key": "cookie:SRV"})
        app.found("api", one("1"), one("2"))
        client = app.client(keep_cookies=True)
        first = client.request("GET", "http://x/").backend
        self.assertEqual({client.request("GET", "http://x/").backend for _ in range(4)}, {first})

    def test_weights(self) -> None:
        app = self.application(load_balancer={"algorithm": "weighted-round-robin"})
        app.found("api", one("1", weight=3), one("2", weight=1))
        served = [app.get("http://x/").backend for _ in range(8)]
        self.assertEqual((served.count("api/1"), served.count("api/2")), (6, 2))

    def test_statistics(self) -> None:
        app = self.application()
        views = _views(app.assemblies)
        app.found("api", one("1"))
        app.get("http://x/")
        (seen,) = status(views)["backends"]
        self.assertEqual((seen["name"], seen["requests"]), ("api/1", 1))
        self.assertEqual([backend.name for backend in Everyone(app.assemblies)], ["api/1"])

    def test_two_of_one_name(self) -> None:
        app = self.application()
        app.found("api", one("1"))
        self.assertRaises(ValueError, app.found, "api", one("2"), one("2", port=9))
        self.assertEqual(self.serving(app), {"api/1"})

    def test_mode_tcp(self) -> None:
        app = Application({"mode": "tcp", "discovery": [TOLD]})
        app.found("api", one("1"))
        peer = app.connect(listener=app.assemblies[0].config.label)
        peer.send(b"hello")
        app.settle()
        self.assertEqual(app.backends["api/1"].dials, 1)


class Certificates(SynchronousTestCase):
    """Those that discovered backends are spoken to with."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = Authority(self.folder)
        self.pair = self.authority.issue("us.example")

    def application(self, mode: str) -> Application:
        tls = {"ca_file": str(self.authority.file), **self.pair.config}
        return Application({"mode": mode, "discovery": [{**TOLD, "tls": tls}]})

    def test_changed_files_are_taken_up(self) -> None:
        for mode in ("http", "tcp"):
            app = self.application(mode)
            (assembly,) = app.assemblies
            clock = Clock()
            service = Housekeeping(clock, Deadlines(clock), assembly.backends, None, [assembly.tls])  # type: ignore[arg-type]
            service.startService()
            app.found("api", one("1"), one("2"))
            watched = {each: each._watched.value for each in assembly.tls}
            self.assertGreaterEqual(len(watched), 2)
            clock.advance(1)
            self.assertEqual({each: each._watched.value for each in assembly.tls}, watched)
            other = self.authority.issue("us.example")
            self.pair.cert.write_bytes(other.cert.read_bytes())
            self.pair.key.write_bytes(other.key.read_bytes())
            clock.advance(1)
            for each, before in watched.items():
                self.assertEqual((each._watched.problem, each._watched.reloads), ("", 1))
                self.assertIsNot(each.session().ssl.context, before)  # type: ignore[union-attr]
            app.found("api", one("2"))
            self.assertEqual(len(assembly.tls), len(watched) / 2)
            app.found("api")
            self.assertEqual(len(assembly.tls), 0)
            service.stopService()

    def test_what_cannot_be_used_changes_nothing(self) -> None:
        """And is no obstacle to what is found when it can."""
        for mode in ("http", "tcp"):
            app = self.application(mode)
            (assembly,) = app.assemblies
            app.found("api", one("1"))
            count = len(assembly.tls)
            good = self.authority.file.read_bytes()
            self.authority.file.write_bytes(b"half a certif")
            self.assertRaises(TlsError, app.found, "api", one("2"))
            self.authority.file.write_bytes(good)
            self.assertEqual([backend.name for backend in assembly.backends], ["api/1"])
            app.found("api", one("1"), one("2"))
            self.assertEqual([backend.name for backend in assembly.backends], ["api/1", "api/2"])
            self.assertEqual(len(assembly.tls), 2 * count)

    def test_all_or_none(self) -> None:
        opened: list[str] = []

        def open_(backend: Backend) -> None:
            if backend.name.endswith("bad"):
                raise OSError("no certificate")
            opened.append(backend.name)

        def make(name: str, found: Discovered) -> Backend:
            return Backend(name, found.address)

        group = Group("api", make, open_, lambda backend: opened.remove(backend.name))
        group.found([one("1")])
        self.assertRaises(OSError, group.found, [one("2"), one("bad", port=9)])
        self.assertEqual((opened, [backend.name for backend in group.backends]), (["api/1"], ["api/1"]))


class Told(SynchronousTestCase):
    def refused(self, **keys: Any) -> str:
        with self.assertRaises(ConfigError) as caught:
            Application({"discovery": [TOLD], **keys})
        return str(caught.exception)

    def test_names(self) -> None:
        taken = self.refused(backends=[{"name": "api", "address": "h:1"}])
        self.assertIn("discovery[0].name: found 'api'; a backend or another discovery has this name", taken)
        routes = [{"name": "r", "backends": ["apo"]}]
        self.assertIn("backends are api; did you mean 'api'?", self.refused(http={"routes": routes}))
        routes = [{"name": "r", "backends": ["api"], "tls": True}]
        self.assertIn("is said with the discovery", self.refused(http={"routes": routes}))

    def test_plugins(self) -> None:
        use = {"name": "x", "use": "dns", "options": {"host": "h", "port": 0}}
        self.assertIn("discovery[0].options.port: found 0; it must be at least 1", self.refused(discovery=[use]))
        self.assertIn(
            "no discovery 'dsn' is installed; there are: dns", self.refused(discovery=[{**use, "use": "dsn"}])
        )
        self.assertIn("IDiscovery", self.refused(discovery=[{"name": "x", "use": "test.unit.acme:NoPick"}]))


class Running(SynchronousTestCase):
    def setUp(self) -> None:
        acme.seen.clear()
        self.app = Application({"discovery": [{**TOLD, "options": {"names": ["1"]}}]})
        ((group, discovery),) = self.app.assemblies[0].discoveries
        self.group = group
        self.service = Discovering(self.app.clock, group, discovery)

    def names(self) -> list[str]:
        return [backend.name for backend in self.group.backends]

    def test_a_life(self) -> None:
        self.service.startService()
        told = acme.seen[0]
        self.assertEqual(self.names(), ["api/1"])
        told.tell("2")
        self.assertEqual(self.names(), ["api/2"])
        self.service.stopService()
        self.assertEqual(acme.seen[1], "stopped")
        told.tell("3")
        self.assertEqual(self.names(), ["api/2"])

    def test_nonsense_changes_nothing(self) -> None:
        self.service.startService()
        for nonsense in (
            [5],
            [Discovered("", Address("h", 1))],
            [one("1", weight=-1)],
            [one("1")._replace(address="x")],
            7,
        ):
            acme.seen[0].found(nonsense)
            self.assertEqual(len(self.flushLoggedErrors(ValueError, TypeError)), 1, nonsense)
            self.assertEqual(self.names(), ["api/1"])
        acme.seen[0].found([Discovered("9", "10.0.0.9:80")])  # type: ignore[arg-type]
        self.assertEqual(self.group.backends[0].address, Address("10.0.0.9", 80))

    def test_one_that_does_not_start(self) -> None:
        told = acme.Told(acme.Told.Options())
        self.patch(told, "start", lambda found, reactor: 1 / 0)
        Discovering(self.app.clock, self.group, told).startService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Resolver:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, str]] = []

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        self.asked.append((receiver, host))

    def answer(self, *hosts: str) -> None:
        receiver, _ = self.asked.pop(0)
        receiver.resolutionBegan(None)
        for host in hosts:
            receiver.addressResolved(IPv4Address("TCP", host, 0))
        receiver.resolutionComplete()


class Dns(SynchronousTestCase):
    def test_a_name(self) -> None:
        clock: Any = Clock()
        clock.nameResolver = resolver = Resolver()
        options = DnsDiscovery.Options(host="api.internal", port=80, interval=10, weight=2)
        dns = DnsDiscovery(options)
        verifyObject(IDiscovery, dns)
        found: list[Any] = []
        dns.start(found.append, clock)
        self.assertEqual([host for _, host in resolver.asked], ["api.internal"])
        clock.advance(10)
        self.assertEqual(len(resolver.asked), 1)  # one question at a time
        resolver.answer("10.0.0.2", "10.0.0.1", "10.0.0.2")
        self.assertEqual(
            found,
            [[Discovered(f"10.0.0.{n}:80", Address(f"10.0.0.{n}", 80), 2, 0) for n in (1, 2)]],
        )
        clock.advance(10)
        resolver.answer()
        self.assertEqual(len(found), 1)  # no address: what was found stays
        clock.advance(10)
        resolver.answer("10.0.0.3")
        self.assertEqual([each.name for each in found[1]], ["10.0.0.3:80"])
        clock.advance(10)
        dns.stop()
        resolver.answer("10.0.0.4")
        self.assertEqual(len(found), 2)
        clock.advance(100)
        self.assertEqual(resolver.asked, [])

    def test_it_is_installed(self) -> None:
        self.assertIsInstance(find("discovery", "dns").build({"host": "h", "port": 1}), DnsDiscovery)
