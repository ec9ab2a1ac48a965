"""Autobahn as the WebSocket implementation of messages mode.

Rule of this file: it is the only one that imports autobahn. Autobahn reads and writes frames, checks them, and
compresses; handshakes, connections and time limits are ours, so its own are out of use. What it shows is in
`balance.websocket.endpoint`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import txaio
from autobahn.websocket import compress as _compress
from autobahn.websocket import protocol as _protocol

from balance.codec.websocket import PROTOCOL_ERROR
from balance.errors import BadResponse
from balance.websocket.endpoint import EndpointOwner

# Its types are unfinished.
tx: Any = txaio
websocket: Any = _protocol
deflate: Any = _compress

tx.use_twisted()
# Called for each connection, for a debug message: half a millisecond for nobody.
websocket.pformat = lambda value: value

_DEFLATE: Final = "permessage-deflate"
_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015)))


class _Sink:
    """Where an endpoint writes."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


class _Endpoint:
    """What both ends have in common: Autobahn's hooks, led to an `EndpointOwner`."""

    log = tx.make_logger()

    def start(self, factory: Any, owner: EndpointOwner, write: Callable[[bytes], None], extension: Any) -> None:
        """Be as after a handshake."""
        me: Any = self
        me.factory = factory
        me.transport = _Sink(write)
        me.owner = owner
        websocket.WebSocketProtocol._connectionMade(me)  # not the client's own, which begins a handshake
        me._perMessageCompress = extension
        me.websocket_version = 13
        me.inside_message = False
        me.current_frame = None
        me.state = websocket.WebSocketProtocol.STATE_OPEN

    # --- Endpoint ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        me: Any = self
        if not me.failedByMe:
            me._dataReceived(data)

    def send(self, payload: bytes, binary: bool) -> None:
        me: Any = self
        if me.state == websocket.WebSocketProtocol.STATE_OPEN:
            me.sendMessage(payload, binary)

    def ping(self, payload: bytes) -> None:
        me: Any = self
        me.sendPing(payload)

    def close(self, code: int | None, reason: bytes) -> None:
        me: Any = self
        if me.state == websocket.WebSocketProtocol.STATE_OPEN:
            me.sendCloseFrame(code, reason or None)

    @property
    def open(self) -> bool:
        me: Any = self
        return bool(me.state == websocket.WebSocketProtocol.STATE_OPEN)

    # --- Autobahn's hooks: names and signatures are its own ---------------------------------------------------

    def _onMessageBegin(self, isBinary: bool) -> None:
        me: Any = self
        me.onMessageBegin(isBinary)

    def _onMessageFrameBegin(self, length: int) -> None:
        me: Any = self
        me.onMessageFrameBegin(length)

    def _onMessageFrameData(self, payload: bytes) -> None:
        me: Any = self
        me.onMessageFrameData(payload)
        me.owner.progress()

    def _onMessageFrameEnd(self) -> None:
        me: Any = self
        me.onMessageFrameEnd()

    def _onMessageFrame(self, payload: Any) -> None:
        me: Any = self
        me.onMessageFrame(payload)

    def _onMessageEnd(self) -> None:
        me: Any = self
        parts, me.message_data = me.message_data, None
        if not me.failedByMe:
            me.owner.message(b"".join(parts), me.message_is_binary)

    def _onPing(self, payload: bytes) -> None:
        me: Any = self
        me.onPing(payload)

    def _onPong(self, payload: bytes) -> None:
        me: Any = self
        me.owner.pong()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        """Check, answer, tell. Returns True: nothing that follows is looked at."""
        me: Any = self
        reason = reasonRaw or b""
        if code is not None and code not in _CODES and not 3000 <= code <= 4999:
            me._fail_connection(PROTOCOL_ERROR, f"invalid close code {code}")
            return True
        try:
            reason.decode()
        except UnicodeDecodeError:
            me._fail_connection(1007, "the reason of a Close frame is not UTF-8")
            return True
        if me.state == websocket.WebSocketProtocol.STATE_OPEN:
            me.sendCloseFrame(code, reason or None, isReply=True)
        me.state = websocket.WebSocketProtocol.STATE_CLOSED
        me.data = b""
        me.owner.close_received(code, reason)
        return True

    def _fail_connection(self, code: int = 1001, reason: str = "") -> None:
        me: Any = self
        if me.failedByMe:
            return
        me.failedByMe = True
        me.sendCloseFrame(code, websocket.encode_truncate(reason, 123))
        me.state = websocket.WebSocketProtocol.STATE_CLOSED
        me.data = b""
        me.owner.violated(code, reason)

    def _protocol_violation(self, reason: str) -> bool:
        self._fail_connection(PROTOCOL_ERROR, reason)
        return True

    def _invalid_payload(self, reason: str) -> bool:
        self._fail_connection(1007, reason)
        return True


