"""The configuration: what loads, what does not, and what is said about it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from balance import errors
from balance.assembly import ordered_routes
from balance.config import Config, ConfigError, load, loads, summarise
from balance.config.reference import reference
from balance.model import Address

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = "backends: [{name: a, address: 'h:1'}]\n"

#: The examples of the original's document, to the letter.
ORIGINAL = [
    """
http:
  routes:
    - name: api-route
      host: api.example.com
      backends: [backend1, backend2]
      priority: 10
""",
    """
http:
  routes:
    - name: admin-route
      path_prefix: /admin/
      backends: [admin-backend]
      priority: 10
""",
    """
http:
  routes:
    - name: premium-route
      headers:
        X-API-Key: premium-key
      backends: [premium-backend]
      priority: 10
""",
    """
http:
  routes:
    - name: specific-route
      host: api.example.com
      path_prefix: /v1/
      headers:
        X-API-Version: "v1"
      backends: [v1-backend]
      priority: 20
""",
    """
http:
  routes:
    - name: subdomain-route
      host: "*.example.com"
      backends: [subdomain-backend]
""",
    """
http:
  enable_http2: true
""",
    """
http:
  enable_websocket: true
""",
    """
mode: http
listen: ":8080"

backends:
  - name: api-backend-1
    address: "localhost:9001"
    weight: 1

  - name: api-backend-2
    address: "localhost:9002"
    weight: 1

  - name: web-backend
    address: "localhost:9003"
    weight: 1

  - name: admin-backend
    address: "localhost:9004"
    weight: 1

load_balancer:
  algorithm: round-robin

http:
  # Enable HTTP/2 support
  enable_http2: true

  # Enable WebSocket support
  enable_websocket: true

  # Connection pool settings
  max_idle_conns_per_host: 100
  idle_conn_timeout: 90s

  # Routing rules
  routes:
    # API traffic
    - name: api-v1
      host: api.example.com
      path_prefix: /v1/
      backends: [api-backend-1, api-backend-2]
      priority: 20

    # Admin traffic
    - name: admin
      path_prefix: /admin/
      headers:
        X-Admin-Token: secret
      backends: [admin-backend]
      priority: 15

    # General web traffic
    - name: web
      host: www.example.com
      backends: [web-backend]
      priority: 10

timeouts:
  connect: 5s
  read: 30s
  write: 30s
  idle: 60s
""",
    """
mode: http
listen: ":8080"

backends:
  - name: backend1
    address: "localhost:9001"
  - name: backend2
    address: "localhost:9002"

load_balancer:
  algorithm: round-robin
""",
    """
mode: http
listen: ":8080"

backends:
  - name: api
    address: "localhost:9001"
  - name: web
    address: "localhost:9002"

http:
  routes:
    - name: api-route
      host: api.localhost
      backends: [api]

    - name: web-route
      host: www.localhost
      backends: [web]
""",
    """
mode: http
listen: ":8080"

backends:
  - name: ws-backend
    address: "localhost:9001"

http:
  enable_websocket: true
