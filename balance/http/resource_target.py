"""A `twisted.web` resource as the target of a route: served on the lean channel, chosen and counted as any backend is.

Rule of this file: `ResourceStream` is a `BackendStream` on one side and, on the other, as much of an HTTP channel as a
`twisted.web` request asks for. What twisted.web cannot do cannot be done here: a resource is rendered when the body of
its request is complete (kept in memory, or from 100 kB on in a temporary file), and neither 1xx responses nor trailers
go in or out. Responses are streamed, under back-pressure for resources that register a producer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from balance.codec.edited import check_fields
from balance.codec.http1.grammar import FORWARDED, PLAIN, UNDERSCORE, name_entry
from balance.errors import BadResponse, ResponseTimeout, ResponseTruncated
from balance.model import CHUNKED, NO_BODY, Headers, RequestHead, ResponseHead
from balance.net.deadlines import Timed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.web.http_headers import Headers as WebHeaders

    from balance.config import Timeouts
    from balance.http.streams import BackendStream, ExchangeEvents
    from balance.net.deadlines import Deadlines
    from balance.net.tls_client import BackendTls
    from balance.pool.backend import Backend

#: Pieces that a pull producer is asked for before others have their turn.
_PULLS: Final = 16


class ResourceConnections:
    """Stands where `BackendConnections` stands; there is nothing to connect to."""

    __slots__ = ("backend", "closing", "deadlines", "site", "timeouts", "tls")

    def __init__(self, backend: Backend, resource: IResource, deadlines: Deadlines, timeouts: Timeouts) -> None:
        self.backend = backend
        self.deadlines = deadlines
        self.timeouts = timeouts
        self.closing = False
        self.tls: BackendTls | None = None
        #: Holds the resource; never listens.
        self.site = Site(resource)

    @property
    def idle(self) -> int:
        return 0

    def take(self) -> BackendStream:
        """A stream for one exchange: it is always there."""
        return ResourceStream(self)

    def dial(self, connected: Any, failed: Any) -> Any:
        """Like `take`, for an attempt that wants a fresh connection."""
        connected(self.take())

    def close(self) -> None:
        self.closing = True


class ResourceStream(Timed):
    """One exchange with a resource."""

    __slots__ = (
        "_exchange",
        "_head",
        "_left",
        "_method",
        "_owner",
        "_paused",
        "_peer",
        "_producer",
        "_pulling",
        "_request",
        "_secure",
        "_streaming",
        "_target",
        "factory",
        "site",
        "transport",
    )

    def __init__(self, owner: ResourceConnections) -> None:
        super().__init__()
        self._owner = owner
        self._exchange: ExchangeEvents | None = None
        self._request: Any = None
        #: The response's, until some of the body is there, too.
        self._head: ResponseHead | None = None
        #: Bytes of the response that are still to come; None for nobody knows.
        self._left: int | None = None
        self._producer: Any = None
        self._streaming = True
        self._pulling = False
        self._paused = False
        # What a request of twisted.web looks for on its channel.
        self.site = owner.site
        self.factory = None
        self.transport = self

    # --- the request: BackendStream ---------------------------------------------------------------------------

    def start(self, exchange: ExchangeEvents, request: RequestHead, host: bytes, data: bytes, ended: bool) -> None:
        self._exchange = exchange
        headers = request.headers
        self._secure = headers.get(b"x-forwarded-proto") == b"https"
        self._peer = _address(headers.get(b"x-real-ip") or b"")
        self._method, self._target = request.method, request.target
        made = self._request = self.site.requestFactory(self)
        for name, value in headers:
            made.requestHeaders.addRawHeader(name, value)
        made.requestHeaders.setRawHeaders(b"host", [host])
        if request.length > 0:
            made.requestHeaders.setRawHeaders(b"content-length", [b"%d" % request.length])
        made.parseCookies()
        made.gotLength(request.length if request.length >= 0 else None)
        if data:
            self.send_data(data)
        if ended:
            self.send_end(None)

    def send_data(self, data: bytes) -> None:
        self._owner.backend.bytes_out += len(data)
        self._request.handleContentChunk(data)

    def send_end(self, trailers: Headers | None) -> None:
        self._wait()
        self._request.requestReceived(self._method, self._target, b"HTTP/1.1")

    def cancel(self) -> None:
        """Tell the resource, as twisted.web does when a client is gone."""
        self._over()
        request, self._request = self._request, None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if request is not None and not request.finished:
            request.connectionLost(Failure(ConnectionLost()))

    def pause_response(self) -> None:
        if not self._paused:
            self._paused = True
            self._owner.deadlines.disarm(self)
            if self._producer is not None and self._streaming:
                self._producer.pauseProducing()

    def resume_response(self) -> None:
        if self._paused:
            self._paused = False
            self._wait()
            if self._producer is not None:
                if self._streaming:
                    self._producer.resumeProducing()
                else:
                    self._pull()

    def hand_over(self) -> Any:
        """Never called: a resource switches no protocols."""
        raise NotImplementedError

    def _wait(self) -> None:
        if not self._paused:
            self._owner.deadlines.arm(self, self._owner.timeouts.read)

    def timed_out(self) -> None:
        self._fail(ResponseTimeout())

    def _over(self) -> None:
        self._exchange = None
        self._owner.deadlines.forget(self)

    def _fail(self, error: BadResponse | ResponseTimeout | ResponseTruncated) -> None:
        exchange = self._exchange
        self.cancel()
        if exchange is not None:
            exchange.failed(error)

    # --- the response: what twisted.web calls -----------------------------------------------------------------

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: WebHeaders) -> None:
        self._request.chunked = 0  # whoever sends it decides
        try:
            self._head = self._read(int(code), reason, headers)
        except ValueError as error:
            self._fail(BadResponse(str(error)))

    def _read(self, status: int, reason: bytes, given: WebHeaders) -> ResponseHead:
        headers = Headers()
        length: int | None = None
        for name, values in given.getAllRawHeaders():
            entry = name_entry(name)
            if entry is None:
                raise ValueError(f"{name!r} is no header field name")
            if entry[0] == b"content-length":
                length = int(values[0])
            elif entry[1] in (PLAIN, UNDERSCORE, FORWARDED):
                for value in values:
                    headers.add(name, value)
        check_fields(headers)
        head = ResponseHead(status, reason, headers, length=CHUNKED if length is None else length)
        if self._method == b"HEAD" or status in (204, 304):
            head.length, head.declared = NO_BODY, length if status != 204 else None
            length = 0
        self._left = length
        return head

    def write(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or not data:
            return
        self._owner.backend.bytes_in += len(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._fail(BadResponse("the resource writes more than its Content-Length"))
                return
        ended = self._left == 0
        head, self._head = self._head, None
        if ended:
            self._over()
        else:
            self._wait()
        if head is not None:
            exchange.response(head, data, ended)
            return
        exchange.response_data(data)
        if ended:
            exchange.response_end(None)

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def requestDone(self, request: Request) -> None:
        """The resource has finished."""
        self._producer = None
        exchange = self._exchange
        if exchange is None:
            return
        if self._left:
            self._fail(ResponseTruncated())
            return
        self._over()
        head, self._head = self._head, None
        if head is not None:
            if head.length == CHUNKED:
                head.length = 0
            exchange.response(head, b"", True)
        else:
            exchange.response_end(None)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer, self._streaming = producer, streaming
        if not streaming:
            self._pull()
        elif self._paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def _pull(self) -> None:
        """Ask a pull producer for more, for as long as the client takes it, and not for too long at a time."""
        if not self._pulling:
            self._pulling = True
            self._owner.deadlines.soon(self._pull_some)

    def _pull_some(self) -> None:
        self._pulling = False
        for _ in range(_PULLS):
            if self._producer is None or self._paused:
                return
            self._producer.resumeProducing()
        if self._producer is not None:
            self._pull()

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "127.0.0.1", 443 if self._secure else 80)

    def isSecure(self) -> bool:
        """Whether the client's connection was encrypted."""
        return self._secure

    def loseConnection(self) -> None:
        """The resource gives up its request."""
        self._fail(ResponseTruncated())

    abortConnection = loseConnection

    def forceAbortClient(self) -> None:
        self.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """twisted.web could not read a form."""
        self._request.setResponseCode(400)
        self._request.finish()


def _address(raw: bytes) -> IAddress:
    text = raw.decode("ascii", "replace")
    return (IPv6Address if ":" in text else IPv4Address)("TCP", text, 0)
