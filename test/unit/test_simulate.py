"""Simulation: it says what the real thing then does, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http1 import parse_request
from balance.config import ConfigError, loads
from balance.errors import BalanceError
from balance.model import RequestHead
from balance.simulate import Record, compare, loads_scenario, report, simulate, tables, traffic_of
from balance.simulate.accesslog import Replay, parse
from balance.simulate.distributions import SIZE, Keys, constant, exponential, lognormal, uniform
from balance.simulate.engine import Run, check_names
from balance.simulate.record import NONE
from balance.simulate.traffic import MadeUp, copy
from balance.testing import Application, Refuse, Reply

ALGORITHMS = (
    "round-robin",
    "weighted-round-robin",
    "least-connections",
    "weighted-least-connections",
    "random",
    "consistent-hash",
    "bounded-consistent-hash",
    "session-affinity",
)


def config(algorithm: str = "round-robin", more: str = "", limit: int = 0, names: str = "abc") -> str:
    backends = ", ".join(
        f"{{name: {name}, address: 'h:{n}', weight: {n}, max_connections: {limit}}}" for n, name in enumerate(names, 1)
    )
    return (
        f"backends: [{backends}]\nload_balancer: {{algorithm: {algorithm}, hash_key: 'header:X-Key', max_queue: 20}}\n"
        f"http: {{routes: [{{name: api, path_prefix: /api, backends: [{', '.join(names)}]}}, "
        f"{{name: rest, backends: [{', '.join(names)}]}}]}}\n{more}"
    )


SCENARIO = """
duration: 10s
rate: 40
seed: 7
requests:
  - {name: api, share: 3, url: "http://x.example/api/{key}", headers: {X-Key: "{key}"}, keys: {count: 50, distribution: zipf}}
  - {name: home, url: "http://x.example/", clients: 20}
backends:
  "*": {latency: 300ms, connect: 0s}