""",
]


def problems(text: str) -> list[str]:
    try:
        loads(text, "x.yaml")
    except ConfigError as error:
        return str(error).splitlines()
    return []


def complete(text: str) -> str:
    """An excerpt with the backends that it names."""
    data = yaml.safe_load(text)
    if "backends" not in data:
        names = {name for route in data["http"].get("routes", []) for name in route["backends"]} or {"any"}
        data["backends"] = [{"name": name, "address": "localhost:9001"} for name in sorted(names)]
    return yaml.safe_dump(data)


class WhatLoads(SynchronousTestCase):
    def test_original_examples(self) -> None:
        for text in ORIGINAL:
            config = loads(text if "backends:\n  -" in text else complete(text))
            self.assertIsInstance(config, Config)
        config = loads(ORIGINAL[7])
        self.assertEqual([r.name for r in ordered_routes(config)], ["api-v1", "admin", "web"])
        self.assertEqual((config.timeouts.idle, config.http.idle_conn_timeout), (60.0, 90.0))
        self.assertEqual(config.notices, ())

    def test_shipped_files(self) -> None:
        folder = Path(self.mktemp()).resolve()
        shutil.copytree(ROOT / "etc", folder)
        files = [folder / "balance.yaml", *sorted((folder / "examples").glob("*.yaml"))]
        if shutil.which("openssl") is None:
            files = [file for file in files if file.name != "tls.yaml"]  # .ci/run installs it
        else:
            subprocess.run(["sh", str(folder / "examples" / "make-certificates.sh")], check=True, capture_output=True)
        self.assertGreater(len(files), 7)
        for file in files:
            config = load(str(file))
            self.assertIn("good", summarise(config, [ordered_routes(each) for each in config.each_listener]))

    def test_defaults(self) -> None:
        config = loads(BACKENDS)
        self.assertEqual(config.listen, Address("", 8080))
        self.assertEqual(config.timeouts.read, 30.0)
        self.assertEqual(config.limits.head_size, 32768)
        self.assertEqual(config.notices, ())

    def test_immutable(self) -> None:
        config = loads(BACKENDS + "http: {routes: [{name: r, backends: [a], headers: {X: '1'}}]}")
        with self.assertRaises(ValidationError):
            config.mode = "http"
        with self.assertRaises(TypeError):
            config.http.routes[0].headers["Y"] = "2"  # type: ignore[index]

    def test_demo_backends(self) -> None:
        config = loads("demo_backends: [9001, 9002]")
        self.assertEqual([b.name for b in config.backends], ["demo-9001", "demo-9002"])
        config = loads(BACKENDS + "demo_backends: [9001]\nhttp: {routes: [{name: r, backends: [a]}]}")
        self.assertEqual([b.name for b in config.backends], ["a", "demo-9001"])

    def test_nodes(self) -> None:
        self.assertEqual(loads("nodes: [{name: a, address: 'h:1'}]").backends[0].name, "a")
        self.assertIn("older name", problems(BACKENDS + "nodes: []")[0])
        self.assertEqual(
            problems("nodes: [{name: a, address: 'h:0'}]"),
            ["x.yaml:1:28: backends[0].address: found 'h:0'; the port must be a number from 1 to 65535"],
        )

    def test_switched_off(self) -> None:
        config = loads(
            BACKENDS + "tls: {enabled: false, cert_file: x}\nsecurity: {rate_limit: {enabled: false}, ip_blocklist: "
            "{blocked_ips: []}}\nhealth_check: {enabled: false, interval: 10s, type: http, path: /health}\n"
        )
        self.assertTrue(config.health_check.enable_passive_checks)

    def test_anchors_and_merges(self) -> None:
        config = loads("backends:\n  - &b {name: a, address: 'h:1', weight: 2}\n  - {<<: *b, name: c}\n")
        self.assertEqual([(b.name, b.weight) for b in config.backends], [("a", 2), ("c", 2)])

    def test_plugins_algorithms(self) -> None:
        text = BACKENDS + "load_balancer: {algorithm: mine}"
        self.assertTrue(problems(text))
        self.assertEqual(loads(text, algorithms=["mine"]).load_balancer.algorithm, "mine")


class WhatIsWrong(SynchronousTestCase):
    maxDiff = None

    def test_all_mistakes_in_one_go(self) -> None:
        text = """\
mode: ftp
listen: "8080"
bakends: []
backends:
  - {name: a, address: "h:99999", weight: -1}
  - {name: a, address: ":80"}
load_balancer: {algorithm: round-robbin, hash_key: ip}
timeouts: {read: 30, connect: abc}
tls: {enabled: true}
http:
  routes:
    - {name: r, host: "a:80", path_prefix: v1, headers: {Z: 2}, backends: [b, a]}
    - {name: r, backends: []}
    - 5
