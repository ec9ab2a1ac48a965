"""What a configuration may say: every key, its type, default, unit and meaning.

Rule of this file: it is the only list of keys. The parser, its messages and doc/configuration.md are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from balance.config.discovery import DiscoveryConfig
from balance.config.http2 import DEFAULT_SESSION, BackendProtocol, Http2, SessionName
from balance.config.section import PluginConfig, Section
from balance.config.tls import BackendTlsValue, Fingerprint, Subject, TlsConfig
from balance.config.values import (
    BackendAddress,
    Duration,
    EditedName,
    FieldValue,
    HashKey,
    HostHeader,
    HostPattern,
    ListenAddress,
    NetworkValue,
    PathPrefix,
    ProtocolId,
    Size,
    Token,
    one_of,
)
from balance.config.websocket import WebSocketConfig, WebSocketDefaults
from balance.model import Address

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

Underscores = Literal["pass", "drop", "refuse"]


def _frozen(value: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(value)


Fields = Annotated[dict[Token, FieldValue], AfterValidator(_frozen)]
Edits = Annotated[dict[EditedName, FieldValue], AfterValidator(_frozen)]


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
        + ", a plugin's, or the dotted path of one: "
        "`package.module:Class`.",
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


class HeaderEditsConfig(Section):
    """Edits of header fields: first `remove`, then `set`, then `add`."""

    set: Edits = Field(
        default_factory=dict, description="Fields that replace all of their name.", examples=[{"X-Team": "api"}]
    )
    add: Edits = Field(default_factory=dict, description="Fields that are added to what is there.")
    remove: tuple[EditedName, ...] = Field(
        default=(), description="Names of fields to drop.", examples=[["X-Powered-By"]]
    )


class RouteConfig(Section):
    """One route: conditions, of which all must hold, and what follows."""

    name: str = Field(min_length=1, description="Unique name, for logs and statistics.", examples=["api"])
    host: HostPattern = Field(
        default="",
        description="`a.example.com`, or `*.example.com` for every name below. Case and port do not matter. "
        "Empty: every host.",
        examples=["*.example.com"],
    )
    path_prefix: PathPrefix = Field(
        default="",
        description="Start of the path, in whole segments: `/v1` and `/v1/` both match `/v1`, `/v1/` and `/v1/x`, "
        "never `/v10`. Dot segments and escaped letters are resolved before the comparison.",
        examples=["/v1/"],
    )
    headers: Fields = Field(
        default_factory=dict,
        description="Fields that must be there with exactly these values.",
        examples=[{"X-API-Key": "premium"}],
    )
    methods: tuple[Token, ...] = Field(default=(), description="Methods; empty: all.", examples=[["GET", "HEAD"]])
    client_subject: Subject = Field(
        default="",
        description="Subject of the client's verified certificate (RFC 4514), exactly; see `tls.client_auth`.",
        examples=["CN=billing,O=Example"],
    )
    client_fingerprint: Fingerprint = Field(
        default="", description="Its SHA-256, in hex; colons and case do not matter."
    )
    client_verified: bool | None = Field(
        default=None, description="`true`: only clients with a verified certificate; `false`: only those without."
    )
    match: tuple[PluginConfig, ...] = Field(
        default=(), description="Matchers of plugins, all of which must agree.", examples=[["acme.match:from_inside"]]
    )
    backends: tuple[str, ...] = Field(
        default=(),
        min_length=1,
        description="Names of the backends that serve this route. Needed, unless there is a `resource`.",
        examples=[["api-1", "api-2"]],
    )
    resource: PluginConfig | None = Field(
        default=None, description="In place of backends: a `twisted.web` resource of a plugin, served in this process."
    )
    priority: int = Field(
        default=0,
        description="Routes of higher priority are tried first; then exact hosts before wildcards before none, longer "
        "prefixes, more headers; then the order of the file.",
        examples=[10],
    )
    load_balancer: LoadBalancer | None = Field(default=None, description="Its own, in place of the listener's.")
    request_headers: HeaderEditsConfig | None = Field(default=None, description="Edits of what is sent to the backend.")
    response_headers: HeaderEditsConfig | None = Field(default=None, description="Edits of what is sent to the client.")
    host_header: HostHeader = Field(
        default="pass",
        description="Host field sent to the backend: `pass` (the client's), `backend` (its address) or a name.",
    )
    underscore_headers: Underscores | None = Field(default=None, description="As in `http`, for this route.")
    max_body_size: Size | None = Field(default=None, description="As `limits.body_size`, for this route.")
    websocket: WebSocketConfig | None = Field(
        default=None, description="WebSocket, where this route differs from `http.websocket`."
    )
    tls: BackendTlsValue = Field(
        default=None,
        description="TLS with its backends, in place of what they say themselves: `true`, `false`, or a mapping.",
    )
    filters: tuple[PluginConfig, ...] = Field(
        default=(),
        description="Filters, in the order in which they see a request, after those of `http.filters`.",
        examples=[["acme.auth:require_token"]],
    )


class TcpRouteConfig(Section):
    """One route of `mode: tcp`, by what a TLS ClientHello asks for; the TLS itself passes through untouched."""

    name: str = Field(min_length=1, description="Unique name, for logs and statistics.", examples=["orders"])
    sni: HostPattern = Field(
        default="",
        description="Server name: `a.example.com`, or `*.example.com` for every name below. Empty: every name, "
        "and none.",
        examples=["*.db.example.com"],
    )
    alpn: tuple[ProtocolId, ...] = Field(
        default=(), description="Protocols, of which the client offers at least one; empty: any.", examples=[["h2"]]
    )
    backends: tuple[str, ...] = Field(
        min_length=1, description="Names of the backends that serve this route.", examples=[["db-1", "db-2"]]
    )
    priority: int = Field(
        default=0,
        description="Routes of higher priority are tried first; then exact names before wildcards before none; "
        "then the "
        "order of the file.",
        examples=[10],
    )
    load_balancer: LoadBalancer | None = Field(default=None, description="Its own, in place of the listener's.")


class Http(Section):
    """HTTP in general, and the routes."""

    enable_websocket: bool = Field(default=True, description="WebSocket connections are passed on. See `websocket`.")
    websocket: WebSocketDefaults = Field(default=WebSocketDefaults(), description="WebSocket, for all routes.")
    enable_http2: bool = Field(
        default=True,
        description="HTTP/2 for clients: by ALPN over TLS, and with prior knowledge (h2c) in clear text.",
    )
    http2: Http2 = Field(default=Http2(), description="Limits and defences of HTTP/2.")
    http2_session: SessionName = Field(
        default=DEFAULT_SESSION, description="What HTTP/2 is spoken with: our own lean session, or the `h2` package."
    )
    max_idle_conns_per_host: int = Field(default=100, ge=0, description="Idle connections kept to each backend.")
    idle_conn_timeout: Duration = Field(default=90.0, ge=0, description="How long they are kept.")
    forwarded: bool = Field(default=False, description="Send `Forwarded` (RFC 7239) besides `X-Forwarded-*`.")
    via: bool = Field(default=False, description="Add to `Via`, in both directions.")
    underscore_headers: Underscores = Field(
        default="pass",
        description="Fields with an underscore in their name, which WSGI and CGI programs mistake for one with a "
        "hyphen: `pass`, `drop`, or `refuse` the request (400).",
    )
    filters: tuple[PluginConfig, ...] = Field(
        default=(),
        description="Filters of every request, before there is a route, in the order in which they see it.",
        examples=[["request-id"]],
    )
    routes: tuple[RouteConfig, ...] = Field(
        default=(), description="Without routes, every request may go to every backend."
    )


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


class Metrics(Section):
    """Statistics, on a port of their own."""

    enabled: bool = Field(default=False, description="Serve them.")
    listen: ListenAddress = Field(
        default=Address("", 9090), description="Address: `:port`, `host:port`.", examples=[":9090"]
    )
    path: PathPrefix = Field(
        default="/metrics",
        min_length=2,
        description="Path of Prometheus' format; JSON is at `/status`, and `/explain` answers questions.",
    )


class AccessLogConfig(Section):
    """One line for each request."""

    path: str = Field(min_length=1, description="File to append to; `-` for standard output.", examples=["-"])
    format: Literal["combined", "json"] = Field(default="combined", description="`combined` (Apache's), or `json`.")


class Listener(Section):
    """An address, and what is done with the connections it accepts."""

    mode: Literal["http", "tcp"] = Field(
        default="http", description="`http`: requests are routed (layer 7). `tcp`: connections are (layer 4)."
    )
    listen: ListenAddress = Field(
        default=Address("", 8080),
        description="Where to accept connections: `:port` (every address), `host:port`, `[IPv6]:port`, `unix:/path`.",
        examples=[":8080"],
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        description="Connections of clients at a time. At the limit nothing is accepted: clients wait in the "
        "kernel's queue until a place is given back. 0 is no limit.",
        examples=[10_000],
    )
    backends: tuple[BackendConfig, ...] = Field(default=(), description="The servers. (Older name: `nodes`.)")
    discovery: tuple[DiscoveryConfig, ...] = Field(
        default=(), description="Backends that are found while Balance runs, besides those that are named here."
    )
    load_balancer: LoadBalancer = Field(default=LoadBalancer(), description="How a backend is chosen.")
    http: Http = Field(default=Http(), description="`mode: http`: HTTP, and the routes.")
    routes: tuple[TcpRouteConfig, ...] = Field(
        default=(), description="`mode: tcp`: routes by TLS server name. Without any, all goes to all backends."
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="Time limits.")
    limits: Limits = Field(default=Limits(), description="Size limits.")
    retries: Retries = Field(default=Retries(), description="Further attempts.")
    health_check: HealthCheck = Field(default=HealthCheck(), description="Passive health.")
    trusted_proxies: tuple[NetworkValue, ...] = Field(
        default=(),
        description="Networks whose `X-Forwarded-*`, and PROXY headers, are believed.",
        examples=[["10.0.0.0/8"]],
    )
    tls: TlsConfig = Field(default=TlsConfig(), description="TLS with clients.")
    accept_proxy: bool = Field(
        default=False,
        description="Connections from `trusted_proxies` begin with a PROXY protocol header, version 1 or 2, "
        "which names the client, in clear text also where TLS follows. One without is closed; other peers are taken "
        "as they are.",
    )

    @property
    def label(self) -> str:
        """The listener's name in logs and statistics."""
        return str(self.listen)

    @property
    def prefix(self) -> str:
        """What stands before the names of its pools in statistics."""
        return ""


