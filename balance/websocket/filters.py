"""What filters of WebSocket messages see and may do.

Rule of this file: a filter is handed text as ``str`` and binary as ``bytes``, complete and checked. What it does wrong
ends its connection, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from balance.interfaces import IWebSocketConnection, IWebSocketFilter

if TYPE_CHECKING:
    from balance.model import RequestHead
    from balance.websocket.messages import MessageTunnel


@implementer(IWebSocketFilter)
class WebSocketFilter:
    """One that does nothing, to derive from."""

    def opened(self, connection: Any) -> None:
        """See `IWebSocketFilter.opened`."""

    def from_client(self, connection: Any, data: str | bytes) -> str | bytes | None:
        return data

    def from_backend(self, connection: Any, data: str | bytes) -> str | bytes | None:
        return data

    def closed(self, connection: Any, code: int) -> None:
        """See `IWebSocketFilter.closed`."""


@implementer(IWebSocketConnection)
class Connection:
    """A connection as filters see it."""

    def __init__(self, tunnel: MessageTunnel, request: RequestHead, client_ip: str, route: str) -> None:
        self._tunnel = tunnel
        self.request = request
        self.client_ip = client_ip
        self.route = route
        self.state: dict[str, Any] = {}

    def send_to_client(self, data: str | bytes) -> None:
        self._tunnel.answer(data, to_client=True)

    def send_to_backend(self, data: str | bytes) -> None:
        self._tunnel.answer(data, to_client=False)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._tunnel.close(code, reason)


class Filters:
    """The filters of one connection, in the order of the configuration; from the backend, the other way round."""

    __slots__ = ("_back", "_connection", "_forth")

    def __init__(self, filters: Sequence[Any], connection: Connection) -> None:
        self._forth = tuple(filters)
        self._back = self._forth[::-1]
        self._connection = connection

    def opened(self) -> None:
        for each in self._forth:
            each.opened(self._connection)

    def passed(self, data: str | bytes, *, from_client: bool) -> str | bytes | None:
        """What is left of a message behind the last filter; None if one dropped it.

        :raises TypeError: a filter returned something else than text, bytes or None
        """
        connection = self._connection
        left: Any = data
        for each in self._forth if from_client else self._back:
            left = each.from_client(connection, left) if from_client else each.from_backend(connection, left)
            if left is None:
                return None
            if not isinstance(left, str | bytes):
                raise TypeError(f"{type(each).__qualname__} returned {type(left).__name__}, not str, bytes or None")
        return left  # type: ignore[no-any-return]

    def closed(self, code: int) -> None:
        for each in self._back:
            each.closed(self._connection, code)


def as_data(payload: bytes, binary: bool) -> str | bytes:
    """A message as filters have it."""
    return payload if binary else payload.decode()


def as_payload(data: str | bytes) -> tuple[bytes, bool]:
    """A message as it goes on the wire, and whether it is binary."""
    return (data.encode(), False) if isinstance(data, str) else (data, True)
