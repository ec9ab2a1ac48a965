"""The answers Balance gives by itself, in place of a backend's.

Rule of this file: an answer says what kind of thing went wrong, and nothing of the inside: no address, no backend's
name, no exception text. The operator finds those in the log, under the same reason code.
"""

from __future__ import annotations

import json
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from balance.errors import ExchangeError, MethodRefused, UpgradeRefused, WrongWebSocketVersion
from balance.model import NO_BODY, Headers, RequestHead, ResponseHead

_PROXY_NAME: Final = "balance"


def answer(error: ExchangeError, request: RequestHead | None) -> tuple[ResponseHead, bytes]:
    """The response for an error: JSON where `Accept` asks for it, else plain text.

    Carries `Proxy-Status` (RFC 9209), so that a client can tell our answer from a backend's.

    :param request: None when its head could not be read
    """
    status = error.status
    phrase = _phrase(status)
    explanation = " ".join((type(error).__doc__ or "").split("\n")[0].split())
    if request is not None and _wants_json(request):
        kind = b"application/json"
        text = json.dumps({"status": status, "error": phrase, "reason": error.reason, "detail": explanation})
    else:
        kind = b"text/plain; charset=utf-8"
        text = f"{status} {phrase}: {explanation}"
    body = text.encode() + b"\n"
    headers = Headers.of(
        (b"Date", formatdate(usegmt=True).encode()),
        (b"Content-Type", kind),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", f'{_PROXY_NAME}; error={error.proxy_status}; details="{error.reason}"'.encode()),
    )
    if isinstance(error, MethodRefused):
        headers.add(b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    head = ResponseHead(status, phrase.encode(), headers, length=len(body))
    if isinstance(error, UpgradeRefused):
        head.upgrade = error.upgrade
        if isinstance(error, WrongWebSocketVersion):
            headers.add(b"Sec-WebSocket-Version", b"13")
    if request is not None and request.method == b"HEAD":
        head.length, head.declared, body = NO_BODY, len(body), b""
    return head, body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _wants_json(request: RequestHead) -> bool:
    accept = request.headers.get(b"accept")
    if accept is None:
        return False
    accept = accept.lower()
    json_at = accept.find(b"json")
    html_at = accept.find(b"text/")
    return json_at >= 0 and (html_at < 0 or json_at < html_at)
