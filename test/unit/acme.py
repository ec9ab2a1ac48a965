"""Plugins as somebody else would write them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from twisted.internet.defer import Deferred, succeed
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from balance.config.values import Duration
from balance.errors import RequestDenied
from balance.filters import PASS_BODY, Answer, Context, Filter, phase
from balance.interfaces import ICandidate
from balance.model import Address, Discovered, Headers, RequestHead, ResponseHead

#: What filters wait for, and what they saw; a test empties it.
waiting: list[Deferred[Any]] = []
seen: list[Any] = []


def require_token(context: Context) -> Answer | None:
    if b"authorization" in context.request.headers:
        return None
    return Answer(401, "a token is needed\n", {"WWW-Authenticate": "Bearer"})


def noop(context: Context) -> None:
    return None


def deny(context: Context) -> None:
    raise RequestDenied("not today")


def broken(context: Context) -> None:
    raise KeyError("tenant")


def later(context: Context) -> Deferred[Any]:
    waiting.append(Deferred(lambda deferred: seen.append("cancelled")))
    return waiting[-1]


async def coroutine(context: Context) -> Answer | None:
    first = await later(context)
    second = await succeed("!")
    return None if first is None else Answer(200, first + second)


@phase("response_head")
def brand(context: Context, response: ResponseHead) -> None:
    response.headers.set(b"X-Brand", b"acme")


@phase("log")
def log_it(context: Context) -> None:
    seen.append((context.route, context.backend, context.status, context.reason, context.body_in, context.body_out))


class Traced(Filter):
    """Notes every phase it sees."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str
        wait: Duration = 0.0

    def __init__(self, options: Options) -> None:
        self.name = options.name

    def note(self, what: str) -> None:
        seen.append(f"{self.name}.{what}")

    def request_head(self, context: Context) -> None:
        self.note("request_head")

    def choose_backends(self, context: Context, candidates: Sequence[ICandidate]) -> None:
        self.note("choose_backends")

    def upstream_request(self, context: Context, request: RequestHead) -> None:
        self.note("upstream_request")

    def request_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        self.note(f"request_body {data.decode()}{' end' if ended else ''}")
        return data

    def request_trailers(self, context: Context, trailers: Headers) -> None:
        self.note("request_trailers")

    def response_head(self, context: Context, response: ResponseHead) -> None:
        self.note(f"response_head {response.status}")

    def response_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        self.note(f"response_body {data.decode()}{' end' if ended else ''}")
        return data

    def response_trailers(self, context: Context, trailers: Headers) -> None:
        self.note("response_trailers")

    def error(self, context: Context, error: Exception) -> None:
        self.note(f"error {type(error).__name__}")

    def log(self, context: Context) -> None:
        self.note(f"log {context.status}")


class Upper(Filter):
    """Capitals both ways; as long as what it is given."""

    keeps_length = True

    def request_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        return data.upper()

    def response_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        return data.upper()


class Doubling(Filter):
    """Holds a body back, and sends it twice when it has ended."""

    class Held:
        def __init__(self) -> None:
            self.request = b""
            self.response = b""

    def request_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        held = context.of(self.Held)
        held.request += data
        return held.request * 2 if ended else b""

    def response_head(self, context: Context, response: ResponseHead) -> Any:
        return PASS_BODY if b"x-pass" in response.headers else None

    def response_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        held = context.of(self.Held)
        held.response += data
        return held.response * 2 if ended else b""


class Lying(Upper):
    def response_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        return data + b"!"


class Editing(Filter):
    """Edits what it is told to edit, in its phase."""

    class Options(BaseModel):
        where: str
        name: str = "X-Acme"
        value: str = "1"
        target: str = ""

    def __init__(self, options: Options) -> None:
        self._options = options

    def _edit(self, where: str, headers: Headers) -> None:
        if where == self._options.where:
            headers.add(self._options.name.encode("latin-1"), self._options.value.encode("latin-1"))

    def request_head(self, context: Context) -> None:
        self._edit("request_head", context.request.headers)
        if self._options.target:
            context.rewrite(self._options.target.encode())

    def upstream_request(self, context: Context, request: RequestHead) -> None:
        self._edit("upstream_request", request.headers)

    def request_trailers(self, context: Context, trailers: Headers) -> None:
        self._edit("request_trailers", trailers)

    def response_head(self, context: Context, response: ResponseHead) -> None:
        self._edit("response_head", response.headers)

    def response_trailers(self, context: Context, trailers: Headers) -> None:
        self._edit("response_trailers", trailers)


class OnlyThese(Filter):
    """Only backends whose names it is told."""

    class Options(BaseModel):
        names: list[str]

    def __init__(self, options: Options) -> None:
        self._names = options.names

    def choose_backends(self, context: Context, candidates: Sequence[ICandidate]) -> list[ICandidate]:
        return [context.backends[name] for name in self._names]


