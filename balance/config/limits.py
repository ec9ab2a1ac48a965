"""What a configuration may say about time, sizes and further attempts.

Rule of this file: as in `balance.config.schema`.
"""

from __future__ import annotations

from pydantic import Field

from balance.config.section import Section
from balance.config.values import Duration, Size


class Timeouts(Section):
    """Time limits. By progress, not by total, except `head` and `connect`. 0 is no limit."""

    connect: Duration = Field(default=5.0, ge=0, description="Opening a connection to a backend (504).")
    read: Duration = Field(
        default=30.0,
        ge=0,
        description="Waiting for more of a response (504), or of a request's body (408). `mode: tcp`: waiting for more "
        "from one side after the other has ended.",
    )
    write: Duration = Field(default=30.0, ge=0, description="Waiting for a peer to take more of what is sent to it.")
    idle: Duration = Field(
        default=75.0,
        ge=0,
        description="Waiting for the next request on a client's connection. `mode: tcp`: silence on both sides of a "
        "connection; `1h` there if it is not given.",
    )
    head: Duration = Field(
        default=10.0,
        ge=0,
        description="Receiving a request head, from its first byte to its last (408); a PROXY header; a ClientHello.",
    )
    queue: Duration = Field(default=5.0, ge=0, description="Waiting for a backend below its `max_connections` (503).")
    filter: Duration = Field(
        default=10.0, ge=0, description="Waiting for a filter that asks somebody else (504, `filter_timeout`)."
    )
    drain: Duration = Field(default=30.0, ge=0, description="Finishing what is under way when Balance stops.")


class Limits(Section):
    """Sizes above which a request is refused."""

    head_size: Size = Field(default=32 * 1024, ge=1024, le=1 << 20, description="Request or response head (431, 502).")
    header_fields: int = Field(default=100, ge=1, le=1000, description="Fields in a head (431, 502).")
    uri_length: Size = Field(default=8 * 1024, ge=64, le=1 << 20, description="Request target (414).")
    body_size: Size = Field(default=0, ge=0, description="Request body (413). 0 is no limit.", examples=["10MB"])


class Retries(Section):
    """Further attempts, where RFC 9110 allows them. A failed connect is always passed on to the next backend."""

    attempts: int = Field(default=1, ge=0, le=10, description="Replays of one request on a fresh connection.")
    budget: float = Field(
        default=0.2, ge=0, le=1, strict=False, description="Replays as a share of all requests of late."
    )
    min_budget: int = Field(default=3, ge=0, description="Replays in ten seconds that are allowed whatever the share.")
    replay_size: Size = Field(default=64 * 1024, ge=0, le=1 << 24, description="Request body kept for a replay.")
