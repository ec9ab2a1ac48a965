"""A filter of WebSocket messages: it hides words, answers a command by itself, and ends what is not allowed."""

from pydantic import BaseModel, ConfigDict, Field
from zope.interface import implementer

from balance.interfaces import IWebSocketConnection, IWebSocketFilter


@implementer(IWebSocketFilter)
class Moderator:
    """Hides words in what clients say, answers ``/count``, and closes a connection that says too much."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        hide: tuple[str, ...] = ()
        most: int = Field(default=1000, ge=1, description="Messages that a client may send.")

    def __init__(self, options: Options) -> None:
        self._hide = options.hide
        self._most = options.most

    def opened(self, connection: IWebSocketConnection) -> None:
        connection.state["count"] = 0

    def from_client(self, connection: IWebSocketConnection, data: str | bytes) -> str | bytes | None:
        count = connection.state["count"] = connection.state["count"] + 1
        if count > self._most:
            connection.close(1008, "enough said")
            return None
        if data == "/count":
            connection.send_to_client(str(count))
            return None
        if isinstance(data, str):
            for word in self._hide:
                data = data.replace(word, "*" * len(word))
        return data

    def from_backend(self, connection: IWebSocketConnection, data: str | bytes) -> str | bytes | None:
        return data

    def closed(self, connection: IWebSocketConnection, code: int) -> None:
        """Nothing is kept beyond the connection."""
