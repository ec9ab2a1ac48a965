"""h11 as the oracle: whatever Balance accepts, h11 has to read the same way, and so has what Balance writes.

Rule of this file: h11 may refuse less, never read otherwise. Every exception is listed, with its section of an RFC:

* An empty line before a request is forgiven (RFC 9112, section 2.2: SHOULD). h11 refuses it.
* White space before the semicolon of a chunk extension (section 7.1.1: "MUST parse"). h11 refuses it.
* Content-Length and Transfer-Encoding among trailers are dropped (RFC 9110, section 6.5.1). h11 judges their values.
* Absolute-form names the host and becomes origin-form (section 3.2.2). h11 leaves the target as it is.
* HTTP/1.0 with ``Connection: keep-alive`` (section 9.3). h11 never keeps such a connection.
* 101 to a request that asked for no upgrade: refused by the connection, not by the codec (RFC 9110, section 15.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import h11

from balance.codec.http1 import chunk, last_chunk, write_request, write_response
from balance.codec.http1.grammar import NAMES, PLAIN, UNDERSCORE, learn_name
from balance.model import CHUNKED, HTTP11, NO_BODY, UNTIL_CLOSE, RequestHead, ResponseHead
from test.unit.http1_reader import END, Read, read_request, read_response

#: What the codec takes out of a head (`balance.model`: "what concerns one connection only").
CONNECTION_FIELDS = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"),
        *(b"transfer-encoding", b"content-length"),
    )
)
REQUEST_FIELDS = CONNECTION_FIELDS | {b"host", b"expect"}
_ROOM = 1 << 20
_SPACE_BEFORE_EXTENSION = re.compile(rb"([0-9A-Fa-f])[ \t]+;")
_FRAMING_TRAILER = re.compile(rb"\r\n(?i:content-length|transfer-encoding):[^\r\n]*")


class Oracle(NamedTuple):
    """A message as h11 reads it. ``error`` tells why it does not."""

    error: str = ""
    start: Any = None
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    rest: bytes = b""
    complete: bool = False


def ask_request(raw: bytes) -> Oracle:
    return _ask(h11.Connection(h11.SERVER, max_incomplete_event_size=_ROOM), raw)


def ask_response(raw: bytes, method: bytes, *, closed: bool = False) -> Oracle:
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ROOM)
    client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
    client.send(h11.EndOfMessage())
    return _ask(client, raw, closed)


def _ask(connection: h11.Connection, raw: bytes, closed: bool = False) -> Oracle:
    start: Any = None
    body = b""
    if raw:
        connection.receive_data(raw)
    if closed:
        connection.receive_data(b"")
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return Oracle(start=start, body=body)
            if isinstance(event, h11.InformationalResponse):
                return Oracle(start=event, rest=connection.trailing_data[0], complete=True)
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                rest = connection.trailing_data[0]
                return Oracle("", start, body, tuple((bytes(n), bytes(v)) for n, v in event.headers), rest, True)
            else:
                start = event
    except h11.RemoteProtocolError as error:
        return Oracle(error=str(error), start=start, body=body)


def request_difference(raw: bytes, read: Read) -> str:
    """How h11 reads an accepted request otherwise; empty if it does not."""
    raw = raw.removeprefix(b"\r\n")
    oracle = ask_request(raw)
    if oracle.error:
        oracle = ask_request(_bland(raw, read.rest))
    if not oracle.complete:
        return f"h11 does not read it: {oracle}"
    head: RequestHead = read.head
    seen = oracle.start
    fields = [(bytes(name), bytes(value)) for name, value in seen.headers]
    host, target = _origin(bytes(seen.method), bytes(seen.target), dict(fields).get(b"host", b""))
    return _differences(
        method=(head.method, bytes(seen.method)),
        target=(head.target, target),
        host=(head.host, host),
        version=(head.version, 10 if seen.http_version == b"1.0" else 11),
        fields=(read.fields, _end_to_end(fields, REQUEST_FIELDS)),
        length=(head.length, _length(fields)),
        body=(read.body, oracle.body),
        trailers=(list(read.trailers or ()), _kept_trailers(oracle.trailers)),
        rest=(read.rest, oracle.rest),
    )


def response_difference(raw: bytes, method: bytes, read: Read) -> str:
    """How h11 reads an accepted response otherwise, its backend having closed after it; empty if it does not."""
    if read.head.status == 101:
        return ""
    oracle = ask_response(raw, method, closed=True)
    if oracle.error:
        oracle = ask_response(_bland(raw, read.rest), method, closed=True)
    if not oracle.complete:
        return f"h11 does not read it: {oracle}"
    head: ResponseHead = read.head
    seen = oracle.start
    fields = [(bytes(name), bytes(value)) for name, value in seen.headers]
    return _differences(
        status=(head.status, seen.status_code),
        reason=(head.reason, bytes(seen.reason)),
        version=(head.version, 10 if seen.http_version == b"1.0" else 11),
        fields=(read.fields, _end_to_end(fields, CONNECTION_FIELDS)),
        body=(read.body, oracle.body),
        trailers=(list(read.trailers or ()), _kept_trailers(oracle.trailers)),
        rest=(read.rest, oracle.rest),
    )


def _bland(raw: bytes, rest: bytes) -> bytes:
    """Without what h11 refuses in a chunked body, and the RFCs do not. ``rest`` belongs to no body."""
    head, end, body = raw.removesuffix(rest).partition(END)
    return head + end + _FRAMING_TRAILER.sub(b"", _SPACE_BEFORE_EXTENSION.sub(rb"\1;", body)) + rest


def rewritten_request(read: Read) -> bytes:
    """What goes to a backend for it."""
    head: RequestHead = read.head
    out = write_request(head, head.host or b"backend")
    return out + _framed(read, chunked=head.length == CHUNKED)


def rewritten_response(read: Read) -> bytes:
    """What goes to an HTTP/1.1 client for it."""
    head: ResponseHead = read.head
    return write_response(head, HTTP11, True) + _framed(read, chunked=head.length in (CHUNKED, UNTIL_CLOSE))


def request_change(read: Read) -> str:
    """What gets lost or changed between our reading of a request and a backend's reading of what we send."""
    raw = rewritten_request(read)
    again = read_request([raw])
    if again.outcome != "ok":
        return f"what Balance writes, Balance refuses: {raw!r}: {again.error}"
    head: RequestHead = read.head
    other: RequestHead = again.head
    return request_difference(raw, again) or _differences(
        method=(head.method, other.method),
        target=(head.target, other.target),
        host=(head.host or b"backend", other.host),
        fields=(read.fields, again.fields),
        length=(head.length, other.length),
        body=(read.body, again.body),
        trailers=(list(read.trailers or ()), list(again.trailers or ())),
        rest=(b"", again.rest),
    )


