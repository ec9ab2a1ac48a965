"""Step 5: who gets the request, of the route's own affinity, pool and balancer.

Rule of this file: it asks in the order of `Exchange._choose`, by what has no effect: `peek` for `recall`, a rehearsal
for `pick`, and the queue is looked at and not joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from balance.errors import ExchangeError, NoBackend, QueueFull
from balance.explain.model import Affinity, Candidate, Choice, PoolState
from balance.pool.affinity import StickyCookie
from balance.pool.backend import Backend
from balance.pool.rehearsal import Rehearsal, Unforeseeable

if TYPE_CHECKING:
    from balance.config import Listener
    from balance.pool.pool import Pool

#: Names told of those that would be tried next.
_THEN_MAX: Final = 16


@dataclass(frozen=True)
class Chosen:
    """What came of it. ``error`` is what the server would fail the request with."""

    choice: Choice
    pool: PoolState
    affinity: Affinity | None
    candidates: tuple[Candidate, ...]
    backend: Backend | None = None
    error: ExchangeError | None = None
    #: Name of the cookie that the answer binds the client with; empty for none.
    sets_cookie: str = ""

    def parts(self) -> dict[str, Any]:
        """Those of an `Explanation`."""
        return {"choice": self.choice, "pool": self.pool, "affinity": self.affinity, "candidates": self.candidates}


def choose(config: Listener, route: Any, head: Any, client_ip: str) -> Chosen:
    """
    :param route: `HttpRoute` or `TcpRoute`
    :param head: None for mode tcp
    """
    pool: Pool = route.pool
    options = _options(config, route.name)
    affinity = _affinity(route, options, head, client_ip)
    key = b"" if route.key is None else route.key(head, client_ip)
    state = PoolState(
        pool.name,
        options.algorithm,
        options.hash_key if route.key is not None or affinity is not None else "",
        None if route.key is None else key.decode("utf-8", "backslashreplace"),
        pool.queued,
        pool.max_queue,
    )
    candidates = tuple(_candidate(pool, backend) for backend in pool.members)
    bound = pool.find(affinity.bound) if affinity is not None and affinity.bound is not None else None
    try:
        rehearsal = Rehearsal(pool)
        backend, choice = _choice(pool, rehearsal, affinity, bound, key)
        if backend is not None:
            choice = Choice(choice.backend, choice.by, choice.why, _then(pool, rehearsal, backend, key))
    except Unforeseeable as error:
        backend, choice = None, Choice(None, "", str(error))
        return Chosen(choice, state, affinity, candidates)
    if backend is None:
        return Chosen(choice, state, affinity, candidates, error=_no_place(pool))
    cookie = ""
    if isinstance(route.affinity, StickyCookie) and affinity is not None and affinity.bound != backend.name:
        cookie = options.hash_key.partition(":")[2]
    return Chosen(choice, state, affinity, candidates, backend, sets_cookie=cookie)


def _choice(
    pool: Pool, rehearsal: Rehearsal, affinity: Affinity | None, bound: Backend | None, key: bytes
) -> tuple[Backend | None, Choice]:
    if bound is not None:
        return bound, Choice(bound.name, "affinity", "the client is bound to it")
    backend = rehearsal.pick(key)
    if backend is None:
        return None, _nobody(pool)
    why = rehearsal.why(backend, key)
    if affinity is not None and not affinity.known:
        why = "unless the client is bound to another one, which cannot be asked without an effect; " + why
    elif affinity is not None and affinity.bound is not None:
        why = f"the client is bound to {affinity.bound}, which is not available; {why}"
    return backend, Choice(backend.name, "balancer", why)


def _nobody(pool: Pool) -> Choice:
    if not pool.saturated:
        return Choice(None, "", "no backend is available")
    if pool.queued >= pool.max_queue:
        return Choice(None, "", f"every backend is at max_connections, and the queue of {pool.max_queue} is full")
    return Choice(
        None, "queue", f"every backend is at max_connections: it waits as number {pool.queued + 1} in the queue"
    )


def _no_place(pool: Pool) -> ExchangeError | None:
    """As `Exchange._wait_for_place`; None for one that waits."""
    if not pool.saturated:
        return NoBackend()
    return QueueFull() if pool.queued >= pool.max_queue else None


def _then(pool: Pool, rehearsal: Rehearsal, first: Backend, key: bytes) -> tuple[str, ...]:
    """Whom it goes to when connecting fails, one after the other."""
    tried: tuple[Backend, ...] = (first,)
    while len(tried) <= _THEN_MAX:
        backend = rehearsal.pick(key, tried)
        if backend is None:
            break
        tried = (*tried, backend)
    return tuple(backend.name for backend in tried[1:])


def _options(config: Any, name: str) -> Any:
    """The route's own load balancer, or the listener's."""
    routes = config.routes if config.mode == "tcp" else config.http.routes
    own = next((route.load_balancer for route in routes if route.name == name), None)
    return own or config.load_balancer


def _affinity(route: Any, options: Any, head: Any, client_ip: str) -> Affinity | None:
    if route.affinity is None:
        return None
    kind = type(route.affinity).__name__
    peek = getattr(route.affinity, "peek", None)
    if peek is None:
        return Affinity(kind, options.hash_key, None, known=False)
    return Affinity(kind, options.hash_key, peek(head, client_ip))


def _candidate(pool: Pool, backend: Backend) -> Candidate:
    return Candidate(
        backend.name,
        str(backend.address),
        backend.weight,
        backend.active,
        backend.max_connections,
        backend.state,
        backend in pool.available,
        _unavailable(pool, backend),
    )


def _unavailable(pool: Pool, backend: Backend) -> str:
    """Why it is not among those to choose from; empty where it is."""
    if backend in pool.available:
        return ""
    if backend.available:
        return "its weight is 0, and others are available"
    if not backend.enabled:
        return "taken out of service"
    if backend.in_service:
        return f"at max_connections: {backend.active} of {backend.max_connections}"
    if backend.state == "ejected":
        return "taken out by passive health"
    return "its probe is under way"
