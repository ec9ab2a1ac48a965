"""Mode tcp, several listeners, and files that are odd on purpose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from balance.assembly import assemble_all, ordered_routes
from balance.config import Config, ConfigError, loads, summarise
from balance.net.deadlines import Deadlines
from balance.tcp.proxy import TCPProxyFactory
from test.unit.support import Clock, MemoryDialer

BACKENDS = "backends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]\n"
TCP = "mode: tcp\n" + BACKENDS


def problems(text: str) -> list[str]:
    try:
        loads(text, "x.yaml")
    except ConfigError as error:
        return str(error).split("\n")
    return []


class Listeners(TestCase):
    def test_one_says_what_the_top_does_not(self) -> None:
        config = loads(
            BACKENDS + "timeouts: {connect: 1s}\nlisteners:\n"
            "  - {name: web, listen: ':80', timeouts: {read: 2s}}\n"
            "  - {name: db, mode: tcp, listen: ':5432', backends: [{name: c, address: 'h:3', send_proxy: v2}]}\n"
        )
        web, db = config.each_listener
        self.assertEqual((web.label, web.mode, [b.name for b in web.backends]), ("web", "http", ["a", "b"]))
        self.assertEqual((web.timeouts.connect, web.timeouts.read), (5.0, 2.0))
        self.assertEqual((db.label, db.mode, [b.name for b in db.backends]), ("db", "tcp", ["c"]))
        self.assertEqual((db.timeouts.connect, db.timeouts.idle), (1.0, 3600.0))
        self.assertIn("PROXY v2", summarise(config, [ordered_routes(each) for each in config.each_listener]))

    def test_backends_at_the_top_are_shared(self) -> None:
        config = loads(
            BACKENDS + "listeners:\n  - {name: x, listen: ':80'}\n  - {name: y, mode: tcp, listen: ':81'}\n"
            "  - {name: z, mode: tcp, listen: ':82', backends: [{name: c, address: 'h:3'}]}\n"
        )
        clock = Clock()
        built = assemble_all(config, deadlines=Deadlines(clock), dialer=MemoryDialer(), clock=clock.seconds)  # type: ignore[arg-type]
        self.assertIs(built[0].backends[0], built[1].backends[0])
        self.assertEqual([b.name for b in built[2].backends], ["c"])
        self.assertIsInstance(built[1].proxy, TCPProxyFactory)
        self.assertEqual([pool.name for each in built for pool in each.pools], ["x/default", "y/default", "z/default"])

    def test_tcp_waits_longer(self) -> None:
        self.assertEqual(loads(TCP).timeouts.idle, 3600.0)
        self.assertEqual(loads(TCP + "timeouts: {idle: 60s}").timeouts.idle, 60.0)
        self.assertEqual(loads(BACKENDS).timeouts.idle, 75.0)

    def test_the_order_of_routes(self) -> None:
        config = loads(
            TCP + "routes:\n  - {name: rest, backends: [a]}\n  - {name: any, sni: '*.x', backends: [a]}\n"
            "  - {name: one, sni: a.x, backends: [b]}\n  - {name: h2, sni: a.x, alpn: [h2], backends: [b]}\n"
            "  - {name: first, alpn: [acme], backends: [b], priority: 5}\n"
        )
        self.assertEqual([r.name for r in ordered_routes(config)], ["first", "h2", "one", "any", "rest"])

    def test_mistakes(self) -> None:
        two = BACKENDS + "listeners:\n  - {name: x, listen: ':80'}\n"
        for text, message in [
            (TCP + "http: {via: true}", "x.yaml:3:1: http: this key has no meaning in mode tcp"),
            (TCP + "load_balancer: {hash_key: path}", "found 'path'; mode tcp only has source-ip"),
            (TCP + "routes: [{name: r, sni: x, backends: [c]}]", "no backend is called 'c'; backends are a, b"),
            (TCP + "routes: [{name: r, backends: [a]}, {name: r, backends: [a]}]", "taken already"),
            (TCP + "routes: [{name: r, sni: 'a b', backends: [a]}]", "a host name is needed"),
            (TCP + "routes: [{name: r, alpn: [''], backends: [a]}]", "a protocol id is needed"),
            (BACKENDS + "routes: [{name: r, backends: [a]}]", "routes of mode http stand under http.routes"),
            ("backends: [{name: a, address: 'h:1', send_proxy: v2}]", "mode http sends no PROXY header"),
            (TCP.replace("'h:1'", "'h:1', send_proxy: v3"), "found 'v3'; allowed: v1, v2"),
            (two + "listen: ':81'", "x.yaml:4:1: listen: with 'listeners', each of them has its own"),
            (two + "  - {name: x, listen: ':81'}", "listeners[1].name: found 'x'; taken already, by listeners[0]"),
            (two + "  - {name: y, listen: ':80'}", "listeners[1].listen: found ':80'; taken already"),
            (two + "  - {name: y}", "x.yaml:4:5: listeners[1]: 'listen' is missing"),
            (two + "  - {listen: ':81'}", "listeners[1].name: this key is missing"),
            (two + "  - {name: y, listen: ':81', metrics: {}}", "listeners[1].metrics: unknown key"),
            (two + "  - {name: y, listen: ':81', timeouts: {red: 1s}}", "did you mean 'read'?"),
            (
                two + "  - {name: y, listen: ':81', backends: [{name: a, address: 'h:9'}]}",
                "listeners[1].backends[0].name: the name 'a' is taken already, at the top of the file",
            ),
            (two + "  - {name: y, listen: ':81', http: {routes: [{name: r, backends: [q]}]}}", "backends are a, b"),
            ("listeners: [{name: x, listen: ':80'}]", "there are no backends"),
            (two + "  - 5", "listeners[1]: found 5; needed: a mapping"),
            (
                two + "  - {name: y, listen: ':81', tls: {enabled: true}}",
                "listeners[1].tls: there is no certificate; give cert_file and key_file",
            ),
        ]:
            found = problems(text)
            self.assertTrue(found and message in "\n".join(found), (text, found))


class OddFiles(TestCase):
    """Whatever stands in it, a file loads, or there is a report; nobody is protected by a block with a slip in it."""

    def test_yaml_that_means_something_else(self) -> None:
        for value in [
            "!!binary 'aGVsbG8='",
            "2024-01-01",
            "2024-99-99",
            "!!timestamp x",
            "!foo x",
            "!!int abc",
            "!!float abc",
            "!!bool maybe",
            "!!python/object:os.system x",
            "!!set {a, b}",
            "!!omap [a: 1]",
            "!!pairs [a: 1]",
            "{? [a, b] : c}",
            "{? {a: b} : c}",
            "{2024-99-99: x}",
            "{!!binary 'a': x}",
            "{<<: 5}",
            "{<<: [1, 2]}",
            "0x" + "f" * 5000,
            "9" * 5000,
            "!!str [a]",
            "!!map x",
            "&a [*a]",
        ]:
            for text in (f"mode: {value}\n", f"{BACKENDS}http: {value}\n", f"{BACKENDS}timeouts: {{read: {value}}}\n"):
                found = problems(text)
                self.assertTrue(found, text)
                self.assertTrue(all(line.isprintable() for line in found), found)

    def test_odd_keys_stay_on_one_line(self) -> None:
        (found,) = problems(BACKENDS + '"a\\nb.c": 1\n')
        self.assertIn(r"'a\nb.c': unknown key", found)

    def test_a_key_that_looks_like_pydantics_own(self) -> None:
        (found,) = problems(BACKENDS + '"[key]": 1\n')
        self.assertIn("unknown key", found)

    def test_blocks_that_are_not_built(self) -> None:
        for text, message in [
            ("tls: {enabled: 'yes'}", "tls.enabled: found 'yes'; needed: true or false"),
            ("tls: {enable: true}", "tls.enable: unknown key"),
            ("tls: yes", "tls: found true; needed: a mapping"),
            ("tls: {enabled: true}", "tls: there is no certificate; give cert_file and key_file"),
            ("tls: {cert_file: 5}", "tls.cert_file: found 5; needed: text"),
            ("security: {rate_limit: true}", "security.rate_limit: found true; needed: a mapping"),
            ("security: {rate_limt: {}}", "did you mean 'rate_limit'?"),
            ("security: {rate_limit: {enabled: 1}}", "needed: true or false"),
            ("security: {rate_limit: {enabled: false, burst: 5}}", "did you mean 'burst_size'?"),
            ("security: {ip_blocklist: {blocked_ips: 10.0.0.1}}", "needed: a list"),
            ("security: {ip_blocklist: {blocked_ips: [10.0.0.1]}}", "the IP blocklist is not built yet"),
            ("security: {ip_blocklist: {ips: [10.0.0.1]}}", "unknown key"),
            ("security: [1]", "security: found a list; needed: a mapping"),
            ("health_check: {enabled: 'true'}", "needed: true or false"),
            ("health_check: {enabled: true}", "an active health check is not built yet"),
            ("health_check: {interval: 5}", "needed: text"),
        ]:
            found = problems(BACKENDS + text)
            self.assertTrue(any(message in line for line in found), (text, found))
        for text in [
            "tls: {enabled: false, cert_file: x, min_version: 1.2}",
            "security: {rate_limit: {enabled: false, requests_per_second: 10}, ip_blocklist: {blocked_ips: []}}",
            "security: {}",
            "health_check: {enabled: false, interval: 5s, healthy_threshold: 2}",
        ]:
            self.assertEqual(problems(BACKENDS + text), [], text)

    @given(
        st.lists(
            st.sampled_from(
                ["mode", "tcp", ": ", "\n", "  ", "- ", "{", "}", "[", "]", ", ", "listeners", "backends", "routes"]
                + ["name", "listen", "':80'", "!!set", "!!binary", "<<", "*a", "&a", "2024-01-01", "? ", "tls", "nodes"]
                + ["security", "health_check", "enabled", "true", "5", "null", "http", "'", '"', "0x1", "\t", "\x85"]
            ),
            max_size=30,
        )
    )
    def test_anything(self, parts: list[str]) -> None:
        for text in ("".join(parts), BACKENDS + "".join(parts)):
            try:
                self.assertIsInstance(loads(text), Config)
            except ConfigError as error:
                self.assertTrue(str(error))
