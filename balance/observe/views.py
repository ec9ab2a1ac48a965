"""What statistics read: the shape of listeners, pools and backends, as far as it matters here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from balance.observe.counters import ListenerCounters, TlsCounters


class CertificateView(Protocol):
    """A certificate in use: `balance.net.tls_contexts.LoadedCertificate` is one."""

    @property
    def cert_file(self) -> str: ...

    @property
    def domains(self) -> tuple[str, ...]: ...

    @property
    def facts(self) -> Any: ...


class TlsView(Protocol):
    """TLS on a listener: `balance.net.tls_server.TlsTermination` is one."""

    counters: TlsCounters

    @property
    def problem(self) -> str: ...

    @property
    def served(self) -> Sequence[CertificateView]: ...


class TunnelsView(Protocol):
    """WebSocket connections: `balance.websocket.tunnels.Tunnels`. ``len()`` is how many are open."""

    @property
    def total(self) -> int: ...

    @property
    def counts(self) -> Any:
        """Bytes and messages, of those that are open and of those that were."""

    @property
    def closes(self) -> Mapping[int, int]:
        """Close code to number of connections."""

    def __len__(self) -> int: ...


class ListenerView(Protocol):
    """A listener: `balance.http.proxy.HttpProxy` is one. ``routes.ordered`` are its rules; ``tls`` is None where it
    speaks clear text.
    """

    name: str
    counters: ListenerCounters
    routes: Any

    @property
    def tunnels(self) -> TunnelsView | None:
        """Its WebSocket connections; None where there cannot be any (layer 4)."""

    @property
    def tls(self) -> TlsView | None: ...


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
        backends: Iterable[Any],
        pools: Sequence[PoolView],
        idle: Callable[[Any], int],
    ) -> None:
        self.listeners = listeners
        self.backends: Iterable[BackendView] = backends
        self.pools = pools
        self.idle = idle
