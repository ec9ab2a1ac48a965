"""What statistics read: the shape of listeners, pools and backends, as far as it matters here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from balance.observe.counters import ListenerCounters


class ListenerView(Protocol):
    """A listener: `balance.http.proxy.HttpProxy` is one. ``routes.ordered`` are its rules."""

    name: str
    counters: ListenerCounters
    routes: Any


class PoolView(Protocol):
    """A pool: `balance.pool.pool.Pool` is one."""

    name: str

    @property
    def queued(self) -> int: ...


class BackendView(Protocol):
    """A backend: `balance.pool.backend.Backend` is one."""

    name: str
    address: Any
    weight: int
    active: int
    requests: int
    failures: int
    connections_open: int
    connections_opened: int
    connections_reused: int
    bytes_in: int
    bytes_out: int

    @property
    def state(self) -> str: ...

    @property
    def ejections(self) -> int: ...


class Views:
    """Everything that statistics are made of, looked at when they are asked for.

    :param idle: the number of idle connections to a backend
    """

    def __init__(
        self,
        listeners: Sequence[ListenerView],
        backends: Sequence[Any],
        pools: Sequence[PoolView],
        idle: Callable[[Any], int],
    ) -> None:
        self.listeners = listeners
        self.backends: Sequence[BackendView] = backends
        self.pools = pools
        self.idle = idle
