"""A twisted.web resource as the target of a route."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance.config import ConfigError
from balance.explain import Question, explain
from balance.testing import Application
from test.unit import acme


def application(**route: Any) -> Application:
    page = {"name": "page", "resource": "test.unit.acme:Page", "path_prefix": "/page", **route}
    if "resource" not in route:
        page["resource"] = {"use": "test.unit.acme:Page", "options": {}}
    rest = {"name": "rest", "backends": ["a"]}
    return Application({"backends": [{"name": "a", "address": "h:1"}], "http": {"routes": [page, rest]}})


class Served(SynchronousTestCase):
    def setUp(self) -> None:
        acme.seen.clear()

    def test_a_page(self) -> None:
        app = application()
        call = app.get("http://x.example/page/a?b=1", client="198.51.100.7")
        self.assertEqual((call.status, call.text, call.route, call.backend), (200, "hello", "page", "resource:page"))
        self.assertEqual(call.headers["X-Seen"], "x.example /page/a?b=1 198.51.100.7")
        self.assertEqual((call.headers["Content-Length"], call.headers.all("Connection")), ("5", []))
        self.assertEqual(app.get("http://x/").route, "rest")

    def test_a_connection_is_kept(self) -> None:
        client = application().client()
        for _ in range(3):
            self.assertEqual(client.request("GET", "http://x/page").status, 200)
        self.assertFalse(client.peer.gone)  # type: ignore[union-attr]

    def test_methods(self) -> None:
        app = application()
        self.assertEqual(app.post("http://x/page", "ping").text, "PING")
        head = app.request("HEAD", "http://x/page")
        self.assertEqual((head.status, head.body, head.headers["Content-Length"]), (200, b"", "5"))
        self.assertEqual(app.request("PUT", "http://x/page").status, 501)
        self.assertEqual(app.get("http://x/page/nothing").status, 204)

    def test_a_body_in_pieces(self) -> None:
        app = application()
        call = app.start("POST", "http://x/page", body=None)
        call.send("pi").send("ng", end=True)
        self.assertEqual(app.finish(call).text, "PING")

    def test_an_answer_later(self) -> None:
        app = application()
        call = app.start("GET", "http://x/page/later")
        app.settle()
        (request,) = acme.seen
        request.write(b"one")
        app.settle()
        self.assertEqual((call.status, call.text, call.headers["Transfer-Encoding"]), (200, "one", "chunked"))
        request.write(b"two")
        request.finish()
        app.settle()
        self.assertEqual((call.done, call.text), (True, "onetwo"))

    def test_a_client_that_leaves(self) -> None:
        app = application()
        call = app.start("GET", "http://x/page/later")
        app.settle()
        call.cancel()
        app.settle()
        self.assertEqual(acme.seen[1:], ["gone"])
        self.assertEqual(app.proxy().counters.active, 0)

    def test_silence(self) -> None:
        app = application()
        call = app.get("http://x/page/later")
        self.assertEqual((call.status, call.reason, acme.seen[1:]), (504, "response_timeout", ["gone"]))

    def test_failures(self) -> None:
        app = application()
        self.assertEqual(app.get("http://x/page/broken").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        call = app.get("http://x/page/short")
        self.assertEqual((call.broken, call.reason), (True, "response_truncated"))
        call = app.get("http://x/page/long")
        self.assertEqual((call.status, call.reason), (502, "bad_response"))
        self.assertEqual(app.proxy().counters.active, 0)

    def test_producers(self) -> None:
        app = application()
        self.assertEqual(app.get("http://x/page/pull").text, "x" * 1000)
        call = app.start("GET", "http://x/page/push")
        app.settle()
        (push,) = acme.seen
        push.request.write(b"some")
        call.client.peer.stall()  # type: ignore[union-attr]
        self.assertEqual(push.calls, ["pause"])
        call.client.peer.unstall()  # type: ignore[union-attr]
        self.assertEqual(push.calls, ["pause", "resume"])
        call.cancel()
        app.settle()
        self.assertEqual(push.calls[-1], "stop")

    def test_a_pull_producer_waits_for_the_client(self) -> None:
        app = application()
        call = app.start("GET", "http://x/page/pull")
        app.settle()
        call.client.peer.stall()  # type: ignore[union-attr]
        app.advance(1)
        got = len(call.body)
        self.assertLess(got, 1000)
        call.client.peer.unstall()  # type: ignore[union-attr]
        app.finish(call)
        self.assertEqual(len(call.body), 1000)

    def test_with_filters(self) -> None:
        app = application(filters=["test.unit.acme:brand", "test.unit.acme:Upper"])
        call = app.get("http://x/page")
        self.assertEqual((call.text, call.headers["X-Brand"]), ("HELLO", "acme"))

    def test_explained(self) -> None:
        app = application()
        explanation = explain(app.assemblies, Question("http://x/page"))
        self.assertEqual(explanation.route, "page")

    def test_nothing_but_resources(self) -> None:
        app = Application({"http": {"routes": [{"name": "p", "resource": "test.unit.acme:Page"}]}})
        self.assertEqual(app.get("http://x/").status, 200)

    def test_told(self) -> None:
        for route, message in (
            ({"resource": "test.unit.acme:seen"}, "http.routes[0].resource.use: resource 'test.unit.acme:seen'"),
            ({"backends": ["a"]}, "http.routes[0].resource: a route has either backends or a resource"),
            ({"resource": None}, "http.routes[0].backends: this key is missing"),
        ):
            with self.assertRaises(ConfigError) as caught:
                application(**route)
            self.assertIn(message, str(caught.exception))
