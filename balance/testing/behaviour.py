"""What a fake backend does with a connection or a request.

Rule of this file: values only. Times are seconds on the application's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from balance.testing.messages import FieldsLike, Received, as_bytes, head_bytes, pairs


@dataclass(frozen=True)
class Reply:
    """Answer.

    :ivar body: the whole of it; text is sent as UTF-8
    :ivar after: seconds from the end of the request to the head of the response
    :ivar chunks: pieces of the body instead, each with the seconds that pass before it; sent chunked
    :ivar trailers: fields behind the body, which is then chunked
    :ivar interim: 1xx responses before the final one, as (status, fields)
    :ivar early: answer as soon as the request's head is there
    :ivar close: close the connection after it
    :ivar until_close: say no length: the body ends with the connection
    """

    status: int = 200
    body: str | bytes = b""
    headers: FieldsLike = field(default_factory=dict)
    after: float = 0.0
    chunks: Sequence[tuple[float, str | bytes]] = ()
    trailers: FieldsLike = field(default_factory=dict)
    interim: Sequence[tuple[int, FieldsLike]] = ()
    reason: str = "-"
    early: bool = False
    close: bool = False
    until_close: bool = False


@dataclass(frozen=True)
class Truncate:
    """Answer, and break the connection after ``at`` bytes of the body."""

    reply: Reply
    at: int


@dataclass(frozen=True)
class Raw:
    """Send these very bytes, whatever they are. ``end`` is ``keep``, ``close`` (FIN) or ``reset``."""

    data: bytes
    after: float = 0.0
    end: str = "keep"
    early: bool = False


@dataclass(frozen=True)
class Reset:
    """Take the request and break the connection (RST) before a byte of the response."""

    after: float = 0.0
    early: bool = False


@dataclass(frozen=True)
class Close:
    """Take the request and close the connection (FIN) before a byte of the response."""

    after: float = 0.0
    early: bool = False


@dataclass(frozen=True)
class Silence:
    """Take the request and never answer."""

    early: bool = True
    after: float = 0.0


@dataclass(frozen=True)
class Refuse:
    """Refuse the connection. What was open is closed before that."""

    after: float = 0.0


@dataclass(frozen=True)
class Blackhole:
    """Never answer the attempt to connect. What was open is closed before that."""


OnConnect = Refuse | Blackhole
Answer = Reply | Truncate | Raw | Reset | Close | Silence
#: A function is asked when a request is complete.
OnRequest = Answer | Callable[[Received], Answer]
Behaviour = OnConnect | OnRequest

#: Something to do: seconds after the step before, bytes to send, and how the connection ends then.
Step = tuple[float, bytes, str]
KEEP, CLOSE, RESET = "keep", "close", "reset"


def is_early(behaviour: Answer) -> bool:
    """Whether it begins with the request's head, not with its end."""
    return (behaviour.reply if isinstance(behaviour, Truncate) else behaviour).early


def steps(behaviour: Answer, request: Received) -> list[Step]:
    """A behaviour as things to do one after the other."""
    if isinstance(behaviour, Reply):
        return _reply(behaviour, request)
    if isinstance(behaviour, Truncate):
        return _truncated(behaviour, request)
    if isinstance(behaviour, Raw):
        return [(behaviour.after, behaviour.data, behaviour.end)]
    if isinstance(behaviour, Reset):
        return [(behaviour.after, b"", RESET)]
    if isinstance(behaviour, Close):
        return [(behaviour.after, b"", CLOSE)]
    if isinstance(behaviour, Silence):
        return []
    raise TypeError(f"{behaviour!r} is nothing that can be done with a request")


def _reply(reply: Reply, request: Received) -> list[Step]:
    fields = pairs(reply.headers)
    given = {name.lower() for name, _ in fields}
    bodiless = request.method == "HEAD" or reply.status in (204, 304)
    chunked = bool(reply.chunks or reply.trailers) and "content-length" not in given and not reply.until_close
    body = as_bytes(reply.body)
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    elif not (reply.until_close or reply.status == 204 or "content-length" in given):
        fields.append(("Content-Length", str(len(body))))
    if reply.close:
        fields.append(("Connection", "close"))
    todo: list[Step] = []
    for status, interim in reply.interim:
        todo.append((0.0, head_bytes(f"HTTP/1.1 {status} -", pairs(interim)), KEEP))
    head = head_bytes(f"HTTP/1.1 {reply.status} {reply.reason}", fields)
    if bodiless:
        todo.append((0.0, head, KEEP))
    else:
        framed = _chunk if chunked else as_bytes
        todo.append((0.0, head + (framed(body) if body else b""), KEEP))
        todo += [(delay, framed(piece), KEEP) for delay, piece in reply.chunks]
        if chunked:
            end = b"0\r\n" + b"".join(f"{k}: {v}\r\n".encode("latin-1") for k, v in pairs(reply.trailers)) + b"\r\n"
            todo.append((0.0, end, KEEP))
    todo[0] = (reply.after, *todo[0][1:])
    if reply.close or reply.until_close:
        todo[-1] = (*todo[-1][:2], CLOSE)
    return todo


def _truncated(behaviour: Truncate, request: Received) -> list[Step]:
    """All of the reply until that many bytes of its body are out."""
    reply = behaviour.reply
    if reply.chunks:
        raise ValueError("Truncate cuts a reply with a body, not one with chunks; see Raw")
    body = as_bytes(reply.body)
    fields = [*pairs(reply.headers), ("Content-Length", str(len(body)))]
    (delay, head, _) = _reply(replace(reply, headers=fields, body=b"", trailers={}), request)[0]
    return [(delay, head + body[: behaviour.at], RESET)]


def _chunk(data: Any) -> bytes:
    raw = as_bytes(data)
    return b"%x\r\n%b\r\n" % (len(raw), raw)
