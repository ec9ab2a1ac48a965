"""What a configuration file may say: listeners, and what belongs to the process. Their sections are in files beside
this one.

Rule of these files: they are the only list of keys, each with its type, default, unit and meaning. The parser, its
messages and doc/configuration.md are made from it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from balance.config.backends import BackendConfig, HealthCheck, LoadBalancer
from balance.config.discovery import DiscoveryConfig
from balance.config.limits import Limits, Retries, Timeouts
from balance.config.routes import Http, TcpRouteConfig
from balance.config.section import PluginConfig, Section
from balance.config.tls import TlsConfig
from balance.config.values import Duration, ListenAddress, NetworkValue, PathPrefix
from balance.model import Address


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
        description="Several listeners in one process. Each may say all that a file of one listener says; what it "
        "does not say is taken from the top of the file. `listen` then belongs to each of them.",
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
