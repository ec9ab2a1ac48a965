"""Bytes that HTTP/1 allows, and the cache of field names.

Rule of this file: strict and cheap at once. One ``bytes.translate`` shows every forbidden byte of a whole head, and a
field name is validated and lowered once, then found in a dict. Nothing is repaired: what does not fit is refused.
"""

from __future__ import annotations

from typing import Final, NoReturn

from balance.errors import ExchangeError
from balance.model import Headers

CRLF: Final = b"\r\n"

_VISIBLE = bytes(range(0x21, 0x7F))
#: What a line of a head may hold: VCHAR, SP, HTAB, obs-text (RFC 9110, section 5.5). So CR, LF, NUL, DEL are not.
LINE_BYTES: Final = _VISIBLE + b" \t" + bytes(range(0x80, 0x100))
#: RFC 9110, section 5.6.2.
TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: A request target is ASCII, has no space, and no fragment ever goes on the wire (RFC 9112, section 3.2).
TARGET_BYTES: Final = _VISIBLE.replace(b"#", b"")

#: ``ENDS[n]``: what is left of n+1 good lines once every allowed byte is gone.
_ENDS: Final = tuple(CRLF * n for n in range(1024))

# What a field name means to the codecs. 0 is "forward it".
PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
HOP: Final = 5  # for one connection only, and of no interest: dropped
TE: Final = 6
UPGRADE: Final = 7
EXPECT: Final = 8
FORWARDED: Final = 9
UNDERSCORE: Final = 10

#: Fields by which proxies tell each other about clients. WSGI and CGI read X_Real_IP as X-Real-IP, so both count.
FORWARDED_NAMES: Final = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    )
)

_MEANING: Final = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"keep-alive": HOP,
    b"proxy-connection": HOP,
    b"http2-settings": HOP,
    b"te": TE,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
}

_USUAL = b"""Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Origin Age Allow
Authorization Cache-Control Connection Content-Disposition Content-Encoding Content-Language Content-Length
Content-Location Content-Range Content-Security-Policy Content-Type Cookie DNT Date ETag Expect Expires Forwarded Host
If-Match If-Modified-Since If-None-Match If-Range Keep-Alive Last-Modified Link Location Origin Pragma Range Referer
Retry-After Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Server Set-Cookie Strict-Transport-Security TE Trailer
Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Vary Via WWW-Authenticate X-Forwarded-For
X-Forwarded-Host X-Forwarded-Proto X-Powered-By X-Real-IP X-Request-ID"""

_CACHE_ENTRIES: Final = 4096
_CACHE_NAME_SIZE: Final = 128


class HeadLimits:
    """How much of a head is read before it is refused. Sizes in bytes."""

    __slots__ = ("fields", "size", "uri")

    def __init__(self, size: int = 32 * 1024, fields: int = 100, uri: int = 8 * 1024) -> None:
        self.size = size
        self.fields = min(fields, len(_ENDS) - 1)
        self.uri = uri


DEFAULT_LIMITS: Final = HeadLimits()


def name_entry(name: bytes) -> tuple[bytes, int] | None:
    """(lower-case name, meaning) of a field name, or None when it is not a token."""
    if not name or name.translate(None, TOKEN_BYTES):
        return None
    lower = name.lower()
    meaning = _MEANING.get(lower, PLAIN)
    if lower.replace(b"_", b"-") in FORWARDED_NAMES:
        meaning = FORWARDED
    elif b"_" in lower:
        meaning = UNDERSCORE
    return lower, meaning


def _usual_names() -> dict[bytes, tuple[bytes, int]]:
    names: dict[bytes, tuple[bytes, int]] = {}
    for name in _USUAL.split():
        for form in (name, name.lower()):
            entry = name_entry(form)
            assert entry is not None
            names[form] = entry
    return names


#: Raw name to (lower-case name, meaning). Filled by what is seen; bounded; read it, and call `learn_name` on a miss.
NAMES: Final = _usual_names()


def learn_name(name: bytes) -> tuple[bytes, int] | None:
    """`name_entry`, remembered. A flood of invented names costs their senders the cache, and nobody memory."""
    entry = name_entry(name)
    if entry is not None and len(name) <= _CACHE_NAME_SIZE:
        if len(NAMES) >= _CACHE_ENTRIES:
            NAMES.clear()
            NAMES.update(_usual_names())
        NAMES[name] = entry
    return entry


def split_head(block: bytes, limits: HeadLimits, bad: type[ExchangeError], large: type[ExchangeError]) -> list[bytes]:
    """The lines of a head. ``block`` ends before the empty line.

    :raises bad: a byte that no line may hold, a bare CR or a bare LF among them
    :raises large: more fields than ``limits.fields``
    """
    lines = block.split(CRLF)
    ends = len(lines) - 1
    if ends > limits.fields:
        raise large(f"more than {limits.fields} header fields")
    if block.translate(None, LINE_BYTES) != _ENDS[ends]:
        raise bad("a control character, a bare CR or a bare LF in the head")
    return lines


def parse_length(value: bytes, bad: type[ExchangeError]) -> int:
    """Content-Length: digits only, no list, no sign, and small enough for every reader (RFC 9112, section 6.3)."""
    value = value.strip(b" \t")
    if not value.isdigit() or len(value) > 18:
        raise bad("invalid Content-Length")
    return int(value)


def tokens(value: bytes) -> tuple[bytes, ...]:
    """The lower-case members of a comma-separated list, empty ones left out (RFC 9110, section 5.6.1)."""
    known = _TOKENS.get(value)
    if known is not None:
        return known
    return tuple(member for member in (part.strip(b" \t").lower() for part in value.split(b",")) if member)


#: Values of `Connection` that most messages have.
_TOKENS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b" keep-alive": (b"keep-alive",),
    b" Keep-Alive": (b"keep-alive",),
    b" close": (b"close",),
    b" trailers": (b"trailers",),
}


def parse_fields(lines: list[bytes], bad: type[ExchangeError]) -> Headers:
    """Trailer fields: the same grammar as header fields, and none that frames, routes or belongs to a connection.

    Such fields are dropped, as RFC 9110, section 6.5.1, asks of whoever merges or forwards them.
    """
    headers = Headers()
    for line in lines:
        name, colon, _value = line.partition(b":")
        entry = NAMES.get(name) or learn_name(name)
        if entry is None or not colon:
            refuse_field(line, bad)
        lower, meaning = entry
        if meaning in (PLAIN, UNDERSCORE):
            headers.names.append(lower)
            headers.lines.append(line)
    return headers


def refuse_field(line: bytes, bad: type[ExchangeError]) -> NoReturn:
    """Say what is wrong with a line that is no header field."""
    if line[:1] in (b" ", b"\t"):
        raise bad("a folded header line (obs-fold)")
    name, colon, _ = line.partition(b":")
    if not colon:
        raise bad("a header line without a colon")
    if name[-1:] in (b" ", b"\t"):
        raise bad("white space before the colon of a header field")
    raise bad("invalid header field name")
