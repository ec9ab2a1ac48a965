"""The other door: the same exchange behind any `twisted.web` site.

Rule of this file: `ReverseProxyResource` translates between a `twisted.web` request and an `Exchange`, and nothing
else. What twisted.web cannot do cannot be done here: it hands the request over when its body is complete (kept in
memory or a temporary file), and it has no way to send 1xx responses or trailers; those are dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from balance.codec.forwarding import Forwarding
from balance.codec.http1 import parse_request
from balance.errors import ExchangeError
from balance.http.answers import answer
from balance.http.exchange import Exchange
from balance.http.streams import Line
from balance.model import CHUNKED, NO_BODY, Headers, ResponseHead

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from balance.http.proxy import HttpProxy

#: Request body bytes handed to the exchange at once.
_BODY_STEP = 64 * 1024


class ReverseProxyResource(Resource):
    """Send every request that arrives here through a `HttpProxy`.

    :param proxy: routes, pools, limits and counters, as a listener has them
    :param strip_prefix: take the path this resource is mounted under away before routing and forwarding
    """

    isLeaf = True

    def __init__(self, proxy: HttpProxy, *, strip_prefix: bool = False) -> None:
        super().__init__()
        self._proxy = proxy
        self._strip_prefix = strip_prefix

    def render(self, request: Request) -> int:
        _WebStream(self._proxy, request, self._target(request)).begin()
        return NOT_DONE_YET

    def _target(self, request: Request) -> bytes:
        target = request.uri
        if self._strip_prefix and request.prepath:
            prefix = b"/" + b"/".join(request.prepath)
            if target.startswith(prefix):
                target = target[len(prefix) :]
                if not target.startswith(b"/"):
                    target = b"/" + target
        return target


@implementer(IPushProducer)
class _WebStream:
    """A `ClientStream` over a `twisted.web` request."""

    def __init__(self, proxy: HttpProxy, request: Request, target: bytes) -> None:
        self._proxy = proxy
        self._request = request
        self._target = target
        self._exchange: Exchange | None = None
        self._body_paused = False
        scheme = b"https" if request.isSecure() else b"http"
        self.forwarding: Forwarding = proxy.forwarding.for_peer(getattr(request.getClientAddress(), "host", ""), scheme)

    def begin(self) -> None:
        request = self._request
        request.notifyFinish().addErrback(self._gone)
        try:
            # Read again by the codec: twisted.web is more lenient than what Balance lets through.
            head = parse_request(self._head_block(), self._proxy.head_limits)
        except ExchangeError as error:
            response, body = answer(error, None)
            self.send_response(response, body, True)
            return
        head.upgrade = b""  # twisted.web does not hand connections over
        if head.length == CHUNKED:  # twisted.web has read it to its end: the length is known now
            head.length = self._body_size()
        exchange = self._exchange = Exchange(
            self._proxy, self, head, self._proxy.clock() if self._proxy.timing else 0.0
        )
        request.registerProducer(self, True)
        if head.length == 0:
            exchange.begin(b"", True)
        else:
            exchange.begin(b"", False)
            self._send_body()

    def _head_block(self) -> bytes:
        request = self._request
        lines = [b"%b %b HTTP/1.1" % (request.method, self._target)]
        for name, values in request.requestHeaders.getAllRawHeaders():
            lines += [name + b": " + value for value in values]
        return b"\r\n".join(lines)

    def _body_size(self) -> int:
        content = self._request.content
        if content is None:
            return 0
        content.seek(0, 2)
        size = content.tell()
        content.seek(0)
        return int(size)

    def _send_body(self) -> None:
        while self._exchange is not None and not self._body_paused and self._request.content is not None:
            data = self._request.content.read(_BODY_STEP)
            exchange = self._exchange
            exchange.request_data(data, not data, None)
            if not data:
                return

    def _gone(self, reason: Failure) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()

    # --- ClientStream -----------------------------------------------------------------------------------------

    def send_informational(self, head: ResponseHead) -> None:
        """twisted.web cannot send interim responses."""

    def send_response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        request = self._request
        request.setResponseCode(head.status, head.reason)
        request.responseHeaders.removeHeader(b"content-type")
        for name, value in head.headers:
            request.responseHeaders.addRawHeader(name, value)
        length = head.declared if head.length == NO_BODY else head.length
        if length is not None and length >= 0:
            request.responseHeaders.setRawHeaders(b"content-length", [b"%d" % length])
        if data:
            request.write(data)
        if ended:
            self.send_end(None)

    def send_data(self, data: bytes) -> None:
        self._request.write(data)

    def send_end(self, trailers: Headers | None) -> None:
        self._exchange = None
        if self._request.producer is not None:
            self._request.unregisterProducer()
        self._request.finish()

    def switch(self, head: ResponseHead) -> Line:
        raise AssertionError("no upgrade was asked for")

    def abort(self, error: ExchangeError) -> None:
        self._exchange = None
        transport: Any = self._request.transport
        transport.abortConnection()

    def pause_request(self) -> None:
        self._body_paused = True

    def resume_request(self) -> None:
        if self._body_paused:
            self._body_paused = False
            self._send_body()

    # --- IPushProducer: the client takes no more for now ------------------------------------------------------

    def pauseProducing(self) -> None:
        if self._exchange is not None:
            self._exchange.pause_response()

    def resumeProducing(self) -> None:
        if self._exchange is not None:
            self._exchange.resume_response()

    def stopProducing(self) -> None:
        """`_gone` follows."""
