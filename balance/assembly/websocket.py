"""What routes say about WebSocket.

Rule of this file: as in `balance.assembly`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.config.websocket import WebSocketConfig, effective
from balance.registry import build as build_plugin
from balance.websocket.options import MessageOptions, WebSocketOptions

if TYPE_CHECKING:
    from balance.config import Listener


def websocket_options(config: Listener, own: WebSocketConfig | None) -> WebSocketOptions:
    asked = effective(config.http.enable_websocket, config.http.websocket, own)
    return WebSocketOptions(
        enabled=asked.enabled,
        ignore=asked.if_disabled == "ignore",
        origins=asked.origins,
        idle_timeout=asked.idle_timeout,
        close_timeout=asked.close_timeout,
        subprotocols=asked.subprotocols,
        messages=_messages(asked) if asked.needs_messages else None,
    )


def _messages(asked: WebSocketConfig) -> MessageOptions:
    from balance.websocket.autobahn_adapter import AutobahnEndpoints  # large, and few need it

    return MessageOptions(
        AutobahnEndpoints(
            max_message=asked.max_message_size,
            max_frame=asked.max_frame_size,
            compress_client=asked.compression.client,
            compress_backend=asked.compression.backend,
            context_takeover=asked.compression.context_takeover,
        ),
        ping_client=asked.ping_client,
        ping_backend=asked.ping_backend,
        ping_timeout=asked.ping_timeout,
        filters=[build_plugin("websocket_filter", each) for each in asked.filters],
    )
