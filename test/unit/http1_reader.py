"""Whole messages through the HTTP/1 codec, piece by piece.

Rule of this file: it cuts heads out of what arrives as `balance.http.http1_server` and `http1_client` do, and has no
opinion of its own: every byte is judged by the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from balance.codec.http1 import DEFAULT_LIMITS, BodyReader, check_partial_request, parse_request, parse_response
from balance.errors import BadRequest, BadResponse, ExchangeError, ResponseTooLarge, ResponseTruncated
from balance.model import NO_BODY, Headers, RequestHead, ResponseHead

END = b"\r\n\r\n"


class Read(NamedTuple):
    """What became of a message: an error, or a head (a `RequestHead` or `ResponseHead`) and what followed it."""

    error: ExchangeError | None = None
    head: Any = None
    body: bytes = b""
    trailers: Headers | None = None
    rest: bytes = b""
    complete: bool = False

    @property
    def outcome(self) -> int | str:
        """The status of the refusal, "ok", or "incomplete"."""
        if self.error is not None:
            return self.error.status
        return "ok" if self.complete else "incomplete"

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        return list(self.head.headers)


def read_request(pieces: Iterable[bytes]) -> Read:
    """One request out of what a client sends in these pieces; the rest of them is ``rest``."""
    return _read(pieces, _request_head, BadRequest)


def read_response(pieces: Iterable[bytes], method: bytes = b"GET", *, closed: bool = False) -> Read:
    """One response to ``method``.

    :param closed: the backend closes in an orderly way after the last piece
    """

    def head(data: bytes) -> tuple[ResponseHead, int] | None:
        return _response_head(data, method)

    return _read(pieces, head, BadResponse, closed=closed)


def halves(raw: bytes, cuts: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
    """``raw`` in two pieces, for each of the cuts."""
    for cut in cuts:
        yield raw[:cut], raw[cut:]


def single_bytes(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def _request_head(data: bytes) -> tuple[RequestHead, int] | None:
    """A head and where it ends, or None while it has not ended."""
    start = 2 if data.startswith(b"\r\n") else 0  # one empty line is forgiven (RFC 9112, section 2.2)
    end = data.find(END, start)
    if end < 0 or end - start > DEFAULT_LIMITS.size:
        if data[start:]:
            check_partial_request(data[start:])
        return None
    return parse_request(data[start:end]), end + 4


def _response_head(data: bytes, method: bytes) -> tuple[ResponseHead, int] | None:
    end = data.find(END)
    if end < 0 or end > DEFAULT_LIMITS.size:
        if len(data) > DEFAULT_LIMITS.size:
            raise ResponseTooLarge
        if data.count(b"\n") != data.count(b"\r\n"):
            raise BadResponse
        return None
    return parse_response(data[:end], method), end + 4


def _read(
    pieces: Iterable[bytes],
    cut_head: Callable[[bytes], tuple[Any, int] | None],
    bad: type[ExchangeError],
    *,
    closed: bool = False,
) -> Read:
    arriving = iter(pieces)
    try:
        head, data = _read_head(arriving, cut_head)
        if head is None:
            return Read()
        return _read_body(head, data, arriving, bad, closed)
    except ExchangeError as error:
        return Read(error=error)


def _read_head(arriving: Iterator[bytes], cut_head: Callable[[bytes], tuple[Any, int] | None]) -> tuple[Any, bytes]:
    data = b""
    for piece in arriving:
        data += piece
        found = cut_head(data) if data else None
        if found is not None:
            return found[0], data[found[1] :]
    return None, data


def _read_body(head: Any, data: bytes, arriving: Iterator[bytes], bad: type[ExchangeError], closed: bool) -> Read:
    if head.length in (0, NO_BODY):
        return Read(head=head, rest=data + b"".join(arriving), complete=True)
    reader = BodyReader.of(head.length, bad)
    body = reader.feed(data) if data else b""
    while not reader.ended and (piece := next(arriving, None)) is not None:
        body += reader.feed(piece)
    complete = reader.ended or (closed and reader.close())
    if closed and not complete:
        raise ResponseTruncated
    rest = reader.rest + b"".join(arriving)
    return Read(head=head, body=body, trailers=reader.trailers, rest=rest, complete=complete)
