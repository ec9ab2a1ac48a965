"""From HTTP/2 field lists to the heads that the rest of Balance knows, and back (RFC 9113, section 8).

Rule of this file: as strict as HTTP/1, and stricter where HTTP/2 is. A field list that an HTTP/1.1 backend could read
in another way than we do (CR, LF, NUL, upper case, connection fields, a second Content-Length, ...) is malformed, and
nothing is repaired. What comes out is fit to be written as HTTP/1.1 as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hpack import NeverIndexedHeaderTuple

from balance.codec.http1.grammar import (
    CONNECTION,
    CONTENT_LENGTH,
    DEFAULT_LIMITS,
    EXPECT,
    FORWARDED,
    HOP,
    HOST,
    LINE_BYTES,
    NAMES,
    PLAIN,
    TARGET_BYTES,
    TE,
    TRANSFER_ENCODING,
    UNDERSCORE,
    UPGRADE,
    HeadLimits,
    learn_name,
    parse_length,
)
from balance.codec.http1.request import METHODS, check_authority, check_method
from balance.errors import (
    BadRequest,
    BadResponse,
    ExchangeError,
    ExpectationFailed,
    HeadTooLarge,
    ResponseTooLarge,
    UriTooLong,
)
from balance.model import CHUNKED, HTTP2, NO_BODY, NO_NAMES, Headers, RequestHead, ResponseHead

Field = tuple[bytes, bytes]

#: Meanings beside those of `balance.codec.http1.grammar`.
_PSEUDO: Final = -1
_COOKIE: Final = -2
#: Fields that no HTTP/2 message may have (RFC 9113, section 8.2.2). TE has a rule of its own.
_FORBIDDEN: Final = (CONNECTION, HOP, TRANSFER_ENCODING, UPGRADE)

#: A field that was checked before: name and value to (meaning, line). Bounded; what is large is checked each time.
_CHECKED: Final[dict[Field, tuple[int, bytes]]] = {}
_CHECKED_MAX: Final = 4096
_CHECKED_SIZE: Final = 256

_REASONS: Final = {b"%d" % status: status for status in range(100, 600)}


def request_head(fields: Iterable[Field], ended: bool, limits: HeadLimits = DEFAULT_LIMITS) -> RequestHead:
    """Read a request's field list.

    Extended CONNECT for WebSocket (RFC 8441) becomes what it is in HTTP/1.1: a GET with ``upgrade`` set.

    :param ended: END_STREAM came with it: there is no body
    :raises BadRequest: malformed (RFC 9113, section 8.1.1): the stream is to be reset with PROTOCOL_ERROR
    :raises ClientError: well-formed, and to be answered with the error's status
    """
    names: list[bytes] = []
    lines: list[bytes] = []
    pseudo: dict[bytes, bytes] = {}
    cookie: bytes | None = None
    special: list[tuple[int, bytes]] | None = None
    size = 0
    forwarded = underscore = False
    for field in fields:
        known = _CHECKED.get(field)
        meaning, line = known if known is not None else _check(field, BadRequest)
        size += len(line)
        if not meaning:  # PLAIN, by far the most
            names.append(field[0])
            lines.append(line)
        elif meaning == _PSEUDO:
            if names or special is not None or cookie is not None:
                raise BadRequest("a pseudo-header field after a regular one")
            if field[0] in pseudo:
                raise BadRequest("a pseudo-header field twice")
            pseudo[field[0]] = field[1]
        elif meaning == _COOKIE:
            cookie = field[1] if cookie is None else cookie + b"; " + field[1]  # RFC 9113, section 8.2.3
        elif meaning in (FORWARDED, UNDERSCORE):
            forwarded = forwarded or meaning == FORWARDED
            underscore = underscore or meaning == UNDERSCORE
            names.append(field[0])
            lines.append(line)
        elif special is None:
            special = [(meaning, field[1])]
        else:
            special.append((meaning, field[1]))
    if cookie is not None:
        names.append(b"cookie")
        lines.append(b"cookie: " + cookie)
    if len(names) > limits.fields:
        raise HeadTooLarge(f"more than {limits.fields} header fields")
    if size > limits.size:
        raise HeadTooLarge(f"the head has more than {limits.size} bytes")
    head = _request(pseudo, Headers(names, lines), limits)
    head.has_forwarded = forwarded
    head.has_underscore = underscore
    head.length = 0 if ended else CHUNKED
    if special is not None:
        _special(head, special, ended, b":authority" in pseudo)
    if not head.host:
        raise BadRequest("neither :authority nor Host")
    return head


def _check(field: Field, bad: type[ExchangeError]) -> tuple[int, bytes]:
    """What a field means, and the line it is in HTTP/1.1.

    :raises bad: a byte that no name or value may hold (RFC 9113, section 8.2.1)
    """
    name, value = field
    meaning = _PSEUDO
    if name[:1] != b":":
        entry = NAMES.get(name) or learn_name(name)
        if entry is None or entry[0] != name:
            raise bad("invalid header field name")
        meaning = _COOKIE if name == b"cookie" else entry[1]
        if meaning in _FORBIDDEN:
            raise bad(f"the field {name.decode()} belongs to a connection, which HTTP/2 does not allow")
    if value.translate(None, LINE_BYTES) or value.strip(b" \t") != value:
        raise bad("a control character in a field value, or blanks at its ends")
    line = name + b": " + value
    if len(line) <= _CHECKED_SIZE:
        if len(_CHECKED) >= _CHECKED_MAX:
            _CHECKED.clear()
        _CHECKED[name, value] = meaning, line
    return meaning, line


def _request(pseudo: dict[bytes, bytes], headers: Headers, limits: HeadLimits) -> RequestHead:
    """The pseudo-header fields (RFC 9113, section 8.3.1)."""
    method = pseudo.get(b":method", b"")
    protocol = pseudo.get(b":protocol")
    if protocol is not None:
        if method != b"CONNECT" or protocol.lower() != b"websocket":
            raise BadRequest(":protocol goes with CONNECT, and only websocket is known")
        method = b"GET"
    elif method not in METHODS:
        check_method(method)
    target = pseudo.get(b":path", b"")
    if len(pseudo) - (b":authority" in pseudo) - (protocol is not None) != 3 or pseudo.get(b":scheme") not in _SCHEMES:
        raise BadRequest("the pseudo-header fields of a request are :method, :scheme, :path and :authority")
    if len(target) > limits.uri:
        raise UriTooLong(f"the request target has more than {limits.uri} bytes")
    if target.translate(None, TARGET_BYTES) or (target[:1] != b"/" and (target != b"*" or method != b"OPTIONS")):
        raise BadRequest(":path is neither a path nor * for OPTIONS")
    host = pseudo.get(b":authority", b"")
    if host:
        check_authority(host)
    elif b":authority" in pseudo:
        raise BadRequest("an empty :authority")
    head = RequestHead(method, target, host, headers, version=HTTP2)
    if protocol is not None:
        head.upgrade = b"websocket"
    return head


_SCHEMES: Final = (b"http", b"https")


def _special(head: RequestHead, special: list[tuple[int, bytes]], ended: bool, has_authority: bool) -> None:
    """Fields that frame, route or negotiate."""
    length: int | None = None
    for meaning, value in special:
        if meaning == HOST:
            if head.host and value.lower() != head.host.lower():
                raise BadRequest(":authority and Host differ" if has_authority else "more than one Host field")
            check_authority(value)
            head.host = head.host or value
        elif meaning == CONTENT_LENGTH:
            if length is not None:
                raise BadRequest("more than one Content-Length")
            length = parse_length(value, BadRequest)
        elif meaning == TE:
            if value.lower() != b"trailers":
                raise BadRequest("TE may only be trailers")
            head.te_trailers = True
        elif meaning == EXPECT:
            if value.lower() != b"100-continue":
                raise ExpectationFailed
            head.expect_continue = not ended
    if length is not None:
        if ended and length:
            raise BadRequest("Content-Length without a body")
        if head.upgrade:
            raise BadRequest("Content-Length with CONNECT")
        head.length = length


def response_head(
    fields: Iterable[Field], method: bytes, ended: bool, limits: HeadLimits = DEFAULT_LIMITS
) -> ResponseHead:
    """Read a response's field list.

    :param method: of the request that it answers
    :param ended: END_STREAM came with it
    :raises BadResponse: malformed: the stream is to be reset with PROTOCOL_ERROR
    """
    names: list[bytes] = []
    lines: list[bytes] = []
    status = 0
    length: int | None = None
    size = 0
    for field in fields:
        known = _CHECKED.get(field)
        meaning, line = known if known is not None else _check(field, BadResponse)
        size += len(line)
        if meaning == _PSEUDO:
            if field[0] != b":status" or status or names:
                raise BadResponse("a response has one pseudo-header field, :status, before all others")
            status = _REASONS.get(field[1], 0)
            if not status:
                raise BadResponse("invalid status code")
        elif meaning == CONTENT_LENGTH:
            if length is not None:
                raise BadResponse("more than one Content-Length")
            length = parse_length(field[1], BadResponse)
        elif meaning != TE:
            names.append(field[0])
            lines.append(line)
    if not status:
        raise BadResponse("a response without :status")
    if size > limits.size or len(names) > limits.fields:
        raise ResponseTooLarge("the response head has too many bytes or fields")
    head = ResponseHead(status, b"", Headers(names, lines), version=HTTP2)
    _frame(head, method, length, ended)
    return head


def _frame(head: ResponseHead, method: bytes, length: int | None, ended: bool) -> None:
    """RFC 9113, section 8.1.1: Content-Length has to be true; RFC 9110, section 6.4.1: who has no body."""
    status = head.status
    if status < 200:
        if ended or status == 101:
            raise BadResponse("101, or END_STREAM with a 1xx response")
        head.length = NO_BODY
    elif status == 204 or status == 304 or method == b"HEAD":
        if length and status == 204:
            raise BadResponse("a body with status 204")
        head.length = NO_BODY
        head.declared = None if status == 204 else length
    elif ended:
        if length:
            raise BadResponse("Content-Length without a body")
        head.length = 0
    else:
        head.length = CHUNKED if length is None else length


def trailer_fields(fields: Iterable[Field], bad: type[ExchangeError]) -> Headers:
    """Read a trailer section: no pseudo-header fields; those that frame, route or belong to a connection are dropped
    (RFC 9110, section 6.5.1).

    :raises bad: malformed
    """
    headers = Headers()
    size = 0
    for count, field in enumerate(fields, 1):
        meaning, line = _CHECKED.get(field) or _check(field, bad)
        size += len(line)
        if meaning == _PSEUDO:
            raise bad("a pseudo-header field in a trailer section")
        if count > _TRAILERS_MAX or size > _TRAILERS_SIZE:
            raise bad("the trailer section is too large")
        if meaning in (PLAIN, UNDERSCORE):
            headers.names.append(field[0])
            headers.lines.append(line)
    return headers


_TRAILERS_MAX: Final = 100
_TRAILERS_SIZE: Final = 16 * 1024


# --- the other way ------------------------------------------------------------------------------------------


def request_fields(head: RequestHead, scheme: bytes, authority: bytes) -> list[Field]:
    """The field list of a request. ``upgrade`` becomes extended CONNECT (RFC 8441, section 4)."""
    before, after = around_request(head, scheme, authority)
    return secretly(before + _pairs(head.headers) + after, head.headers.secret)


def around_request(head: RequestHead, scheme: bytes, authority: bytes) -> tuple[list[Field], list[Field]]:
    """What comes before and after the ``headers`` of a request in its field list."""
    if head.upgrade:
        before = [(b":method", b"CONNECT"), (b":protocol", head.upgrade)]
    else:
        before = [(b":method", head.method)]
    before += ((b":scheme", scheme), (b":path", head.target), (b":authority", authority))
    after = []
    if head.length > 0 or (head.length == 0 and head.method in _BODY_EXPECTED):
        after.append((b"content-length", b"%d" % head.length))
    if head.te_trailers:
        after.append((b"te", b"trailers"))
    if head.expect_continue:
        after.append((b"expect", b"100-continue"))
    return before, after


_BODY_EXPECTED: Final = frozenset((b"POST", b"PUT", b"PATCH"))


def response_fields(head: ResponseHead) -> list[Field]:
    """The field list of a response."""
    before, after = around_response(head)
    return secretly(before + _pairs(head.headers) + after, head.headers.secret)


def around_response(head: ResponseHead) -> tuple[list[Field], list[Field]]:
    """What comes before and after the ``headers`` of a response in its field list."""
    length = head.declared if head.length == NO_BODY else head.length
    after = [] if length is None or length < 0 else [(b"content-length", b"%d" % length)]
    return [(b":status", b"%d" % head.status)], after


def _pairs(headers: Headers) -> list[Field]:
    """Names in lower case, and values without the blanks around them."""
    return [pair(name, line) for name, line in zip(headers.names, headers.lines, strict=True)]


def pair(name: bytes, line: bytes) -> Field:
    """A field out of a name in lower case and the line that it is in HTTP/1.1."""
    return name, line[len(name) + 1 :].strip(b" \t")


def trailer_list(trailers: Headers) -> Sequence[Field]:
    """The field list of a trailer section."""
    return secretly(_pairs(trailers), trailers.secret)


def secretly(fields: list[Field], secret: frozenset[bytes]) -> list[Field]:
    """Mark those fields that go on as never to be indexed, as they came (RFC 7541, section 6.2.3)."""
    if not secret:
        return fields
    return [NeverIndexedHeaderTuple(*field) if field[0] in secret else field for field in fields]


#: Fields that never are, whoever sends them and however (section 7.1.3).
SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))


def secrets_of(fields: Iterable[Field]) -> frozenset[bytes]:
    """The names of those that are marked so, beside those that always are."""
    names = [field[0] for field in fields if isinstance(field, NeverIndexedHeaderTuple) and field[0] not in SECRET]
    return frozenset(names) if names else NO_NAMES
