"""Requests and responses as tests see them: text, fields by any case of their name, whole bodies.

Rule of this file: bytes are read by Balance's own strict codec, so a test that gets a message at all knows that it was
well-formed. The fields are shown as they stood on the wire, framing and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from balance.codec.http1 import BodyReader, parse_request, parse_response
from balance.errors import BadRequest, BadResponse
from balance.model import NO_BODY, Headers

_HEAD_END = b"\r\n\r\n"

#: How tests give header fields: a mapping, or pairs where a name occurs more than once.
FieldsLike = Mapping[str, str] | Iterable[tuple[str, str]]


class Fields(Mapping[str, str]):
    """Header fields in their order. Names in any case; ``fields["x"]`` is the first value, `all` gives all of them."""

    def __init__(self, fields: FieldsLike = ()) -> None:
        self.pairs: tuple[tuple[str, str], ...] = tuple(fields.items() if isinstance(fields, Mapping) else fields)

    def __getitem__(self, name: str) -> str:
        for value in self.all(name):
            return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.all(name))

    def all(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        return [value for known, value in self.pairs if known.lower() == name.lower()]

    def __repr__(self) -> str:
        return f"Fields({list(self.pairs)!r})"

    @classmethod
    def of_block(cls, block: bytes) -> Fields:
        """Those of a head as it stood on the wire, start line and all."""
        lines = block.decode("latin-1").split("\r\n")[1:]
        return cls([(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)])

    @classmethod
    def of_headers(cls, headers: Headers | None) -> Fields:
        return cls([] if headers is None else [(k.decode("latin-1"), v.decode("latin-1")) for k, v in headers])


class Received:
    """A request as a backend got it.

    :ivar backend: its name
    :ivar connection: number of the connection it came on: the same number, a connection that was used again
    :ivar at: seconds on the application's clock when its head was there
    :ivar complete: the body (``body``, and ``trailers`` after it) was received to its end
    """

    def __init__(self, backend: str, connection: int, at: float, block: bytes) -> None:
        head = parse_request(block)
        self.backend = backend
        self.connection = connection
        self.at = at
        self.method = head.method.decode("ascii")
        self.target = head.target.decode("latin-1")
        self.host = head.host.decode("latin-1")
        self.headers = Fields.of_block(block)
        self.body = b""
        self.trailers = Fields()
        self.complete = not head.length
        #: What of Balance's sent it, to find the call it belongs to.
        self.owner: object = None
        self.reader = BodyReader.of(head.length, BadRequest) if head.length else None

    def __repr__(self) -> str:
        return f"<Received by {self.backend}: {self.method} {self.target}>"


class Response:
    """A response as the client got it. ``interim`` are the 1xx responses before it."""

    def __init__(self, block: bytes, method: str, interim: tuple[Response, ...] = ()) -> None:
        head = parse_response(block, method.encode("ascii"))
        self.status = head.status
        self.reason = head.reason.decode("latin-1")
        self.headers = Fields.of_block(block)
        self.body = b""
        self.trailers = Fields()
        self.interim = interim
        self.keep_alive = head.keep_alive
        self.complete = head.length in (0, NO_BODY)
        self.reader = None if self.complete else BodyReader.of(head.length, BadResponse)

    @property
    def text(self) -> str:
        """The body, read as UTF-8."""
        return self.body.decode("utf-8")

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}, {len(self.body)} bytes{'' if self.complete else ' so far'}>"


def feed(message: Received | Response, data: bytes) -> bytes:
    """More of a message that is not complete; what is left of ``data`` belongs to the next one."""
    reader = message.reader
    assert reader is not None
    message.body += reader.feed(data)
    if not reader.ended:
        return b""
    message.complete = True
    message.trailers = Fields.of_headers(reader.trailers)
    return reader.rest


def cut_head(data: bytes) -> tuple[bytes, bytes] | None:
    """Head and the rest; None while the head is not complete."""
    head, end, rest = data.partition(_HEAD_END)
    return (head, rest) if end else None


def head_bytes(start: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """A head on the wire. Nothing is checked: a test may want to send what is wrong."""
    lines = [start, *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END


def pairs(fields: FieldsLike) -> list[tuple[str, str]]:
    return list(fields.items() if isinstance(fields, Mapping) else fields)


def as_bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body