class _Server(_Endpoint, _protocol.WebSocketServerProtocol):
    """The end that a client talks to."""


class _Client(_Endpoint, _protocol.WebSocketClientProtocol):
    """The end that talks to a backend."""


class AutobahnEndpoints:
    """
    :param max_message: bytes of a message, after decompression; 0 is no limit
    :param max_frame: bytes of a frame; 0 is no limit
    :param compress_client: agree to permessage-deflate (RFC 7692) with clients that offer it
    :param compress_backend: offer it to backends
    :param context_takeover: keep the compressor's window from message to message
    """

    def __init__(
        self,
        *,
        max_message: int = 0,
        max_frame: int = 0,
        compress_client: bool = False,
        compress_backend: bool = False,
        context_takeover: bool = True,
    ) -> None:
        self._compress_client = compress_client
        self._compress_backend = compress_backend
        self._fresh = not context_takeover
        self._server = websocket.WebSocketServerFactory()
        self._client = websocket.WebSocketClientFactory()
        for factory in (self._server, self._client):
            factory.maxMessagePayloadSize = max_message
            factory.maxFramePayloadSize = max_frame
            factory.openHandshakeTimeout = factory.closeHandshakeTimeout = 0
            factory.autoPingInterval = factory.autoPingTimeout = 0

    def server(self, owner: EndpointOwner, write: Callable[[bytes], None], extension: Any) -> _Server:
        endpoint = _Server()
        endpoint.start(self._server, owner, write, _made(extension, server=True))
        return endpoint

    def client(self, owner: EndpointOwner, write: Callable[[bytes], None], extension: Any) -> _Client:
        endpoint = _Client()
        endpoint.start(self._client, owner, write, _made(extension, server=False))
        return endpoint

    # --- permessage-deflate (RFC 7692) ------------------------------------------------------------------------

    def offer(self) -> bytes:
        if not self._compress_backend:
            return b""
        text: str = self._our_offer().get_extension_string()
        return text.encode()

    def _our_offer(self) -> Any:
        return deflate.PerMessageDeflateOffer(request_no_context_takeover=self._fresh)

    def agree_with_client(self, offers: Sequence[bytes]) -> tuple[bytes, Any]:
        if not self._compress_client:
            return b"", None
        for parameters in _parsed(offers):
            try:
                offer = deflate.PerMessageDeflateOffer.parse(parameters)
            except Exception:
                continue  # one that cannot be accepted (RFC 7692, section 7.1); the next may be
            accept = deflate.PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=self._fresh and offer.accept_no_context_takeover,
                no_context_takeover=True if self._fresh else None,
            )
            text: str = accept.get_extension_string()
            return text.encode(), accept
        return b"", None

    def agree_with_backend(self, answers: Sequence[bytes]) -> Any:
        values = [value for value in answers if value.strip()]
        if not values:
            return None
        agreed = _parsed(values)
        names = [part.partition(b";")[0].strip().lower() for value in values for part in value.split(b",")]
        if not self._compress_backend or names != [_DEFLATE.encode()]:
            raise BadResponse("the backend agrees to a WebSocket extension that was not offered")
        try:
            response = deflate.PerMessageDeflateResponse.parse(agreed[0])
            return deflate.PerMessageDeflateResponseAccept(response, no_context_takeover=True if self._fresh else None)
        except Exception as error:
            raise BadResponse(
                f"the backend agrees to permessage-deflate in a way that was not offered: {error}"
            ) from None


def _made(agreed: Any, *, server: bool) -> Any:
    """The compressor and decompressor of one connection."""
    if agreed is None:
        return None
    make = (
        deflate.PerMessageDeflate.create_from_offer_accept
        if server
        else deflate.PerMessageDeflate.create_from_response_accept
    )
    return make(server, agreed)


def _parsed(values: Sequence[bytes]) -> list[dict[str, list[Any]]]:
    """Parameters of each permessage-deflate in those values, in order."""
    parse = websocket.WebSocketProtocol._parseExtensionsHeader
    found = []
    for value in values:
        for name, parameters in parse(None, value.decode("latin-1")):
            if name == _DEFLATE:
                found.append(parameters)
    return found
