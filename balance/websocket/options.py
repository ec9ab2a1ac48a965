"""What a route asks of WebSocket connections, compiled from the configuration once.

Rule of this file: it decides from heads alone, and touches no connection.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from balance.codec.websocket import EXTENSIONS, PROTOCOL, check_request
from balance.errors import BadResponse, OriginRefused, SubprotocolRefused, UpgradeRefused
from balance.model import RequestHead, ResponseHead

if TYPE_CHECKING:
    from balance.websocket.endpoint import Endpoints


class MessageOptions:
    """What makes a route relay messages instead of bytes.

    :param endpoints: speaks WebSocket
    :param ping_client: seconds of silence after which the client is asked whether it is there; 0 is never
    :param ping_backend: likewise
    :param ping_timeout: seconds for the answer
    :param filters: `IWebSocketFilter`, in the order in which they see what clients send
    """

    __slots__ = ("endpoints", "filters", "ping_backend", "ping_client", "ping_timeout")

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        ping_client: float = 0.0,
        ping_backend: float = 0.0,
        ping_timeout: float = 10.0,
        filters: Sequence[Any] = (),
    ) -> None:
        self.endpoints = endpoints
        self.ping_client = ping_client
        self.ping_backend = ping_backend
        self.ping_timeout = ping_timeout
        self.filters = tuple(filters)


class Handshake:
    """What one connection has agreed on so far.

    ``extensions`` and ``protocols`` are the values of the client's fields; the other two are what
    `Endpoints.agree_with_client` and `agree_with_backend` returned.
    """

    __slots__ = ("backend_extension", "client_extension", "extensions", "protocols")

    def __init__(self, request: RequestHead) -> None:
        self.extensions = request.headers.get_all(EXTENSIONS)
        self.protocols = request.headers.get_all(PROTOCOL)
        self.client_extension: Any = None
        self.backend_extension: Any = None


class WebSocketOptions:
    """
    :param enabled: whether upgrades are passed on
    :param ignore: where they are not: answer as if none were asked for, instead of 426
    :param origins: those of browsers' pages that are let in; empty for all
    :param subprotocols: those that may be spoken, one of which must be; empty for whatever the ends agree on
    :param idle_timeout: seconds of silence on both sides
    :param close_timeout: seconds for a client to answer a Close frame
    :param messages: None to relay bytes
    """

    __slots__ = ("close_timeout", "enabled", "idle_timeout", "ignore", "messages", "origins", "subprotocols")

    def __init__(
        self,
        *,
        enabled: bool = True,
        ignore: bool = False,
        origins: Collection[str] = (),
        subprotocols: Sequence[str] = (),
        idle_timeout: float = 3600.0,
        close_timeout: float = 5.0,
        messages: MessageOptions | None = None,
    ) -> None:
        self.enabled = enabled
        self.ignore = ignore
        self.origins = frozenset(origin.encode().lower() for origin in origins)
        self.subprotocols = frozenset(name.encode() for name in subprotocols)
        self.idle_timeout = idle_timeout
        self.close_timeout = close_timeout
        self.messages = messages

    def admit(self, request: RequestHead) -> Handshake | None:
        """Check a request that asks for WebSocket, and make it fit for the backend.

        :returns: None where its wish is ignored
        :raises UpgradeRefused: switched off, or a version that is not spoken
        :raises OriginRefused: a page of another origin
        :raises SubprotocolRefused: it offers none that may be spoken
        :raises BadRequest: no valid handshake
        """
        if not self.enabled:
            if not self.ignore:
                raise UpgradeRefused
            request.upgrade = b""
            return None
        check_request(request)
        if self.origins and (request.headers.get(b"origin") or b"").lower() not in self.origins:
            raise OriginRefused
        request.expect_continue = False
        handshake = Handshake(request)
        if self.subprotocols:
            allowed = [name for name in _names(handshake.protocols) if name in self.subprotocols]
            if not allowed:
                raise SubprotocolRefused
            request.headers.set(b"Sec-WebSocket-Protocol", b", ".join(allowed))
        if self.messages is not None:
            request.headers.remove(EXTENSIONS)
            offer = self.messages.endpoints.offer()
            if offer:
                request.headers.add(b"Sec-WebSocket-Extensions", offer)
        return handshake

    def accept(self, handshake: Handshake, response: ResponseHead) -> None:
        """Check a backend's agreement, and make it fit for the client.

        :raises BadResponse: it agreed to what was not asked for
        """
        chosen = response.headers.get_all(PROTOCOL)
        if len(chosen) > 1 or (chosen and chosen[0] not in _names(handshake.protocols)):
            raise BadResponse("the backend chose a WebSocket subprotocol that was not offered")
        if self.subprotocols and (not chosen or chosen[0] not in self.subprotocols):
            raise BadResponse("the backend chose none of the WebSocket subprotocols of the route")
        if self.messages is None:
            return
        endpoints = self.messages.endpoints
        handshake.backend_extension = endpoints.agree_with_backend(response.headers.get_all(EXTENSIONS))
        answer, handshake.client_extension = endpoints.agree_with_client(handshake.extensions)
        response.headers.remove(EXTENSIONS)
        if answer:
            response.headers.add(b"Sec-WebSocket-Extensions", answer)


def _names(values: Sequence[bytes]) -> list[bytes]:
    """The members of a list of subprotocols, whose case matters."""
    return [name for name in (part.strip(b" \t") for value in values for part in value.split(b",")) if name]


DEFAULT: Final = WebSocketOptions()
