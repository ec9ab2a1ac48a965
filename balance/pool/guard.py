"""Balancers of others, kept from doing harm.

Rule of this file: a pool believes what its balancer picks. So one that is not ours is watched: when it fails, or picks
what it was not offered, the request goes to the least busy backend, and the log says why, at most once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from zope.interface import implementer

from balance.interfaces import IBalancer, ICandidate

Report = Callable[[str, Exception], None]


@implementer(IBalancer)
class GuardedBalancer:
    """
    :param balancer: somebody else's
    :param name: by which the configuration asked for it
    :param report: told of failures: what failed, and with what
    :param now: a clock that only goes forward, in seconds
    :ivar failures: how often it did not do its work
    """

    __slots__ = ("_balancer", "_now", "_pick", "_quiet_until", "_report", "failures", "name")

    def __init__(
        self, balancer: IBalancer, name: str, report: Report, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._balancer = balancer
        self._pick = balancer.pick
        self._report = report
        self._now = now
        self._quiet_until = 0.0
        self.name = name
        self.failures = 0

    def set_members(self, members: Sequence[ICandidate]) -> None:
        try:
            self._balancer.set_members(members)
        except Exception as error:
            self._failed("failed on its new members", error)

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        try:
            picked = self._pick(candidates, key)
            if picked in candidates:
                return picked
            raise ValueError(f"it picked {picked!r}, which was not offered")
        except Exception as error:
            self._failed("failed to pick", error)
        return min(candidates, key=lambda candidate: candidate.active)

    def why(self, candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        """What it says of its own choice, if it says anything (`IExplainedBalancer`)."""
        try:
            explain = getattr(self._balancer, "why", None)
            return "" if explain is None else str(explain(candidates, key, chosen))
        except Exception as error:
            self._failed("failed to say why", error)
            return ""

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        now = self._now()
        if now >= self._quiet_until:
            self._quiet_until = now + 1.0
            self._report(f"balancing algorithm {self.name} {what}", error)


def guarded(balancer: IBalancer, name: str, report: Report) -> IBalancer:
    """Somebody else's balancer with a guard; ours as they are."""
    ours = type(balancer).__module__.startswith("balance.balancing.")
    return balancer if ours else GuardedBalancer(balancer, name, report)
