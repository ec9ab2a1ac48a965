"""A snapshot: the statistics of now, as dicts and lists.

Rule of this file: whatever shows statistics is made of this and of nothing else: JSON at ``/status``, which is this as
it stands, Prometheus' format, and every sink of third parties. What one of them needs is put in here.
"""

from __future__ import annotations

from typing import Any, Final

from balance.observe.tls import tls_status
from balance.observe.views import ListenerView, Views

#: Of statuses, as `ListenerCounters.responses` counts them.
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


def status(views: Views) -> dict[str, Any]:
    """Listeners with their routes and errors, pools, backends. Everything in it can go to JSON."""
    return {
        "listeners": [
            {
                "name": listener.name,
                "requests": listener.counters.requests,
                "active_requests": listener.counters.active,
                "connections_accepted": listener.counters.connections_accepted,
                "connections_open": listener.counters.connections_open,
                "connections_limit": listener.counters.connections_limit,
                "connections_paused": listener.counters.connections_paused,
                "bytes_in": listener.counters.bytes_in,
                "bytes_out": listener.counters.bytes_out,
                "retries": listener.counters.retries,
                "http2": {
                    "connections": listener.counters.http2_connections,
                    "header_bytes": {
                        "plain": listener.counters.header_bytes_plain,
                        "packed": listener.counters.header_bytes_packed,
                    },
                },
                "responses": dict(zip(_CLASSES, listener.counters.responses, strict=True)),
                "errors": dict(listener.counters.errors),
                **_websocket(listener),
                "routes": {rule.target.name: rule.target.requests for rule in listener.routes.ordered},
                "tls": tls_status(listener.tls),
            }
            for listener in views.listeners
        ],
        "pools": [{"name": pool.name, "queued": pool.queued} for pool in views.pools],
        "backends": [
            {
                "name": backend.name,
                "address": str(backend.address),
                "state": backend.state,
                "weight": backend.weight,
                "active": backend.active,
                "connections": {
                    "open": backend.connections_open,
                    "idle": views.idle(backend),
                    "opened": backend.connections_opened,
                    "reused": backend.connections_reused,
                },
                "requests": backend.requests,
                "failures": backend.failures,
                "ejections": backend.ejections,
                "bytes_in": backend.bytes_in,
                "bytes_out": backend.bytes_out,
            }
            for backend in views.backends
        ],
    }


def _websocket(listener: ListenerView) -> dict[str, Any]:
    tunnels = listener.tunnels
    if tunnels is None:
        return {}
    counts = tunnels.counts
    return {
        "websocket": {
            "open": len(tunnels),
            "opened": tunnels.total,
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
            "messages_in": counts.messages_in,
            "messages_out": counts.messages_out,
            "closes": {str(code): number for code, number in sorted(tunnels.closes.items())},
        }
    }
