"""Writing heads and chunks.

Rule of this file: framing and connection fields are made here and nowhere else, from the attributes of a head.
"""

from __future__ import annotations

from balance.codec.http1.grammar import CRLF
from balance.model import CHUNKED, HTTP10, NO_BODY, Headers, RequestHead, ResponseHead


def write_request(head: RequestHead, host: bytes) -> bytes:
    """The bytes of a request head in HTTP/1.1.

    :param host: the Host field to send
    """
    # A request with a wish for another protocol has no body. (An extended CONNECT of HTTP/2 is CHUNKED all the same.)
    parts = [head.method + b" " + head.target + b" HTTP/1.1\r\nHost: " + host]
    parts += head.headers.lines
    length = head.length
    if head.upgrade:
        parts.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    elif length == CHUNKED:
        parts.append(b"Transfer-Encoding: chunked")
    elif length or head.method in _BODY_EXPECTED:
        parts.append(b"Content-Length: %d" % length)
    if head.te_trailers and not head.upgrade:
        parts.append(b"Connection: te\r\nTE: trailers")
    if head.expect_continue:
        parts.append(b"Expect: 100-continue")
    parts.append(b"\r\n")
    return CRLF.join(parts)


#: Methods whose requests say "Content-Length: 0" when they have no body (RFC 9110, section 8.6).
_BODY_EXPECTED = frozenset((b"POST", b"PUT", b"PATCH"))

#: Upgrade is a wish of one hop in every other response, and ours to make.
_UPGRADE_TOLD = (101, 426)


def write_response(head: ResponseHead, version: int, keep_alive: bool) -> bytes:
    """The bytes of a response head for a client that speaks ``version``.

    A body of unknown length is chunked for HTTP/1.1, and ends with the connection for HTTP/1.0; the caller frames it
    likewise.
    """
    parts = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
    parts += head.headers.lines
    length = head.length
    if length >= 0:
        parts.append(b"Content-Length: %d" % length)
    elif length == NO_BODY:
        if head.declared is not None:
            parts.append(b"Content-Length: %d" % head.declared)
    elif version > HTTP10:
        parts.append(b"Transfer-Encoding: chunked")
    if head.upgrade and head.status in _UPGRADE_TOLD:
        parts.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    if not keep_alive:
        if head.status >= 200:
            parts.append(b"Connection: close")
    elif version == HTTP10:
        parts.append(b"Connection: keep-alive")
    parts.append(b"\r\n")
    return CRLF.join(parts)


def chunk(data: bytes) -> bytes:
    """One chunk. ``data`` is not empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers | None) -> bytes:
    """The end of a chunked body."""
    if trailers is None or not trailers.lines:
        return b"0\r\n\r\n"
    return b"0\r\n" + CRLF.join(trailers.lines) + b"\r\n\r\n"
