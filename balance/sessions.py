"""From a configuration to HTTP/2 sessions.

Rule of this file: nothing but this knows which implementations of `balance.codec.http2.session.Session` there are.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from balance.codec.http1 import HeadLimits
from balance.codec.http2.session import SessionOptions

if TYPE_CHECKING:
    from balance.codec.http2.session import Session
    from balance.config import BackendConfig, Http, Limits, Listener

#: Name in the configuration to module. Loaded when a configuration asks for it.
_MODULES: Final = {"h2": "balance.codec.http2.h2_session", "lean": "balance.codec.http2.lean"}


def server_sessions(config: Listener, *, connect: bool = False) -> Callable[[], Session] | None:
    """What makes the session of a client's connection; None where HTTP/2 is switched off.

    :param connect: offer extended CONNECT (RFC 8441)
    """
    if not config.http.enable_http2:
        return None
    return _maker(config.http.http2_session, "ServerSession", _options(config.http, config.limits, connect))


def client_sessions(config: Listener, backend: BackendConfig) -> Callable[[], Session]:
    """What makes the session of a connection to a backend."""
    name = backend.http2_session or config.http.http2_session
    return _maker(name, "ClientSession", _options(config.http, config.limits))


def _maker(name: str, cls: str, options: SessionOptions) -> Callable[[], Session]:
    implementation: Any = getattr(import_module(_MODULES[name]), cls)
    return lambda: implementation(options)


def _options(http: Http, limits: Limits, connect: bool = False) -> SessionOptions:
    http2 = http.http2
    return SessionOptions(
        max_streams=http2.max_streams,
        stream_window=http2.stream_window,
        connection_window=http2.connection_window,
        max_frame_size=http2.max_frame_size,
        header_list_size=http2.header_list_size,
        head_limits=HeadLimits(limits.head_size, limits.header_fields, limits.uri_length),
        continuations=http2.continuations,
        reset_burst=http2.reset_burst,
        reset_rate=http2.reset_rate,
        control_burst=http2.control_burst,
        control_rate=http2.control_rate,
        settings_timeout=http2.settings_timeout,
        connect=connect,
    )
