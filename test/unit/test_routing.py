"""Routing: which rule a request takes, in which order rules are tried, and what it costs."""

from __future__ import annotations

from collections.abc import Set
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.errors import BadRequest
from balance.model import Headers, RequestHead
from balance.routing.path import routing_path
from balance.routing.rule import Rule, fields_of, host_matches, host_of
from balance.routing.table import RuleTable


def request(
    host: str = "a.example", target: str = "/", method: str = "GET", headers: dict[str, str] | None = None
) -> RequestHead:
    fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return RequestHead(method.encode(), target.encode(), host.encode(), Headers.of(*fields))


def rule(name: str, **conditions: Any) -> Rule[str]:
    return Rule(name=name, target=name, **conditions)


def chosen(rules: list[Rule[str]], head: RequestHead) -> str | None:
    found = RuleTable(rules).match(head)
    return None if found is None else found.target


class Hosts(SynchronousTestCase):
    def test_forms_of_a_host(self) -> None:
        for authority, host in [
            (b"A.Example", b"a.example"),
            (b"a.example:8080", b"a.example"),
            (b"a.example.", b"a.example"),
            (b"a.example.:80", b"a.example"),
            (b"[::1]:80", b"[::1]"),
            (b"[2001:DB8::1]", b"[2001:db8::1]"),
            (b"", b""),
        ]:
            self.assertEqual(host_of(authority), host)

    def test_exact_wildcard_none(self) -> None:
        rules = [rule("any"), rule("wild", host="*.example"), rule("exact", host="a.example")]
        self.assertEqual(chosen(rules, request("a.example:80")), "exact")
        self.assertEqual(chosen(rules, request("b.example")), "wild")
        self.assertEqual(chosen(rules, request("x.y.example")), "wild")
        self.assertEqual(chosen(rules, request("example")), "any")
        self.assertEqual(chosen(rules, request("badexample")), "any")
        self.assertEqual(chosen(rules, request("")), "any")

    def test_longer_wildcard_wins(self) -> None:
        rules = [rule("short", host="*.example"), rule("long", host="*.a.example")]
        self.assertEqual(chosen(rules, request("x.a.example")), "long")

    def test_a_host_that_looks_like_a_pattern(self) -> None:
        self.assertIsNone(chosen([rule("wild", host="*.a.example")], request("*.b.example")))
        self.assertEqual(chosen([rule("wild", host="*.a.example")], request("*.a.example")), "wild")

    def test_no_match(self) -> None:
        self.assertIsNone(chosen([rule("a", host="a.example")], request("b.example")))
        self.assertIsNone(chosen([], request()))


class Paths(SynchronousTestCase):
    def test_prefix_is_whole_segments(self) -> None:
        for prefix in ("/v1", "/v1/"):
            table = [rule("v1", path_prefix=prefix)]
            for path in ("/v1", "/v1/", "/v1/x", "/v1?q", "/v1/?q"):
                self.assertEqual(chosen(table, request(target=path)), "v1", (prefix, path))
            for path in ("/v10", "/", "/v", "/x/v1", "/V1"):
                self.assertIsNone(chosen(table, request(target=path)), (prefix, path))

    def test_root_is_everything(self) -> None:
        self.assertEqual(chosen([rule("all", path_prefix="/")], request(target="/x")), "all")

    def test_other_spellings(self) -> None:
        table = [rule("admin", path_prefix="/admin/"), rule("rest")]
        for path in ("/x/../admin/a", "/%61dmin/a", "//admin/a", "/./admin/", "/x/%2e%2E/admin", "/admin/b/.."):
            self.assertEqual(chosen(table, request(target=path)), "admin", path)
        for path in ("/admin%2Fa", "/admin/../x", "/adminx"):
            self.assertEqual(chosen(table, request(target=path)), "rest", path)

    def test_refused(self) -> None:
        for path in (b"/..", b"/a/../..", b"/%2e%2e/x", b"/%zz", b"/a%"):
            with self.assertRaises(BadRequest):
                routing_path(path)

    def test_normal_forms(self) -> None:
        for path, normal in [
            (b"/a/./b", b"/a/b"),
            (b"/a/b/..", b"/a/"),
            (b"/a/..", b"/"),
            (b"/.", b"/"),
            (b"/a//b/", b"/a/b/"),
            (b"/%7Euser", b"/~user"),
            (b"/%c3%a4", b"/%C3%A4"),
            (b"/...", b"/..."),
            (b"*", b"*"),
        ]:
            self.assertEqual(routing_path(path), normal)

    @given(st.lists(st.sampled_from([b"a", b"..", b".", b"", b"%2e", b"%61", b"b%2F"]), max_size=6))
    def test_normalising_twice_changes_nothing(self, segments: list[bytes]) -> None:
        path = b"/" + b"/".join(segments)
        try:
            once = routing_path(path)
        except BadRequest:
            return
        self.assertEqual(routing_path(once), once)
        self.assertNotIn(b"..", once.split(b"/"))