@phase("choose_backends")
def asked_for(context: Context, candidates: Sequence[ICandidate]) -> list[ICandidate] | None:
    """Only those that the client names."""
    names = context.request.headers.get(b"x-only")
    return None if names is None else [context.backends[name] for name in names.decode().split()]


class Waiting(Filter):
    """Waits in every phase in which it is told to."""

    class Options(BaseModel):
        phases: list[str]

    def __init__(self, options: Options) -> None:
        for name in options.phases:
            setattr(self, name, self._wait_with_data if name.endswith("_body") else self._wait)

    def request_head(self, context: Context) -> Any: ...

    def _wait(self, context: Context, *what: Any) -> Deferred[Any]:
        return later(context)

    def _wait_with_data(self, context: Context, data: bytes, ended: bool) -> Deferred[Any]:
        return later(context).addCallback(lambda _: data)


class Sorry(Filter):
    def error(self, context: Context, error: Any) -> Answer | None:
        return Answer(error.status, f"sorry: {error.reason}\n")


class ByHeader:
    """Matches requests with a header field."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str = Field(min_length=2)

    def __init__(self, options: Options) -> None:
        self._name = options.name.lower().encode()

    def matches(self, request: RequestHead) -> bool:
        return self._name in request.headers


def from_inside(request: RequestHead) -> bool:
    return (request.headers.get(b"x-real-ip") or b"").startswith(b"10.")


def no_match(request: RequestHead) -> bool:
    raise ValueError("no idea")


class First:
    """A balancer: always the first, or the one it is told."""

    needs_key: ClassVar[bool] = False

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        place: int = 0

    def __init__(self, options: Options) -> None:
        self._place = options.place

    def set_members(self, members: Sequence[ICandidate]) -> None:
        seen.append([member.name for member in members])

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        return candidates[self._place]


class ByKey:
    """A balancer that wants a key."""

    needs_key = True

    def set_members(self, members: Sequence[ICandidate]) -> None: ...

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        seen.append(key)
        return candidates[0]


class NoPhase:
    def on_request(self, context: Context) -> None: ...


class WrongSignature:
    def request_head(self) -> None: ...


class NoPick:
    def set_members(self, members: Sequence[ICandidate]) -> None: ...


class BadOptions:
    Options = dict

    def request_head(self, context: Context) -> None: ...


class NeedsMore:
    def __init__(self, more: str) -> None: ...

    def request_head(self, context: Context) -> None: ...


class Page(Resource):
    """A resource: what it was asked, or what a test wants of it."""

    isLeaf = True

    class Options(BaseModel):
        text: str = "hello"

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._text = options.text

    def render_GET(self, request: Request) -> Any:
        kind = request.path.decode().rpartition("/")[2]
        return getattr(self, f"get_{kind}", self.get_plain)(request)

    def get_plain(self, request: Request) -> bytes:
        request.setHeader(
            b"X-Seen", b"%b %b %b" % (request.getHeader(b"host"), request.uri, request.getClientAddress().host.encode())
        )
        request.setHeader(b"Connection", b"close")
        return self._text.encode()

    def get_later(self, request: Request) -> int:
        request.notifyFinish().addErrback(lambda reason: seen.append("gone"))
        seen.append(request)
        return NOT_DONE_YET

    def get_broken(self, request: Request) -> bytes:
        raise ZeroDivisionError("page")

    def get_short(self, request: Request) -> int:
        request.setHeader(b"Content-Length", b"10")
        request.write(b"12345")
        request.finish()
        return NOT_DONE_YET

    def get_long(self, request: Request) -> int:
        request.setHeader(b"Content-Length", b"3")
        request.write(b"12345")
        return NOT_DONE_YET

    def get_nothing(self, request: Request) -> bytes:
        request.setResponseCode(204)
        return b""

    def get_pull(self, request: Request) -> int:
        Pull(request)
        return NOT_DONE_YET

    def get_push(self, request: Request) -> int:
        seen.append(Push(request))
        return NOT_DONE_YET

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        return request.content.read().upper()


class Pull:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._left = 100
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self._left -= 1
        self._request.write(b"x" * 10)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        seen.append("stopped")


class Push:
    def __init__(self, request: Request) -> None:
        self.request = request
        self.calls: list[str] = []
        request.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class Told:
    """A discovery that finds what it is told."""

    class Options(BaseModel):
        names: list[str] = []

    def __init__(self, options: Options) -> None:
        self.names = options.names
        self.found: Any = None

    def start(self, found: Any, reactor: Any) -> None:
        self.found = found
        seen.append(self)
        self.tell(*self.names)

    def tell(self, *names: str) -> None:
        self.found([Discovered(name, Address("10.0.0.1", 8000 + int(name))) for name in names])

    def stop(self) -> None:
        seen.append("stopped")
