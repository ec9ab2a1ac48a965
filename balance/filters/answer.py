"""A response that a filter makes by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from balance.codec.edited import check_fields
from balance.model import NO_BODY, Headers, RequestHead, ResponseHead


class Answer:
    """A whole response.

    :param status: 200 to 599
    :param body: text is sent as UTF-8
    :param headers: fields, or pairs where a name occurs more than once. Balance makes Content-Length; Content-Type is
        text/plain unless it is given.
    :raises ValueError: a status out of range; a field that no message may have, or that belongs to the connection
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: str | bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is no status of a final response")
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self.headers = Headers.of(*((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs))
        check_fields(self.headers)
        if self.body and b"content-type" not in self.headers:
            self.headers.add(b"Content-Type", b"text/plain; charset=utf-8")

    def response(self, request: RequestHead) -> tuple[ResponseHead, bytes]:
        """As it goes out, in answer to a request: without a body where there can be none."""
        try:
            reason = HTTPStatus(self.status).phrase.encode()
        except ValueError:
            reason = b""
        head = ResponseHead(self.status, reason, self.headers.copy(), length=len(self.body))
        if self.status in (204, 304):
            head.length = NO_BODY
            return head, b""
        if request.method == b"HEAD":
            head.length, head.declared = NO_BODY, len(self.body)
            return head, b""
        return head, self.body

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {len(self.body)} bytes>"
