"""What is counted, as plain integers.

Rule of this file: counting is an addition to an attribute, in place, by whoever sees it happen. Names, labels and
formats are made by those who ask (`balance.observe.prometheus`, `balance.observe.status`).
"""

from __future__ import annotations


class ListenerCounters:
    """One listener's. ``active`` and ``connections_open`` go up and down, ``connections_limit`` stays, everything else
    only goes up.

    ``responses[n]`` counts status n00 to n99; ``responses[0]`` exchanges that ended without one.
    """

    __slots__ = (
        "active",
        "bytes_in",
        "bytes_out",
        "connections_accepted",
        "connections_limit",
        "connections_open",
        "connections_paused",
        "errors",
        "header_bytes_packed",
        "header_bytes_plain",
        "http2_connections",
        "name",
        "requests",
        "responses",
        "retries",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.active = 0
        self.connections_accepted = 0
        self.connections_open = 0
        #: `max_connections`, and how often it was reached, so that nothing was accepted for a while.
        self.connections_limit = 0
        self.connections_paused = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.retries = 0
        self.http2_connections = 0
        #: Of heads on HTTP/2 connections that have ended, both directions: before HPACK, and as they were sent.
        self.header_bytes_plain = 0
        self.header_bytes_packed = 0
        #: Reason code (`balance.errors`) to number.
        self.errors: dict[str, int] = {}
        self.responses = [0] * 6

    def count_error(self, reason: str) -> None:
        self.errors[reason] = self.errors.get(reason, 0) + 1


class TlsCounters:
    """A TLS listener's: ``handshakes`` that succeeded, ``resumed`` ones among them; ``failures`` by reason."""

    __slots__ = ("failures", "handshakes", "reload_failures", "reloads", "resumed")

    def __init__(self) -> None:
        self.handshakes = 0
        self.resumed = 0
        self.failures: dict[str, int] = {}
        #: Times changed certificates were taken up, and times they could not be.
        self.reloads = 0
        self.reload_failures = 0

    def count_failure(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1