"""
DOWN = "failures: [{backend: b, at: 3s, until: 6s, kind: refuse}]\n"


def run(config_text: str, scenario_text: str) -> Record:
    return simulate(loads(config_text), loads_scenario(scenario_text))


def outcomes(record: Record) -> list[tuple[str | None, str | None, int, str]]:
    return [
        (
            record.routes[record.route[n]] if record.route[n] != NONE else None,
            record.backends[record.backend[n]] if record.backend[n] != NONE else None,
            record.status[n],
            record.reasons[record.reason[n]],
        )
        for n in range(record.size)
    ]


def byte_for_byte(config_text: str, scenario_text: str) -> tuple[list[Any], list[Any]]:
    """The same requests, through the real channels and connections of the testing kit."""
    scenario = loads_scenario(scenario_text)
    app = Application(config_text, seed=scenario.seed)
    for fake in app.backends.values():
        fake.always(Reply(after=0.3))
    calls = []
    changes = [(f.at, f.backend, True) for f in scenario.failures] + [
        (f.until, f.backend, False) for f in scenario.failures
    ]
    changes.sort()
    clients: dict[str, Any] = {}
    for at, _, head, address, _, _ in traffic_of(scenario).arrivals():
        while changes and changes[0][0] <= at:
            when, name, down = changes.pop(0)
            app.advance(when - app.clock.seconds())
            if down:
                app.backends[name].cut().always(Refuse())
            else:
                app.backends[name].always(Reply(after=0.3))
        app.advance(at - app.clock.seconds())
        fields = [(name.decode(), value.decode()) for name, value in head.headers]
        url = f"http://{head.host.decode()}{head.target.decode()}"
        cookies = clients.setdefault(address, {})
        if cookies:
            fields.append(("Cookie", "; ".join(f"{k}={v}" for k, v in cookies.items())))
        calls.append((app.start("GET", url, headers=fields, client=address), cookies))
        for call, jar in calls[-200:]:
            for field in call.headers.all("set-cookie"):
                name, _, value = field.partition(";")[0].partition("=")
                jar[name] = value
    app.advance(60)
    return [(call.route, call.backend, call.status, call.reason) for call, _ in calls], app.health


class LikeTheRealThing(SynchronousTestCase):
    """Simulated, and byte for byte through the testing kit: every request has the same route, backend, status, end."""

    def check(self, config_text: str, scenario_text: str) -> Record:
        record = run(config_text, scenario_text)
        calls, health = byte_for_byte(config_text, scenario_text)
        self.assertEqual(len(calls), record.size)
        told = outcomes(record)
        for n, (expected, got) in enumerate(zip(calls, told, strict=True)):
            self.assertEqual(expected, got, f"request {n} of {record.size}")
        self.assertEqual([each[1:] for each in health], [each[1:] for each in record.health])
        return record

    def test_every_algorithm(self) -> None:
        for algorithm in ALGORITHMS:
            self.check(config(algorithm), SCENARIO)

    def test_with_a_cookie(self) -> None:
        self.check(config("session-affinity").replace("header:X-Key", "cookie:SRV"), SCENARIO)

    def test_with_a_backend_that_fails(self) -> None:
        for algorithm in ("round-robin", "least-connections", "consistent-hash", "session-affinity"):
            health = "health_check: {consecutive_failures: 3, ejection_time: 2s}\n"
            record = self.check(config(algorithm, health), SCENARIO + DOWN)
            self.assertEqual([state for _, _, state in record.health][:2], ["ejected", "probing"])
            self.assertEqual(record.health[-1][1:], ("b", "healthy"))
            self.assertGreater(record.retries, 0)

    def test_with_a_queue(self) -> None:
        record = self.check(config("least-connections", limit=3), SCENARIO.replace("rate: 40", "rate: 33"))
        self.assertGreater(sum(record.queued), 20)
        crowded = self.check(config("round-robin", "timeouts: {queue: 1s}", limit=2), SCENARIO)
        reasons = set(crowded.reasons)
        self.assertTrue({"queue_full", "queue_timeout"} & reasons, reasons)


class TheSameAgain(SynchronousTestCase):
    def test_seeds(self) -> None:
        text = SCENARIO.replace("latency: 300ms", "latency: {distribution: lognormal, median: 20ms, p99: 900ms}") + DOWN
        for algorithm in ("random", "bounded-consistent-hash"):
            first, second = (report(run(config(algorithm), text)) for _ in range(2))
            self.assertEqual(first, second)
            other = report(run(config(algorithm), text.replace("seed: 7", "seed: 8")))
            self.assertNotEqual(first, other)

    def test_traffic_is_the_same_for_every_configuration(self) -> None:
        scenario = loads_scenario(SCENARIO)
        traffic = traffic_of(scenario)
        times = [[arrival[0] for arrival in traffic.arrivals()] for _ in range(2)]
        self.assertEqual(times[0], times[1])


class Failures(SynchronousTestCase):
    """Each kind of failure ends in the server's own error for it."""

    def errors(self, failure: str, more: str = "", share: str = "") -> dict[str, int]:
        # POST: what was sent on a connection that breaks is not tried again.
        scenario = (
            SCENARIO.replace("url:", "method: POST, url:")
            + f"failures: [{{backend: '*', at: 5s, until: 8s, kind: {failure}{share}}}]"
        )
        health = "health_check: {enable_passive_checks: false}\n"
        return report(run(config(more=health + more), scenario))["answers"]["errors"]  # type: ignore[no-any-return]

    def test_kinds(self) -> None:
        self.assertEqual(set(self.errors("refuse")), {"connect_refused", "backend_reset"})
        self.assertEqual(set(self.errors("blackhole", "timeouts: {connect: 1s}\n")), {"connect_timeout"})
        self.assertEqual(set(self.errors("reset")), {"backend_reset"})
        self.assertEqual(set(self.errors("silent", "timeouts: {read: 2s}\n")), {"response_timeout"})
        self.assertEqual(self.errors("silent"), {})  # it is over before anybody gives up
        self.assertEqual(self.errors("error"), {})
        self.assertEqual(set(self.errors("slow, factor: 20", "timeouts: {read: 2s}\n")), {"response_timeout"})

    def test_a_share_of_requests(self) -> None:
        whole, half = self.errors("reset")["backend_reset"], self.errors("reset", share=", share: 0.5")["backend_reset"]
        self.assertTrue(0.3 < half / whole < 0.7, (half, whole))

    def test_status_500_is_an_answer(self) -> None:
        told = report(run(config(), SCENARIO + "failures: [{backend: a, at: 5s, until: 8s, kind: error}]"))
        self.assertGreater(told["answers"]["status"]["5xx"], 10)

    def test_workers(self) -> None:
        crowded = SCENARIO.replace("connect: 0s", "connect: 0s, workers: 2")
        free, slow = report(run(config(), SCENARIO)), report(run(config(), crowded))
        self.assertEqual(free["latency"]["max"], 0.3)
        self.assertGreater(slow["latency"]["p50"], 1.0)


