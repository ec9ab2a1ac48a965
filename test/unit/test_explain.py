"""Explain says what the server then does, and the server does not notice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance.config import loads
from balance.errors import BackendError
from balance.explain import BadQuestion, Explanation, Question, explain, offline, render
from balance.explain.live import ask
from balance.explain.retrying import backend_errors
from balance.http.route import HttpRoute
from balance.pool.backend import Backend
from balance.pool.rehearsal import Rehearsal, Unforeseeable
from balance.testing import Application, Refuse, Reply, Silence

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
KEYS = ("source-ip", "path", "header:X-Key", "cookie:SRV")
HOSTS = ("a.example", "b.example", "x.b.example", "c.example")
PATHS = ("/", "/v1", "/v1/x", "/v1/../v2/", "/v10?q=1", "/%76%31/", "/../x", "/%zz")


def make_config(rng: random.Random) -> str:
    """A configuration with a bit of everything."""
    backends = [
        {
            "name": f"b{n}",
            "address": f"h:{n}",
            "weight": rng.choice((0, 1, 1, 3)),
            "max_connections": rng.choice((0, 0, 1)),
        }
        for n in range(1, rng.randint(2, 5))
    ]
    names = [backend["name"] for backend in backends]
    routes = []
    for n in range(rng.randint(0, 4)):
        route: dict[str, Any] = {"name": f"r{n}", "backends": rng.sample(names, rng.randint(1, len(names)))}
        route["host"] = rng.choice(("", "a.example", "*.b.example"))
        route["path_prefix"] = rng.choice(("", "/v1/", "/v1", "/v2"))
        route["priority"] = rng.choice((0, 0, 5))
        if rng.random() < 0.3:
            route["methods"] = ["GET"]
        if rng.random() < 0.3:
            route["headers"] = {"X-Key": "k1"}
        if rng.random() < 0.5:
            route["load_balancer"] = _balancer(rng)
        if rng.random() < 0.3:
            route["request_headers"] = {"set": {"X-Set": "s"}, "add": {"X-Key": "added"}, "remove": ["X-Drop"]}
        if rng.random() < 0.3:
            route["host_header"] = rng.choice(("backend", "fixed.example"))
        if rng.random() < 0.2:
            route["max_body_size"] = "4B"
        routes.append(route)
    config = {
        "backends": backends,
        "load_balancer": _balancer(rng),
        "http": {"routes": routes, "via": rng.random() < 0.3, "forwarded": rng.random() < 0.3},
        "trusted_proxies": ["198.51.100.0/24"],
    }
    if rng.random() < 0.2:
        config["http"]["underscore_headers"] = rng.choice(("drop", "refuse"))
    return json.dumps(config)


def _balancer(rng: random.Random) -> dict[str, Any]:
    return {"algorithm": rng.choice(ALGORITHMS), "hash_key": rng.choice(KEYS), "max_queue": rng.choice((0, 2))}


def make_question(rng: random.Random) -> Question:
    headers = [("X-Key", rng.choice(("k1", "k2", "k3")))] if rng.random() < 0.6 else []
    headers += [("X-Drop", "d"), ("X_Under", "u")] if rng.random() < 0.3 else []
    headers += [("X-Forwarded-For", "203.0.113.9, 198.51.100.2")] if rng.random() < 0.3 else []
    headers += [("Cookie", "SRV=x; SRV2=y")] if rng.random() < 0.3 else []
    method = rng.choice(("GET", "POST", "PUT"))
    if rng.random() < 0.2:
        headers += [("Content-Length", "5")]
    return Question(
        f"http://{rng.choice(HOSTS)}{rng.choice(PATHS)}",
        method,
        headers,
        rng.choice(("192.0.2.1", "198.51.100.7", "2001:db8::1")),
    )


def stir(app: Application, rng: random.Random) -> None:
    """Traffic that leaves state behind: leases, turns, bindings, ejections, a queue."""
    for fake in app.backends.values():
        fake.always(rng.choice((Reply(), Reply(), Silence(), Refuse())))
    for _ in range(rng.randint(0, 12)):
        question = make_question(rng)
        app.start(question.method, question.url, headers=question.headers, body=b"", client=question.client)
    for fake in app.backends.values():
        fake.up()
    if rng.random() < 0.2:
        app.member("b1").set_enabled(False)


class SameAsTheServer(SynchronousTestCase):
    """What is foretold happens: route, backend, every byte of the head, every attempt, every refusal."""

    def check(self, seed: int) -> str:
        rng = random.Random(seed)
        app = Application(make_config(rng), seed=seed)
        stir(app, rng)
        order: list[str] = []
        for fake in app.backends.values():
            # Connecting fails everywhere: so every attempt that is foretold is made, one after the other.
            fake.always(Refuse())
            self._note_dials(fake, order)
        question = make_question(rng)
        told = [explain(app.assemblies, question) for _ in range(3)]
        self.assertEqual(told[0], told[1])
        self.assertEqual(told[0], told[2])
        answer = told[0]
        render(answer)
        self.assertEqual(Explanation.of_dict(json.loads(json.dumps(answer.as_dict()))), answer)
        assert answer.choice is not None or answer.refusal is not None
        before = {name: fake.dials for name, fake in app.backends.items()}
        body = b"12345" if dict(question.headers).get("Content-Length") else b""
        call = app.start(question.method, question.url, headers=question.headers, body=body, client=question.client)
        self.assertEqual(call.route, answer.route)
        if answer.choice is not None and answer.choice.by == "queue":
            self.assertFalse(call.done)
            return "queue"
        if answer.refusal is not None:
            self.assertEqual(
                (call.status, call.reason or answer.refusal.reason), (answer.refusal.status, answer.refusal.reason)
            )
            self.assertEqual({name: fake.dials for name, fake in app.backends.items()}, before)
            return answer.refusal.reason
        assert answer.choice is not None
        app.finish(call)
        self.assertEqual(order, [answer.choice.backend, *answer.choice.then])
        self.assertEqual(call.status, 502)
        return answer.choice.by

    @staticmethod
    def _note_dials(fake: Any, order: list[str]) -> None:
        dialled = fake.dialled

        def noted(dial: Any) -> None:
            order.append(fake.name)
            dialled(dial)

        fake.dialled = noted

    def test_whatever_the_configuration(self) -> None:
        ends: dict[str, int] = {}
        for seed in range(320):
            try:
                end = self.check(seed)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
            ends[end] = ends.get(end, 0) + 1
        # None of the ways is missed by this test.
        for end in (
            "affinity",
            "balancer",
            "queue",
            "no_route",
            "bad_request",
            "no_backend",
            "queue_full",
            "body_too_large",
        ):
            self.assertTrue(ends.get(end), (end, ends))

    def test_the_head_is_the_one_that_is_sent(self) -> None:
        sent = 0
        for seed in range(200):
            rng = random.Random(seed)
            app = Application(make_config(rng), seed=seed)
            question = make_question(rng)
            answer = explain(app.assemblies, question)
            body = b"12345" if dict(question.headers).get("Content-Length") else b""
            call = app.request(
                question.method, question.url, headers=question.headers, body=body, client=question.client
            )
            if answer.choice is None or answer.choice.backend is None:
                continue
            received = call.upstream
            lines = [f"{received.method} {received.target} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in received.headers.pairs]
            self.assertEqual(list(answer.upstream), lines, seed)
            self.assertEqual(received.backend, answer.choice.backend)
            edits = {(edit.name.lower(), edit.value) for edit in answer.response_edits if edit.what != "remove"}
            for name, value in edits:
                got = call.headers[name]
                self.assertTrue(got == value or got.startswith(value.removesuffix("...")), (name, value, got))
            self.assertEqual("set-cookie" in call.headers, any(name == "set-cookie" for name, _ in edits), seed)
            sent += 1
        self.assertGreater(sent, 60)


class NothingChanges(SynchronousTestCase):
    """Asking is not doing."""

    def test_turns_draws_and_bindings(self) -> None:
        for algorithm in ALGORITHMS:
            for key in ("source-ip", "cookie:SRV"):
                text = json.dumps(
                    {
                        "backends": [{"name": f"b{n}", "address": f"h:{n}", "weight": n} for n in (1, 2, 3)],
                        "load_balancer": {"algorithm": algorithm, "hash_key": key},
                    }
                )
                asked, left_alone = Application(text), Application(text)
                for n in range(20):
                    client = f"192.0.2.{n % 7}"
                    for _ in range(n % 3):
                        explain(asked.assemblies, Question("/", client=client))
                    chosen = [app.get("/", client=client).backend for app in (asked, left_alone)]
                    self.assertEqual(*chosen, (algorithm, key, n))

    def test_counters_and_memory(self) -> None:
        app = Application(
            "backends: [{name: a, address: 'h:1'}]\nload_balancer: {algorithm: session-affinity, affinity_ttl: 10s}"
        )
        app.get("/")
        app.advance(9)
        (answer,) = [explain(app.assemblies, Question("/"))]
        assert answer.affinity is not None
        self.assertEqual(answer.affinity.bound, "a")
        app.advance(2)  # a real request would have kept the client in memory
        answer = explain(app.assemblies, Question("/"))
        assert answer.affinity is not None
        self.assertIsNone(answer.affinity.bound)
        route: HttpRoute = app.proxy().routes.ordered[0].target
        self.assertEqual((app.proxy().counters.requests, route.requests, app.member("a").requests), (1, 1, 1))

    def test_the_retry_budget_is_not_spent(self) -> None:
        app = Application("backends: [{name: a, address: 'h:1'}]\nretries: {min_budget: 1, budget: 0}")
        for _ in range(5):
            stale = {each.errors: each.then for each in explain(app.assemblies, Question("/")).retries}
            self.assertIn("once more", stale[("stale_connection",)])
        self.assertTrue(app.proxy().retry_budget.withdraw(0))
        stale = {each.errors: each.then for each in explain(app.assemblies, Question("/")).retries}
        self.assertEqual(stale[("stale_connection",)], "answered 502: the retry budget is spent")


class Answers(SynchronousTestCase):
    """What people are told."""

    TEXT = """
