"""Plugins that a configuration asks for: found, checked, told with file, line and column when something is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance.assembly import assemble_all
from balance.config import Config, ConfigError, loads, made
from balance.loading import KINDS, PluginError, of_path
from balance.registry import INSTALLED, balancer_names, build_balancer, find, plugin_names
from balance.testing import Application
from test.unit import acme

BACKENDS = "backends: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]\n"


def read(text: str) -> Config:
    return loads(BACKENDS + dedent(text), "x.yaml", algorithms=balancer_names(), plugins=INSTALLED)


class Case(SynchronousTestCase):
    maxDiff = None

    def setUp(self) -> None:
        acme.seen.clear()

    def refused(self, text: str) -> list[str]:
        with self.assertRaises(ConfigError) as caught:
            read(text)
        return str(caught.exception).splitlines()

    def module(self, text: str) -> str:
        """A module that can be imported, by name."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        name = f"acme_{abs(hash((self.id(), text)))}"
        (folder / f"{name}.py").write_text(dedent(text))
        sys.path.insert(0, str(folder))
        self.addCleanup(sys.path.remove, str(folder))
        self.addCleanup(sys.modules.pop, name, None)
        return name


class Told(Case):
    """One problem, one line."""

    def filter(self, use: str) -> str:
        (problem,) = self.refused(f"http:\n  filters:\n    - {use}\n")
        return problem

    def test_what_cannot_be_found(self) -> None:
        self.assertEqual(
            self.filter("acme.auth:require_token"),
            "x.yaml:4:7: http.filters[0].use: filter 'acme.auth:require_token': there is no module 'acme'; "
            "is its package installed?",
        )
        self.assertEqual(
            self.filter("{use: 'test.unit.acme:require_tokn'}"),
            "x.yaml:4:13: http.filters[0].use: filter 'test.unit.acme:require_tokn': module 'test.unit.acme' has no "
            "'require_tokn'; did you mean 'require_token'?",
        )
        self.assertEqual(
            self.filter("request-iid"),
            "x.yaml:4:7: http.filters[0].use: no filter 'request-iid' is installed; "
            "there are: answer, redirect-https, request-id; did you mean 'request-id'?",
        )
        self.assertIn("a dotted path is written package.module:name", self.filter("'acme/auth:x'"))
        self.assertIn("a dotted path is written package.module:name", self.filter("'acme.auth:'"))

    def test_what_cannot_be_imported(self) -> None:
        for text, cause in (
            ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
            ("from os import no_such_thing", "ImportError: cannot import name 'no_such_thing'"),
            ("def f(:", "SyntaxError"),
            ("1 / 0", "ZeroDivisionError: division by zero"),
        ):
            name = self.module(text)
            problem = self.filter(f"'{name}:f'")
            self.assertIn(
                f"x.yaml:4:7: http.filters[0].use: filter '{name}:f': module '{name}' cannot be imported", problem
            )
            self.assertIn(cause, problem)

    def test_what_does_not_do_its_work(self) -> None:
        self.assertIn("has none of the phases of a filter: request_head", self.filter("'test.unit.acme:NoPhase'"))
        self.assertIn("has none of the phases", self.filter("'test.unit.acme:seen'"))
        wrong = self.filter("'test.unit.acme:WrongSignature'")
        self.assertIn("request_head(context)", wrong)
        self.assertIn("doesn't allow enough arguments", wrong)
        self.assertIn("its Options are no pydantic model", self.filter("'test.unit.acme:BadOptions'"))
        name = self.module("def f(): pass")
        self.assertIn("doesn't allow enough arguments", self.filter(f"'{name}:f'"))
        (problem,) = self.refused("load_balancer: {algorithm: 'test.unit.acme:NoPick'}")
        self.assertTrue(problem.startswith("x.yaml:2:28: load_balancer.algorithm: balancing algorithm"), problem)
        self.assertIn("IBalancer.pick(candidates, key) attribute was not provided", problem)

    def test_options(self) -> None:
        problems = self.refused(
            """
            http:
              routes:
                - name: r
                  backends: [a]
                  match:
                    - use: test.unit.acme:ByHeader
                      options: {nam: x}
                  filters:
                    - use: test.unit.acme:Traced
                      options:
                        name: 5
                        wait: 3
                    - {use: 'test.unit.acme:noop', options: {a: 1}}
                    - {use: 'test.unit.acme:Traced'}
            """
        )
        self.assertEqual(
            problems,
            [
                "x.yaml:9:20: http.routes[0].match[0].options.name: this key is missing",
                "x.yaml:9:21: http.routes[0].match[0].options.nam: unknown key; allowed here: name; did you mean 'name'?",
                "x.yaml:13:19: http.routes[0].filters[0].options.name: found 5; needed: text (put it in quotes)",
                "x.yaml:14:19: http.routes[0].filters[0].options.wait: found 3; a duration needs a unit: 3s, 3ms or 3m",
                "x.yaml:15:49: http.routes[0].filters[1].options: filter 'test.unit.acme:noop' (test.unit.acme.noop) "
                "takes no options",
                "x.yaml:16:11: http.routes[0].filters[2].options.name: this key is missing",
            ],
        )

    def test_options_of_a_balancer(self) -> None:
        problems = self.refused(
            """
            load_balancer: {algorithm: 'test.unit.acme:First', options: {plac: 1}}
            http:
              routes:
                - {name: r, backends: [a], load_balancer: {algorithm: round-robin, options: {x: 1}}}
            """
        )
        self.assertIn("x.yaml:3:62: load_balancer.options.plac: unknown key; allowed here: place", problems[0])
        self.assertIn("load_balancer.options: balancing algorithm 'round-robin'", problems[1])
        self.assertIn("takes no options", problems[1])

    def test_the_shape_of_an_entry(self) -> None:
        self.assertIn("unknown key; allowed here: use, options", self.filter("{use: request-id, place: here}"))
        self.assertIn("needed: a mapping", self.filter("5"))
        self.assertIn("filters[0].use: this key is missing", self.filter("{options: {}}"))
        self.assertIn("options: found 'x'; needed: a mapping", self.filter("{use: request-id, options: x}"))

    def test_listeners(self) -> None:
        problems = self.refused(
            """
            listeners:
              - name: one
                listen: ':1'
                http: {filters: [nothing]}
            """
        )
        self.assertIn("x.yaml:6:22: listeners[0].http.filters[0].use: no filter 'nothing'", problems[0])

    def test_a_mistake_takes_nobody_else_down(self) -> None:
        """A module that cannot be imported matters only to who asks for it."""
        name = self.module("1 / 0")
        self.assertRaises(PluginError, of_path, KINDS["filter"], f"{name}:x")
        self.assertEqual(read("http: {filters: [request-id]}").http.filters[0].use, "request-id")

    def test_made_in_python(self) -> None:
        data: dict[str, Any] = {
            "backends": [{"name": "a", "address": "h:1"}],
            "http": {"filters": [{"use": "acme.auth:x"}]},
        }
        with self.assertRaises(ConfigError) as caught:
            made(data, plugins=INSTALLED)
        self.assertIn("http.filters[0].use: filter 'acme.auth:x': there is no module 'acme'", str(caught.exception))

    def test_one_that_cannot_be_built(self) -> None:
        config = read("http: {filters: ['test.unit.acme:NeedsMore']}")
        with self.assertRaises(PluginError) as caught:
            assemble_all(config, deadlines=None, dialer=None, clock=None)
        self.assertIn("x.yaml:2:18: filter 'test.unit.acme:NeedsMore'", str(caught.exception))
        self.assertIn("could not be built: TypeError", str(caught.exception))


