"""The configuration: one YAML file, typed and checked."""

from balance.config.backends import ALGORITHMS, BackendConfig, HealthCheck, LoadBalancer
from balance.config.discovery import DiscoveryConfig
from balance.config.errors import ConfigError, Problem
from balance.config.limits import Limits, Retries, Timeouts
from balance.config.load import load, loads
from balance.config.made import made
from balance.config.routes import HeaderEditsConfig, Http, RouteConfig, TcpRouteConfig
from balance.config.schema import AccessLogConfig, Config, Listener, Metrics, NamedListener
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