backends: [{name: a, address: "h:1"}, {name: b, address: "h:2", weight: 0}, {name: c, address: "h:3", max_connections: 1}]
http:
  routes:
    - {name: admin, host: admin.example, backends: [a], priority: 9}
    - {name: v1, path_prefix: /v1, methods: [GET], headers: {X-Token: s3cret}, backends: [a, b, c]}
    - {name: rest, backends: [a, b, c], request_headers: {set: {Authorization: hidden, X-Team: t}, remove: [X-Debug]}}
"""

    def ask(self, url: str, *args: Any, app: Application | None = None, **options: Any) -> Explanation:
        assemblies = app.assemblies if app is not None else offline(loads(self.TEXT))
        return explain(assemblies, Question(url, *args, **options))

    def test_why_routes_did_not_match(self) -> None:
        answer = self.ask("http://x.example/v1/y", "POST")
        self.assertEqual(
            [(each.name, each.outcome, each.why) for each in answer.routes],
            [
                ("admin", "no", "host x.example is not admin.example"),
                ("v1", "no", "method POST is not one of GET"),
                ("rest", "match", ""),
            ],
        )
        answer = self.ask("http://admin.example/")
        self.assertEqual([each.outcome for each in answer.routes], ["match", "not tried", "not tried"])

    def test_candidates(self) -> None:
        app = Application(self.TEXT)
        app.backends["c"].always(Silence())
        while not app.member("c").active:
            app.start("GET", "/")
        answer = self.ask("/", app=app)
        self.assertEqual(
            [(each.name, each.available, each.why) for each in answer.candidates],
            [
                ("a", True, ""),
                ("b", False, "its weight is 0, and others are available"),
                ("c", False, "at max_connections: 1 of 1"),
            ],
        )
        app.member("a").set_enabled(False)
        answer = self.ask("/", app=app)
        assert answer.choice is not None
        self.assertEqual((answer.candidates[0].why, answer.choice.backend), ("taken out of service", "b"))

    def test_the_text(self) -> None:
        text = render(self.ask("http://x.example/", headers=[("X-Debug", "1")]))
        for line in (
            "  1.  admin (priority 9)  no   host x.example is not admin.example",
            "  ->  a  h:1  weight 1  0 active       healthy",
            "      b  h:2  weight 0  0 active       healthy  its weight is 0, and others are available",
            "      c  h:3  weight 1  0 of 1 active  healthy",
            "a, chosen by the balancer: its turn",
            "  + X-Team: t",
            "  - X-Debug",
        ):
            self.assertIn(line, text.split("\n"))
        self.assertIn("answered 503 no_backend", render(explain(offline(loads(self.TEXT), down="abc"), Question("/"))))

    def test_every_balancer_says_why(self) -> None:
        backends = "backends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]\n"
        for algorithm, words in (
            ("round-robin", "its turn"),
            ("weighted-round-robin", "1 of 2 turns"),
            ("least-connections", "a, b have as many"),
            ("weighted-least-connections", "0 by 1"),
            ("random", "two drawn by weight"),
            ("consistent-hash", "it owns the key's place"),
            ("bounded-consistent-hash", "0 of at most 1"),
        ):
            config = loads(backends + f"load_balancer: {{algorithm: {algorithm}}}")
            choice = explain(offline(config), Question("/")).choice
            assert choice is not None
            assert choice.backend is not None
            self.assertIn(words, choice.why)
            if "hash" in algorithm:
                other = explain(offline(config, down=[choice.backend]), Question("/")).choice
                assert other is not None
                self.assertIn(f"{choice.backend} owns the key's place on the ring and is not available", other.why)

    def test_layer_4(self) -> None:
        config = loads(
            "mode: tcp\nbackends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]\nroutes: "
            "[{name: db, sni: '*.db.example', backends: [a, b]}, {name: h2, alpn: [h2], backends: [b]}]"
        )
        answer = explain(offline(config), Question("tls://x.db.example"))
        assert answer.choice is not None
        self.assertEqual((answer.route, answer.choice.backend, answer.choice.then), ("db", "a", ("b",)))
        self.assertIn("next b; then the client's connection is closed", render(answer))
        answer = explain(offline(config), Question("tls://x.example", alpn=["http/1.1"]))
        assert answer.refusal is not None
        self.assertEqual(answer.refusal.reason, "no_route")
        self.assertIn("ALPN http/1.1 has none of h2", render(answer))
        with self.assertRaisesRegex(BadQuestion, "ask with tls://"):
            explain(offline(config), Question("tcp://"))
        with self.assertRaisesRegex(BadQuestion, "there is no listener of mode http"):
            explain(offline(config), Question("/"))

    def test_which_listener(self) -> None:
        config = loads(
            "backends: [{name: a, address: 'h:1'}]\nlisteners: [{name: x, listen: ':8001'}, {name: y, listen: ':8002'}, "
            "{name: z, mode: tcp, listen: ':8003'}]"
        )
        for url, options, name in (
            ("/", {}, "x"),
            ("http://h:8002/", {}, "y"),
            ("http://h:9/", {}, "x"),
            ("http://h:8001/", {"listener": "y"}, "y"),
            ("tcp://h", {}, "z"),
        ):
            self.assertEqual(explain(offline(config), Question(url, **options)).listener["name"], name)  # type: ignore[arg-type]
        with self.assertRaisesRegex(BadQuestion, "there are x, y, z"):
            explain(offline(config), Question("/", listener="w"))
        with self.assertRaisesRegex(BadQuestion, "is of mode tcp, not http"):
            explain(offline(config), Question("/", listener="z"))

    def test_questions_that_cannot_be_asked(self) -> None:
        for url, options in (
            ("ftp://x/", {}),
            ("x/y", {}),
            ("http:///x", {}),
            ("http://h:99999/", {}),
            ("/", {"client": "me"}),
        ):
            with self.assertRaises(BadQuestion):
                Question(url, **options)  # type: ignore[arg-type]
        with self.assertRaises(BadQuestion):
            offline(loads(self.TEXT), down=["nobody"])

    def test_every_error_has_its_place_in_the_plan(self) -> None:
        plan = [name for case in self.ask("/").retries for name in case.errors]
        self.assertEqual(len(plan), len(set(plan)))
        self.assertEqual(len(plan), len(backend_errors()))
        self.assertTrue(all(isinstance(error, BackendError) for error in backend_errors()))
        self.assertIn("stale_connection", plan)


class Live(SynchronousTestCase):
    """The form in which a running Balance is asked."""

    def test_an_answer(self) -> None:
        app = Application(Answers.TEXT)
        status, data = ask(
            app.assemblies, {b"url": [b"/v1/"], b"header": [b"X-Token: s3cret", b"X-A: b"], b"client": [b"::1"]}
        )
        self.assertEqual((status, data["route"], data["client"]), (200, "v1", "::1"))

    def test_secrets_of_the_configuration_are_not_told(self) -> None:
        app = Application(Answers.TEXT)
        _, data = ask(app.assemblies, {b"url": [b"/v1/"]})
        text = json.dumps(data)
        self.assertNotIn("s3cret", text)
        self.assertNotIn("hidden", text)
        self.assertIn("header x-token is absent, not ***", text)
        self.assertIn("Authorization: ***", text)
        self.assertIn("X-Team: t", text)

    def test_bad_questions(self) -> None:
        app = Application(Answers.TEXT)
        for query, words in (
            ({}, "'url' is missing"),
            ({b"url": [b"/"], b"uri": [b"/"]}, "unknown parameter 'uri'"),
            ({b"url": [b"/", b"/x"]}, "given twice"),
            ({b"url": [b"/"], b"header": [b"x"]}, "not a header field"),
            ({b"url": [b"/"], b"client": [b"x"]}, "not an IP address"),
            ({b"url": [b"/"], b"listener": [b"x"]}, "there is no listener"),
        ):
            status, data = ask(app.assemblies, query)  # type: ignore[arg-type]
            self.assertEqual(status, 400)
            self.assertIn(words, data["error"])


class _Stubborn:
    """A balancer that cannot be copied."""

    def set_members(self, members: Sequence[Backend]) -> None:
        self.gone: Iterator[int] = (n for n in range(3))  # a generator

    def pick(self, candidates: Sequence[Backend], key: bytes) -> Backend:
        return candidates[0]


class Last:
    """A balancer of a third party, by its dotted path."""

    picked = 0

    def set_members(self, members: Sequence[Backend]) -> None:
        pass

    def pick(self, candidates: Sequence[Backend], key: bytes) -> Backend:
        self.picked += 1
        return candidates[-1]

    def why(self, candidates: Sequence[Backend], key: bytes, chosen: Backend) -> str:
        return f"it is the last of {len(candidates)}"


class Strangers(SynchronousTestCase):
    """Plugins of others, which promise less."""

    def test_a_balancer_that_says_why(self) -> None:
        app = Application(
            "backends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]\n"
            f"load_balancer: {{algorithm: '{__name__}:Last'}}"
        )
        answer = explain(app.assemblies, Question("/"))
        self.assertIn("b, chosen by the balancer: it is the last of 2", render(answer))
        balancer: Any = app.pool("default").balancer
        self.assertEqual(balancer._balancer.picked, 0)
        self.assertEqual(app.get("/").backend, "b")

    def test_filters_are_named_and_not_asked(self) -> None:
        config = loads(
            "backends: [{name: a, address: 'h:1'}]\nhttp: {filters: [request-id], routes: [{name: r, backends: [a], "
            "host: a.x, filters: [redirect-https]}]}"
        )
        answer = explain(offline(config), Question("http://a.x/"))
        self.assertEqual(answer.filters, ("request-id", "redirect-https"))
        self.assertIn("filters, which are not asked here: request-id, redirect-https", render(answer))
        self.assertEqual(explain(offline(config), Question("http://b.x/")).filters, ("request-id",))

    def test_what_is_refused_before_a_backend_is_chosen(self) -> None:
        config = loads("backends: [{name: a, address: 'h:1'}]\nhttp: {enable_websocket: false}")
        headers = [("Connection", "upgrade"), ("Upgrade", "websocket")]
        answer = explain(offline(config), Question("/", headers=headers))
        assert answer.refusal is not None
        self.assertEqual(answer.refusal.status, 426)

    def test_one_that_cannot_be_copied(self) -> None:
        app = Application("backends: [{name: a, address: 'h:1'}]")
        pool = app.pool("default")
        stubborn: Any = _Stubborn()
        pool.balancer = stubborn
        pool.set_members(pool.members)
        with self.assertRaises(Unforeseeable):
            Rehearsal(pool)
        answer = explain(app.assemblies, Question("/"))
        assert answer.choice is not None
        self.assertIn("the balancer cannot be copied: TypeError", answer.choice.why)
        self.assertIn("cannot be copied", render(answer))
