"""Plugins, found in real packages on disk: good ones, broken ones, and two of the same name."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from random import Random
from textwrap import dedent
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.balancing.weighted_least_connections import WeightedLeastConnections
from balance.interfaces import IBalancer, IBalancerFactory
from balance.model import Address
from balance.pool.backend import Backend
from balance.registry import PluginError, balancer_factory, balancer_names, broken_plugins, build_balancer

DIALECT = (
    "round-robin",
    "weighted-round-robin",
    "least-connections",
    "weighted-least-connections",
    "least-connections-weighted",
    "consistent-hash",
    "bounded-consistent-hash",
    "session-affinity",
    "random",
)

GOOD = """
    from twisted.plugin import IPlugin
    from zope.interface import implementer
    from balance.balancing.round_robin import RoundRobin
    from balance.interfaces import IBalancerFactory

    @implementer(IPlugin, IBalancerFactory)
    class Factory:
        names = ("acme", "acme-2")
        needs_key = False
        def build(self, options):
            return RoundRobin()

    acme = Factory()
"""


class Builtins(SynchronousTestCase):
    def test_every_name_of_the_dialect_is_there(self) -> None:
        self.assertEqual(set(DIALECT) - set(balancer_names()), set())

    def test_all_do_what_the_interfaces_say(self) -> None:
        options = {"load_factor": 1.5, "virtual_nodes": 10, "random": Random(1)}
        members = [Backend(name, Address("127.0.0.1", 80)) for name in "ab"]
        for name in DIALECT:
            verifyObject(IBalancerFactory, balancer_factory(name))
            for balancer in (build_balancer(name, options), build_balancer(name, {})):
                verifyObject(IBalancer, balancer)
                balancer.set_members(members)
                self.assertIn(balancer.pick(members, b"key"), members)

    def test_each_pool_gets_its_own(self) -> None:
        self.assertIsNot(build_balancer("round-robin", {}), build_balancer("round-robin", {}))

    def test_both_names_mean_the_same(self) -> None:
        for name in ("weighted-least-connections", "least-connections-weighted"):
            self.assertIsInstance(build_balancer(name, {}), WeightedLeastConnections)

    def test_those_that_hash_need_a_key(self) -> None:
        keyed = {name for name in DIALECT if balancer_factory(name).needs_key}
        self.assertEqual(keyed, {"consistent-hash", "bounded-consistent-hash", "session-affinity"})

    def test_options_reach_the_algorithm(self) -> None:
        error = self.assertRaises(PluginError, build_balancer, "bounded-consistent-hash", {"load_factor": 0.5})
        self.assertIn("load_factor must be above 1", str(error))
        self.assertRaises(PluginError, build_balancer, "consistent-hash", {"virtual_nodes": 0})

    def test_a_near_miss_is_told(self) -> None:
        error = self.assertRaises(PluginError, balancer_factory, "round-robbin")
        self.assertIn("did you mean 'round-robin'?", str(error))
        self.assertIn("bounded-consistent-hash", str(error))


class ThirdParties(SynchronousTestCase):
    _numbers = count()

    def package(self, **modules: str) -> ModuleType:
        """A plugin package with these modules."""
        name = f"balance_test_plugins_{next(self._numbers)}"
        root = Path(self.mktemp()).resolve()
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").write_text("")
        for module, text in modules.items():
            (root / name / f"{module}.py").write_text(dedent(text))
        sys.path.insert(0, str(root))
        self.addCleanup(sys.path.remove, str(root))
        package = __import__(name)

        def forget() -> None:
            for module in [known for known in sys.modules if known.partition(".")[0] == name]:
                del sys.modules[module]

        self.addCleanup(forget)
        return package

    def test_a_plugin_is_found_by_all_its_names(self) -> None:
        package = self.package(good=GOOD)
        self.assertEqual(balancer_names(package), ["acme", "acme-2"])
        self.assertIs(balancer_factory("acme", package), balancer_factory("acme-2", package))
        verifyObject(IBalancer, build_balancer("acme", {}, package))

    def test_one_that_cannot_be_imported_is_named_and_hinders_nobody(self) -> None:
        package = self.package(good=GOOD, bad="import no_such_module_anywhere")
        self.assertEqual(balancer_names(package), ["acme", "acme-2"])
        self.assertEqual(len(self.flushLoggedErrors(ImportError)), 1)
        error = self.assertRaises(PluginError, balancer_factory, "wanted", package)
        self.assertIn(f"{package.__name__}.bad could not be loaded: ModuleNotFoundError", str(error))
        self.assertIn("no_such_module_anywhere", str(error))
        self.assertEqual(list(broken_plugins(package)), [f"{package.__name__}.bad"])

    def test_two_of_the_same_name_are_refused(self) -> None:
        package = self.package(good=GOOD, other=GOOD.replace('"acme", ', ""))
        error = self.assertRaises(PluginError, balancer_factory, "acme-2", package)
        self.assertIn(f"{package.__name__}.good.Factory", str(error))
        self.assertIn(f"{package.__name__}.other.Factory", str(error))
        verifyObject(IBalancerFactory, balancer_factory("acme", package))

    def test_one_that_is_not_what_it_says_is_refused(self) -> None:
        package = self.package(good=GOOD, odd=GOOD.replace("acme", "odd").replace("needs_key", "needs_nothing"))
        error = self.assertRaises(PluginError, balancer_factory, "odd", package)
        self.assertIn("needs_key", str(error))
        verifyObject(IBalancerFactory, balancer_factory("acme", package))

    def test_one_that_fails_to_build_says_so(self) -> None:
        package = self.package(bad=GOOD.replace("return RoundRobin()", "raise KeyError('tenant')"))
        error = self.assertRaises(PluginError, build_balancer, "acme", {}, package)
        self.assertIn("balancing algorithm 'acme'", str(error))
        self.assertIn("KeyError: 'tenant'", str(error))

    def test_what_it_builds_has_to_be_a_balancer(self) -> None:
        package = self.package(bad=GOOD.replace("return RoundRobin()", "return object()"))
        error = self.assertRaises(PluginError, build_balancer, "acme", {}, package)
        self.assertIn("IBalancer", str(error))
