"""Odd YAML, and blocks that are not built: each ends in a message with a place, never in anything else."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.config import Config, ConfigError, loads
from balance.config.checks import check, prepare
from balance.config.document import Document, key_of

BACKENDS = "backends: [{name: a, address: 'h:1'}]\n"


def problems(text: str) -> list[str]:
    try:
        loads(BACKENDS + text, "x.yaml")
    except ConfigError as error:
        return str(error).splitlines()
    return []


class OddYaml(SynchronousTestCase):
    def test_scalars(self) -> None:
        for value, message in [
            ('!!binary "x"', "the tag !!binary has no meaning here"),
            ('!!binary "eHg="', "the tag !!binary has no meaning here"),
            ("!foo x", "the tag !foo has no meaning here"),
            ("!!python/name:os.x x", "the tag !!python/name:os.x has no meaning here"),
            ("!!map x", "the tag !!map has no meaning here"),
            ("!!set x", "the tag !!set has no meaning here"),
            ("!!timestamp x", "found 'x', which YAML takes for a date; put it in quotes"),
            ("2024-99-99", "found '2024-99-99', which YAML takes for a date; put it in quotes"),
            ("2024-01-01", "found '2024-01-01', which YAML takes for a date; put it in quotes"),
            ("=", "found '=', which means something else to YAML; put it in quotes"),
            ("!!int abc", "found 'abc'; that is not a whole number, as its tag !!int says"),
            ("!!int ''", "found ''; that is not a whole number, as its tag !!int says"),
            ("!!float abc", "found 'abc'; that is not a number, as its tag !!float says"),
            ("!!bool abc", "found 'abc'; that is not true or false, as its tag !!bool says"),
            ("!!null abc", "found 'abc'; that is not nothing, as its tag !!null says"),
            ("0x_", "found '0x_'; that is not a whole number; put it in quotes"),
            ("190:20:30", "found '190:20:30', which YAML takes for a number to base 60; put it in quotes"),
            (".inf", "found '.inf'; a finite number is needed"),
            (".nan", "found '.nan'; a finite number is needed"),
            ('"\\ud800"', r"found '\ud800'; that has half a character (a surrogate) in it"),
        ]:
            self.assertEqual(problems(f"mode: {value}"), [f"x.yaml:2:7: mode: {message}"])

    def test_collections(self) -> None:
        for value, tag in [
            ("!!set {a, b}", "!!set"),
            ("!!set [a]", "!!set"),
            ("!!omap [a: b]", "!!omap"),
            ("!!pairs {a: b}", "!!pairs"),
            ("!!map [a]", "!!map"),
            ("!!seq {a: b}", "!!seq"),
            ("!!str [a]", "!!str"),
            ("!!python/object:os.x {}", "!!python/object:os.x"),
        ]:
            self.assertEqual(problems(f"mode: {value}"), [f"x.yaml:2:7: mode: the tag {tag} has no meaning here"])

    def test_long_numbers(self) -> None:
        for value in ("0x" + "f" * 9000, "9" * 9000, "0b" + "1" * 9000, "0." + "1" * 9000):
            (problem,) = problems(f"limits: {{header_fields: {value}}}")
            self.assertIn("x.yaml:2:25: limits.header_fields: found '", problem)
            self.assertIn("this number is too long", problem)
        self.assertIn("base 60", problems("mode: 1:" + "59:" * 3000 + "1")[0])

    def test_keys(self) -> None:
        for text, message in [
            ("? [a, b]\n: c", "x.yaml:2:3: found a list as a key; keys are text"),
            ("? {a: b}\n: c", "x.yaml:2:3: found a mapping as a key; keys are text"),
            ("null: c", "x.yaml:2:1: found nothing as a key; keys are text"),
            ("1.5: c", "x.yaml:2:1: found 1.5 as a key; keys are text"),
            ("2024-01-01: c", "x.yaml:2:1: found '2024-01-01', which YAML takes for a date; put it in quotes"),
            ("? !!binary eHg=\n: c", "x.yaml:2:3: the tag !!binary has no meaning here"),
            ("http:\n  !foo x: c", "x.yaml:3:3: http: the tag !foo has no meaning here"),
            ('"\\ud800": x', r"x.yaml:2:1: found '\ud800'; that has half a character (a surrogate) in it"),
        ]:
            self.assertEqual(problems(text), [message])
        for key, shown in [('"a\\nb"', r"'a\nb'"), ("a.b", "'a.b'"), ('"a[0]"', "'a[0]'"), ('""', "''"), ("=", "=")]:
            (problem,) = problems(f"{key}: x")
            self.assertTrue(problem.startswith(f"x.yaml:2:1: {shown}: unknown key; "), problem)

    def test_key_of(self) -> None:
        self.assertEqual(key_of(("http", "routes", 0, "X-A_b")), "http.routes[0].X-A_b")
        self.assertEqual(key_of(("a", "b.c", "\x1b[m", "")), r"a.'b.c'.'\x1b[m'.''")
        self.assertLess(len(key_of(("a" * 10000,))), 100)

    def test_merges(self) -> None:
        needed = "<<: a merge key (<<) needs a mapping, or a list of mappings"
        for text, message in [
            ("<<: x", f"x.yaml:2:5: {needed}"),
            ("<<: null", f"x.yaml:2:5: {needed}"),
            ("<<: [x]", f"x.yaml:2:6: {needed}"),
            ("http: {<<: [{}, 1]}", f"x.yaml:2:17: http.{needed}"),
            ("http: {<<: {}, <<: {}}", "x.yaml:2:16: http.<<: this key is given twice"),
            ("http: &x {<<: *x}", "x.yaml:2:7: this is not YAML: too many or too deep values (aliases?)"),
        ]:
            self.assertEqual(problems(text), [message])
        lines = ["a0: &a0 {x: 1, y: 2}"]
        lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]
        self.assertIn("too many", problems("\n".join(lines))[0])

    def test_merged_places(self) -> None:
        """What a key overrides leaves no place behind."""
        text = """\
