"""HTTP/1.0 and HTTP/1.1 without sockets: heads, framing, bodies (RFC 9110, RFC 9112)."""

from balance.codec.http1.body import BodyReader, ChunkedReader, CloseReader, LengthReader
from balance.codec.http1.grammar import DEFAULT_LIMITS, HeadLimits
from balance.codec.http1.request import check_partial_request, parse_request
from balance.codec.http1.response import parse_response
from balance.codec.http1.write import chunk, last_chunk, write_request, write_response

__all__ = [
    "DEFAULT_LIMITS",
    "BodyReader",
    "ChunkedReader",
    "CloseReader",
    "HeadLimits",
    "LengthReader",
    "check_partial_request",
    "chunk",
    "last_chunk",
    "parse_request",
    "parse_response",
    "write_request",
    "write_response",
]
