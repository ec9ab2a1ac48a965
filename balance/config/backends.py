"""What a configuration may say about servers, how one of them is chosen, and when one is left out.

Rule of this file: as in `balance.config.schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from balance.config.http2 import BackendProtocol, SessionName
from balance.config.section import PluginConfig, Section
from balance.config.tls import BackendTlsValue
from balance.config.values import BackendAddress, Duration, HashKey, one_of

#: The algorithms of the dialect, and `random`. Plugins add to them.
ALGORITHMS: Final = (
    "round-robin",
    "weighted-round-robin",
    "least-connections",
    "weighted-least-connections",
    "least-connections-weighted",
    "consistent-hash",
    "bounded-consistent-hash",
    "session-affinity",
    "random",
)


class BackendConfig(Section):
    """One server."""

    name: str = Field(min_length=1, description="Unique name, used by routes, logs and statistics.", examples=["api-1"])
    address: BackendAddress = Field(
        description="Where it listens: `host:port`, `[IPv6]:port` or `unix:/path`.", examples=["10.0.0.11:9001"]
    )
    weight: int = Field(
        default=1,
        ge=0,
        le=1_000_000,
        description="Share of the work, for weighted algorithms. With 0 it takes work only when nothing else is left.",
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        description="Requests (`mode: tcp`: connections) it is given at a time; more wait in a queue. 0 is no limit.",
    )
    send_proxy: Literal["v1", "v2"] | None = Field(
        default=None,
        description="`mode: tcp`: begin each connection with a PROXY protocol header that names the client.",
    )
    tls: BackendTlsValue = Field(default=None, description="Speak TLS with it: `true`, or a mapping.")
    protocol: BackendProtocol = Field(
        default="auto",
        description="`mode: http`: `http/1.1`, `h2` (over TLS), `h2c` (HTTP/2 in clear text), or `auto`: what ALPN "
        "chooses over TLS, HTTP/1.1 in clear text.",
    )
    http2_session: SessionName | None = Field(
        default=None, description="As `http.http2_session`, for connections to this backend."
    )


class LoadBalancer(Section):
    """How a backend is chosen."""

    algorithm: str = Field(
        default="round-robin",
        description="Name of an algorithm: "
        + ", ".join(f"`{a}`" for a in ALGORITHMS)
        + ", a plugin's, or the dotted path of one: `package.module:Class`.",
        examples=["least-connections"],
    )
    options: Mapping[str, Any] = Field(
        default_factory=dict,
        description="What a plugin's algorithm understands, says its documentation.",
    )
    hash_key: HashKey = Field(
        default="source-ip",
        description="What `consistent-hash`, `bounded-consistent-hash` and `session-affinity` recognise a client by: "
        "`source-ip`, `path`, `header:NAME`, `cookie:NAME`. With session-affinity, a cookie is one that Balance sets.",
        examples=["header:X-Tenant"],
    )
    load_factor: float = Field(
        default=1.25,
        gt=1.0,
        strict=False,
        description="`bounded-consistent-hash`: how far above the average a backend may be loaded.",
    )
    virtual_nodes: int = Field(
        default=150, ge=1, le=10_000, description="Points on the hash ring for each unit of weight."
    )
    affinity_ttl: Duration = Field(
        default=600.0, gt=0, description="`session-affinity`: how long a silent client is remembered."
    )
    max_queue: int = Field(
        default=128,
        ge=0,
        description="Requests that may wait while every backend is at `max_connections`. 0 is no queue.",
    )
    secret: str = Field(
        default="",
        description="`session-affinity` with a cookie: makes its values, so that they stay the same after a restart "
        "and on other instances. At least 16 characters; without it, one is made at each start.",
    )

    @field_validator("algorithm", mode="before")
    @classmethod
    def _known_algorithm(cls, value: Any, info: ValidationInfo) -> str:
        if isinstance(value, str) and ":" in value:
            return value
        return one_of(value, (info.context or {}).get("algorithms", ALGORITHMS))

    @field_validator("options", mode="after")
    @classmethod
    def _frozen_options(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return MappingProxyType(dict(value))

    @field_validator("secret", mode="after")
    @classmethod
    def _long_secret(cls, value: str) -> str:
        if value and len(value) < 16:
            raise ValueError("the secret needs at least 16 characters")
        return value


class HealthCheck(Section):
    """Passive health: what requests tell about backends. (Active probes are not built yet.)"""

    enable_passive_checks: bool = Field(default=True, description="Take backends out that fail.")
    rule: PluginConfig | None = Field(
        default=None,
        description="`mode: http`: what is a failure. Without, whatever a backend does wrong; `statuses`: some "
        "responses, too; or a plugin's.",
        examples=[{"use": "statuses", "options": {"statuses": ["500", "502-504"]}}],
    )
    consecutive_failures: int = Field(
        default=5, ge=0, description="Failures in a row that take a backend out. 0 is never."
    )
    error_rate_threshold: float = Field(
        default=0.0,
        ge=0,
        le=1,
        strict=False,
        description="Share of failed requests that takes a backend out. 0 is never.",
    )
    passive_check_window: Duration = Field(default=60.0, gt=0, description="Over which that share is taken.")
    ejection_time: Duration = Field(
        default=30.0, gt=0, description="How long it stays out; the n-th time in a row, n times that."
    )
    max_ejection_time: Duration = Field(default=300.0, gt=0, description="Never longer than this.")
    max_ejected: float = Field(
        default=0.5,
        ge=0,
        le=1,
        strict=False,
        description="Share of a route's backends that may be out. The last one never is.",
    )