class Conditions(SynchronousTestCase):
    def test_headers_are_exact(self) -> None:
        table = [rule("vip", headers={"X-API-Key": "secret"})]
        self.assertEqual(chosen(table, request(headers={"x-api-key": "secret"})), "vip")
        self.assertIsNone(chosen(table, request(headers={"X-API-Key": "Secret"})))
        self.assertIsNone(chosen(table, request()))

    def test_methods(self) -> None:
        table = [rule("write", methods=["POST", "PUT"])]
        self.assertEqual(chosen(table, request(method="PUT")), "write")
        self.assertIsNone(chosen(table, request(method="put")))

    def test_all_must_hold(self) -> None:
        table = [rule("all", host="a.example", path_prefix="/v1", headers={"X": "1"}, methods=["GET"])]
        self.assertEqual(chosen(table, request(target="/v1", headers={"X": "1"})), "all")
        for other in (
            request(target="/v1"),
            request(target="/v2", headers={"X": "1"}),
            request(target="/v1", headers={"X": "1"}, method="PUT"),
            request("b.example", target="/v1", headers={"X": "1"}),
        ):
            self.assertIsNone(chosen(table, other))
            self.assertTrue(table[0].explain(other))
        self.assertEqual(table[0].explain(request(target="/v1", headers={"X": "1"})), "")


class Order(SynchronousTestCase):
    def names(self, *rules: Rule[str]) -> list[str]:
        return [each.name for each in RuleTable(rules).ordered]

    def test_priority_first(self) -> None:
        self.assertEqual(self.names(rule("low", host="a", order=0), rule("high", priority=1, order=1)), ["high", "low"])

    def test_then_specificity(self) -> None:
        self.assertEqual(
            self.names(
                rule("none"),
                rule("header", headers={"a": "b"}),
                rule("short", path_prefix="/a"),
                rule("long", path_prefix="/a/b"),
                rule("wild", host="*.very.long.example"),
                rule("exact", host="a.b"),
                rule("exact+path", host="a.b", path_prefix="/x"),
            ),
            ["exact+path", "exact", "wild", "long", "short", "header", "none"],
        )

    def test_then_file_order(self) -> None:
        self.assertEqual(self.names(rule("b", host="b", order=1), rule("a", host="a", order=0)), ["a", "b"])


HOSTS = st.sampled_from(["", "a.example", "b.example", "*.example", "*.a.example", "x.a.example"])
RULES = st.builds(
    lambda host, prefix, headers, methods, priority: {
        "host": host,
        "path_prefix": prefix,
        "headers": headers,
        "methods": methods,
        "priority": priority,
    },
    HOSTS,
    st.sampled_from(["", "/", "/a", "/a/", "/a/b"]),
    st.sampled_from([{}, {"X": "1"}, {"X": "1", "Y": "2"}]),
    st.sampled_from([[], ["GET"], ["POST", "PUT"]]),
    st.integers(0, 2),
)


class Index(SynchronousTestCase):
    @given(
        st.lists(RULES, max_size=12),
        st.sampled_from(["a.example", "B.example:80", "x.a.example.", "example", "", "*.example"]),
        st.sampled_from(["/", "/a", "/a/b/c", "/ab", "/x/../a"]),
        st.sampled_from(["GET", "PUT"]),
        st.sampled_from([{}, {"x": "1"}, {"X": "1", "Y": "2"}]),
    )
    def test_same_answer_as_trying_all(
        self, rules: list[dict[str, Any]], host: str, target: str, method: str, headers: dict[str, str]
    ) -> None:
        table = RuleTable([Rule(name=str(n), target=str(n), order=n, **each) for n, each in enumerate(rules)])
        head = request(host, target, method, headers)
        path = routing_path(head.path)
        naive = next(
            (
                each
                for each in table.ordered
                if (not each.host or host_matches(each.host, host_of(head.host)))
                and each.matches(head, path, fields_of(head, [b"x", b"y"]))
            ),
            None,
        )
        self.assertIs(table.match(head), naive)
        if naive is not None:
            self.assertEqual(naive.explain(head), "")

    def test_a_thousand_hosts_are_not_a_thousand_comparisons(self) -> None:
        table = RuleTable([rule(f"r{n}", host=f"h{n}.example", path_prefix="/x", order=n) for n in range(1000)])
        calls = []
        matches = Rule.matches

        def counted(self: Rule[str], head: RequestHead, path: bytes, fields: Set[bytes]) -> bool:
            calls.append(self.name)
            return matches(self, head, path, fields)

        with patch.object(Rule, "matches", counted):
            found = table.match(request("h777.example", "/x"))
        self.assertEqual((found and found.name, calls), ("r777", ["r777"]))

    def test_invented_hosts_do_not_pile_up(self) -> None:
        table = RuleTable([rule("all")])
        for n in range(10_000):
            table.match(request(f"h{n}"))
        self.assertLessEqual(len(table._candidates), 4096)
