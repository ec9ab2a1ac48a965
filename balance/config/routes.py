"""What a configuration may say about HTTP, and about routes of either mode.

Rule of this file: as in `balance.config.schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from balance.config.backends import LoadBalancer
from balance.config.http2 import DEFAULT_SESSION, Http2, SessionName
from balance.config.section import PluginConfig, Section
from balance.config.tls import BackendTlsValue, Fingerprint, Subject
from balance.config.values import (
    Duration,
    EditedName,
    FieldValue,
    HostHeader,
    HostPattern,
    PathPrefix,
    ProtocolId,
    Size,
    Token,
)
from balance.config.websocket import WebSocketConfig, WebSocketDefaults

Underscores = Literal["pass", "drop", "refuse"]


def _frozen(value: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(value)


Fields = Annotated[dict[Token, FieldValue], AfterValidator(_frozen)]
Edits = Annotated[dict[EditedName, FieldValue], AfterValidator(_frozen)]


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
        "then the order of the file.",
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
