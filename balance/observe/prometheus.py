"""Statistics in Prometheus' format.

Rule of this file: families are made when somebody asks, out of a snapshot (`balance.observe.status`), which is all that
any sink of statistics is given; no request touches anything here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from balance.observe.tls import tls_metrics

#: Name, where it is in a snapshot, what it counts: of a listener.
_LISTENER_COUNTERS: Final = (
    ("balance_requests", "requests", "Requests received."),
    ("balance_connections_accepted", "connections_accepted", "Connections accepted from clients."),
    (
        "balance_connections_paused",
        "connections_paused",
        "Times the limit on clients' connections was reached, and no more were accepted for a while.",
    ),
    ("balance_received_bytes", "bytes_in", "Bytes received from clients."),
    ("balance_sent_bytes", "bytes_out", "Bytes sent to clients."),
    ("balance_retries", "retries", "Further attempts made."),
    ("balance_http2_connections", "http2.connections", "HTTP/2 connections of clients."),
    (
        "balance_http2_plain_header_bytes",
        "http2.header_bytes.plain",
        "Heads of ended HTTP/2 connections, both directions, uncompressed.",
    ),
    (
        "balance_http2_packed_header_bytes",
        "http2.header_bytes.packed",
        "Heads of ended HTTP/2 connections, both directions, as they were sent.",
    ),
)
_LISTENER_GAUGES: Final = (
    ("balance_active_requests", "active_requests", "Requests under way."),
    ("balance_connections_open", "connections_open", "Connections of clients, without those in a TLS handshake."),
    ("balance_connections_limit", "connections_limit", "Connections that clients may have; 0 is no limit."),
)
_BACKEND_COUNTERS: Final = (
    ("balance_backend_requests", "requests", "Requests given to the backend."),
    ("balance_backend_failures", "failures", "Requests that failed by the backend's fault."),
    ("balance_backend_ejections", "ejections", "Times passive health took the backend out."),
    ("balance_backend_connections_opened", "connections.opened", "Connections opened."),
    ("balance_backend_connections_reused", "connections.reused", "Times an idle connection was used again."),
    ("balance_backend_received_bytes", "bytes_in", "Bytes received from the backend."),
    ("balance_backend_sent_bytes", "bytes_out", "Bytes sent to the backend."),
)
_BACKEND_GAUGES: Final = (
    ("balance_backend_active_requests", "active", "Requests the backend is serving."),
    ("balance_backend_connections_open", "connections.open", "Connections to the backend, idle ones included."),
    ("balance_backend_weight", "weight", "Configured weight."),
)

#: A listener, a pool or a backend of a snapshot.
Entry = Mapping[str, Any]


class _Collector:
    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self._listeners: Sequence[Entry] = snapshot["listeners"]
        self._pools: Sequence[Entry] = snapshot["pools"]
        self._backends: Sequence[Entry] = snapshot["backends"]

    def collect(self) -> Iterator[Metric]:
        yield from _plain(CounterMetricFamily, _LISTENER_COUNTERS, "listener", self._listeners)
        yield from _plain(GaugeMetricFamily, _LISTENER_GAUGES, "listener", self._listeners)
        yield from self._details()
        yield from self._websocket()
        yield from _plain(CounterMetricFamily, _BACKEND_COUNTERS, "backend", self._backends)
        yield from _plain(GaugeMetricFamily, _BACKEND_GAUGES, "backend", self._backends)
        yield from self._health()
        yield from tls_metrics(self._listeners)

    def _details(self) -> Iterator[Metric]:
        responses = CounterMetricFamily("balance_responses", "Responses sent, by class.", labels=["listener", "class"])
        errors = CounterMetricFamily("balance_errors", "Errors, by reason.", labels=["listener", "reason"])
        routes = CounterMetricFamily("balance_route_requests", "Requests of a route.", labels=["listener", "route"])
        for listener in self._listeners:
            name = listener["name"]
            for kind, number in listener["responses"].items():
                responses.add_metric([name, kind], number)
            for reason, number in sorted(listener["errors"].items()):
                errors.add_metric([name, reason], number)
            for route, number in listener["routes"].items():
                routes.add_metric([name, route], number)
        queued = GaugeMetricFamily("balance_pool_queued_requests", "Requests that wait for a place.", labels=["pool"])
        for pool in self._pools:
            queued.add_metric([pool["name"]], pool["queued"])
        yield from (responses, errors, routes, queued)

    def _websocket(self) -> Iterator[Metric]:
        """Of connections that are open, and of those that were: those count as they go."""
        opened = GaugeMetricFamily("balance_websocket_open", "WebSocket connections.", labels=["listener"])
        total = CounterMetricFamily("balance_websocket_opened", "WebSocket connections opened.", labels=["listener"])
        sizes = CounterMetricFamily("balance_websocket_bytes", "Bytes relayed.", labels=["listener", "direction"])
        messages = CounterMetricFamily("balance_websocket_messages", "Messages.", labels=["listener", "direction"])
        closes = CounterMetricFamily("balance_websocket_closes", "Ends, by close code.", labels=["listener", "code"])
        for listener in self._listeners:
            tunnels = listener.get("websocket")
            if tunnels is None:
                continue  # layer 4
            name = listener["name"]
            opened.add_metric([name], tunnels["open"])
            total.add_metric([name], tunnels["opened"])
            for direction in ("in", "out"):
                sizes.add_metric([name, direction], tunnels[f"bytes_{direction}"])
                messages.add_metric([name, direction], tunnels[f"messages_{direction}"])
            for code, number in tunnels["closes"].items():
                closes.add_metric([name, code], number)
        yield from (opened, total, sizes, messages, closes)

    def _health(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("balance_backend_up", "1 while the backend is in service.", labels=["backend", "state"])
        idle = GaugeMetricFamily("balance_backend_connections_idle", "Idle connections kept.", labels=["backend"])
        for backend in self._backends:
            up.add_metric([backend["name"], backend["state"]], int(backend["state"] == "healthy"))
            idle.add_metric([backend["name"]], backend["connections"]["idle"])
        yield from (up, idle)


def _plain(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily],
    rows: Iterable[tuple[str, str, str]],
    label: str,
    entries: Sequence[Entry],
) -> Iterator[Metric]:
    for name, where, text in rows:
        metric = family(name, text, labels=[label])
        for entry in entries:
            metric.add_metric([entry["name"]], _at(entry, where))
        yield metric


def _at(entry: Any, where: str) -> float:
    for key in where.split("."):
        entry = entry[key]
    return entry  # type: ignore[no-any-return]


def exposition(snapshot: Mapping[str, Any]) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return generate_latest(registry)
