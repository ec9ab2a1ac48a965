"""Whether a head that code of ours or of others has edited may still go on the wire.

Rule of this file: an edit can do no more than a peer could: no byte that ends a line, and no field that frames a
message or belongs to a connection, as the codecs make those themselves.
"""

from __future__ import annotations

from balance.codec.http1.grammar import (
    CRLF,
    FORWARDED,
    LINE_BYTES,
    NAMES,
    PLAIN,
    TARGET_BYTES,
    TOKEN_BYTES,
    UNDERSCORE,
    learn_name,
)
from balance.model import Headers, RequestHead

_HOST_BYTES = TOKEN_BYTES + b":[]"
_ALLOWED = (PLAIN, UNDERSCORE, FORWARDED)


def check_fields(headers: Headers) -> None:
    """
    :raises ValueError: a field cannot be sent; the message says which
    """
    lines = headers.lines
    if CRLF.join(lines).translate(None, LINE_BYTES) != CRLF * (len(lines) - 1) or len(headers.names) != len(lines):
        for line in lines:
            if line.translate(None, LINE_BYTES):
                raise ValueError(f"a control character in the header field {_shown(line)}")
        raise ValueError("names and lines of header fields do not belong together")
    for line, known in zip(lines, headers.names, strict=True):
        name = line.partition(b":")[0]
        entry = NAMES.get(name) or learn_name(name)
        if entry is None or entry[0] != known:
            raise ValueError(f"{_shown(name)} is no header field name")
        if entry[1] not in _ALLOWED:
            raise ValueError(f"the header field {_shown(name)} belongs to the connection: Balance makes it")


def snapshot(request: RequestHead) -> tuple[object, ...]:
    """Equal to a later one as long as nothing of the head was edited. Cheap: nothing is copied."""
    lines = request.headers.lines
    return request.method, request.target, request.host, id(lines), len(lines)


def check_request(request: RequestHead) -> None:
    """A whole head; its `path` is made to follow its `target`.

    :raises ValueError: it cannot be sent like this
    """
    check_fields(request.headers)
    if request.target != b"*":
        check_target(request.target)
    request.path = request.target.partition(b"?")[0]
    if request.host.translate(None, _HOST_BYTES):
        raise ValueError(f"{_shown(request.host)} is no host")
    if not request.method or request.method.translate(None, TOKEN_BYTES):
        raise ValueError(f"{_shown(request.method)} is no method")


def check_target(target: bytes) -> None:
    """
    :raises ValueError: this is no request target in origin form (RFC 9112, section 3.2.1)
    """
    if not target.startswith(b"/") or target.translate(None, TARGET_BYTES):
        raise ValueError(f"{_shown(target)} is no request target")


def _shown(raw: bytes) -> str:
    return repr(raw[:60].decode("ascii", "backslashreplace"))