def response_change(read: Read, method: bytes) -> str:
    """The same for a response and the client."""
    raw = rewritten_response(read)
    again = read_response([raw], method)
    if again.outcome != "ok":
        return f"what Balance writes, Balance refuses: {raw!r}: {again.error}"
    head: ResponseHead = read.head
    other: ResponseHead = again.head
    return response_difference(raw, method, again) or _differences(
        status=(head.status, other.status),
        reason=(head.reason, other.reason),
        fields=(read.fields, again.fields),
        bodiless=(head.length == NO_BODY, other.length == NO_BODY),
        declared=(head.declared, other.declared),
        body=(read.body, again.body),
        trailers=(list(read.trailers or ()), list(again.trailers or ())),
        rest=(b"", again.rest),
    )


def _framed(read: Read, *, chunked: bool) -> bytes:
    if not chunked:
        return read.body
    return (chunk(read.body) if read.body else b"") + last_chunk(read.trailers)


def _origin(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """Host and origin-form, written down once more from RFC 9112, section 3.2, with a regex."""
    match = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target, re.DOTALL)
    if match is None:
        return host, target
    path = match[2]
    if not path:
        return match[1], b"*" if method == b"OPTIONS" else b"/"
    return match[1], path if path.startswith(b"/") else b"/" + path


def _end_to_end(fields: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Without the fields of the connection, and those that Connection names (RFC 9110, section 7.6.1)."""
    fields = list(fields)
    named = b",".join(value for name, value in fields if name == b"connection").lower()
    gone = dropped | {option.strip(b" \t") for option in named.split(b",")} - {b"keep-alive", b"close"}
    return [(name, value) for name, value in fields if name not in gone]


def _length(fields: list[tuple[bytes, bytes]]) -> int:
    values = dict(fields)
    if b"transfer-encoding" in values:
        return CHUNKED
    return int(values.get(b"content-length", b"0"))


def is_kept_trailer(name: bytes) -> bool:
    """Whether the codec says it keeps it: nothing that frames, routes or belongs to a connection (RFC 9110, 6.5.1)."""
    entry = NAMES.get(name) or learn_name(name)
    return entry is not None and entry[1] in (PLAIN, UNDERSCORE)


def _kept_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in trailers if is_kept_trailer(name)]


def _differences(**pairs: tuple[Any, Any]) -> str:
    return "; ".join(
        f"{what}: {ours!r} is {theirs!r} there" for what, (ours, theirs) in pairs.items() if ours != theirs
    )
