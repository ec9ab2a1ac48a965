"""Filters: every phase, in order; waiting, failing, answering; nothing lost, nothing sent that must not be."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import balance.http.filters
from balance.http.filters import Filtering
from balance.testing import Application, Refuse, Reply, Reset, Silence, Truncate
from test.unit import acme

BACKENDS = [{"name": "a", "address": "h:1"}, {"name": "b", "address": "h:2"}]


def application(*filters: Any, listener: list[Any] | None = None, backends: int = 1, **keys: Any) -> Application:
    """One route with these filters; a name alone is one of `test.unit.acme`."""
    route = {"name": "r", "backends": [each["name"] for each in BACKENDS[:backends]], **keys.pop("route", {})}
    route["filters"] = [_full(each) for each in filters]
    http = {"routes": [route], "filters": [_full(each) for each in listener or ()]}
    return Application({"backends": BACKENDS[:backends], "http": http, **keys})


def _full(given: Any) -> Any:
    if isinstance(given, tuple):
        return {"use": f"test.unit.acme:{given[0]}", "options": given[1]}
    return f"test.unit.acme:{given}" if given.isidentifier() else given


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        acme.seen.clear()
        acme.waiting.clear()

    def fire(self, result: Any = None) -> None:
        """Let the oldest filter that waits go on."""
        acme.waiting.pop(0).callback(result)

    def assert_idle(self, app: Application) -> None:
        """Nothing is leased, nothing under way."""
        self.assertEqual([backend.active for backend in app.proxy().connections], [0] * len(app.proxy().connections))
        self.assertEqual(app.proxy().counters.active, 0)


class Order(Case):
    TRACED = (("Traced", {"name": "one"}), ("Traced", {"name": "two"}))

    def test_every_phase_in_order(self) -> None:
        app = application(self.TRACED[1], listener=[self.TRACED[0]])
        app.backends["a"].always(Reply(body="pong", trailers={"X-Sum": "1"}))
        client = app.client()
        call = client.start("POST", "http://x/", headers={"Trailer": "T"}, body=None)
        call.send("ping").client.write(b"0\r\nT: v\r\n\r\n")
        app.finish(call)
        self.assertEqual((call.status, call.text, call.upstream.body), (200, "pong", b"ping"))
        self.assertEqual(call.response.trailers["X-Sum"], "1")  # type: ignore[union-attr]
        self.assertEqual(call.upstream.trailers["T"], "v")
        self.assertEqual(
            acme.seen,
            [
                "one.request_head",
                "two.request_head",
                "one.choose_backends",
                "two.choose_backends",
                "one.upstream_request",
                "two.upstream_request",
                "one.request_body ping",
                "two.request_body ping",
                "one.request_body  end",
                "two.request_body  end",
                "one.request_trailers",
                "two.request_trailers",
                "two.response_head 200",
                "one.response_head 200",
                "two.response_body pong",
                "one.response_body pong",
                "two.response_body  end",
                "one.response_body  end",
                "two.response_trailers",
                "one.response_trailers",
                "one.log 200",
                "two.log 200",
            ],
        )
        self.assert_idle(app)

    def test_a_request_without_a_body(self) -> None:
        app = application(self.TRACED[0])
        app.get("http://x/")
        self.assertEqual(
            acme.seen,
            [
                "one.request_head",
                "one.choose_backends",
                "one.upstream_request",
                "one.response_head 200",
                "one.response_body a\n end",
                "one.log 200",
            ],
        )

    def test_each_attempt_has_its_upstream_request(self) -> None:
        app = application(self.TRACED[0], backends=2)
        app.backends["a"].always(Refuse())
        call = app.get("http://x/")
        self.assertEqual((call.status, call.backend, acme.seen.count("one.upstream_request")), (200, "b", 2))

    def test_errors(self) -> None:
        app = application(self.TRACED[0])
        app.backends["a"].always(Reset())
        call = app.get("http://x/")
        self.assertEqual((call.status, call.reason), (502, "backend_reset"))
        self.assertEqual(acme.seen[-3:], ["one.error BackendReset", "one.response_head 502", "one.log 502"])

    def test_a_listener_sees_what_no_route_takes(self) -> None:
        app = application(listener=[self.TRACED[0]], route={"host": "a.example"})
        call = app.get("http://b.example/")
        self.assertEqual((call.status, call.reason), (404, "no_route"))
        self.assertEqual(acme.seen, ["one.request_head", "one.error NoRoute", "one.response_head 404", "one.log 404"])

    def test_the_same_filter_twice(self) -> None:
        app = application("brand", "noop", "brand")
        names = [name for name, _ in app.proxy().routes.ordered[0].target.filters.filters]  # type: ignore[union-attr]
        self.assertEqual(names, ["test.unit.acme:brand", "test.unit.acme:noop", "test.unit.acme:brand#2"])

    def test_a_route_without_filters_has_none(self) -> None:
        app = Application({"backends": BACKENDS})
        self.assertIs(app.proxy().filters, None)
        self.assertIs(app.proxy().routes.ordered[0].target.filters, None)


class Answering(Case):
    def test_a_filter_answers(self) -> None:
        app = application("require_token")
        call = app.get("http://x/")
        self.assertEqual(
            (call.status, call.text, call.headers["WWW-Authenticate"]), (401, "a token is needed\n", "Bearer")
        )
        self.assertEqual((call.sent, call.backend, call.reason), ([], None, ""))
        self.assertEqual(app.get("http://x/", headers={"Authorization": "Bearer x"}).status, 200)
        self.assert_idle(app)

    def test_head_gets_no_body(self) -> None:
        call = application("require_token").request("HEAD", "http://x/")
        self.assertEqual((call.status, call.body, call.headers["Content-Length"]), (401, b"", "18"))

    def test_other_filters_see_the_head_of_an_answer(self) -> None:
        call = application("require_token", "brand").get("http://x/")
        self.assertEqual((call.status, call.headers["X-Brand"]), (401, "acme"))

    def test_the_rest_of_the_body_is_not_waited_for(self) -> None:
        app = application("require_token")
        call = app.start("POST", "http://x/", body=None)
        app.settle()
        self.assertEqual((call.status, call.headers["Connection"]), (401, "close"))

    def test_an_error_of_ours(self) -> None:
        call = application("deny").get("http://x/")
        self.assertEqual((call.status, call.reason), (403, "denied"))

    def test_before_the_route(self) -> None:
        app = application(listener=["require_token"], route={"host": "a.example"})
        self.assertEqual(app.get("http://b.example/").status, 401)
        self.assertEqual(app.get("http://b.example/", headers={"Authorization": "x"}).status, 404)

    def test_an_error_answer_replaced(self) -> None:
        app = application("Sorry")
        app.backends["a"].always(Refuse())
        call = app.get("http://x/")
        self.assertEqual((call.status, call.text, call.reason), (502, "sorry: connect_refused\n", "connect_refused"))


class Editing(Case):
    def edited(self, where: str, **options: str) -> Any:
        app = application(("Editing", {"where": where, **options}))
        app.backends["a"].always(Reply(body="pong", trailers={"X-Sum": "1"}))
        call = app.client().start("POST", "http://x/a?b", headers={"Trailer": "T"}, body=None)
        call.send("ping").client.write(b"0\r\nT: v\r\n\r\n")
        return app.finish(call)

    def test_heads_and_trailers(self) -> None:
        self.assertEqual(self.edited("request_head").upstream.headers["X-Acme"], "1")
        self.assertEqual(self.edited("upstream_request").upstream.headers["X-Acme"], "1")
        self.assertEqual(self.edited("response_head").headers["X-Acme"], "1")
        self.assertEqual(self.edited("request_trailers").upstream.trailers["X-Acme"], "1")
        self.assertEqual(self.edited("response_trailers").response.trailers["X-Acme"], "1")

    def test_the_target(self) -> None:
        self.assertEqual(self.edited("request_head", target="/c?d").upstream.target, "/c?d")

    def test_a_target_that_decides_the_route(self) -> None:
        app = application(
            listener=[("Editing", {"where": "", "target": "/v2/x"})],
            route={"path_prefix": "/v2"},
        )
        self.assertEqual(app.get("http://x/v1/x").upstream.target, "/v2/x")

    def test_an_attempt_leaves_no_traces_in_the_next(self) -> None:
        app = application(("Editing", {"where": "upstream_request"}), backends=2)
        app.backends["a"].always(Refuse())
        self.assertEqual(app.get("http://x/").upstream.headers.all("X-Acme"), ["1"])

    def test_what_must_not_be_sent(self) -> None:
        """Nobody can smuggle a line, or a field that frames a message, through a filter."""
        for where in ("request_head", "upstream_request", "request_trailers"):
            for name, value in (
                ("X-A", "1\r\nX-B: 2"),
                ("Content-Length", "0"),
                ("Transfer-Encoding", "chunked"),
                ("Host", "b"),
                ("A B", "1"),
            ):
                call = self.edited(where, name=name, value=value)
                self.assertEqual((call.status, call.reason), (500, "filter_error"), (where, name))
                self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        for target in ("/a b", "/a\r\nX: y", "http://b/", ""):
            app = application("noop")
            call = app.get("http://x/")
            context_edit = acme.Editing(acme.Editing.Options(where="", target=target))
            if target:
                app.proxy().routes.ordered[0].target.filters = type(  # type: ignore[misc]
                    app.proxy().routes.ordered[0].target.filters
                )([("edit", context_edit)])
                call = app.get("http://x/")
                self.assertEqual((call.status, call.reason), (500, "filter_error"), target)
                self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_response_that_must_not_be_sent(self) -> None:
        call = self.edited("response_head", name="Content-Length", value="3")
        self.assertEqual((call.status, call.reason), (500, "filter_error"))
        self.assertIn("Content-Length", str(self.flushLoggedErrors(ValueError)[0].value))


class Bodies(Case):
    def test_one_that_keeps_the_length(self) -> None:
        app = application("Upper")
        app.backends["a"].always(Reply(body="pong"))
        call = app.post("http://x/", "ping")
        self.assertEqual((call.text, call.headers["Content-Length"]), ("PONG", "4"))
        self.assertEqual((call.upstream.body, call.upstream.headers["Content-Length"]), (b"PING", "4"))

    def test_one_that_does_not(self) -> None:
        app = application("Doubling")
        app.backends["a"].always(Reply(body="pong"))
        call = app.post("http://x/", "ping")
        self.assertEqual((call.text, call.headers["Content-Length"]), ("pongpong", "8"))
        self.assertEqual((call.upstream.body, call.upstream.headers["Content-Length"]), (b"pingping", "8"))

    def test_pieces(self) -> None:
        app = application("Doubling")
        app.backends["a"].always(Reply(chunks=[(0.5, "po"), (0.5, "ng")]))
        call = app.start("POST", "http://x/", body=None)
        call.send("pi")
        app.settle()
        call.send("ng", end=True)
        app.finish(call)
        self.assertEqual((call.text, call.upstream.body), ("pongpong", b"pingping"))
        self.assertEqual(call.upstream.headers["Transfer-Encoding"], "chunked")
        self.assertEqual(call.exchange.body_in, 4)  # type: ignore[union-attr]
        self.assertEqual(call.exchange.body_out, 8)  # type: ignore[union-attr]

    def test_one_that_passes_some_by(self) -> None:
        app = application("Doubling")
        app.backends["a"].always(Reply(body="pong", headers={"X-Pass": "1"}))
        call = app.get("http://x/")
        self.assertEqual((call.text, call.headers["Content-Length"]), ("pong", "4"))

    def test_no_body_to_filter(self) -> None:
        app = application("Doubling")
        app.backends["a"].always(Reply(body="pong"))
        call = app.request("HEAD", "http://x/")
        self.assertEqual((call.status, call.body, call.headers["Content-Length"]), (200, b"", "4"))

    def test_one_that_lies_about_its_length(self) -> None:
        app = application("Lying")
        app.backends["a"].always(Reply(body="pong"))
        call = app.get("http://x/")
        self.assertEqual((call.status, call.reason), (500, "filter_error"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        app.backends["a"].always(Reply(chunks=[(0, ""), (1, "po"), (1, "ng")]))
        call = app.get("http://x/")
        self.assertEqual(call.reason, "filter_error")
        self.assertTrue(call.broken or call.status == 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assert_idle(app)

    def test_a_replay_is_filtered_once(self) -> None:
        app = application("Doubling", backends=2)
        app.backends["a"].always(Refuse())
        call = app.post("http://x/", "ping")
        self.assertEqual((call.backend, call.upstream.body), ("b", b"pingping"))

    def test_the_limit_is_about_what_the_client_sends(self) -> None:
        app = application("Doubling", route={"max_body_size": 4})
        self.assertEqual(app.post("http://x/", "ping").status, 200)
        self.assertEqual(app.post("http://x/", "pings").status, 413)

    def test_a_response_that_breaks_off(self) -> None:
        app = application("Upper")
        app.backends["a"].always(Truncate(Reply(body="x" * 100), 50))
        call = app.get("http://x/")
        self.assertTrue(call.broken)
        self.assertEqual(call.reason, "response_truncated")
        self.assert_idle(app)


class Choosing(Case):
    def test_fewer(self) -> None:
        app = application(("OnlyThese", {"names": ["b"]}), backends=2)
        self.assertEqual({app.get("http://x/").backend for _ in range(4)}, {"b"})

    def test_others(self) -> None:
        app = application(("OnlyThese", {"names": ["b"]}), backends=2, route={"backends": ["a"]})
        self.assertEqual({app.get("http://x/").backend for _ in range(4)}, {"b"})
        app.backends["b"].always(Refuse())
        self.assertEqual(app.get("http://x/").reason, "connect_refused")
        self.assert_idle(app)

    def test_none(self) -> None:
        call = application(("OnlyThese", {"names": []})).get("http://x/")
        self.assertEqual((call.status, call.reason), (503, "no_backend"))

    def test_a_retry_stays_among_them(self) -> None:
        app = application(("OnlyThese", {"names": ["b"]}), backends=2)
        app.backends["b"].always(Refuse())
        call = app.get("http://x/")
        self.assertEqual((call.status, call.reason, call.attempts), (502, "connect_refused", 1))

    def test_one_that_does_not_exist(self) -> None:
        call = application(("OnlyThese", {"names": ["c"]})).get("http://x/")
        self.assertEqual((call.status, call.reason), (500, "filter_error"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class Waiting(Case):
    def test_coroutines_and_deferreds(self) -> None:
        for name in ("later", "coroutine"):
            app = application(name)
            call = app.start("GET", "http://x/")
            app.settle()
            self.assertEqual((call.done, app.backends["a"].received), (False, []))
            self.fire()
            app.settle()
            self.assertEqual((call.status, call.done), (200, True), name)

    def test_an_answer_later(self) -> None:
        app = application("coroutine", listener=["noop"])
        call = app.start("GET", "http://x/")
        app.settle()
        self.fire("hello")
        app.settle()
        self.assertEqual((call.status, call.text), (200, "hello!"))

    def test_before_the_route(self) -> None:
        app = application("noop", listener=["later"])
        call = app.start("POST", "http://x/", body="ping")
        app.settle()
        self.assertEqual(app.backends["a"].received, [])
        self.fire()
        app.finish(call)
        self.assertEqual((call.status, call.upstream.body), (200, b"ping"))

    def test_the_body_is_held_back(self) -> None:
        app = application("later")
        call = app.start("POST", "http://x/", body=None)
        app.settle()
        call.send("ping")
        app.settle()
        self.assertEqual(call.client.peer.transport.producerState, "paused")  # type: ignore[union-attr]
        self.fire()
        app.settle()
        self.assertEqual(call.client.peer.transport.producerState, "producing")  # type: ignore[union-attr]
        call.send("pong", end=True)
        app.finish(call)
        self.assertEqual((call.status, call.upstream.body), (200, b"pingpong"))

    def test_a_client_that_leaves(self) -> None:
        for phases in (
            ["request_head"],
            ["choose_backends"],
            ["upstream_request"],
            ["response_head"],
            ["response_body"],
        ):
            acme.seen.clear()
            app = application(("Waiting", {"phases": phases}))
            call = app.start("GET", "http://x/")
            app.settle()
            self.assertEqual(len(acme.waiting), 1, phases)
            call.cancel()
            app.settle()
            self.assertEqual(acme.seen, ["cancelled"])
            acme.waiting.clear()
            self.assertEqual(call.reason, "client_gone")
            self.assert_idle(app)

    def test_time_limits(self) -> None:
        for phases in (
            ["request_head"],
            ["choose_backends"],
            ["upstream_request"],
            ["response_head"],
            ["response_body"],
        ):
            app = application(("Waiting", {"phases": phases}), timeouts={"filter": "3s"})
            call = app.get("http://x/")
            self.assertEqual((call.status, call.reason), (504, "filter_timeout"), phases)
            self.assertTrue(3 <= call.seconds < 4, call.seconds)
            self.assert_idle(app)
            acme.waiting.clear()

    def test_a_time_limit_in_the_middle_of_a_body(self) -> None:
        app = application(("Waiting", {"phases": ["response_body"]}), timeouts={"filter": "3s"})
        app.backends["a"].always(Reply(chunks=[(0, "a"), (1, "b")]))
        call = app.start("GET", "http://x/")
        app.advance(1.5)
        self.fire()
        app.advance(10)
        self.assertTrue(call.done)
        self.assertEqual((call.reason, call.broken), ("filter_timeout", True))
        self.assert_idle(app)

    def test_every_phase_at_once(self) -> None:
        phases = [
            "request_head", "choose_backends", "upstream_request", "request_body", "request_trailers",
            "response_head", "response_body", "response_trailers",
        ]  # fmt: skip
        app = application(("Waiting", {"phases": phases}))
        app.backends["a"].always(Reply(body="pong", trailers={"X-Sum": "1"}))
        call = app.client().start("POST", "http://x/", headers={"Trailer": "T"}, body=None)
        call.send("ping").client.write(b"0\r\nT: v\r\n\r\n")
        app.settle()
        for _ in range(30):
            while acme.waiting:
                self.fire()
                app.settle()
        self.assertEqual((call.status, call.text, call.done), (200, "pong", True))
        self.assertEqual((call.upstream.body, call.upstream.trailers["T"]), (b"ping", "v"))
        self.assertEqual(call.response.trailers["X-Sum"], "1")  # type: ignore[union-attr]
        self.assert_idle(app)

    def test_a_response_while_the_request_still_waits(self) -> None:
        app = application(("Waiting", {"phases": ["request_body"]}))
        app.backends["a"].always(Reply(status=400, early=True, after=1))
        call = app.start("POST", "http://x/", body=None)
        app.settle()
        call.send("ping")
        app.advance(2)
        self.assertEqual((call.status, acme.seen), (400, ["cancelled"]))
        self.assert_idle(app)

    def test_back_pressure_from_a_slow_filter(self) -> None:
        """A backend is not read while a filter works on what it sent."""
        app = application(("Waiting", {"phases": ["response_body"]}))
        app.backends["a"].always(Reply(chunks=[(0, "x" * 1000)] * 5))
        call = app.start("GET", "http://x/")
        app.settle()
        (peer,) = [each.peer for each in app.backends["a"]._connections]
        self.assertEqual(peer.transport.producerState, "paused")
        while acme.waiting:
            self.fire()
            app.settle()
        self.assertEqual(call.body, b"x" * 5000)
        self.assertEqual(peer.transport.producerState, "producing")

    def test_a_client_that_reads_slowly_is_not_forgotten(self) -> None:
        """The filter is done, but the client still takes nothing: the backend stays paused."""
        app = application(("Waiting", {"phases": ["response_body"]}))
        app.backends["a"].always(Reply(chunks=[(0, "x"), (10, "y")]))
        call = app.start("GET", "http://x/")
        app.settle()
        call.client.peer.stall()  # type: ignore[union-attr]
        (peer,) = [each.peer for each in app.backends["a"]._connections]
        self.fire()
        app.settle()
        self.assertEqual(peer.transport.producerState, "paused")
        call.client.peer.unstall()  # type: ignore[union-attr]
        self.assertEqual(peer.transport.producerState, "producing")

    def test_error_answers_may_wait_too(self) -> None:
        app = application(("Waiting", {"phases": ["error"]}), timeouts={"filter": "3s"})
        app.backends["a"].always(Refuse())
        call = app.start("POST", "http://x/", body=None)
        app.settle()
        call.send("more")
        app.settle()
        self.assertFalse(call.done)
        self.fire()
        app.settle()
        self.assertEqual((call.status, call.reason), (502, "connect_refused"))
        call = app.get("http://x/")
        self.assertEqual((call.status, call.reason), (502, "connect_refused"))
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assert_idle(app)


class Failing(Case):
    def test_an_exception(self) -> None:
        app = application("broken")
        call = app.get("http://x/")
        self.assertEqual((call.status, call.reason), (500, "filter_error"))
        (failure,) = self.flushLoggedErrors(KeyError)
        self.assertIn("acme.py", failure.getTraceback())
        self.assertNotIn("tenant", call.text)
        self.assert_idle(app)

    def test_later(self) -> None:
        app = application("later")
        call = app.start("GET", "http://x/")
        app.settle()
        acme.waiting.pop().errback(OSError("auth is down"))
        app.settle()
        self.assertEqual((call.status, call.reason), (500, "filter_error"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_every_phase(self) -> None:
        for name in (
            "request_head", "choose_backends", "upstream_request", "request_body", "response_head", "response_body",
        ):  # fmt: skip
            app = application(("Waiting", {"phases": [name]}))
            call = app.start("POST", "http://x/", body="ping")
            app.settle()
            acme.waiting.pop(0).errback(OSError())
            app.settle()
            self.assertEqual((call.status, call.reason), (500, "filter_error"), name)
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
            self.assert_idle(app)
            self.assertEqual(app.get("http://x/", within=60).reason, "filter_timeout" if name != "request_body" else "")
            acme.waiting.clear()

    def test_what_is_returned_has_to_make_sense(self) -> None:
        for given in (True, 42, "no"):
            app = application("later")
            call = app.start("GET", "http://x/")
            app.settle()
            self.fire(given)
            app.settle()
            self.assertEqual((call.status, call.reason), (500, "filter_error"), given)
            self.assertIn("needed: None or an Answer", str(self.flushLoggedErrors(TypeError)[0].value))

    def test_a_filter_that_fails_on_errors(self) -> None:
        app = application(("Waiting", {"phases": ["error"]}), "brand")
        app.backends["a"].always(Refuse())
        call = app.start("GET", "http://x/")
        app.settle()
        acme.waiting.pop().errback(OSError())
        app.settle()
        self.assertEqual((call.status, call.reason, call.headers["X-Brand"]), (502, "connect_refused", "acme"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_a_connection_in_the_pool_is_left_alone(self) -> None:
        """A response head that a filter fails on came over a connection that may serve somebody else by now."""
        app = application(("Waiting", {"phases": ["response_head"]}))
        first = app.start("GET", "http://x/1")
        app.settle()
        second = app.start("GET", "http://x/2")
        app.settle()
        self.assertEqual(app.backends["a"].dials, 1)
        acme.waiting.pop(0).errback(OSError())
        app.settle()
        self.fire()
        app.settle()
        self.assertEqual((first.status, second.status), (500, 200))
        self.flushLoggedErrors(OSError)

    def test_log(self) -> None:
        app = application("log_it")
        app.get("http://x/")
        app.backends["a"].always(Silence())
        call = app.start("POST", "http://x/", body="ping")
        app.settle()
        call.cancel()
        app.settle()
        self.assertEqual(acme.seen, [("r", "a", 200, "", 0, 2), ("r", "a", 0, "client_gone", 4, 0)])


class Leaks(Case):
    def test_nothing_is_kept(self) -> None:
        """What an exchange with filters needs is free as soon as it is over, without the collector."""
        kept: list[weakref.ref[Filtering]] = []

        class Spy(Filtering):
            __slots__ = ("__weakref__",)

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                kept.append(weakref.ref(self))

        self.patch(balance.http.filters, "Filtering", Spy)
        app = application(("Traced", {"name": "t"}), ("Waiting", {"phases": ["response_body"]}), listener=["later"])
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for outcome in ("good", "gone"):
            call = app.start("GET", "http://x/")
            app.settle()
            self.fire()
            app.settle()
            if outcome == "gone":
                call.cancel()
                acme.waiting.clear()
            else:
                self.fire()
            app.settle()
            del call
        app.calls.clear()
        self.assertEqual([ref() for ref in kept], [None] * 2)
