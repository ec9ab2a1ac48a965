"""The site that statistics are read from. Not on the way of any request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from twisted.web.resource import NoResource, Resource
from twisted.web.server import Request, Site


def metrics_site(path: str, render: Callable[[], bytes], status: Callable[[], dict[str, Any]]) -> Site:
    """
    :param path: of Prometheus' format; JSON is at ``/status``
    """
    site = Site(_Root({path.encode(): (CONTENT_TYPE_LATEST, render), b"/status": ("application/json", _json(status))}))
    site.noisy = False
    return site


def _json(status: Callable[[], dict[str, Any]]) -> Callable[[], bytes]:
    return lambda: json.dumps(status(), indent=1).encode() + b"\n"


class _Root(Resource):
    isLeaf = True

    def __init__(self, pages: dict[bytes, tuple[str, Callable[[], bytes]]]) -> None:
        super().__init__()
        self._pages = pages

    def render_GET(self, request: Request) -> bytes:
        page = self._pages.get(request.uri.partition(b"?")[0])
        if page is None:
            return NoResource().render(request)  # type: ignore[no-any-return]
        kind, make = page
        request.setHeader(b"content-type", kind.encode())
        request.setHeader(b"cache-control", b"no-store")
        return make()
