"""Statistics in Prometheus' format.

Rule of this file: families are made when somebody asks, out of the plain counters; no request touches anything here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from balance.observe.tls import tls_metrics
from balance.observe.views import Views

#: Name, attribute, what it counts: of a listener.
_LISTENER_COUNTERS: Final = (
    ("balance_requests", "requests", "Requests received."),
    ("balance_connections_accepted", "connections_accepted", "Connections accepted from clients."),
    ("balance_received_bytes", "bytes_in", "Bytes received from clients."),
    ("balance_sent_bytes", "bytes_out", "Bytes sent to clients."),
    ("balance_retries", "retries", "Further attempts made."),
    ("balance_http2_connections", "http2_connections", "HTTP/2 connections of clients."),
    (
        "balance_http2_plain_header_bytes",
        "header_bytes_plain",
        "Heads of ended HTTP/2 connections, both directions, uncompressed.",
    ),
    (
        "balance_http2_packed_header_bytes",
        "header_bytes_packed",
        "Heads of ended HTTP/2 connections, both directions, as they were sent.",
    ),
)
_LISTENER_GAUGES: Final = (
    ("balance_active_requests", "active", "Requests under way."),
    ("balance_connections_open", "connections_open", "Connections of clients."),
)
_BACKEND_COUNTERS: Final = (
    ("balance_backend_requests", "requests", "Requests given to the backend."),
    ("balance_backend_failures", "failures", "Requests that failed by the backend's fault."),
    ("balance_backend_ejections", "ejections", "Times passive health took the backend out."),
    ("balance_backend_connections_opened", "connections_opened", "Connections opened."),
    ("balance_backend_connections_reused", "connections_reused", "Times an idle connection was used again."),
    ("balance_backend_received_bytes", "bytes_in", "Bytes received from the backend."),
    ("balance_backend_sent_bytes", "bytes_out", "Bytes sent to the backend."),
)
_BACKEND_GAUGES: Final = (
    ("balance_backend_active_requests", "active", "Requests the backend is serving."),
    ("balance_backend_connections_open", "connections_open", "Connections to the backend, idle ones included."),
    ("balance_backend_weight", "weight", "Configured weight."),
)
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class _Collector:
    def __init__(self, views: Views) -> None:
        self._views = views

    def collect(self) -> Iterator[Metric]:
        views = self._views
        listeners = [((each.name,), each.counters) for each in views.listeners]
        backends = [((each.name,), each) for each in views.backends]
        yield from _plain(CounterMetricFamily, _LISTENER_COUNTERS, "listener", listeners)
        yield from _plain(GaugeMetricFamily, _LISTENER_GAUGES, "listener", listeners)
        yield from self._details()
        yield from self._websocket()
        yield from _plain(CounterMetricFamily, _BACKEND_COUNTERS, "backend", backends)
        yield from _plain(GaugeMetricFamily, _BACKEND_GAUGES, "backend", backends)
        yield from self._health()
        yield from tls_metrics(views.listeners)

    def _details(self) -> Iterator[Metric]:
        responses = CounterMetricFamily("balance_responses", "Responses sent, by class.", labels=["listener", "class"])
        errors = CounterMetricFamily("balance_errors", "Errors, by reason.", labels=["listener", "reason"])
        routes = CounterMetricFamily("balance_route_requests", "Requests of a route.", labels=["listener", "route"])
        for listener in self._views.listeners:
            for name, number in zip(_CLASSES, listener.counters.responses, strict=True):
                responses.add_metric([listener.name, name], number)
            for reason, number in sorted(listener.counters.errors.items()):
                errors.add_metric([listener.name, reason], number)
            for rule in listener.routes.ordered:
                routes.add_metric([listener.name, rule.target.name], rule.target.requests)
        queued = GaugeMetricFamily("balance_pool_queued_requests", "Requests that wait for a place.", labels=["pool"])
        for pool in self._views.pools:
            queued.add_metric([pool.name], pool.queued)
        yield from (responses, errors, routes, queued)

    def _websocket(self) -> Iterator[Metric]:
        """Of connections that are open, and of those that were: those count as they go."""
        opened = GaugeMetricFamily("balance_websocket_open", "WebSocket connections.", labels=["listener"])
        total = CounterMetricFamily("balance_websocket_opened", "WebSocket connections opened.", labels=["listener"])
        sizes = CounterMetricFamily("balance_websocket_bytes", "Bytes relayed.", labels=["listener", "direction"])
        messages = CounterMetricFamily("balance_websocket_messages", "Messages.", labels=["listener", "direction"])
        closes = CounterMetricFamily("balance_websocket_closes", "Ends, by close code.", labels=["listener", "code"])
        for listener in self._views.listeners:
            tunnels = listener.tunnels
            if tunnels is None:
                continue
            counts = tunnels.counts
            opened.add_metric([listener.name], len(tunnels))
            total.add_metric([listener.name], tunnels.total)
            sizes.add_metric([listener.name, "in"], counts.bytes_in)
            sizes.add_metric([listener.name, "out"], counts.bytes_out)
            messages.add_metric([listener.name, "in"], counts.messages_in)
            messages.add_metric([listener.name, "out"], counts.messages_out)
            for code, number in sorted(tunnels.closes.items()):
                closes.add_metric([listener.name, str(code)], number)
        yield from (opened, total, sizes, messages, closes)

    def _health(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("balance_backend_up", "1 while the backend is in service.", labels=["backend", "state"])
        idle = GaugeMetricFamily("balance_backend_connections_idle", "Idle connections kept.", labels=["backend"])
        for backend in self._views.backends:
            up.add_metric([backend.name, backend.state], int(backend.state == "healthy"))
            idle.add_metric([backend.name], self._views.idle(backend))
        yield from (up, idle)


def _plain(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily],
    rows: Iterable[tuple[str, str, str]],
    label: str,
    objects: Sequence[tuple[tuple[str], object]],
) -> Iterator[Metric]:
    for name, attribute, text in rows:
        metric = family(name, text, labels=[label])
        for labels, each in objects:
            metric.add_metric(list(labels), getattr(each, attribute))
        yield metric


def exposition(views: Views) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(views))
    return generate_latest(registry)