http:
  routes:
    - &r {name: r, backends: [a]}
    - {<<: [*r], name: s,
       backends: [b]}
"""
        self.assertEqual(
            problems(text), ["x.yaml:6:19: http.routes[1].backends[0]: no backend is called 'b'; backends are a"]
        )

    def test_no_yaml(self) -> None:
        for text, message in [
            ('a: "\\UFFFFFFFF"', "this is no character"),
            ('a: "\\U00110000"', "this is no character"),
            ("a: " + "[" * 5000, "it is nested too deep"),
            ("a: \x00", "the character U+0000 is not allowed"),
        ]:
            (problem,) = problems(text)
            self.assertRegex(problem, r"^x\.yaml:2:\d+: this is not YAML: ")
            self.assertIn(message, problem)
        self.assertIn("x.yaml:2:4:", problems("a: \x00")[0])

    def test_all_at_once(self) -> None:
        self.assertEqual(len(problems("mode: !foo x\nlisten: 2024-01-01\n1: 2")), 3)


class NotBuilt(SynchronousTestCase):
    def test_off(self) -> None:
        for text in [
            "tls: {}",
            "tls: {enabled: false, cert_file: a, key_file: b, min_version: 1.2, alpn_protocols: [h2]}",
            "tls: {enabled: false, certificates: [{cert_file: a, key_file: b, domains: [c], default: true}]}",
            "security: {}",
            "security: {rate_limit: {type: token-bucket, requests_per_second: 1.5, window_size: 1s}}",
            "security: {ip_blocklist: {blocked_ips: null, blocked_cidrs: []}}",
            "health_check: {enabled: false, interval: 10s, timeout: 500ms, healthy_threshold: 2, path: /}",
        ]:
            self.assertEqual(problems(text), [], text)

    def test_asked(self) -> None:
        for text, message in [
            (
                "security: {rate_limit: {enabled: true}}",
                "x.yaml:2:12: security.rate_limit: rate limiting is not built yet",
            ),
            (
                "security: {ip_blocklist: {blocked_cidrs: [10.0.0.0/8]}}",
                "x.yaml:2:12: security.ip_blocklist: the IP blocklist is not built yet",
            ),
            (
                "health_check: {enabled: true}",
                "x.yaml:2:25: health_check.enabled: an active health check is not built yet",
            ),
        ]:
            self.assertEqual(problems(text), [message])
        for key in ("retries", "timeouts"):
            (problem,) = problems(f"http: {{routes: [{{name: r, backends: [a], {key}: {{}}}}]}}")
            self.assertEqual(problem, f"x.yaml:2:42: http.routes[0].{key}: this key is not built yet")

    def test_protocols(self) -> None:
        for text, message in [
            ("protocol: x", "found 'x'; allowed: auto, http/1.1, h2, h2c"),
            ("protocol: h2", "found 'h2', which is HTTP/2 over TLS; add tls: true, or take h2c for clear text"),
            ("protocol: h2c, tls: true", "found 'h2c', which is HTTP/2 in clear text; take h2 with tls"),
        ]:
            with self.assertRaises(ConfigError) as caught:
                loads(f"backends: [{{name: a, address: 'h:1', {text}}}]")
            self.assertIn(f"<text>:1:48: backends[0].protocol: {message}", str(caught.exception))
        with self.assertRaises(ConfigError) as caught:
            loads("mode: tcp\nbackends: [{name: a, address: 'h:1', protocol: h2c}]")
        self.assertIn("backends[0].protocol: this key has no meaning in mode tcp", str(caught.exception))
        route = "http: {routes: [{name: r, backends: [a], tls: true}]}"
        loads(f"backends: [{{name: a, address: 'h:1', protocol: h2}}]\n{route}")

    def test_slips(self) -> None:
        truth = "needed: true or false"
        for text, message in [
            ("tls: true", "x.yaml:2:6: tls: found true; needed: a mapping"),
            ("tls:", "tls: found nothing; needed: a mapping"),
            ("tls: {enabled: 'true'}", f"x.yaml:2:16: tls.enabled: found 'true'; {truth}"),
            ("tls: {enabled: 1}", f"x.yaml:2:16: tls.enabled: found 1; {truth}"),
            ("tls: {enabled: }", f"tls.enabled: found nothing; {truth}"),
            ("tls: {enable: true}", "x.yaml:2:7: tls.enable: unknown key; allowed here: enabled, cert_file"),
            ("tls: {enable: true}", "did you mean 'enabled'?"),
            ("tls: {cert_file: 1}", "tls.cert_file: found 1; needed: text (put it in quotes)"),
            ("tls: {certificates: {}}", "tls.certificates: found a mapping; needed: a list"),
            ("tls: {certificates: [x]}", "x.yaml:2:22: tls.certificates[0]: found 'x'; needed: a mapping"),
            ("tls: {certificates: [{domain: x}]}", "tls.certificates[0].domain: unknown key; allowed here: cert_file"),
            ("tls: {certificates: [{domains: [1]}]}", "tls.certificates[0].domains[0]: found 1; a host name"),
            ("security: []", "x.yaml:2:11: security: found a list; needed: a mapping"),
            ("security: {ratelimit: {}}", "unknown key; allowed here: rate_limit, ip_blocklist; did you mean"),
            ("security: {rate_limit: on}", "security.rate_limit: found true; needed: a mapping"),
            ("security: {rate_limit: {enabled: yes please}}", f"found 'yes please'; {truth}"),
            ("security: {rate_limit: {burst_size: true}}", "found true; needed: a number"),
            ("security: {ip_blocklist: {blocked_ips: 10.0.0.1}}", "found '10.0.0.1'; needed: a list"),
            ("security: {ip_blocklist: {blocked_ips: ''}}", "found ''; needed: a list"),
            ("security: {ip_blocklist: {blocked_ips: false}}", "found false; needed: a list"),
            ("security: {ip_blocklist: {blocked: []}}", "unknown key; allowed here: blocked_ips, blocked_cidrs"),
            ("health_check: {enabled: 'on'}", f"x.yaml:2:25: health_check.enabled: found 'on'; {truth}"),
            ("health_check: {interval: 10}", "health_check.interval: found 10; needed: text, a duration such as 10s"),
            ("health_check: {timeout: abc}", "health_check.timeout: found 'abc'; a duration is needed, such as 30s"),
            ("health_check: {healthy_threshold: 1.5}", "found 1.5; needed: a whole number"),
        ]:
            told = "\n".join(problems(text))
            self.assertIn(message, told, text)

    def test_built(self) -> None:
        self.assertEqual(
            loads(BACKENDS + "mode: tcp\nroutes: [{name: r, sni: x.y, alpn: [h2], backends: [a]}]").mode, "tcp"
        )
        loads("mode: tcp\nbackends: [{name: a, address: 'h:1', send_proxy: v2}]")

    def test_odd_names(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            loads('backends: [{name: "a\\nb", address: "h:1"}]\nhttp: {routes: [{name: r, backends: [c]}]}')
        self.assertIn(r"no backend is called 'c'; backends are 'a\nb'", str(caught.exception))


class Prefixes(SynchronousTestCase):
    def test_paths(self) -> None:
        text = """\
