"""What an HTTP/2 session reports: one object for each thing that happened, in the order in which it happened.

Rule of this file: plain values. An event of a stream is never reported after the one that ended the stream.
"""

from __future__ import annotations

from balance.errors import ExchangeError
from balance.model import Headers, RequestHead, ResponseHead


class Event:
    """Something that happened. ``stream_id`` is 0 for the connection."""

    __slots__ = ("stream_id",)

    def __init__(self, stream_id: int = 0) -> None:
        self.stream_id = stream_id

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash((type(self), self.stream_id))

    def __repr__(self) -> str:
        return f"{type(self).__name__}{_values(self)!r}"


class RequestReceived(Event):
    """A request head, strictly checked (`balance.codec.http2.heads`). ``ended``: it has no body."""

    __slots__ = ("ended", "head")

    def __init__(self, stream_id: int, head: RequestHead, ended: bool) -> None:
        self.stream_id = stream_id
        self.head = head
        self.ended = ended


class RequestRefused(Event):
    """A request head that breaks a rule. The stream is open for an answer, or for a reset; data that still comes for it
    is thrown away by the session, and its flow-control credit given back.
    """

    __slots__ = ("error",)

    def __init__(self, stream_id: int, error: ExchangeError) -> None:
        self.stream_id = stream_id
        self.error = error


class ResponseReceived(Event):
    """The head of a final response. ``ended``: it has no body."""

    __slots__ = ("ended", "head")

    def __init__(self, stream_id: int, head: ResponseHead, ended: bool) -> None:
        self.stream_id = stream_id
        self.head = head
        self.ended = ended


class InformationalReceived(Event):
    """The head of a 1xx response; never 101 (RFC 9113, section 8.6)."""

    __slots__ = ("head",)

    def __init__(self, stream_id: int, head: ResponseHead) -> None:
        self.stream_id = stream_id
        self.head = head


class DataReceived(Event):
    """Some of a body. ``data`` may be empty only when ``ended``.

    ``size`` is what flow control counts, padding included: give it back with `Session.acknowledge`.
    """

    __slots__ = ("data", "ended", "size")

    def __init__(self, stream_id: int, data: bytes, size: int, ended: bool) -> None:
        self.stream_id = stream_id
        self.data = data
        self.size = size
        self.ended = ended


class TrailersReceived(Event):
    """The trailer section, which ends a body."""

    __slots__ = ("trailers",)

    def __init__(self, stream_id: int, trailers: Headers) -> None:
        self.stream_id = stream_id
        self.trailers = trailers


class StreamReset(Event):
    """The stream is over before its end.

    :param code: of RST_STREAM (RFC 9113, section 7)
    :param remote: the peer reset it; otherwise the session did, because the peer broke a rule of the stream: ``reason``
        says which
    """

    __slots__ = ("code", "reason", "remote")

    def __init__(self, stream_id: int, code: int, remote: bool, reason: str = "") -> None:
        self.stream_id = stream_id
        self.code = code
        self.remote = remote
        self.reason = reason


class StreamWritable(Event):
    """All that was queued for the stream has been put out: it takes more, unless that was its end."""

    __slots__ = ()


class GoAwayReceived(Event):
    """The peer takes no more streams, and did nothing for those above ``last_stream_id`` (RFC 9113, section 6.8)."""

    __slots__ = ("code", "last_stream_id")

    def __init__(self, last_stream_id: int, code: int) -> None:
        self.stream_id = 0
        self.last_stream_id = last_stream_id
        self.code = code


class SettingsReceived(Event):
    """The peer's limits may have changed: look at `Session.peer_max_streams` and `Session.peer_connect`."""

    __slots__ = ()


class PingAcknowledged(Event):
    """The answer to our `Session.ping`."""

    __slots__ = ()


class SessionEnded(Event):
    """The connection cannot go on: the peer broke a rule of the connection, or a limit (``reason`` says which).

    A GOAWAY with ``code`` is in the output. No event follows, and no command has an effect any more.

    :param defence: name of the limit that was passed (`balance.codec.http2.defences`); empty for a plain protocol error
    """

    __slots__ = ("code", "defence", "reason")

    def __init__(self, code: int, reason: str, defence: str = "") -> None:
        self.stream_id = 0
        self.code = code
        self.reason = reason
        self.defence = defence


def _values(event: Event) -> tuple[object, ...]:
    names = [name for cls in type(event).__mro__ for name in getattr(cls, "__slots__", ())]
    return tuple(_comparable(getattr(event, name)) for name in sorted(names))


def _comparable(value: object) -> object:
    """Heads and errors compare by what they hold: two sessions' events are held against each other in tests."""
    if isinstance(value, RequestHead | ResponseHead):
        return tuple((name, _comparable(getattr(value, name))) for name in sorted(type(value).__slots__))
    if isinstance(value, Headers):
        return tuple(value)
    if isinstance(value, ExchangeError):
        return type(value), value.detail
    return value
