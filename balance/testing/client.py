"""Clients in memory, and what came of their requests.

Rule of this file: a client speaks HTTP/1.1 to the real channel, byte for byte, and reads the answers strictly. What
only Balance knows (route, backend, attempts) is read off the exchange's own record.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from balance.testing.memory import Peer
from balance.testing.messages import Fields, FieldsLike, Received, Response, as_bytes, cut_head, feed, head_bytes, pairs

if TYPE_CHECKING:
    from balance.codec.certificates import PeerCertificate
    from balance.http.exchange import Exchange
    from balance.testing.application import Application


class Call:
    """One request, and what came of it so far.

    :ivar method: as it was sent, as are ``host`` and ``target``
    :ivar response: None until its head is there; see ``response.complete``
    :ivar done: the response is complete, or the connection is at its end
    :ivar sent: what the backends received for it, in order
    :ivar seconds: from the request to the end, on the application's clock
    """

    def __init__(self, client: Client, method: str, host: str, target: str) -> None:
        self.client = client
        self.method = method
        self.host = host
        self.target = target
        self.response: Response | None = None
        self.done = False
        #: Balance's own account of it; None until it was seen.
        self.exchange: Exchange | None = None
        self.sent: list[Received] = []
        self.began = client.app.clock.seconds()
        self.seconds = 0.0
        #: The connection ended before the response did.
        self.broken = False

    # --- what Balance did ------------------------------------------------------------------------------------

    @property
    def route(self) -> str | None:
        """Name of the route; None when there was none, or none yet."""
        route = self.exchange.route if self.exchange is not None else None
        return None if route is None else route.name

    @property
    def backend(self) -> str | None:
        """Name of the backend of the last attempt."""
        backend = self.exchange.last_backend if self.exchange is not None else None
        return None if backend is None else backend.name

    @property
    def attempts(self) -> int:
        """How often a backend was leased for it."""
        return 0 if self.exchange is None else self.exchange.attempts

    @property
    def reason(self) -> str:
        """Reason code of the error that ended it (`balance.errors`); empty for a good end."""
        return "" if self.exchange is None else self.exchange.reason

    # --- shorthand for assertions ------------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """Of the response; 0 where there is none."""
        return 0 if self.response is None else self.response.status

    @property
    def headers(self) -> Fields:
        """Of the response; empty where there is none."""
        return Fields() if self.response is None else self.response.headers

    @property
    def body(self) -> bytes:
        """What has come of the response's body."""
        return b"" if self.response is None else self.response.body

    @property
    def text(self) -> str:
        """The body, read as UTF-8."""
        return self.body.decode("utf-8")

    @property
    def upstream(self) -> Received:
        """The request as the last backend got it.

        :raises AssertionError: none got it
        """
        if not self.sent:
            raise AssertionError(f"{self!r}: no backend received this request")
        return self.sent[-1]

    @property
    def backends(self) -> list[str]:
        """The backends that received it, in order."""
        return [received.backend for received in self.sent]

    def send(self, data: str | bytes, *, end: bool = False) -> Call:
        """More of a body that was begun with ``body=None``; ``end`` ends it."""
        raw = as_bytes(data)
        chunk = b"%x\r\n%b\r\n" % (len(raw), raw) if raw else b""
        self.client.write(chunk + (b"0\r\n\r\n" if end else b""))
        return self

    def cancel(self) -> None:
        """The client closes its connection."""
        self.client.close()

    def __repr__(self) -> str:
        where = f"route {self.route}, backend {self.backend}, attempts {self.attempts}"
        end = f"status {self.status}" if self.status else "broken off" if self.broken else "not answered"
        return f"<Call {self.method} {self.host}{self.target}: {end}, {where}, {self.reason or 'no error'}>"


