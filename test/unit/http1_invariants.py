"""What has to hold for every byte string whatsoever.

Rule of this file: each check returns what is wrong, in words, or an empty string; an exception that is no
`ExchangeError` passes through, and is the worst finding of all.
"""

from __future__ import annotations

from typing import Any

from balance.errors import BackendError, ClientError
from test.unit import http1_oracle as oracle
from test.unit.http1_reader import Read, read_request, read_response


def check_request(raw: bytes, pieces: list[bytes]) -> str:
    """``pieces`` are ``raw``, cut somewhere."""
    whole = read_request([raw])
    if whole.error is not None and not isinstance(whole.error, ClientError):
        return f"a client's mistake is {whole.error!r}"
    return (
        _split_difference(whole, read_request(pieces))
        or (whole.complete and (oracle.request_difference(raw, whole) or oracle.request_change(whole)))
        or ""
    )


def check_response(raw: bytes, method: bytes, pieces: list[bytes]) -> str:
    whole = read_response([raw], method, closed=True)
    if whole.error is not None and not isinstance(whole.error, BackendError):
        return f"a backend's mistake is {whole.error!r}"
    return (
        _split_difference(whole, read_response(pieces, method, closed=True))
        or (
            whole.complete and (oracle.response_difference(raw, method, whole) or oracle.response_change(whole, method))
        )
        or ""
    )


def _split_difference(whole: Read, cut: Read) -> str:
    """A message means the same however it arrives; which of two mistakes is told of may depend on it."""
    if whole.error is not None and cut.error is not None:
        return ""
    ours, theirs = _view(whole), _view(cut)
    return "" if ours == theirs else f"whole: {ours}; in pieces: {theirs}"


def _view(read: Read) -> tuple[Any, ...]:
    head = read.head
    attributes = [getattr(head, name) for name in sorted(type(head).__slots__)] if head is not None else []
    return read.outcome, attributes, read.body, read.trailers, read.rest