class Working(Case):
    """What is found does its work."""

    def test_matchers(self) -> None:
        app = Application(
            BACKENDS
            + dedent(
                """
                http:
                  routes:
                    - {name: rest, backends: [b]}
                    - name: tenant
                      backends: [a]
                      match: [{use: 'test.unit.acme:ByHeader', options: {name: X-Tenant}}, 'test.unit.acme:from_inside']
                """
            )
        )
        route = app.proxy().routes.ordered[0]
        self.assertEqual(route.name, "tenant")
        self.assertEqual(app.get("http://x/", headers={"X-Tenant": "1"}, client="10.1.2.3").route, "tenant")
        self.assertEqual(app.get("http://x/", headers={"X-Tenant": "1"}).route, "rest")
        lies = {"X-Tenant": "1", "X-Real-IP": "10.1.2.3"}
        self.assertEqual(app.get("http://x/", headers=lies).route, "rest")
        call = app.get("http://x/", client="10.1.2.3")
        self.assertEqual(call.route, "rest")
        assert call.exchange is not None
        self.assertEqual(route.explain(call.exchange.request), "matcher test.unit.acme:ByHeader says no")

    def test_a_matcher_that_fails(self) -> None:
        app = Application(BACKENDS + "http: {routes: [{name: r, backends: [a], match: ['test.unit.acme:no_match']}]}")
        call = app.get("http://x/")
        self.assertEqual((call.status, call.reason), (500, "matcher_error"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(app.proxy().counters.active, 0)

    def test_balancers(self) -> None:
        app = Application(BACKENDS + "load_balancer: {algorithm: 'test.unit.acme:First', options: {place: 1}}")
        self.assertEqual(acme.seen, [["a", "b"]])
        self.assertEqual([app.get("http://x/").backend for _ in range(3)], ["b"] * 3)
        app = Application(BACKENDS + "load_balancer: {algorithm: 'test.unit.acme:ByKey', hash_key: 'header:X-Key'}")
        app.get("http://x/", headers={"X-Key": "k"})
        self.assertIn(b"k", acme.seen[-1])

    def test_a_balancer_that_fails(self) -> None:
        """Requests are served all the same, and the log says why, once in a while."""
        app = Application(BACKENDS + "load_balancer: {algorithm: 'test.unit.acme:First', options: {place: 7}}")
        self.assertEqual([app.get("http://x/").status for _ in range(5)], [200] * 5)
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    def test_a_balancer_that_picks_what_was_not_offered(self) -> None:
        name = self.module(
            """
            class Other:
                def set_members(self, members): self.members = members
                def pick(self, candidates, key): return self.members[0]
            """
        )
        app = Application(BACKENDS + f"load_balancer: {{algorithm: '{name}:Other'}}")
        app.member("a").set_enabled(False)
        self.assertEqual(app.get("http://x/").backend, "b")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_factory_by_its_path(self) -> None:
        name = self.module(
            """
            from zope.interface import implementer
            from balance.balancing.round_robin import RoundRobin
            from balance.interfaces import IBalancerFactory

            @implementer(IBalancerFactory)
            class Factory:
                names = ("x",)
                needs_key = False
                def build(self, options):
                    assert set(options) == {"load_factor", "options"}, options
                    return RoundRobin()

            ready = Factory()
            """
        )
        for path in (f"{name}:Factory", f"{name}:ready"):
            build_balancer(path, {"load_factor": 2})

    def test_the_names_of_built_in_filters(self) -> None:
        self.assertEqual(plugin_names("filter"), ["answer", "redirect-https", "request-id"])
        self.assertEqual(str(find("filter", "answer")), "filter 'answer' (balance.plugins.made.Made)")


class BuiltIn(Case):
    def application(self, filters: str, more: str = "") -> Application:
        return Application(BACKENDS + f"http: {{filters: [{filters}]}}\n" + more)

    def test_request_id(self) -> None:
        app = self.application("request-id")
        call = app.get("http://x/", headers={"X-Request-ID": "mine"})
        found = call.upstream.headers.all("X-Request-Id")
        self.assertRegex(found[0], "^[0-9a-f]{32}$")
        self.assertEqual((len(found), call.headers["X-Request-Id"]), (1, found[0]))
        app.backends["a"].down()
        app.backends["b"].down()
        call = app.get("http://x/")
        self.assertEqual((call.status, len(call.headers["X-Request-Id"])), (502, 32))
        app = self.application("{use: request-id, options: {keep: true, header: X-Trace, response: false}}")
        call = app.get("http://x/", headers={"X-Trace": "mine"})
        self.assertEqual((call.upstream.headers["X-Trace"], "X-Trace" in call.headers), ("mine", False))
        call = app.get("http://x/", headers={"X-Trace": "m" * 200})
        self.assertEqual(len(call.upstream.headers["X-Trace"]), 32)

    def test_redirect_https(self) -> None:
        app = self.application("redirect-https", "trusted_proxies: [10.0.0.1]")
        call = app.get("http://x.example:80/a?b")
        self.assertEqual((call.status, call.headers["Location"]), (308, "https://x.example/a?b"))
        self.assertEqual(app.get("http://x/.well-known/acme-challenge/t").status, 200)
        self.assertEqual(app.get("http://x/.well-known/acme-challenge/../../a").status, 308)
        secure = {"X-Forwarded-Proto": "https"}
        self.assertEqual(app.get("http://x/", headers=secure).status, 308)
        self.assertEqual(app.get("http://x/", headers=secure, client="10.0.0.1").status, 200)
        app = self.application("{use: redirect-https, options: {port: 8443, status: 301}}")
        call = app.get("http://[::1]:80/")
        self.assertEqual((call.status, call.headers["Location"]), (301, "https://[::1]:8443/"))

    def test_answer(self) -> None:
        app = self.application("{use: answer, options: {body: 'back soon', headers: {Retry-After: '60'}}}")
        call = app.get("http://x/")
        self.assertEqual((call.status, call.text, call.headers["Retry-After"]), (503, "back soon", "60"))
        (problem,) = self.refused("http: {filters: [{use: answer, options: {headers: {Host: x}}}]}")
        self.assertIn("Host", problem)