inner:
  - nodes: [{name: a, address: h, weight: 1}]
    security: {rate_limit: {enabled: true}}
    http:
      enable_websocket: true
      routes: [{name: r, backends: [b]}]
"""
        document = Document(text, "x")
        data = document.data["inner"][0]
        path = ("inner", 0)
        found = [*prepare(document, data, path), *check(document, data, path)]
        self.assertEqual(
            [problem.text("x") for problem in sorted(found)],
            [
                "x:3:16: inner[0].security.rate_limit: rate limiting is not built yet",
                "x:6:37: inner[0].http.routes[0].backends[0]: no backend is called 'b'; backends are a",
            ],
        )
        self.assertEqual(set(data), {"backends", "http"})
        self.assertEqual(document.problem((*path, "backends", 0, "address"), "").column, 32)


KEYS = ["mode", "listen", "http", "routes", "tls", "security", "health_check", "nodes", "listeners", "<<", "a.b", "1"]
KEYS += [
    "enabled",
    "rate_limit",
    "ip_blocklist",
    "blocked_ips",
    "backends",
    "name",
    "metrics",
    "demo_backends",
    "=",
    '""',
]
TAGS = [
    "",
    "!!binary ",
    "!!timestamp ",
    "!foo ",
    "!!int ",
    "!!float ",
    "!!null ",
    "!!set ",
    "!!omap ",
    "!!pairs ",
    "!!map ",
]
TAGS += ["!!python/object:os.x ", "!!str ", "!!seq ", "!!merge ", "!!bool ", "&x ", "! "]
VALUES = [
    "x",
    "2024-99-99",
    "2024-01-01",
    "1:99",
    "59:59",
    "0x" + "f" * 5000,
    "0x_",
    ".nan",
    ".inf",
    "1e5",
    "true",
    "''",
]
VALUES += [
    "~",
    "=",
    "<<",
    "*x",
    '"\\n"',
    '"\\ud800"',
    '"\\UFFFFFFFF"',
    "9001",
    "10s",
    "é",
    "\x07",
    "\u2028",
    ":80",
    "tcp",
]
SCALARS = st.builds(str.__add__, st.sampled_from(TAGS), st.sampled_from(VALUES))
KEY = st.sampled_from(KEYS) | SCALARS
TREES = st.recursive(
    SCALARS,
    lambda inner: st.builds(
        str.__add__,
        st.sampled_from(TAGS),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(KEY, inner), max_size=4).map(
            lambda pairs: f"{{{', '.join(f'? {k} : {v}' for k, v in pairs)}}}"
        ),
    ),
    max_leaves=12,
)
TEXTS = st.lists(st.tuples(KEY, TREES), max_size=5).map(lambda pairs: "\n".join(f"? {k}\n: {v}" for k, v in pairs))
SOUP = st.lists(st.sampled_from([*KEYS, *TAGS, *VALUES, *":?-,[]{}\n|>&*%#", ": ", "- ", "? ", "\n  "]), max_size=20)


class Anything(SynchronousTestCase):
    def loaded(self, text: str) -> None:
        try:
            config = loads(text, "x.yaml")
        except ConfigError as error:
            for problem in error.problems:
                line = problem.text("x.yaml")
                self.assertEqual(line.splitlines(), [line])
                self.assertTrue(line.isprintable(), line)
                line.encode()
        else:
            self.assertIsInstance(config, Config)

    @given(TEXTS, st.booleans())
    @settings(max_examples=500, deadline=None)
    @example("a: &a {<<: *a}", True)
    def test_trees(self, text: str, start: bool) -> None:
        self.loaded((BACKENDS if start else "") + text)

    @given(SOUP.map("".join), st.booleans())
    @settings(max_examples=500, deadline=None)
    def test_soup(self, text: str, start: bool) -> None:
        self.loaded((BACKENDS if start else "") + text)
