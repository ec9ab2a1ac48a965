"""What a pool would choose, without choosing.

Rule of this file: the pool's own balancer decides, but a copy of it: whoever asks changes nothing. A copy shares the
backends, so it sees them as they are now.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import Any, cast

from balance.errors import BalanceError
from balance.pool.backend import Backend
from balance.pool.pool import Pool


class Unforeseeable(BalanceError):
    """The balancer cannot be copied, so it cannot be asked without an effect."""


class Rehearsal:
    """A pool's next picks, one after the other, as if nobody else came in between.

    :raises Unforeseeable: the pool's balancer cannot be copied
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        memo: dict[int, Any] = {id(backend): backend for backend in pool.members}
        try:
            self._balancer = deepcopy(pool.balancer, memo)
        except Exception as error:
            raise Unforeseeable(f"the balancer cannot be copied: {type(error).__name__}: {error}") from error

    def pick(self, key: bytes = b"", tried: Collection[Backend] = ()) -> Backend | None:
        """As `Pool.pick`."""
        candidates = self._pool.candidates(tried)
        if not candidates:
            return None
        return cast(Backend, self._balancer.pick(candidates, key))

    def why(self, chosen: Backend, key: bytes = b"", tried: Collection[Backend] = ()) -> str:
        """Why the last pick was that one, in the balancer's words; empty where it has none."""
        explain = getattr(self._balancer, "why", None)
        return str(explain(self._pool.candidates(tried), key, chosen)) if explain is not None else ""
