"""Reading response heads.

Rule of this file: a backend is as hostile as a client. A response that could end in two places is refused (502), so
that one client never receives another's answer.
"""

from __future__ import annotations

from typing import Final

from balance.codec.http1.grammar import (
    CONNECTION,
    CONTENT_LENGTH,
    DEFAULT_LIMITS,
    EXPECT,
    FORWARDED,
    HOST,
    NAMES,
    TRANSFER_ENCODING,
    UNDERSCORE,
    UPGRADE,
    HeadLimits,
    learn_name,
    parse_length,
    refuse_field,
    split_head,
    tokens,
)
from balance.errors import BadResponse, ResponseTooLarge
from balance.model import CHUNKED, HTTP10, HTTP11, NO_BODY, UNTIL_CLOSE, Headers, ResponseHead

#: Fields that mean something in requests only.
_KEPT: Final = (UNDERSCORE, FORWARDED, HOST, EXPECT)
#: Values of Connection that name no field.
_COMMON_OPTIONS: Final = ((), (b"keep-alive",), (b"close",))
_STATUS_LINES: Final[dict[bytes, tuple[int, int, bytes]]] = {}
_STATUS_LINES_MAX: Final = 1024


def parse_response(block: bytes, method: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> ResponseHead:
    """Read a response head; ``block`` is everything before the empty line, without it.

    :param method: of the request this answers: HEAD has no body whatever the head says
    :raises BadResponse: the connection cannot be used after that
    """
    lines = split_head(block, limits, BadResponse, ResponseTooLarge)
    line = lines[0]
    version, status, reason = _STATUS_LINES.get(line) or _status_line(line)
    names: list[bytes] = []
    kept: list[bytes] = []
    length: int | None = None
    coding: bytes | None = None
    options: tuple[bytes, ...] | None = None
    upgrade = b""
    del lines[0]
    for line in lines:
        name, colon, value = line.partition(b":")
        entry = NAMES.get(name) or learn_name(name)
        if entry is None or not colon:
            refuse_field(line, BadResponse)
        lower, meaning = entry
        if not meaning:  # PLAIN, by far the most
            names.append(lower)
            kept.append(line)
        elif meaning == CONTENT_LENGTH:
            if length is not None:
                raise BadResponse("more than one Content-Length")
            length = parse_length(value, BadResponse)
        elif meaning == CONNECTION:
            options = tokens(value) if options is None else options + tokens(value)
        elif meaning == TRANSFER_ENCODING:
            if coding is not None:
                raise BadResponse("more than one Transfer-Encoding")
            coding = value.strip(b" \t").lower()
        elif meaning == UPGRADE:
            upgrade = value.strip(b" \t")
        elif meaning in _KEPT:
            names.append(lower)
            kept.append(line)

    head = ResponseHead(status, reason, Headers(names, kept), version=version)
    if coding is not None:
        _check_coding(version, coding, length)
    if version == HTTP10:
        head.keep_alive = options is not None and b"keep-alive" in options
    if options is not None:
        if b"close" in options:
            head.keep_alive = False
        if upgrade and b"upgrade" in options:
            head.upgrade = upgrade
        if options not in _COMMON_OPTIONS:
            for option in set(options).intersection(names):
                head.headers.remove(option)
    _frame(head, method, length, coding is not None)
    return head


def _frame(head: ResponseHead, method: bytes, length: int | None, chunked: bool) -> None:
    """RFC 9112, section 6.3, rule by rule."""
    status = head.status
    if status < 200 or status == 204:
        if chunked or (length and status == 204):
            raise BadResponse(f"a body with status {status}")
        head.length = NO_BODY
    elif status == 304 or method == b"HEAD":
        head.length = NO_BODY
        head.declared = length
    elif chunked:
        head.length = CHUNKED
    elif length is not None:
        head.length = length
    else:
        head.length = UNTIL_CLOSE
        head.keep_alive = False


def _status_line(line: bytes) -> tuple[int, int, bytes]:
    protocol, _, rest = line.partition(b" ")
    code, space, reason = rest.partition(b" ")
    if protocol == b"HTTP/1.1":
        version = HTTP11
    elif protocol == b"HTTP/1.0":
        version = HTTP10
    else:
        raise BadResponse("invalid status line")
    # The space after the code is required, and left out by so many servers that everybody forgives it.
    if len(code) != 3 or not code.isdigit() or not 100 <= int(code) <= 599 or (rest != code and not space):
        raise BadResponse("invalid status code")
    known = (version, int(code), reason)
    if len(line) <= 128:
        if len(_STATUS_LINES) >= _STATUS_LINES_MAX:
            _STATUS_LINES.clear()
        _STATUS_LINES[line] = known
    return known


def _check_coding(version: int, coding: bytes, length: int | None) -> None:
    if version == HTTP10:
        raise BadResponse("Transfer-Encoding in an HTTP/1.0 response")
    if length is not None:
        raise BadResponse("both Content-Length and Transfer-Encoding")
    if coding != b"chunked":
        raise BadResponse("an unknown transfer coding")