class Client:
    """One client and its connection, which is opened with the first request, and again when it was closed.

    :ivar address: the client's IP address
    :ivar cookies: name to value: sent with every request, and kept up to date, where the client was told to keep them
    """

    def __init__(
        self,
        app: Application,
        address: str,
        listener: str | None,
        keep_cookies: bool,
        once: bool = False,
        certificate: PeerCertificate | None = None,
    ) -> None:
        self.app = app
        self.address = address
        self.cookies: dict[str, str] = {}
        #: The connection, for tests that need its bytes; None before the first request.
        self.peer: Peer | None = None
        self._listener = listener
        self._certificate = certificate
        self._keep_cookies = keep_cookies
        #: It goes when it has its answer.
        self._once = once
        self._calls: list[Call] = []
        #: Those of which Balance's exchange was not seen yet. A connection has one exchange after the other.
        self._unseen: deque[Call] = deque()
        self._buffer = b""
        self._waiting = b""
        self._interim: list[Response] = []
        self._seen: Exchange | None = None

    # --- asking ------------------------------------------------------------------------------------------------

    def start(self, method: str, url: str, *, headers: FieldsLike = (), body: str | bytes | None = b"") -> Call:
        """Send a request and do not wait. Several at once are pipelined.

        :param url: a path, or an absolute URL, whose authority goes into Host (default: ``test.example``)
        :param body: None begins a chunked one: see `Call.send`
        """
        host, target = _split(url)
        fields = pairs(headers)
        named = {name.lower() for name, _ in fields}
        if "host" not in named:
            fields.insert(0, ("Host", host))
        if body is None:
            fields.append(("Transfer-Encoding", "chunked"))
        elif body and not named & {"content-length", "transfer-encoding"}:
            fields.append(("Content-Length", str(len(as_bytes(body)))))
        if self.cookies and self._keep_cookies:
            fields.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        call = Call(self, method, host, target)
        if not self.connected:
            self._connect()
        self._calls.append(call)
        self._unseen.append(call)
        self.app.calls.append(call)
        self.write(head_bytes(f"{method} {target} HTTP/1.1", fields) + as_bytes(body or b""))
        return call

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: FieldsLike = (),
        body: str | bytes | None = b"",
        within: float = 300.0,
    ) -> Call:
        """Send a request and let time pass until it is over.

        :param within: seconds on the application's clock
        :raises AssertionError: it is not over by then
        """
        return self.app.finish(self.start(method, url, headers=headers, body=body), within=within)

    def get(self, url: str, **options: Any) -> Call:
        """`request` with GET."""
        return self.request("GET", url, **options)

    def post(self, url: str, body: str | bytes | None = b"", **options: Any) -> Call:
        """`request` with POST."""
        return self.request("POST", url, body=body, **options)

    def close(self) -> None:
        """Close the connection; what is under way is over."""
        if self.peer is not None and not self.peer.gone:
            self.peer.close()
            self._lost()

    @property
    def connected(self) -> bool:
        """It has a connection now."""
        return self.peer is not None and not self.peer.gone

    # --- bytes -------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes as they are, as soon as Balance takes them."""
        self._waiting += data
        self.app.settle()

    def pump(self) -> bool:
        """Send what waits, read what has come; whether there was anything."""
        peer = self.peer
        if peer is None or peer.gone:
            return False
        moved = False
        if self._waiting and not peer.transport.paused and not peer.transport.closed:
            waiting, self._waiting = self._waiting, b""
            peer.send(waiting)
            moved = True
        self.see(getattr(peer.protocol, "_exchange", None))
        data = peer.received()
        if data:
            self._buffer += data
            self._read()
        if peer.transport.closed:
            peer.close()
            self._lost()
            return True
        return moved or bool(data)

    def see(self, exchange: Exchange | None) -> None:
        """An exchange of this connection, perhaps seen before: the first one that was not is the next call's."""
        if exchange is None or exchange is self._seen:
            return
        self._seen = exchange
        if self._unseen:
            call = self._unseen.popleft()
            call.exchange = exchange
            self.app.by_exchange[exchange] = call

    def _connect(self) -> None:
        self.peer = self.app.connect(self.address, listener=self._listener, certificate=self._certificate)
        self.app.connected(self, self.peer.protocol)
        self._unseen.clear()
        self._buffer = self._waiting = b""

    def _read(self) -> None:
        while self._buffer and self._calls:
            call = self._calls[0]
            if call.response is None:
                cut = cut_head(self._buffer)
                if cut is None:
                    return
                block, self._buffer = cut
                response = Response(block, call.method, tuple(self._interim))
                if response.status < 200:
                    self._interim.append(response)
                    continue
                call.response = response
                self._interim = []
                self._keep(response)
            if not call.response.complete:
                data, self._buffer = self._buffer, b""
                if data:
                    self._buffer = feed(call.response, data)
            if call.response.complete:
                self._over(self._calls.pop(0))
        if self._once and not self._calls:
            self.close()

    def _keep(self, response: Response) -> None:
        if self._keep_cookies:
            for field in response.headers.all("set-cookie"):
                name, _, value = field.partition(";")[0].partition("=")
                self.cookies[name.strip()] = value.strip()

    def _over(self, call: Call) -> None:
        call.done = True
        call.seconds = self.app.clock.seconds() - call.began

    def _lost(self) -> None:
        assert self.peer is not None
        self.app.by_channel.pop(self.peer.protocol, None)
        calls, self._calls = self._calls, []
        for call in calls:
            response = call.response
            if response is not None and response.reader is not None and response.reader.close():
                response.complete = True  # its body ends with the connection
            call.broken = response is None or not response.complete
            self._over(call)


def _split(url: str) -> tuple[str, str]:
    """Authority and target."""
    scheme, mark, rest = url.partition("://")
    if not mark or "/" in scheme or "?" in scheme:
        return "test.example", url
    end = min((index for index in (rest.find("/"), rest.find("?")) if index >= 0), default=len(rest))
    target = rest[end:]
    return rest[:end], target if target.startswith("/") else "/" + target
