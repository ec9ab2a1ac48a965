"""The configuration: one YAML file, typed and checked."""

from balance.config.discovery import DiscoveryConfig
from balance.config.errors import ConfigError, Problem
from balance.config.load import load, loads
from balance.config.made import made
from balance.config.schema import (
    ALGORITHMS,
    AccessLogConfig,
    BackendConfig,
    Config,
    HeaderEditsConfig,
    HealthCheck,
    Http,
    Limits,
    Listener,
    LoadBalancer,
    Metrics,
    NamedListener,
    Retries,
    RouteConfig,
    TcpRouteConfig,
    Timeouts,
)
from balance.config.section import PluginConfig, Plugins
from balance.config.summary import summarise

__all__ = [
    "ALGORITHMS",
    "AccessLogConfig",
    "BackendConfig",
    "Config",
    "ConfigError",
    "DiscoveryConfig",
    "HeaderEditsConfig",
    "HealthCheck",
    "Http",
    "Limits",
    "Listener",
    "LoadBalancer",
    "Metrics",
    "NamedListener",
    "PluginConfig",
    "Plugins",
    "Problem",
    "Retries",
    "RouteConfig",
    "TcpRouteConfig",
    "Timeouts",
    "load",
    "loads",
    "made",
    "summarise",
]
