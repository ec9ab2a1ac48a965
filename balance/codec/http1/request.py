"""Reading request heads.

Rule of this file: a request that a backend could read in another way than we do is refused, never repaired
(request smuggling; RFC 9112, section 11.2). Each refusal says which rule was broken.
"""

from __future__ import annotations

import re
from typing import Final

from balance.codec.http1.grammar import (
    CONNECTION,
    CONTENT_LENGTH,
    DEFAULT_LIMITS,
    EXPECT,
    FORWARDED,
    HOST,
    NAMES,
    TARGET_BYTES,
    TE,
    TOKEN_BYTES,
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
from balance.errors import (
    BadRequest,
    CodingNotImplemented,
    ExpectationFailed,
    HeadTooLarge,
    MethodRefused,
    UriTooLong,
    VersionNotSupported,
)
from balance.model import CHUNKED, HTTP10, HTTP11, Headers, RequestHead

METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"))
_VERSION: Final = re.compile(rb"HTTP/([0-9])\.([0-9])")
#: uri-host [":" port]: an IP literal, or a reg-name whose bytes mean the same to everybody (RFC 3986, section 3.2).
_AUTHORITY: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._~!$&'()*+;=%-]{1,255})(?::([0-9]{0,5}))?")
#: What a request line needs besides its target: method, spaces, version.
_REQUEST_LINE_REST: Final = 64
_KNOWN_HOSTS: Final[set[bytes]] = set()
_KNOWN_HOSTS_MAX: Final = 4096


def parse_request(block: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> RequestHead:
    """Read a request head; ``block`` is everything before the empty line, without it.

    :raises ClientError: with the status to answer; the connection cannot be used after that
    """
    lines = split_head(block, limits, BadRequest, HeadTooLarge)
    try:
        method, target, protocol = lines[0].split(b" ")
    except ValueError:
        raise BadRequest("a request line is: method, space, target, space, version") from None
    version = HTTP11 if protocol == b"HTTP/1.1" else _version(protocol)
    if method not in METHODS:
        check_method(method)
    if len(target) > limits.uri:
        raise UriTooLong(f"the request target has more than {limits.uri} bytes")
    if not target or target.translate(None, TARGET_BYTES):
        raise BadRequest("an empty request target, or a byte that none may hold")

    names: list[bytes] = []
    kept: list[bytes] = []
    head = RequestHead(method, target, b"", Headers(names, kept), version=version)
    special: list[tuple[int, bytes]] | None = None
    host: bytes | None = None
    del lines[0]
    for line in lines:
        name, colon, value = line.partition(b":")
        entry = NAMES.get(name) or learn_name(name)
        if entry is None or not colon:
            refuse_field(line, BadRequest)
        lower, meaning = entry
        if not meaning:  # PLAIN, by far the most
            names.append(lower)
            kept.append(line)
        elif meaning == HOST:
            if host is not None:
                raise BadRequest("more than one Host field")
            host = value.strip(b" \t")
        elif meaning == FORWARDED:
            head.has_forwarded = True
            names.append(lower)
            kept.append(line)
        elif meaning == UNDERSCORE:
            head.has_underscore = True
            names.append(lower)
            kept.append(line)
        elif special is None:
            special = [(meaning, value)]
        else:
            special.append((meaning, value))

    if host is None:
        if version == HTTP11:
            raise BadRequest("HTTP/1.1 requests need a Host field")
    elif host not in _KNOWN_HOSTS:
        check_authority(host)
    head.host = host or b""
    if target[0] != 0x2F:
        _other_target_form(head)
    if special is not None:
        _connection_fields(head, special)
    elif version == HTTP10:
        head.keep_alive = False
    return head


def check_partial_request(data: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> None:
    """Refuse early what can never become a request, so that nobody waits for the end of it.

    :param data: what came so far; it holds no empty line within ``limits.size``
    :raises ClientError: the head is too large already, or cannot be one
    """
    line_end = data.find(b"\n")
    if (len(data) if line_end < 0 else line_end) > limits.uri + _REQUEST_LINE_REST:
        raise UriTooLong(f"the request target has more than {limits.uri} bytes")
    if len(data) > limits.size:
        raise HeadTooLarge(f"the head has more than {limits.size} bytes")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest("a bare LF in the head")
    if not data.startswith(b"\r") and data[:1].translate(None, TOKEN_BYTES):
        raise BadRequest("this is not an HTTP request")


def _version(protocol: bytes) -> int:
    if protocol == b"HTTP/1.0":
        return HTTP10
    match = _VERSION.fullmatch(protocol)
    if match is None:
        raise BadRequest("invalid protocol version")
    if match[1] != b"1":
        raise VersionNotSupported
    return HTTP11  # a higher minor version is processed as the highest we know (RFC 9110, section 2.5)


def check_method(method: bytes) -> None:
    """
    :raises BadRequest: it is no token
    :raises MethodRefused: CONNECT or TRACE
    """
    if not method or method.translate(None, TOKEN_BYTES):
        raise BadRequest("invalid method")
    if method in (b"CONNECT", b"TRACE"):
        raise MethodRefused


def check_authority(host: bytes) -> None:
    """Whether it is a host, with or without a port.

    :raises BadRequest: it is not, or could be read in two ways
    """
    if host in _KNOWN_HOSTS:
        return
    match = _AUTHORITY.fullmatch(host)
    if match is None or int(match[1] or 0) > 65535:
        raise BadRequest("invalid Host")
    if len(_KNOWN_HOSTS) >= _KNOWN_HOSTS_MAX:
        _KNOWN_HOSTS.clear()
    _KNOWN_HOSTS.add(host)


def _other_target_form(head: RequestHead) -> None:
    """Absolute-form and asterisk-form; what leaves here is in origin-form (RFC 9112, section 3.2)."""
    target = head.target
    if target == b"*":
        if head.method != b"OPTIONS":
            raise BadRequest("the target * belongs to OPTIONS")
        return
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequest("the request target is neither a path nor an absolute http URI")
    end = min(index for index in (rest.find(b"/"), rest.find(b"?"), len(rest)) if index >= 0)
    check_authority(rest[:end])
    head.host = rest[:end]  # it wins over the Host field (RFC 9112, section 3.2.2)
    path = rest[end:]
    if not path and head.method == b"OPTIONS":
        path = b"*"
    elif not path.startswith(b"/"):
        path = b"/" + path
    head.target = path
    head.path = path.partition(b"?")[0]


def _connection_fields(head: RequestHead, special: list[tuple[int, bytes]]) -> None:
    """Framing and connection options: everything that may not go to the backend as it came."""
    length: int | None = None
    coding: bytes | None = None
    options: tuple[bytes, ...] = ()
    for meaning, value in special:
        if meaning == CONNECTION:
            options += tokens(value)
        elif meaning == CONTENT_LENGTH:
            if length is not None:
                raise BadRequest("more than one Content-Length")
            length = parse_length(value, BadRequest)
        elif meaning == TRANSFER_ENCODING:
            if coding is not None:
                raise BadRequest("more than one Transfer-Encoding")
            coding = value.strip(b" \t").lower()
        elif meaning == TE:
            head.te_trailers = head.te_trailers or b"trailers" in tokens(value)
        elif meaning == UPGRADE:
            head.upgrade = value.strip(b" \t") if not head.upgrade else head.upgrade + b", " + value.strip(b" \t")
        elif meaning == EXPECT:
            _expect(head, value.strip(b" \t"))
    if coding is not None:
        _check_coding(head, coding, length)
    elif length is not None:
        head.length = length
    _connection_options(head, options)


def _check_coding(head: RequestHead, coding: bytes, length: int | None) -> None:
    """Only a lone ``chunked``; anything else is a way to smuggle (RFC 9112, section 6.1)."""
    if head.version == HTTP10:
        raise BadRequest("Transfer-Encoding in an HTTP/1.0 request")
    if length is not None:
        raise BadRequest("both Content-Length and Transfer-Encoding")
    if coding != b"chunked":
        names = [name.strip(b" \t") for name in coding.split(b",")]
        if b"chunked" in names[:-1] or any(not name or name.translate(None, TOKEN_BYTES) for name in names):
            raise BadRequest("invalid Transfer-Encoding")
        raise CodingNotImplemented
    head.length = CHUNKED


def _expect(head: RequestHead, value: bytes) -> None:
    if value.lower() != b"100-continue":
        raise ExpectationFailed
    if head.version != HTTP10:  # of HTTP/1.0 it is ignored (RFC 9110, section 10.1.1)
        head.expect_continue = True


def _connection_options(head: RequestHead, options: tuple[bytes, ...]) -> None:
    """Keep-alive, upgrade, and the removal of every field that Connection names (RFC 9110, section 7.6.1)."""
    if head.version == HTTP10:
        head.keep_alive = b"keep-alive" in options and b"close" not in options
    elif b"close" in options:
        head.keep_alive = False
    if head.upgrade:
        _upgrade(head, options)
    for option in set(options).intersection(head.headers.names):
        head.headers.remove(option)


def _upgrade(head: RequestHead, options: tuple[bytes, ...]) -> None:
    """WebSocket is the one protocol that is passed on, and GET the one method it comes with (RFC 6455, section 4.1).
    Any other wish is ignored, as RFC 9110, section 7.8, allows; and asks for, of HTTP/1.0.
    """
    wished = b"upgrade" in options and head.version > HTTP10 and head.method == b"GET"
    head.upgrade = b"websocket" if wished and b"websocket" in tokens(head.upgrade) else b""
