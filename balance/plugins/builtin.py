"""The algorithms that come with Balance, found the same way as anybody else's.

Rule of this file: one line for each; the names are those of the configuration dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from balance.balancing.bounded_consistent_hash import LOAD_FACTOR, BoundedConsistentHash
from balance.balancing.consistent_hash import ConsistentHash
from balance.balancing.least_connections import LeastConnections
from balance.balancing.random import RandomChoice
from balance.balancing.ring import VIRTUAL_NODES
from balance.balancing.round_robin import RoundRobin
from balance.balancing.weighted_least_connections import WeightedLeastConnections
from balance.balancing.weighted_round_robin import WeightedRoundRobin
from balance.interfaces import IBalancer, IBalancerFactory

Options = Mapping[str, Any]


@implementer(IPlugin, IBalancerFactory)
class Builtin:
    """An algorithm by its names, the preferred one first."""

    def __init__(self, *names: str, make: Callable[[Options], IBalancer], needs_key: bool = False) -> None:
        self.names = names
        self.needs_key = needs_key
        self._make = make

    def build(self, options: Options) -> IBalancer:
        return self._make(options)

    def __repr__(self) -> str:
        return f"<Builtin {self.names[0]}>"


def _consistent_hash(options: Options) -> IBalancer:
    return ConsistentHash(options.get("virtual_nodes", VIRTUAL_NODES))


def _bounded_consistent_hash(options: Options) -> IBalancer:
    return BoundedConsistentHash(options.get("load_factor", LOAD_FACTOR), options.get("virtual_nodes", VIRTUAL_NODES))


round_robin = Builtin("round-robin", make=lambda options: RoundRobin())
weighted_round_robin = Builtin("weighted-round-robin", make=lambda options: WeightedRoundRobin())
least_connections = Builtin("least-connections", make=lambda options: LeastConnections())
weighted_least_connections = Builtin(
    "weighted-least-connections", "least-connections-weighted", make=lambda options: WeightedLeastConnections()
)
consistent_hash = Builtin("consistent-hash", make=_consistent_hash, needs_key=True)
bounded_consistent_hash = Builtin("bounded-consistent-hash", make=_bounded_consistent_hash, needs_key=True)
random = Builtin("random", make=lambda options: RandomChoice(options.get("random")))
#: What the pool does for clients that are not bound yet. The key is for the affinity in front of it.
session_affinity = Builtin("session-affinity", make=lambda options: RoundRobin(), needs_key=True)