trusted_proxies: [10.0.0.1/8]
health_check: {enabled: true, consecutive_failure: 3}
security: {rate_limit: {enabled: true}}
"""
        algorithms = (
            "round-robin, weighted-round-robin, least-connections, weighted-least-connections, "
            "least-connections-weighted, consistent-hash, bounded-consistent-hash, session-affinity, random"
        )
        keys = (
            "mode, listen, max_connections, backends, discovery, load_balancer, http, routes, timeouts, limits, retries, health_check, "
            "trusted_proxies, tls, accept_proxy, listeners, demo_backends, access_log, metrics, statistics, watchdog"
        )
        health = (
            "enable_passive_checks, rule, consecutive_failures, error_rate_threshold, passive_check_window, ejection_time, "
            "max_ejection_time, max_ejected"
        )
        self.assertEqual(
            problems(text),
            [
                "x.yaml:1:7: mode: found 'ftp'; allowed: http, tcp; did you mean 'tcp'?",
                "x.yaml:2:9: listen: found '8080'; an address is needed: host:port, [::1]:port or unix:/path",
                f"x.yaml:3:1: bakends: unknown key; allowed here: {keys}; did you mean 'backends'?",
                "x.yaml:5:24: backends[0].address: found 'h:99999'; the port must be a number from 1 to 65535",
                "x.yaml:5:43: backends[0].weight: found -1; it must be at least 0",
                "x.yaml:6:12: backends[1].name: found 'a'; the name is taken already, by backends[0]",
                "x.yaml:6:24: backends[1].address: found ':80'; a host is needed before the port: "
                "host:port, [::1]:port or unix:/path",
                f"x.yaml:7:28: load_balancer.algorithm: found 'round-robbin'; allowed: {algorithms}; "
                "did you mean 'round-robin'?",
                "x.yaml:7:52: load_balancer.hash_key: found 'ip'; allowed: source-ip, path, header:NAME, cookie:NAME",
                "x.yaml:8:18: timeouts.read: found 30; a duration needs a unit: 30s, 30ms or 30m",
                "x.yaml:8:31: timeouts.connect: found 'abc'; a duration is needed, such as 30s, 500ms or 1m30s",
                "x.yaml:9:1: tls: there is no certificate; give cert_file and key_file",
                "x.yaml:12:23: http.routes[0].host: found 'a:80'; leave the port out: routes look at the name only",
                "x.yaml:12:44: http.routes[0].path_prefix: found 'v1'; a path starts with a slash: /v1/",
                "x.yaml:12:61: http.routes[0].headers.Z: found 2; text is needed: put it in quotes",
                "x.yaml:12:76: http.routes[0].backends[0]: no backend is called 'b'; backends are a",
                "x.yaml:13:14: http.routes[1].name: found 'r'; the name is taken already, by routes[0]",
                "x.yaml:13:27: http.routes[1].backends: found a list; it must not be empty",
                "x.yaml:14:7: http.routes[2]: found 5; needed: a mapping",
                "x.yaml:15:19: trusted_proxies[0]: found '10.0.0.1/8'; the network of that address is 10.0.0.0/8",
                "x.yaml:16:25: health_check.enabled: an active health check is not built yet",
                f"x.yaml:16:31: health_check.consecutive_failure: unknown key; allowed here: {health}; "
                "did you mean 'consecutive_failures'?",
                "x.yaml:17:12: security.rate_limit: rate limiting is not built yet",
            ],
        )

    def test_one_by_one(self) -> None:
        for text, message in [
            ("", "the file is empty"),
            ("[]", "x.yaml:1:1: found a list; a mapping of keys is needed"),
            ("a: [", "x.yaml:1:5: this is not YAML"),
            ("a: b: c", "x.yaml:1:5: this is not YAML"),
            ("a: \x00", "this is not YAML"),
            ("mode: http", "there are no backends"),
            (BACKENDS + "mode: http\nmode: http", "x.yaml:3:1: mode: this key is given twice"),
            (BACKENDS + "1: 2", "found 1 as a key; keys are text"),
            (BACKENDS + "http: {enable_http2: 1}", "found 1; needed: true or false"),
            (BACKENDS + "http: {routes: [{name: r, backends: [a], websocket: {if_disabled: no}}]}", "refuse"),
            (BACKENDS + "http: {websocket: {origins: [app.example.com]}}", "an origin is needed, such as https://"),
            (BACKENDS + "http: {websocket: {origins: ['https://a.example/']}}", "without a path"),
            (BACKENDS + "http: {websocket: {origins: ['https://a.example:443']}}", "browsers leave the usual port out"),
            (BACKENDS + "http: {websocket: {close_timeout: 0s}}", "http.websocket.close_timeout"),
            (BACKENDS + "http: {websocket: {max_message_size: 0}}", "http.websocket.max_message_size"),
            (BACKENDS + "http: {websocket: {subprotocols: ['a b']}}", "found 'a b'"),
            (BACKENDS + "http: {routes: [{name: r, backends: [a], websocket: {drain_spread: 1s}}]}", "unknown key"),
            (BACKENDS + "http: {routes: [{name: r, backends: [a, a]}]}", "backend 'a' is given twice"),
            (BACKENDS + "http: {routes: [{backends: [a]}]}", "http.routes[0].name: this key is missing"),
            (BACKENDS + "http: {routes: [{name: r, backends: [a], headers: {'X Y': b}}]}", "found 'X Y'"),
            (BACKENDS + "http: {routes: [{name: r, backends: [a], request_headers: {set: {Host: b}}}]}", "host_header"),
            (BACKENDS + 'http: {routes: [{name: r, backends: [a], response_headers: {add: {A: "b\\nc"}}}]}', "control"),
            (BACKENDS + "http: {routes: [{name: r, backends: [a], host: 'a.*.b'}]}", "wildcard"),
            (BACKENDS + "http: {underscore_headers: dorp}", "did you mean 'drop'?"),
            (BACKENDS + "metrics: {path: /status}", "take another path"),
            (BACKENDS + "limits: {body_size: 10XB}", "a size is needed"),
            (BACKENDS + "load_balancer: {secret: short}", "at least 16 characters"),
            (BACKENDS + "load_balancer: {load_factor: 1.0}", "it must be more than 1"),
            (BACKENDS + "demo_backends: [0]", "it must be at least 1"),
            (BACKENDS + "timeouts: 5s", "found '5s'; needed: a mapping"),
            (BACKENDS + "access_log: {path: x, format: xml}", "allowed: combined, json"),
        ]:
            found = problems(text)
            self.assertTrue(found and message in "\n".join(found), (text, found))

    def test_files(self) -> None:
        path = self.mktemp()
        with self.assertRaises(ConfigError) as caught:
            load(path)
        self.assertEqual(str(caught.exception), f"{path}: cannot be read: No such file or directory")
        Path(path).write_bytes(b"\xff\xfe\xff")
        with self.assertRaises(ConfigError):
            load(path)

    def test_aliases_that_explode(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        self.assertIn("too many", problems("\n".join(lines))[0])
        self.assertIn("too many or too deep", problems("a: &a [*a]")[0])


class Values(SynchronousTestCase):
    def value(self, key: str, text: str) -> object:
        section, _, name = key.partition(".")
        return getattr(getattr(loads(f"{BACKENDS}{section}: {{{name}: {text}}}"), section), name)

    def test_durations(self) -> None:
        for text, seconds in [("500ms", 0.5), ("1m30s", 90.0), ("1h", 3600.0), ("1.5s", 1.5), ("0s", 0.0), ("0", 0.0)]:
            self.assertAlmostEqual(self.value("timeouts.read", text), seconds)  # type: ignore[arg-type]

    def test_sizes(self) -> None:
        for text, size in [("65536", 65536), ("64KiB", 65536), ("10MB", 10**7), ("1 GiB", 2**30)]:
            self.assertEqual(self.value("limits.body_size", text), size)

    def test_addresses(self) -> None:
        for text, address in [
            (":80", Address("", 80)),
            ("[::1]:80", Address("::1", 80)),
            ("LOCALHOST:80", Address("localhost", 80)),
            ("unix:/run/x", Address("", 0, "/run/x")),
        ]:
            self.assertEqual(loads(f"{BACKENDS}listen: '{text}'").listen, address)
        for text in ("80", "::1:80", "[x]:80", "a b:80", "unix:x", "1.2.3:80", "h:", "h:0x50", f"unix:/{'x' * 200}"):
            self.assertTrue(problems(f"{BACKENDS}listen: '{text}'"), text)

    def test_hosts(self) -> None:
        for text, host in [
            ("Bücher.example", "xn--bcher-kva.example"),
            ("*.Bücher.example", "*.xn--bcher-kva.example"),
            ("A.Example.", "a.example"),
        ]:
            config = loads(f"{BACKENDS}http: {{routes: [{{name: r, backends: [a], host: '{text}'}}]}}")
            self.assertEqual(config.http.routes[0].host, host)


class Documents(SynchronousTestCase):
    def test_reference_is_up_to_date(self) -> None:
        committed = (ROOT / "doc" / "configuration.md").read_text()
        self.assertEqual(committed, reference(), "run: python -m balance.config.reference > doc/configuration.md")

    def test_the_readmes_example_loads(self) -> None:
        text = (ROOT / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
        self.assertEqual([r.name for r in ordered_routes(loads(text))], ["api", "web"])

    def test_reference_tells_every_reason(self) -> None:
        for error in (errors.NoRoute, errors.BadRequest, errors.ConnectTimeout):
            row = f"| `{error.reason}` | {error.status} | {error.source.value} | {(error.__doc__ or '').split(chr(10))[0]}"
            self.assertEqual(reference().count(row), 1, row)

    def test_protocol_of_a_backend_is_shown(self) -> None:
        config = loads("backends: [{name: a, address: 'h:1', protocol: h2c}]")
        self.assertIn("a  h:1  weight 1  h2c", summarise(config, [[]]))

    def test_secrets_are_not_shown(self) -> None:
        config = loads(BACKENDS + "load_balancer: {secret: 'a very secret secret'}")
        self.assertNotIn("secret", summarise(config, [[]]))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 70000), st.floats(), st.text(max_size=8))
KEYS = st.one_of(
    st.sampled_from([*Config.model_fields, "tls", "security", "nodes", "name", "address", "routes", "enabled"]),
    st.text(max_size=5),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)


class Anything(SynchronousTestCase):
    """Whatever is in the file, the answer is a configuration or a report."""

    def test_names_that_are_no_names(self) -> None:
        """Found among random trees."""
        for place in ("backends", "discovery", "listeners"):
            self.assertTrue(problems(f"{place}: [{{name: []}}, {{name: {{}}}}]"), place)

    @settings(deadline=None, max_examples=300)
    @given(st.dictionaries(KEYS, TREES, max_size=8))
    def test_trees(self, tree: dict[str, object]) -> None:
        problems(yaml.safe_dump(tree))

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_mutated_text(self, data: st.DataObject) -> None:
        text = data.draw(st.sampled_from(ORIGINAL[7:]))
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 10))
        problems(
            text[:at] + data.draw(st.text(st.sampled_from("&*:{}[]-, \n'\"!?%@|>#x1"), max_size=4)) + text[at + cut :]
        )