class Reports(SynchronousTestCase):
    def test_numbers_add_up(self) -> None:
        record = run(config(more="health_check: {consecutive_failures: 3, ejection_time: 2s}\n"), SCENARIO + DOWN)
        told = report(record)
        total = told["requests"]
        self.assertEqual(json.loads(json.dumps(told)), told)
        self.assertEqual(sum(told["answers"]["status"].values()), total)
        self.assertEqual(sum(each["requests"] for each in told["classes"]), total)
        self.assertEqual(sum(each["requests"] for each in told["pools"]), total)
        self.assertEqual(sum(each["attempts"] for each in told["backends"]), told["attempts"]["attempts"])
        self.assertEqual(told["attempts"]["attempts"], total + told["attempts"]["repeated"])
        self.assertEqual(
            [each["routes"] for each in told["classes"]],
            [{"api": told["classes"][0]["requests"]}, {"rest": total - told["classes"][0]["requests"]}],
        )
        self.assertEqual(
            sum(each["ejections"] for each in told["backends"]),
            1 + sum(each["state"] == "ejected" for each in told["health"][1:]),
        )

    def test_the_text(self) -> None:
        text = tables(report(run(config(more="health_check: {consecutive_failures: 3}\n"), SCENARIO + DOWN)))
        for words in (
            "classes of requests",
            "where they went",
            "max/mean",
            "passive health",
            "ejected",
            "attempts for",
        ):
            self.assertIn(words, text)
        lines = text.split("\n")
        start = lines.index("backends")
        self.assertEqual(lines[start + 1].split()[:3], ["backend", "attempts", "share"])
        self.assertEqual([line.split()[0] for line in lines[start + 2 : start + 5]], ["a", "b", "c"])

    def test_what_changes(self) -> None:
        scenario = loads_scenario(SCENARIO)
        before, after = (simulate(loads(config("consistent-hash", names=names)), scenario) for names in ("abc", "abcd"))
        changes = compare(before, after)
        (keys,) = changes["keys"]
        # The new one has 4 of 10 shares; nothing moves between the old ones.
        self.assertTrue(0.2 < keys["share"] < 0.6, keys)
        for number, route in enumerate(before.routes):
            old, new = before.keys[number], after.keys[after.routes.index(route)]
            for key in old:
                self.assertIn(after.backends[new[key]], (before.backends[old[key]], "d"))
        self.assertEqual([each["other_route"] for each in changes["classes"]], [0, 0])

    def test_routes_that_change(self) -> None:
        scenario = loads_scenario(SCENARIO)
        other = config().replace("path_prefix: /api", "path_prefix: /v2")
        changes = compare(*(simulate(loads(text), scenario) for text in (config(), other)))
        api = changes["classes"][0]
        self.assertEqual(api["moves"], [{"from": "api", "to": "rest", "requests": api["requests"]}])


