"""What a configuration may say about WebSocket.

Rule of this file: as in `balance.config.schema`. A route says what differs from its listener, key by key.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from balance.config.section import PluginConfig, Section
from balance.config.values import Duration, Size, Token, found


def _origin(value: Any) -> str:
    """As browsers write it: scheme, host, port unless it is the usual one; or ``null``."""
    wanted = "an origin is needed, such as https://app.example.com or http://localhost:3000, without a path"
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; {wanted}")
    if value == "null":
        return value
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(f"{found(value)}; {wanted}") from None
    if not parts.scheme or not parts.hostname or value.lower() != f"{parts.scheme}://{parts.netloc}".lower():
        raise ValueError(f"{found(value)}; {wanted}")
    if port is not None and port == {"http": 80, "https": 443}.get(parts.scheme):
        raise ValueError(f"{found(value)}; browsers leave the usual port out: {value.rpartition(':')[0]}")
    return value.lower()


Origin = Annotated[str, BeforeValidator(_origin)]


#: Keys that only messages mode understands.
_OF_MESSAGES: Final = (
    "max_message_size",
    "max_frame_size",
    "ping_client",
    "ping_backend",
    "compression",
    "filters",
)


class Compression(Section):
    """permessage-deflate (RFC 7692), where messages are relayed. Where bytes are, the ends agree by themselves."""

    client: bool = Field(default=False, description="Agree to it with clients that offer it.")
    backend: bool = Field(default=False, description="Offer it to backends.")
    context_takeover: bool = Field(
        default=True,
        description="Keep the compressor's window from message to message: smaller messages, about 300 kB for each "
        "connection and side.",
    )


class WebSocketConfig(Section):
    """WebSocket connections: whether, from where, and for how long."""

    enabled: bool = Field(default=True, description="Pass upgrades on. `http.enable_websocket: false` is the same.")
    if_disabled: Literal["refuse", "ignore"] = Field(
        default="refuse",
        description="Where they are not passed on: `refuse` (426), or `ignore` the upgrade: the request goes on as any "
        "other, and the backend answers it.",
    )
    origins: tuple[Origin, ...] = Field(
        default=(),
        description="Pages that may open connections (403 for others, and for clients that name none). Empty: all.",
        examples=[["https://app.example.com"]],
    )
    idle_timeout: Duration = Field(
        default=3600.0, ge=0, description="Silence on both sides, pings included. The client is then told (1001)."
    )
    close_timeout: Duration = Field(
        default=5.0, gt=0, description="Waiting for a client to answer a Close frame that Balance sent."
    )
    subprotocols: tuple[Token, ...] = Field(
        default=(),
        description="Subprotocols that may be spoken: a client has to offer one of them (403), a backend to choose one "
        "(502). Empty: whatever they agree on.",
        examples=[["graphql-transport-ws"]],
    )
    messages: bool = Field(
        default=False,
        description="Relay messages instead of bytes: they are checked (UTF-8, masks, RFC 6455) and counted, and the "
        "keys below hold. Any of those switches it on.",
    )
    max_message_size: Size = Field(
        default=16 * 1024 * 1024, ge=1, le=1 << 31, description="A message, decompressed (closed with 1009)."
    )
    max_frame_size: Size = Field(
        default=0, ge=0, le=1 << 31, description="A frame (closed with 1009). 0: only messages are limited."
    )
    ping_client: Duration = Field(
        default=0.0, ge=0, description="Ask a client that is silent for so long whether it is there. 0 is never."
    )
    ping_backend: Duration = Field(default=0.0, ge=0, description="Likewise, a backend.")
    ping_timeout: Duration = Field(
        default=10.0, gt=0, description="Waiting for the answer. Whoever does not give it is cut off, the other told."
    )
    compression: Compression = Field(default=Compression(), description="Compression, on each side for itself.")
    filters: tuple[PluginConfig, ...] = Field(
        default=(),
        description="What sees, changes, drops and answers messages (`IWebSocketFilter`), in this order for those of "
        "clients.",
    )

    @property
    def needs_messages(self) -> bool:
        """Whether anything is asked for that a relay of bytes cannot do."""
        return self.messages or any(getattr(self, key) for key in _OF_MESSAGES if key in self.model_fields_set)


class WebSocketDefaults(WebSocketConfig):
    """The same, for every route that says nothing else."""

    drain_spread: Duration = Field(
        default=5.0,
        ge=0,
        description="When Balance stops and `timeouts.drain` is over, open connections are closed (1001) evenly over "
        "this time, so that their clients do not all come back at once.",
    )


def effective(enabled: bool, listener: WebSocketDefaults, route: WebSocketConfig | None) -> WebSocketConfig:
    """What holds for a route: its own keys, then its listener's, then `http.enable_websocket`."""
    given = {key: getattr(listener, key) for key in listener.model_fields_set & set(WebSocketConfig.model_fields)}
    given.setdefault("enabled", enabled)
    if route is not None:
        given |= {key: getattr(route, key) for key in route.model_fields_set}
    return WebSocketConfig().model_copy(update=given)
