"""Every extension point, as zope interfaces; the built-ins provide the same ones.

Rule of this file: interfaces are checked once, when the configuration is loaded, never on the hot path: what a
factory returned is called directly from then on. All of these run in the reactor's thread and must not block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface


class ICandidate(Interface):
    """What a balancer sees of a backend. It reads; it never writes."""

    name = Attribute("str: unique in its configuration, stable over reloads")
    weight = Attribute("int: 0 and up; 0 takes no new work unless nothing else is left")
    active = Attribute("int: requests (HTTP) or connections (TCP) this backend is serving now")


class IBalancer(Interface):
    """One algorithm, with the state of one pool. It knows nothing of HTTP, sockets or health."""

    def set_members(members: Sequence[ICandidate]) -> None:
        """The pool's members, called at the start and whenever backends are added or removed.

        Not called when health changes: expensive structures (a hash ring) are built here.
        """

    def pick(candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        """Choose one of `candidates`: members that are available now. Called once an attempt; must be fast.

        :param candidates: never empty; the same object as long as availability does not change
        :param key: the hash key of the request, empty where the pool has none
        """


class IExplainedBalancer(IBalancer):
    """Optional: a balancer that can say why. Used by ``balance explain``, on a copy (`copy.deepcopy`) of the balancer
    whose `pick` has just made the choice; a balancer that holds what cannot be copied defines ``__deepcopy__``.
    """

    def why(candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        """One short sentence for people, such as ``the fewest active requests: 2``."""


class IBalancerFactory(Interface):
    """A plugin that adds an algorithm to the configuration. Found through twisted.plugin in `balance.plugins`."""

    names = Attribute("tuple[str, ...]: names in `load_balancer.algorithm`; the first is the preferred one")
    needs_key = Attribute("bool: whether `hash_key` has a meaning (source-ip is taken where it is not given)")

    def build(options: Mapping[str, Any]) -> IBalancer:
        """Make the balancer of one pool.

        :param options: `load_factor` (float), `virtual_nodes` (int), `random` (random.Random)
        """


class IAffinity(Interface):
    """Remembers which backend a client belongs to."""

    def recall(head: Any, client_ip: str) -> str | None:
        """The name of the backend this client was bound to, or None."""

    def peek(head: Any, client_ip: str) -> str | None:
        """What `recall` would say, without any effect: for ``balance explain``."""

    def bind(head: Any, client_ip: str, backend_name: str) -> bytes | None:
        """Bind the client to a backend; a `Set-Cookie` value where the client has to remember it itself."""
