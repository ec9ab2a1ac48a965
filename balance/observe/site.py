"""The site that statistics are read from. Not on the way of any request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from twisted.web.resource import NoResource, Resource
from twisted.web.server import Request, Site

#: What a page is given: the parameters of the query. What it gives: status, kind of content, content.
Page = Callable[[Mapping[bytes, Sequence[bytes]]], tuple[int, str, bytes]]


def metrics_site(
    path: str,
    render: Callable[[], bytes],
    status: Callable[[], dict[str, Any]],
    explain: Callable[[Mapping[bytes, Sequence[bytes]]], tuple[int, dict[str, Any]]] | None = None,
) -> Site:
    """
    :param path: of Prometheus' format; JSON is at ``/status``
    :param explain: answers ``/explain?url=...`` (`balance.explain.live`): status and what goes to JSON
    """
    pages: dict[bytes, Page] = {
        path.encode(): lambda query: (200, CONTENT_TYPE_LATEST, render()),
        b"/status": lambda query: (200, *_json(status())),
    }
    if explain is not None:
        pages[b"/explain"] = lambda query: _explained(*explain(query))
    site = Site(_Root(pages))
    site.noisy = False
    return site


def _json(data: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(data, indent=1).encode() + b"\n"


def _explained(status: int, data: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, *_json(data)


class _Root(Resource):
    isLeaf = True

    def __init__(self, pages: Mapping[bytes, Page]) -> None:
        super().__init__()
        self._pages = pages

    def render_GET(self, request: Request) -> bytes:
        page = self._pages.get(request.uri.partition(b"?")[0])
        if page is None:
            return NoResource().render(request)  # type: ignore[no-any-return]
        status, kind, content = page(request.args)
        if status != 200:
            request.setResponseCode(status)
        request.setHeader(b"content-type", kind.encode())
        request.setHeader(b"cache-control", b"no-store")
        return content
