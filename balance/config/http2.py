"""What a configuration may say about HTTP/2: limits, defences, and which session serves it.

Rule of this file: as in `balance.config.schema`. Which protocols go with which `tls` is checked here, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import Field

from balance.config.document import Document, Path
from balance.config.errors import Problem
from balance.config.section import Section
from balance.config.values import Duration, Size

#: How a backend is spoken to. `auto`: what ALPN chooses over TLS, HTTP/1.1 in clear text.
BackendProtocol = Literal["auto", "http/1.1", "h2", "h2c"]
SessionName = Literal["lean", "h2"]
DEFAULT_SESSION: Final[SessionName] = "lean"


class Http2(Section):
    """HTTP/2: limits and defences. Each limit that is passed is counted in `balance_errors_total`, by its reason."""

    max_streams: int = Field(
        default=100, ge=1, le=100_000, description="Requests a client may have under way on one connection."
    )
    stream_window: Size = Field(
        default=64 * 1024,
        ge=1024,
        le=(1 << 31) - 1,
        description="What a peer may send on a stream before it is passed on. More lets distant peers send faster.",
    )
    connection_window: Size = Field(
        default=1 << 20, ge=64 * 1024, le=(1 << 31) - 1, description="The same, for all streams of a connection."
    )
    max_frame_size: Size = Field(
        default=16 * 1024, ge=16 * 1024, le=(1 << 24) - 1, description="Largest frame that is taken."
    )
    header_list_size: Size = Field(
        default=64 * 1024,
        ge=4096,
        le=1 << 24,
        description="Uncompressed head, as RFC 9113 counts it, above which the connection is ended (HPACK bombs). "
        "Smaller heads that break `limits` are answered 431.",
    )
    continuations: int = Field(default=16, ge=0, le=1000, description="CONTINUATION frames of one head.")
    reset_burst: int = Field(
        default=100,
        ge=1,
        description="Streams a client may reset, or make us reset, at once (rapid reset, MadeYouReset).",
    )
    reset_rate: float = Field(default=33.0, gt=0, strict=False, description="And each second in the long run.")
    control_burst: int = Field(
        default=1000,
        ge=10,
        description="PING, SETTINGS, PRIORITY, unknown and empty frames, and small WINDOW_UPDATEs, at once.",
    )
    control_rate: float = Field(default=200.0, gt=0, strict=False, description="And each second in the long run.")
    settings_timeout: Duration = Field(
        default=10.0,
        ge=0,
        description="How long a peer may take to acknowledge our SETTINGS, and with them these limits. 0 is no limit.",
    )
    ping_interval: Duration = Field(
        default=30.0,
        ge=0,
        description="Backends: silence under work after which a PING asks whether the connection lives. 0 is never.",
    )
    ping_timeout: Duration = Field(default=10.0, gt=0, description="Backends: how long its answer may take.")


def check_protocols(document: Document, data: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Whether what a backend speaks goes with TLS or without."""
    http = data.get("http")
    routes = http.get("routes") if isinstance(http, dict) else None
    known = routes if isinstance(routes, list) else []
    by_route = any(isinstance(route, dict) and route.get("tls") for route in known)
    backends = data.get("backends")
    for index, backend in enumerate(backends if isinstance(backends, list) else []):
        if not isinstance(backend, dict):
            continue
        place: Path = (*path, "backends", index, "protocol")
        secure = backend.get("tls") not in (None, False)
        if backend.get("protocol") == "h2" and not secure and not by_route:
            message = "found 'h2', which is HTTP/2 over TLS; add tls: true, or take h2c for clear text"
            yield document.problem(place, message)
        elif backend.get("protocol") == "h2c" and secure:
            yield document.problem(place, "found 'h2c', which is HTTP/2 in clear text; take h2 with tls")