class NamedListener(Listener):
    """One of several listeners. What it does not say is taken from the top of the file, key by key."""

    name: str = Field(min_length=1, description="Unique name, for logs and statistics.", examples=["postgres"])

    @property
    def label(self) -> str:
        return self.name

    @property
    def prefix(self) -> str:
        return f"{self.name}/"


class Config(Listener):
    """A configuration file: one listener, or several under `listeners`."""

    listeners: tuple[NamedListener, ...] = Field(
        default=(),
        description="Several listeners in one process. Each may say all that a file of one listener says; what "
        "it does not "
        "say is taken from the top of the file. `listen` then belongs to each of them.",
    )
    demo_backends: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        default=(),
        description="Ports of small servers to run inside the process, for a first try; they become backends "
        "`demo-PORT`.",
        examples=[[9001, 9002, 9003]],
    )
    access_log: AccessLogConfig | None = Field(default=None, description="Absent: no access log.")
    metrics: Metrics = Field(default=Metrics(), description="Statistics.")
    statistics: tuple[PluginConfig, ...] = Field(
        default=(),
        description="Where else statistics go: `statsd`, or plugins.",
        examples=[[{"use": "statsd", "options": {"address": "127.0.0.1:8125"}}]],
    )
    watchdog: Duration = Field(
        default=0.1,
        ge=0,
        description="Log a stack, with the plugin's name, when the event loop is blocked for longer. 0 is off.",
    )
    notices: tuple[str, ...] = Field(default=(), exclude=True, repr=False, description="")

    @property
    def each_listener(self) -> tuple[Listener, ...]:
        """What is listened on: the listeners, or the file itself where it is one."""
        return self.listeners or (self,)
