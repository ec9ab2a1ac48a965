"""One server: what it is doing now, whether it may be given more, and what has come of it so far.

Rule of this file: everything that can make a backend unavailable ends in one number, `limit`. It is available while
`active < limit`; being full, ejected, probed and disabled are limits. Taking and giving back a lease on a healthy
backend with room costs a few attribute operations; only when that changes are the pools told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from zope.interface import implementer

from balance.errors import ExchangeError, Source
from balance.interfaces import ICandidate
from balance.model import Address
from balance.resilience.outlier import DEFAULT_RULES, EJECTED, HEALTHY, PROBING, Outlier, OutlierRules
from balance.resilience.verdict import DEFAULT as DEFAULT_VERDICT

DISABLED: Final = "disabled"

_UNLIMITED: Final = 1 << 62


class Owner(Protocol):
    """What a backend tells a pool that it is a member of."""

    def refresh(self) -> None: ...

    def wake(self) -> None: ...

    def can_spare(self, backend: Backend, share: float) -> bool: ...

    @property
    def deserted(self) -> bool: ...


@implementer(ICandidate)
class Backend:
    """A server and its state, shared by all pools that name it.

    :param name: unique in its configuration
    :param weight: 0 and up; 0 takes work only when nothing else is left
    :param max_connections: requests (HTTP) or connections (TCP) at a time; 0 for no limit
    :param outlier: rules of passive health; `NEVER` switches it off
    :param on_health: called with the backend whenever `state` changed, from within `release`, `sweep` or `set_enabled`
    """

    __slots__ = (
        "_calm",
        "_enabled",
        "_listed",
        "_pools",
        "active",
        "address",
        "authority",
        "bytes_in",
        "bytes_out",
        "connections_open",
        "connections_opened",
        "connections_reused",
        "failures",
        "health",
        "limit",
        "max_connections",
        "name",
        "on_health",
        "requests",
        "weight",
    )

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        weight: int = 1,
        max_connections: int = 0,
        outlier: OutlierRules = DEFAULT_RULES,
        on_health: Callable[[Backend], None] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        #: The Host field of requests that are addressed to this server itself (RFC 9110, section 7.2).
        self.authority = b"localhost" if address.path else str(address).encode("ascii")
        self.weight = weight
        self.max_connections = max_connections
        self.health = Outlier(outlier)
        self.on_health = on_health
        #: Leases that are out.
        self.active = 0
        #: Leases given out since the start.
        self.requests = 0
        #: Leases that came back with an error of the backend's.
        self.failures = 0
        self.connections_opened = 0
        self.connections_reused = 0
        self.connections_open = 0
        #: Bytes received from the backend, and sent to it.
        self.bytes_in = 0
        self.bytes_out = 0
        self._enabled = True
        self._pools: tuple[Owner, ...] = ()
        #: Number of leases at which no more are given.
        self.limit = max_connections or _UNLIMITED
        #: What the pools believe `available` to be.
        self._listed = True
        #: A lease that comes back with success changes nothing but `active`.
        self._calm = True

    @property
    def available(self) -> bool:
        """Whether it may be given one more request."""
        return self.active < self.limit

    @property
    def enabled(self) -> bool:
        """False while an operator has taken it out of service."""
        return self._enabled

    @property
    def in_service(self) -> bool:
        """Enabled and healthy, if perhaps full."""
        return self._enabled and self.health.state is HEALTHY

    @property
    def state(self) -> str:
        """``healthy``, ``ejected``, ``probing`` or ``disabled``, for people and statistics."""
        return self.health.state if self._enabled else DISABLED

    @property
    def ejections(self) -> int:
        """How often passive health has taken it out."""
        return self.health.ejections

    def lease(self) -> None:
        """One more request. Only on a backend that a pool has just offered."""
        active = self.active = self.active + 1
        self.requests += 1
        if active >= self.limit:
            self._calm = False
            self._tell()

    def release(self, error: ExchangeError | None, now: float) -> None:
        """A leased request has ended.

        :param error: None for a good end. Only what the backend is to blame for counts against it; what a client or
            Balance did proves nothing either way, and neither does a `StaleConnection`.
        :param now: seconds, on a clock that only goes forward
        :raises RuntimeError: released more often than leased
        """
        active = self.active = self.active - 1
        if self._calm and active >= 0 and (error is None or error.source is not Source.BACKEND):
            return
        self._settle(error, now)

    def proved(self, now: float) -> None:
        """A lease that goes on has shown already that the backend serves (layer 4: it accepted the connection)."""
        if not self._calm:
            self._settle(None, now)

    def set_enabled(self, enabled: bool) -> None:
        """Put in or out of service, whatever its health. Requests on their way are not disturbed."""
        if enabled != self._enabled:
            before = self.state
            self._enabled = enabled
            self._limit(probe=not self.active)  # one of those still active may be the probe
            self._changed(before)

    def sweep(self, now: float) -> None:
        """What time does to health; to be called about once a second."""
        health = self.health
        before = self.state
        if health.state is HEALTHY:
            if not health.sample(now, self.requests - self.active, self.failures):
                return
            self._eject(now)
        elif (health.state is EJECTED or not self.available) and (
            now >= health.until or any(pool.deserted for pool in self._pools)
        ):
            health.probe(now)
        else:
            return
        self._limit(probe=True)
        self._changed(before)

    def attach(self, pool: Owner) -> None:
        """Tell this pool of changes from now on."""
        self._pools = (*self._pools, pool)

    def detach(self, pool: Owner) -> None:
        """Tell it no more."""
        self._pools = tuple(known for known in self._pools if known is not pool)

    def _settle(self, error: ExchangeError | None, now: float) -> None:
        if self.active < 0:
            self.active = 0
            raise RuntimeError(f"backend {self.name}: released more often than leased")
        before = self.state
        failed = DEFAULT_VERDICT.is_failure(0, error)
        if failed:
            self.failures += 1
        health = self.health
        # What ends while the backend is out, or before the probe has begun, is old news.
        if health.state is HEALTHY or (health.state is PROBING and not self._listed):
            if error is None:
                health.succeeded(now)
            elif failed and health.failed():
                self._eject(now)
        self._limit(probe=self._listed or not self.active)
        self._changed(before)

    def _eject(self, now: float) -> None:
        health = self.health
        # One that failed its probe was out already: the share of those that are stays what it was.
        share = 1.0 if health.state is PROBING else health.rules.max_ejected
        if all(pool.can_spare(self, share) for pool in self._pools):
            health.eject(now)

    def _limit(self, *, probe: bool) -> None:
        """Set `limit` from the state.

        :param probe: while probing, whether another request may go
        """
        most = self.max_connections or _UNLIMITED
        state = self.state
        if state is PROBING:
            # Others, from before, may still be active. While the probe is out, each that ends takes its place along.
            self.limit = min(most, self.active + 1 if probe else self.active)
        else:
            self.limit = most if state is HEALTHY else 0

    def _changed(self, before: str) -> None:
        health = self.health
        self._calm = self.active < self.limit and health.state is HEALTHY and not health.streak
        if self.on_health is not None and self.state is not before:
            self.on_health(self)
        self._tell()

    def _tell(self) -> None:
        """Let the pools know if availability changed, and those who queue there that there is room."""
        available = self.active < self.limit
        if available is not self._listed:
            self._listed = available
            for pool in self._pools:
                pool.refresh()
        if available:
            pools = self._pools
            if len(pools) > 1:
                self._pools = (*pools[1:], pools[0])  # so that the queues of several pools take turns
            for pool in pools:
                pool.wake()


def sweep(backends: Iterable[Backend], now: float) -> None:
    """Let time pass for all of them; to be called about once a second."""
    for backend in backends:
        backend.sweep(now)
