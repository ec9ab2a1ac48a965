"""What Balance decides, or gets wrong itself.

Rule of this file: see `balance.errors`.
"""

from __future__ import annotations

from balance.errors.base import ExchangeError, Retry, Source


class NoRoute(ExchangeError):
    """No route matches the request."""

    status = 404
    reason = "no_route"
    proxy_status = "destination_not_found"


class NoBackend(ExchangeError):
    """No backend of the route is available."""

    status = 503
    reason = "no_backend"
    proxy_status = "destination_unavailable"


class QueueFull(ExchangeError):
    """Every backend is at max_connections and the queue is full."""

    status = 503
    reason = "queue_full"
    proxy_status = "connection_limit_reached"


class QueueTimeout(ExchangeError):
    """Every backend stayed at max_connections until timeouts.queue ended."""

    status = 503
    reason = "queue_timeout"
    proxy_status = "connection_limit_reached"


class Stopping(ExchangeError):
    """Balance is stopping and the drain time is over."""

    status = 503
    reason = "stopping"
    proxy_status = "proxy_internal_response"


class FilterFailed(ExchangeError):
    """A filter of this server failed."""

    reason = "filter_error"


class FilterTimeout(ExchangeError):
    """A filter of this server did not finish within timeouts.filter."""

    status = 504
    reason = "filter_timeout"


class MatcherFailed(ExchangeError):
    """A route matcher of this server failed."""

    reason = "matcher_error"


class IdleTimeout(ExchangeError):
    """Nothing was sent on either side for timeouts.idle (layer 4) or websocket.idle_timeout."""

    source = Source.CLIENT
    reason = "idle_timeout"
    proxy_status = "connection_timeout"


class OutOfResources(ExchangeError):
    """A connection to a backend could not even be tried: no descriptors, ports or memory are left to this process."""

    status = 503
    retry = Retry.UNSENT
    reason = "out_of_resources"
    proxy_status = "proxy_internal_error"


class WebSocketFilterFailed(ExchangeError):
    """A filter of WebSocket messages raised an exception; its traceback is in the log."""

    reason = "websocket_filter_failed"


class ClosedByFilter(ExchangeError):
    """A filter closed the WebSocket connection."""

    source = Source.CLIENT
    reason = "websocket_filter_closed"
