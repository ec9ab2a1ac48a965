"""A filter that asks an HTTP service who the bearer of a token is.

While the service is asked, the request waits, and only this one: the event loop goes on. Balance limits the time
(`timeouts.filter`) and cancels the question when the client goes away.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.web.client import Agent, HTTPConnectionPool

from balance.config.values import Duration
from balance.filters import Answer, Context, Filter

_DENIED = Answer(401, "a valid token is needed\n", {"WWW-Authenticate": "Bearer"})
_UNKNOWN = Answer(503, "nobody can be asked about tokens now\n", {"Retry-After": "5"})


class RequireToken(Filter):
    """Lets requests through whose token the service knows (it answers 200 and the name of the user), and tells the
    backend the name, in X-User. Answers are remembered.
    """

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        url: str = Field(pattern="^https?://")
        remember: Duration = 30.0
        most: int = Field(default=10_000, ge=1)

    def __init__(self, options: Options, client: Any = None) -> None:
        self._options = options
        self._client = client or http_client()
        #: Token to user (None: it is no good), and until when that is believed.
        self._known: dict[bytes, tuple[bytes | None, float]] = {}

    async def request_head(self, context: Context) -> Answer | None:
        headers = context.request.headers
        token = headers.get(b"authorization")
        if token is None:
            return _DENIED
        user, until = self._known.get(token, (None, 0.0))
        if context.now >= until:
            response = await self._client.get(self._options.url, headers={b"Authorization": token})
            text = await response.content()
            if response.code not in (200, 401):
                return _UNKNOWN
            user = text.strip() if response.code == 200 else None
            self._remember(token, user, context.now)
        if user is None:
            return _DENIED
        headers.set(b"X-User", user)
        return None

    def _remember(self, token: bytes, user: bytes | None, now: float) -> None:
        if len(self._known) >= self._options.most:
            self._known.pop(next(iter(self._known)))
        self._known[token] = (user, now + self._options.remember)


def http_client() -> HTTPClient:
    """Keeps its connections, and no cookies that anybody else could use."""
    return HTTPClient(Agent(reactor, HTTPConnectionPool(reactor), connectTimeout=2))