class Logs(SynchronousTestCase):
    OURS = '198.51.100.7 - - [25/Nov/2026:20:14:27 +0000] "GET /a/b?c HTTP/1.1" 200 5 "-" "curl/8" b1 1 - 0.250000\n'

    def test_formats(self) -> None:
        entry = parse(self.OURS)
        assert entry is not None
        self.assertEqual((entry.client, entry.method, entry.target), ("198.51.100.7", "GET", "/a/b?c"))
        self.assertEqual((entry.agent, entry.status, entry.seconds), ("curl/8", 200, 0.25))
        nginx = '::1 - bob [25/Nov/2026:21:14:27 +0100] "POST / HTTP/2.0" 404 - "http://r/" "a b"\n'
        other = parse(nginx)
        assert other is not None
        self.assertEqual((other.at, other.seconds, other.client), (entry.at, -1.0, "::1"))
        common = parse('10.0.0.1 - - [25/Nov/2026:20:14:27 +0000] "GET / HTTP/1.0" 200 12\n')
        assert common is not None
        record = json.dumps({"time": 1.5, "client": "c", "method": "GET", "host": "h", "target": "/", "status": 200})
        as_json = parse(record)
        assert as_json is not None
        self.assertEqual((as_json.at, as_json.host, as_json.seconds), (1.5, "h", -1.0))
        for bad in ("", "nonsense", "{", "{}", '{"time": "x"}', self.OURS.replace("Nov", "XXX").replace("25/", "2/")):
            self.assertIsNone(parse(bad), bad)

    def write(self, *lines: str) -> str:
        path = self.mktemp()
        Path(path).write_text("".join(lines), encoding="utf-8")
        return path

    def test_replay(self) -> None:
        later = self.OURS.replace("20:14:27", "20:14:29").replace("/a/b?c", "/x")
        path = self.write(later, self.OURS, "nonsense\n", self.OURS.replace("GET", "TRACE"))
        replay = Replay(path)
        self.assertEqual((replay.unread, replay.refused), (1, 1))
        self.assertEqual(replay.kinds, ["GET localhost/a/", "GET localhost/x"])
        arrivals = list(replay.arrivals())
        self.assertEqual([arrival[0] for arrival in arrivals], [0.0, 2.0])
        self.assertEqual({arrival[5] for arrival in arrivals}, {0.25})
        self.assertEqual([arrival[0] for arrival in Replay(path, speed=4).arrivals()], [0.0, 0.5])
        record = simulate(loads(config()), loads_scenario(f"log: {path}"))
        self.assertEqual([outcome[:3] for outcome in outcomes(record)], [("rest", "a", 200), ("rest", "b", 200)])
        self.assertEqual([round(seconds, 9) for seconds in record.latency[:2]], [0.2505, 0.2505])

    def test_our_own_logs_come_back(self) -> None:
        from balance.observe.access_log import AccessLog

        for kind in ("combined", "json"):
            path = self.mktemp()
            app = Application(config())
            clock = app.clock
            app.proxy().access_log = AccessLog(path, kind, now=lambda clock=clock: 1_800_000_000 + clock.seconds())
            for n in range(5):
                app.backends["abc"[n % 3]].always(Reply(after=0.1))
                app.get(f"http://x.example/api/{n}", client="198.51.100.9", headers={"User-Agent": "t"})
            app.proxy().access_log.flush()
            replay = Replay(path)
            arrivals = list(replay.arrivals())
            self.assertEqual((len(arrivals), replay.unread, replay.refused), (5, 0, 0))
            self.assertEqual([arrival[2].target for arrival in arrivals], [b"/api/%d" % n for n in range(5)])
            self.assertEqual({arrival[3] for arrival in arrivals}, {"198.51.100.9"})
            self.assertEqual(replay.kinds, ["GET x.example/api/" if kind == "json" else "GET localhost/api/"])

    def test_what_cannot_be_replayed(self) -> None:
        for path in (self.write("nonsense\n"), "/nowhere/at.all"):
            with self.assertRaises(ConfigError):
                Replay(path)


