"""What a route asks of WebSocket connections, compiled from the configuration once.

Rule of this file: it decides from heads alone, and touches no connection.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from balance.codec.websocket import check_request
from balance.errors import OriginRefused, UpgradeRefused
from balance.model import RequestHead, ResponseHead


class WebSocketOptions:
    """
    :param enabled: whether upgrades are passed on
    :param ignore: where they are not: answer as if none were asked for, instead of 426
    :param origins: those of browsers' pages that are let in; empty for all
    :param idle_timeout: seconds of silence on both sides
    :param close_timeout: seconds for a client to answer a Close frame
    """

    __slots__ = ("close_timeout", "enabled", "idle_timeout", "ignore", "origins")

    def __init__(
        self,
        *,
        enabled: bool = True,
        ignore: bool = False,
        origins: Collection[str] = (),
        idle_timeout: float = 3600.0,
        close_timeout: float = 5.0,
    ) -> None:
        self.enabled = enabled
        self.ignore = ignore
        self.origins = frozenset(origin.encode().lower() for origin in origins)
        self.idle_timeout = idle_timeout
        self.close_timeout = close_timeout

    def admit(self, request: RequestHead) -> None:
        """Check a request that asks for WebSocket.

        :raises UpgradeRefused: switched off, or a version that is not spoken
        :raises OriginRefused: a page of another origin
        :raises BadRequest: no valid handshake
        """
        if not self.enabled:
            if not self.ignore:
                raise UpgradeRefused
            request.upgrade = b""
            return
        check_request(request)
        if self.origins and (request.headers.get(b"origin") or b"").lower() not in self.origins:
            raise OriginRefused
        request.expect_continue = False

    def accept(self, request: RequestHead, response: ResponseHead) -> None:
        """Check, and make fit for the client, a backend's agreement.

        :raises BadResponse: it agreed to what was not asked for
        """


DEFAULT: Final = WebSocketOptions()
