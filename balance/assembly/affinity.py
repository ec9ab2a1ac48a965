"""Who remembers clients, and what balancers know them by, as a configuration asks for.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from balance.http.route import KeySource
from balance.pool.affinity import StickyCookie, StickyTable, key_source
from balance.pool.backend import Backend
from balance.registry import balancer_factory

if TYPE_CHECKING:
    from balance.config import LoadBalancer
    from balance.interfaces import IAffinity

SESSION_AFFINITY = "session-affinity"


def affinity_of(
    name: str, members: Sequence[Backend], options: LoadBalancer, clock: Callable[[], float]
) -> tuple[IAffinity | None, KeySource | None]:
    """Who remembers clients, and what the balancer hashes."""
    factory = balancer_factory(options.algorithm)
    if options.algorithm != SESSION_AFFINITY:
        return None, key_source(options.hash_key) if factory.needs_key else None
    kind, _, cookie = options.hash_key.partition(":")
    if kind == "cookie":
        names = [backend.name for backend in members]
        return StickyCookie(cookie, _secret(name, options), names, ttl=options.affinity_ttl), None
    return StickyTable(key_source(options.hash_key), options.affinity_ttl, clock), None


def _secret(name: str, options: LoadBalancer) -> bytes:
    """Without a configured secret, one for the life of this process: cookies of an earlier one are then not recalled,
    and their clients are bound anew.
    """
    if options.secret:
        return hashlib.blake2b(options.secret.encode(), person=b"balance-affinity").digest()
    return os.urandom(32)
