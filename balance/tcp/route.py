"""What a route of layer 4 leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.pool.affinity import KeySource

if TYPE_CHECKING:
    from balance.interfaces import IAffinity
    from balance.pool.pool import Pool


class TcpRoute:
    """The target of a rule.

    :param key: makes the balancer's key; of the client's address, as there is nothing else at layer 4
    :param affinity: remembers which backend a client belongs to; None for no affinity
    """

    __slots__ = ("affinity", "key", "name", "pool", "requests")

    def __init__(
        self, name: str, pool: Pool, *, key: KeySource | None = None, affinity: IAffinity | None = None
    ) -> None:
        self.name = name
        self.pool = pool
        self.key = key
        self.affinity = affinity
        self.requests = 0
