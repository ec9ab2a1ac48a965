"""What messages mode needs of a WebSocket implementation.

Rule of this file: no implementation shows through. `balance.websocket.autobahn_adapter` is the one there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class EndpointOwner(Protocol):
    """Who hears what comes in at an endpoint."""

    def message(self, payload: bytes, binary: bool) -> None:
        """A complete message; text is valid UTF-8."""

    def progress(self) -> None:
        """Part of a message has come."""

    def pong(self) -> None:
        """An answer to a ping, or an unsolicited one."""

    def close_received(self, code: int | None, reason: bytes) -> None:
        """The peer's Close frame. It has been answered, if it was not the answer."""

    def violated(self, code: int, reason: str) -> None:
        """The peer broke a rule of RFC 6455, or a limit. It was told so by a Close frame, and is not heard any more."""


class Endpoint(Protocol):
    """One end of one connection: frames on the one side, messages on the other."""

    def feed(self, data: bytes) -> None:
        """Bytes from the peer."""

    def send(self, payload: bytes, binary: bool) -> None:
        """A message; dropped once a Close frame was sent."""

    def ping(self, payload: bytes) -> None: ...

    def close(self, code: int | None, reason: bytes) -> None:
        """Send a Close frame, unless one was sent."""

    @property
    def open(self) -> bool:
        """No Close frame was sent yet."""


class Endpoints(Protocol):
    """Makes the endpoints of one route, and agrees on extensions."""

    def offer(self) -> bytes:
        """Sec-WebSocket-Extensions for a backend; empty for none."""

    def agree_with_client(self, offers: Sequence[bytes]) -> tuple[bytes, Any]:
        """Choose from what a client offers.

        :param offers: values of its Sec-WebSocket-Extensions
        :returns: the value for our answer, empty for none; and what `server` wants to have
        :raises BadRequest: they cannot be read
        """

    def agree_with_backend(self, answers: Sequence[bytes]) -> Any:
        """What a backend made of our offer; for `client`.

        :raises BadResponse: that was not in our offer
        """

    def server(self, owner: EndpointOwner, write: Callable[[bytes], None], extension: Any) -> Endpoint:
        """The end that a client talks to."""

    def client(self, owner: EndpointOwner, write: Callable[[bytes], None], extension: Any) -> Endpoint:
        """The end that talks to a backend."""