class Scenarios(SynchronousTestCase):
    def problems(self, text: str) -> str:
        try:
            loads_scenario(text, "s.yaml")
        except ConfigError as error:
            return str(error)
        return ""

    def test_mistakes_have_places(self) -> None:
        one = "requests: [{name: a, url: 'http://x/'}]\n"
        for text, told in (
            ("rate: 5\n", "s.yaml: either 'requests' or 'log' is needed"),
            (one + "log: x\n", "either 'requests' or 'log' is needed"),
            (one + "rat: 5\n", "s.yaml:2:1: rat: unknown key; allowed here: duration, rate"),
            (one + "duration: 5\n", "s.yaml:2:11: duration: found 5; a duration needs a unit"),
            (one + "backends: {a: {latency: 20}}\n", "a duration needs a unit: 20s"),
            (
                one + "backends: {a: {latenzy: 20ms}}\n",
                "unknown key; allowed here: latency, connect, workers; did you mean",
            ),
            (
                one + "backends: {a: {latency: {distribution: lognormal, median: 1s}}}\n",
                "needs median and p99, and nothing",
            ),
            (one + "backends: {a: {latency: {distribution: uniform, min: 2s, max: 1s}}}\n", "max is below min"),
            (one + "failures: [{backend: a, at: 5s, until: 1s, kind: refuse}]\n", "over before it begins"),
            (one + "failures: [{backend: a, at: 5s, until: 9s, kind: explode}]\n", "allowed: refuse, blackhole, reset"),
            (one + "failures: [{backend: a, at: 1s, until: 2s, kind: refuse, share: 0.5}]\n", "no meaning for refuse"),
            (one + "steps: [{at: 5s, rate: 1}, {at: 1s, rate: 1}]\n", "not in the order of their times"),
            ("requests: [{name: a, url: 'ftp://x/'}]\n", "s.yaml:1:27: requests[0].url: 'ftp://x/' is neither a path"),
            ("requests: [{name: a, url: /}, {name: a, url: /}]\n", "the name is taken already"),
        ):
            self.assertIn(told, self.problems(text), text)

    def test_what_does_not_fit(self) -> None:
        scenario = loads_scenario(SCENARIO + "failures: [{backend: z, at: 1s, until: 2s, kind: refuse}]")
        with self.assertRaisesRegex(BalanceError, "names a backend 'z'; the configuration has a, b, c"):
            check_names(scenario, [loads(config())])
        tcp = loads("mode: tcp\nbackends: [{name: a, address: 'h:1'}]")
        plain = loads_scenario(SCENARIO)
        with self.assertRaisesRegex(BalanceError, "no listener of mode http"):
            Run(tcp, plain, traffic_of(plain))
        with self.assertRaisesRegex(BalanceError, "is called 'x'"):
            simulate(loads(config()), plain, listener="x")
        with self.assertRaisesRegex(BalanceError, "class 'bad' are refused: a request line is"):
            MadeUp(loads_scenario("requests: [{name: bad, url: /, method: 'G T'}]"))

    def test_heads_are_copied_whole(self) -> None:
        head = parse_request(
            b"GET /a?b HTTP/1.1\r\nHost: h\r\nX_Y: 1\r\nX-Forwarded-For: 1\r\nTE: trailers\r\nConnection: te"
        )
        own = copy(head)
        for name in RequestHead.__slots__:
            self.assertEqual(getattr(own, name), getattr(head, name), name)
        own.headers.add(b"X", b"y")
        self.assertNotIn(b"x", head.headers)

    def test_rates(self) -> None:
        text = "duration: 30s\nrate: 10\narrivals: even\nsteps: [{at: 10s, rate: 0}, {at: 20s, rate: 100}]\nrequests: [{name: a, url: /}]"
        times = [arrival[0] for arrival in MadeUp(loads_scenario(text)).arrivals()]
        self.assertIn(len([t for t in times if t < 10]), (99, 100))
        self.assertEqual([t for t in times if 10 <= t < 20], [])
        self.assertTrue(990 <= len([t for t in times if t >= 20]) <= 1000)
        poisson = [arrival[0] for arrival in MadeUp(loads_scenario(text.replace("even", "poisson"))).arrivals()]
        self.assertTrue(900 < len([t for t in poisson if t >= 20]) < 1100)


class Distributions(SynchronousTestCase):
    def test_quantiles(self) -> None:
        for made, mean, tolerance in (
            (constant(0.5), 0.5, 0.0),
            (uniform(1.0, 3.0), 2.0, 1e-6),
            (exponential(2.0), 2.0, 0.01),
        ):
            self.assertLessEqual(abs(sum(made.table) / SIZE - mean), tolerance)
        table = lognormal(0.02, 0.2).table
        self.assertAlmostEqual(table[SIZE // 2], 0.02, places=4)
        self.assertLess(abs(table[int(SIZE * 0.99)] - 0.2), 0.005)

    def test_keys(self) -> None:
        alike, zipf = Keys(10), Keys(10, 1.0)
        places = [(n + 0.5) / 10_000 for n in range(10_000)]
        self.assertEqual({alike.draw(place) for place in places}, set(range(10)))
        first, second = (sum(zipf.draw(place) == key for place in places) for key in (0, 1))
        self.assertAlmostEqual(first / second, 2.0, places=2)
        self.assertEqual(zipf.draw(0.9999999999999999), 9)
