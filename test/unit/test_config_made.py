"""Configurations made in Python: the same keys, the same checks."""

from __future__ import annotations

import ipaddress

from pydantic import ValidationError
from twisted.trial.unittest import TestCase

from balance.config import (
    BackendConfig,
    Config,
    ConfigError,
    Http,
    LoadBalancer,
    NamedListener,
    RouteConfig,
    Timeouts,
    loads,
    made,
)
from balance.model import Address

TEXT = """
listen: ":8000"
backends: [{name: a, address: "h:1"}, {name: b, address: "h:2", weight: 2}]
http: {routes: [{name: r, host: a.example, backends: [a, b]}]}
timeouts: {read: 2s}
trusted_proxies: [10.0.0.0/8]
"""
MAPPING = {
    "listen": ":8000",
    "backends": [{"name": "a", "address": "h:1"}, {"name": "b", "address": "h:2", "weight": 2}],
    "http": {"routes": [{"name": "r", "host": "a.example", "backends": ["a", "b"]}]},
    "timeouts": {"read": "2s"},
    "trusted_proxies": ["10.0.0.0/8"],
}
SECTIONS = Config(
    listen=Address("", 8000),
    backends=(
        BackendConfig(name="a", address=Address("h", 1)),
        BackendConfig(name="b", address=Address("h", 2), weight=2),
    ),
    http=Http(routes=(RouteConfig(name="r", host="a.example", backends=("a", "b")),)),
    timeouts=Timeouts(read=2),
    trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"),),
)


def problems(config: object) -> str:
    try:
        made(config)  # type: ignore[arg-type]
    except ConfigError as error:
        return str(error)
    return ""


class Made(TestCase):
    def test_three_ways_to_say_the_same(self) -> None:
        self.assertEqual(made(TEXT), loads(TEXT))
        self.assertEqual(made(MAPPING), loads(TEXT))
        self.assertEqual(made(SECTIONS), loads(TEXT))

    def test_the_mapping_is_left_alone(self) -> None:
        given = {"nodes": [{"name": "a", "address": "h:1"}], "demo_backends": [9001]}
        config = made(given)
        self.assertEqual([backend.name for backend in config.backends], ["a", "demo-9001"])
        self.assertEqual(given, {"nodes": [{"name": "a", "address": "h:1"}], "demo_backends": [9001]})

    def test_mistakes_are_named_by_key(self) -> None:
        self.assertEqual(
            problems({**MAPPING, "timeouts": {"read": 2}}),
            "<python>: timeouts.read: found 2; a duration needs a unit: 2s, 2ms or 2m",
        )
        self.assertIn("<python>: lissten: unknown key", problems({**MAPPING, "lissten": ":1"}))

    def test_sections_are_checked_together(self) -> None:
        config = SECTIONS.model_copy(update={"http": Http(routes=(RouteConfig(name="r", backends=("c",)),))})
        self.assertIn("<python>: http.routes[0].backends[0]: no backend is called 'c'", problems(config))
        self.assertIn("there are no backends", problems(Config()))
        backend = BackendConfig(name="a", address=Address("h", 1))
        self.assertIn("the name is taken already", problems(Config(backends=(backend, backend))))
        tcp = Config(mode="tcp", backends=(backend,), http=Http())
        self.assertIn("this key has no meaning in mode tcp", problems(tcp))

    def test_sections_inherit(self) -> None:
        config = made(
            Config(
                backends=(BackendConfig(name="a", address=Address("h", 1)),),
                load_balancer=LoadBalancer(algorithm="random"),
                listeners=(
                    NamedListener(name="web", listen=Address("", 80)),
                    NamedListener(name="db", mode="tcp", listen=Address("", 81)),
                ),
            )
        )
        web, db = config.each_listener
        self.assertEqual((web.load_balancer.algorithm, web.backends[0].name), ("random", "a"))
        self.assertEqual(db.timeouts.idle, 3600.0)

    def test_what_is_complete_stays_as_it_is(self) -> None:
        for text in (
            TEXT,
            "demo_backends: [9001]\n",
            "backends: [{name: a, address: 'h:1'}]\nhttp: {via: true}\ntimeouts: {read: 1s}\nlisteners:\n"
            "  - {name: web, listen: ':80'}\n  - {name: db, mode: tcp, listen: ':81', "
            "backends: [{name: c, address: 'h:3'}]}\n",
        ):
            config = loads(text)
            self.assertEqual(made(config), config)

    def test_demo_backends_become_backends(self) -> None:
        self.assertEqual(
            [b.name for b in made(Config(demo_backends=(9001, 9002))).backends], ["demo-9001", "demo-9002"]
        )

    def test_a_value_is_checked_where_it_is_given(self) -> None:
        with self.assertRaises(ValidationError):
            Timeouts(read=-1)
        with self.assertRaises(ValidationError):
            Timeouts(read=True)
        self.assertEqual(Timeouts(read="1m").read, 60.0)  # type: ignore[arg-type]
