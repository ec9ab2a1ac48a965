"""The testing kit, tested with itself: every behaviour of a fake has the effect it has in a real backend."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.certificates import PeerCertificate
from balance.config import BackendConfig, Config, ConfigError
from balance.model import Address
from balance.testing import (
    Application,
    Blackhole,
    Close,
    Fields,
    Raw,
    Received,
    Refuse,
    Reply,
    Reset,
    Silence,
    Truncate,
)
from test.certificates import Authority

ONE = "backends: [{name: a, address: 'h:1'}]\nretries: {attempts: 1}\n"
TWO = "backends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]\n"


class Asking(SynchronousTestCase):
    """Requests go in, and everything about them can be asserted on."""

    def test_what_a_call_tells(self) -> None:
        app = Application(
            TWO + "http: {routes: [{name: api, host: a.example, path_prefix: /v1, backends: [b], "
            "request_headers: {set: {X-Team: api}}}]}"
        )
        call = app.post("http://a.example/v1/x?y=1", "body", headers={"X-Own": "1"}, client="198.51.100.7")
        self.assertEqual((call.status, call.text, call.route, call.backend), (200, "b\n", "api", "b"))
        self.assertEqual((call.attempts, call.reason, call.done, call.broken), (1, "", True, False))
        received = call.upstream
        self.assertEqual((received.method, received.target, received.host), ("POST", "/v1/x?y=1", "a.example"))
        self.assertEqual((received.body, received.complete), (b"body", True))
        self.assertEqual(received.headers["x-team"], "api")
        self.assertEqual(received.headers["X-Own"], "1")
        self.assertEqual(received.headers["X-Forwarded-For"], "198.51.100.7")
        self.assertEqual(app.backends["b"].received, [received])
        self.assertEqual(app.calls, [call])
        self.assertIn("POST a.example/v1/x?y=1: status 200, route api, backend b", repr(call))

    def test_no_route_and_bad_requests(self) -> None:
        app = Application(TWO + "http: {routes: [{name: r, host: a.example, backends: [a]}]}")
        call = app.get("http://b.example/")
        self.assertEqual((call.status, call.route, call.backend, call.reason), (404, None, None, "no_route"))
        with self.assertRaises(AssertionError):
            _ = call.upstream
        bad = app.get("/", headers=[("Host", "a"), ("Host", "b")])
        self.assertEqual((bad.status, bad.route), (400, None))

    def test_three_ways_to_build(self) -> None:
        mapping = {"backends": [{"name": "a", "address": "h:1"}]}
        config = Config(backends=(BackendConfig(name="a", address=Address("h", 1)),))
        for given in (ONE, mapping, config):
            self.assertEqual(Application(given).get("/").text, "a\n")  # type: ignore[arg-type]
        with self.assertRaises(ConfigError):
            Application("backends: []")

    def test_a_file(self) -> None:
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(ONE)
        self.assertEqual(Application.load(path).get("/").text, "a\n")

    def test_pipelined_calls_keep_their_order(self) -> None:
        app = Application(TWO + "http: {routes: [{name: r, path_prefix: /r, backends: [a]}]}")
        app.backends["a"].then(Reply(after=1.0))
        client = app.client()
        calls = [client.start("GET", path) for path in ("/r/1", "/none", "/r/2", "/none")]
        app.finish(calls[-1])
        self.assertEqual([call.status for call in calls], [200, 404, 200, 404])
        self.assertEqual([call.route for call in calls], ["r", None, "r", None])
        self.assertEqual([call.reason for call in calls], ["", "no_route", "", "no_route"])

    def test_a_client_keeps_its_connection(self) -> None:
        app = Application(ONE)
        client = app.client()
        for _ in range(3):
            client.get("/")
        self.assertEqual(app.proxy().counters.connections_accepted, 1)
        self.assertEqual(len({received.connection for received in app.backends["a"].received}), 1)
        client.get("/", headers={"Connection": "close"})
        client.get("/")
        self.assertEqual(app.proxy().counters.connections_accepted, 2)

    def test_a_client_keeps_cookies_if_told_to(self) -> None:
        app = Application(TWO + "load_balancer: {algorithm: session-affinity, hash_key: 'cookie:SRV'}")
        client = app.client(keep_cookies=True)
        self.assertEqual({client.get("/").backend for _ in range(5)}, {"a"})
        self.assertEqual(list(client.cookies), ["SRV"])
        forgetful = app.client()
        self.assertEqual({forgetful.get("/").backend for _ in range(5)}, {"a", "b"})

    def test_a_body_that_comes_in_pieces(self) -> None:
        app = Application(ONE)
        call = app.start("PUT", "/", body=None)
        call.send("ab")
        self.assertEqual((call.upstream.body, call.upstream.complete), (b"ab", False))
        app.advance(2.0)
        call.send("c").send(b"", end=True)
        app.finish(call)
        self.assertEqual((call.upstream.body, call.seconds), (b"abc", 2.0))

    def test_a_client_that_goes(self) -> None:
        app = Application(ONE)
        app.backends["a"].always(Silence())
        call = app.start("GET", "/")
        app.advance(1.0)
        call.cancel()
        self.assertTrue(call.done and call.broken)
        self.assertEqual(call.reason, "client_gone")
        app.settle()
        self.assertEqual(app.backends["a"].connections, 0)
        self.assertEqual(app.member("a").active, 0)

    def test_several_listeners(self) -> None:
        app = Application(
            TWO + "listeners: [{name: x, listen: ':80', http: {routes: [{name: r, backends: [a]}]}}, "
            "{name: y, listen: ':81', http: {routes: [{name: s, backends: [b]}]}}]"
        )
        self.assertEqual(app.get("/").backend, "a")
        self.assertEqual(app.get("/", listener="y").backend, "b")
        self.assertEqual(app.proxy("y").counters.requests, 1)
        self.assertEqual(app.pool("y/s").members, (app.member("b"),))

    def test_a_listener_with_tls(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority(folder)
        tls = {"enabled": True, **authority.issue("shop.example").config}
        tls |= {"client_auth": "request", "client_ca_file": str(authority.file)}
        routes = [
            {"name": "known", "client_verified": True, "backends": ["a"]},
            {"name": "others", "backends": ["a"]},
        ]
        app = Application({"backends": [{"name": "a", "address": "h:1"}], "tls": tls, "http": {"routes": routes}})
        call = app.get("https://shop.example/")
        self.assertEqual((call.route, call.upstream.headers["x-forwarded-proto"]), ("others", "https"))
        known = app.client(certificate=PeerCertificate("CN=me", "00" * 32))
        self.assertEqual(known.get("/").route, "known")

    def test_a_call_that_does_not_end(self) -> None:
        app = Application(ONE + "timeouts: {read: 0s}")
        app.backends["a"].always(Silence())
        with self.assertRaisesRegex(AssertionError, "GET test.example/: not answered, route default, backend a"):
            app.get("/", within=5)

    def test_time_is_the_clocks(self) -> None:
        app = Application(ONE)
        app.backends["a"].always(Reply(after=0.123))
        self.assertAlmostEqual(app.get("/").seconds, 0.123)
        app.advance(3600)
        self.assertAlmostEqual(app.clock.seconds(), 3600.123)


class Backends(SynchronousTestCase):
    """What fakes can do."""

    def test_a_reply_in_all_its_parts(self) -> None:
        app = Application(ONE)
        app.backends["a"].then(
            Reply(
                201,
                headers={"X-A": "1"},
                interim=[(103, {"Link": "</a>"})],
                after=0.5,
                chunks=[(0.25, "ab"), (0.25, b"c")],
                trailers={"X-Sum": "3"},
                reason="Made",
            )
        )
        call = app.get("/")
        assert call.response is not None
        self.assertEqual((call.status, call.response.reason, call.body), (201, "Made", b"abc"))
        self.assertEqual(call.headers["x-a"], "1")
        self.assertEqual(call.response.trailers.pairs, (("x-sum", "3"),))
        self.assertEqual([(each.status, each.headers["link"]) for each in call.response.interim], [(103, "</a>")])
        self.assertEqual(call.seconds, 1.0)

    def test_chunks_come_over_time(self) -> None:
        app = Application(ONE)
        app.backends["a"].always(Reply(chunks=[(1.0, "one"), (1.0, "two")]))
        call = app.start("GET", "/")
        app.advance(1.5)
        self.assertEqual((call.body, call.done), (b"one", False))
        app.advance(1.0)
        self.assertEqual((call.body, call.done), (b"onetwo", True))

    def test_no_body_for_head_and_204(self) -> None:
        app = Application(ONE)
        app.backends["a"].then(Reply(body="abc"), Reply(204), Reply(304))
        head = app.request("HEAD", "/")
        self.assertEqual((head.headers["content-length"], head.body), ("3", b""))
        self.assertEqual([app.get("/").status, app.get("/").status], [204, 304])

    def test_ends_of_connections(self) -> None:
        app = Application(ONE)
        fake = app.backends["a"]
        app.get("/")
        self.assertEqual(fake.connections, 1)
        fake.then(Reply(body="x", close=True))
        self.assertEqual(app.get("/").body, b"x")
        self.assertEqual(fake.connections, 0)
        fake.then(Reply(body="until the end", until_close=True))
        self.assertEqual(app.get("/").text, "until the end")
        fake.then(Reply(body="x"))
        app.get("/")
        fake.cut()
        self.assertEqual((fake.connections, app.get("/").status), (0, 200))

    def test_failures(self) -> None:
        for behaviour, status, reason, seconds in (
            (Refuse(), 502, "connect_refused", 0.0),
            (Refuse(after=0.5), 502, "connect_refused", 0.5),
            (Blackhole(), 504, "connect_timeout", 5.0),
            (Reset(), 502, "backend_reset", 0.0),
            (Reset(after=0.5, early=True), 502, "backend_reset", 0.5),
            (Close(), 502, "backend_reset", 0.0),
            (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 502, "bad_response", 0.0),
            (Raw(b"HTTP/1.1 200 OK\r\n", end="reset"), 502, "backend_reset", 0.0),
        ):
            app = Application(ONE)
            app.backends["a"].then(behaviour)
            call = app.get("/")
            self.assertEqual((call.status, call.reason, call.seconds), (status, reason, seconds), behaviour)
        app = Application(ONE)
        app.backends["a"].always(Silence())
        call = app.get("/")
        self.assertEqual((call.status, call.reason), (504, "response_timeout"))
        self.assertTrue(30.0 <= call.seconds < 31.0)

    def test_truncation(self) -> None:
        app = Application(ONE)
        app.backends["a"].then(Truncate(Reply(body="hello"), at=2))
        call = app.get("/")
        self.assertEqual((call.status, call.body, call.broken), (200, b"he", True))
        self.assertEqual(call.reason, "response_truncated")

    def test_the_next_backend_and_stale_connections(self) -> None:
        app = Application(TWO)
        app.backends["a"].then(Refuse())
        call = app.get("/")
        self.assertEqual((call.backends, call.attempts), (["b"], 2))
        app = Application(ONE)
        app.get("/")
        app.backends["a"].then(Close())
        call = app.get("/")
        self.assertEqual((call.status, call.backends, call.attempts), (200, ["a", "a"], 2))
        self.assertNotEqual(call.sent[0].connection, call.sent[1].connection)

    def test_down_and_up(self) -> None:
        app = Application(TWO + "health_check: {consecutive_failures: 2, ejection_time: 10s}")
        for _ in range(2):
            app.get("/")
        app.backends["a"].down()
        self.assertEqual(app.backends["a"].connections, 0)
        self.assertEqual({app.get("/").text for _ in range(6)}, {"b\n"})
        self.assertEqual([(name, state) for _, name, state in app.health], [("a", "ejected")])
        app.backends["a"].up()
        app.advance(12)
        self.assertEqual({app.get("/").text for _ in range(4)}, {"a\n", "b\n"})
        self.assertEqual([state for _, _, state in app.health], ["ejected", "probing", "healthy"])

    def test_who_is_silent_is_not_idle(self) -> None:
        app = Application(ONE)
        app.backends["a"].then(Silence())
        call = app.start("GET", "/")
        app.backends["a"].down()
        app.advance(1)
        self.assertFalse(call.done)
        self.assertEqual(app.backends["a"].connections, 1)

    def test_a_function_decides(self) -> None:
        app = Application(ONE)

        def echo(request: Received) -> Reply:
            return Reply(body=request.body.upper(), headers=[("X-Target", request.target)])

        app.backends["a"].always(echo)
        call = app.post("/x", "abc")
        self.assertEqual((call.body, call.headers["x-target"]), (b"ABC", "/x"))

    def test_early_answers(self) -> None:
        app = Application(ONE)
        app.backends["a"].then(Reply(413, early=True, close=True))
        call = app.start("POST", "/", body=None)
        app.finish(call)
        self.assertEqual(call.status, 413)

    def test_the_queue(self) -> None:
        app = Application("backends: [{name: a, address: 'h:1', max_connections: 1}]\ntimeouts: {queue: 2s}")
        app.backends["a"].always(Reply(after=1.5))
        calls = [app.start("GET", "/") for _ in range(3)]
        self.assertEqual(app.pool("default").queued, 2)
        self.assertEqual([call.backend for call in calls], ["a", None, None])
        for call in calls:
            app.finish(call)
        self.assertEqual([call.status for call in calls], [200, 200, 503])
        self.assertEqual(calls[2].reason, "queue_timeout")

    def test_back_pressure_reaches_the_fake(self) -> None:
        app = Application(ONE)
        app.backends["a"].always(Reply(chunks=[(0.1, b"x" * 50_000) for n in range(20)]))
        client = app.client()
        call = client.start("GET", "/")
        app.advance(0.1)
        assert client.peer is not None
        client.peer.stall()
        app.advance(10.0)
        self.assertLess(len(call.body), 200_000)
        client.peer.unstall()
        app.finish(call)
        self.assertEqual(len(call.body), 1_000_000)


class FieldsTests(SynchronousTestCase):
    def test_as_a_mapping(self) -> None:
        fields = Fields([("Set-Cookie", "a=1"), ("X", "y"), ("set-cookie", "b=2")])
        self.assertEqual(fields["SET-COOKIE"], "a=1")
        self.assertEqual(fields.all("set-cookie"), ["a=1", "b=2"])
        self.assertEqual((fields.get("none"), "x" in fields, len(fields)), (None, True, 2))
        with self.assertRaises(KeyError):
            _ = fields["none"]
