"""The life of a request, from its head to its last byte. Read it top to bottom.

Rule of this file: this is the only place where the decisions meet. It moves no bytes by itself (the streams do) and
decides nothing by itself (routes, pools, balancers, the errors' own classes do).

    client stream --begin--> route -> affinity/balancer -> lease -> connection --start--> backend stream
    client stream <--send_response-- filters <---------------------------------response-- backend stream
    client <------------------------ tunnel  <---------------------------------switched-- backend stream
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balance.codec.forwarding import add_via
from balance.errors import (
    BadResponse,
    ClientGone,
    ContentTooLarge,
    ExchangeError,
    NoBackend,
    NoRoute,
    QueueFull,
    QueueTimeout,
    Retry,
    StaleConnection,
    StreamRefused,
    StreamUnprocessed,
)
from balance.http.answers import answer
from balance.model import HTTP10, Headers, RequestHead, ResponseHead
from balance.net.deadlines import Timed
from balance.resilience.retry import may_retry

if TYPE_CHECKING:
    from collections.abc import Collection

    from balance.http.filters import Filtering
    from balance.http.proxy import HttpProxy
    from balance.http.route import HttpRoute
    from balance.http.streams import BackendStream, ClientStream, Connecting
    from balance.pool.backend import Backend
    from balance.websocket.options import Handshake
    from balance.websocket.tunnel import Tunnel

#: 1xx responses before one that is final; more is a backend gone wrong.
_MAX_INFORMATIONAL: Final = 32


class Exchange(Timed):
    """One request and its response.

    :param request: its head; this object may edit it
    :param started: seconds on the proxy's clock when the head was complete; 0 where nobody wants to know
    """

    __slots__ = (
        "_body",
        "_bound",
        "_dial",
        "_ended",
        "_handshake",
        "_informational",
        "_replays",
        "_trailers",
        "attempts",
        "backend",
        "body_in",
        "body_out",
        "client",
        "client_ip",
        "filtering",
        "last_backend",
        "proxy",
        "reason",
        "request",
        "route",
        "started",
        "status",
        "stream",
        "tried",
        "tunnel",
        "upstream",
    )

    #: What `balance.http.filters` keeps; set where a route or a listener has filters, and nowhere else.
    filtering: Filtering

    def __init__(self, proxy: HttpProxy, client: ClientStream, request: RequestHead, started: float = 0.0) -> None:
        super().__init__()
        self.proxy = proxy
        self.client = client
        #: As the client sent it, with our edits; and as it goes to the backend: the same, unless filters made another.
        self.request = self.upstream = request
        self.started = started
        self.client_ip = client.forwarding.address
        self.route: HttpRoute | None = None
        self.backend: Backend | None = None
        #: The one of the last attempt, also after its lease is given back.
        self.last_backend: Backend | None = None
        self.stream: BackendStream | None = None
        #: What the exchange turned into when the protocol was switched.
        self.tunnel: Tunnel | None = None
        self.tried: tuple[Backend, ...] = ()
        self.attempts = 0
        #: Status told to the client; 0 until then.
        self.status = 0
        #: Reason code of the error that ended the exchange; empty for a good end.
        self.reason = ""
        self.body_in = 0
        self.body_out = 0
        #: The backend that affinity remembered for this client.
        self._bound: str | None = None
        self._dial: Connecting | None = None
        #: Request body kept for the backend to come, or for another attempt; None when it can no longer be replayed.
        self._body: list[bytes] | None = None
        self._ended = True
        #: Of WebSocket, where that is asked for.
        self._handshake: Handshake | None = None
        self._trailers: Headers | None = None
        self._informational = 0
        self._replays = 0

    # --- 3, 4: open, route, filter ----------------------------------------------------------------------------

    def begin(self, data: bytes, ended: bool) -> None:
        """The request head is complete; ``data`` is what came of the body, the whole of it when ``ended``."""
        proxy = self.proxy
        request = self.request
        proxy.counters.requests += 1
        proxy.counters.active += 1
        if not ended or data:
            self._ended = ended
            self._body = [data] if data else []
            self.body_in = len(data)
        try:
            self.client_ip = self.client.forwarding.apply(request)
            if proxy.filters is not None:
                proxy.filters.open(self)
                return
            rule = proxy.routes.match(request, self.client.forwarding.facts)
            if rule is None:
                raise NoRoute
            route = self.route = rule.target
            route.requests += 1
            if request.upgrade:
                self._handshake = route.websocket.admit(request)
            if not route.plain:
                if route.filters is not None:
                    route.filters.open(self)
                    return
                self._admit(route)
        except ExchangeError as error:
            self.fail(error)
            return
        self._attempt()

    def _admit(self, route: HttpRoute) -> None:
        route.admit(self.request)
        if route.max_body and self.body_in > route.max_body:
            raise ContentTooLarge

    # --- 5, 6: choose a backend, lease it, get a connection ---------------------------------------------------

    def _attempt(self) -> None:
        backend = self._choose()
        if backend is None:
            self._wait_for_place()
            return
        self._lease(backend, reuse=True)

    def _lease(self, backend: Backend, *, reuse: bool) -> None:
        self.backend = self.last_backend = backend
        self.attempts += 1
        backend.lease()
        self._connect(backend, reuse)

    def _connect(self, backend: Backend, reuse: bool) -> None:
        assert self.route is not None
        connections = (self.route.connections or self.proxy.connections)[backend]
        stream = connections.take() if reuse else None
        if stream is not None:
            self.connected(stream)
        else:
            self.pause_request()
            self._dial = connections.dial(self._dialled, self._dial_failed)

    def _choose(self) -> Backend | None:
        route = self.route
        assert route is not None
        if route.affinity is not None:
            bound = self._bound = route.affinity.recall(self.request, self.client_ip)
            backend = route.pool.find(bound) if bound is not None else None
            if backend is not None and backend not in self.tried:
                return backend
        key = b"" if route.key is None else route.key(self.request, self.client_ip)
        return route.pool.pick(key, self.tried)

    def _wait_for_place(self, only: Collection[Backend] | None = None) -> None:
        """Every backend is full or gone.

        :param only: those of the pool that it may be; None for all of them
        """
        route = self.route
        assert route is not None
        pool = route.pool
        if pool.enqueue(self, only):
            self.pause_request()
            self.proxy.deadlines.arm(self, self.proxy.timeouts.queue)
        elif pool.saturated if only is None else pool.saturated_among(only):
            self.fail(QueueFull())
        else:
            self.fail(NoBackend())

    def backend_ready(self) -> None:
        """The pool's queue: a place is free."""
        self.proxy.deadlines.forget(self)
        self.resume_request()
        self._attempt()

    def timed_out(self) -> None:
        """The queue took too long."""
        assert self.route is not None
        self.route.pool.leave(self)
        self.fail(QueueTimeout())

    def _dialled(self, stream: BackendStream) -> None:
        self._dial = None
        self.resume_request()
        self.connected(stream)

    def _dial_failed(self, error: ExchangeError) -> None:
        self._dial = None
        self.resume_request()
        self.failed(error)

    # --- 7: the request goes out ------------------------------------------------------------------------------

    def connected(self, stream: BackendStream) -> None:
        """A connection to ``backend`` is ours."""
        self.stream = stream
        request = self.upstream
        route = self.route
        backend = self.backend
        assert route is not None
        assert backend is not None
        host = backend.authority if route.host_is_backend else route.host or request.host or backend.authority
        body = self._body
        if body is None:
            stream.start(self, request, host, b"", True)
            return
        data = body[0] if len(body) == 1 else b"".join(body)
        if len(data) > self.proxy.replay_size:
            self._body = None
        ended = self._ended and self._trailers is None
        stream.start(self, request, host, data, ended)
        if self._ended and not ended and self.stream is stream:
            stream.send_end(self._trailers)

    def request_data(self, data: bytes, ended: bool, trailers: Headers | None) -> None:
        """More of the request body; ``trailers`` only with its end."""
        self.body_in += len(data)
        route = self.route
        if route is not None and route.max_body and self.body_in > route.max_body:
            self.reject(ContentTooLarge())
        else:
            self._forward(data, ended, trailers)

    def _forward(self, data: bytes, ended: bool, trailers: Headers | None) -> None:
        self._ended = ended
        self._trailers = trailers
        stream = self.stream
        if self._body is not None:
            self._body.append(data)
            if stream is not None and self.body_in > self.proxy.replay_size:
                self._body = None
        if stream is not None:
            if data:
                stream.send_data(data)
            if ended and self.stream is stream:
                stream.send_end(trailers)

    def pause_request(self) -> None:
        """The backend takes no more for now."""
        if not self._ended:
            self.client.pause_request()

    def resume_request(self) -> None:
        if not self._ended:
            self.client.resume_request()

    # --- 8: something went wrong at the backend ---------------------------------------------------------------

    def failed(self, error: Exception) -> None:
        """The attempt failed. Another backend, an answer, or a cut response."""
        assert isinstance(error, ExchangeError)
        backend = self.backend
        assert backend is not None
        stale = isinstance(error, StaleConnection)
        self._drop_backend(error)
        if self.status:
            self._close(error)
            self.client.abort(error)
        elif self._may_retry(error):
            self.proxy.counters.retries += 1
            if not stale or isinstance(error, StreamRefused):
                self.tried = (*self.tried, backend)
            self._again(error)
        else:
            self.fail(error)

    def _may_retry(self, error: ExchangeError) -> bool:
        """A failed connect costs the other backends nothing, so it may go on through all of them. A replay is work done
        twice, so it is limited for each request, and rationed over all.
        """
        replayable = self._body is not None or not self.body_in
        if not may_retry(error, self.request.method, replayable=replayable):
            return False
        if error.retry is Retry.UNSENT:
            return True
        if self._replays >= self.proxy.retry_attempts:
            return False
        self._replays += 1
        # What a backend did not look at costs it nothing, either.
        return error.retry is Retry.UNPROCESSED or self.proxy.retry_budget.withdraw(self.proxy.deadlines.now)

    def _again(self, error: ExchangeError) -> None:
        backend = self._choose()
        if backend is None and isinstance(error, StreamRefused):
            self.tried = self.tried[:-1]  # there is no other one
            backend = self._choose()
        if backend is None:
            self.fail(error)  # says more than "no backend": it is why there is none left
            return
        # After a stale connection only a fresh one proves anything; one that said what it did not do is not stale.
        self._lease(backend, reuse=isinstance(error, StreamUnprocessed) or not isinstance(error, StaleConnection))

    def fail(self, error: ExchangeError) -> None:
        """Answer with an error; the response has not begun."""
        head, body = answer(error, self.request)
        self._answer(head, body, error)

    def _answer(self, head: ResponseHead, body: bytes, error: ExchangeError | None) -> None:
        """The whole response, of our own making."""
        self.status = head.status
        self.body_out = len(body)
        self._close(error)
        self.client.send_response(head, body, True)

    # --- 9: the response comes back ---------------------------------------------------------------------------

    def informational(self, head: ResponseHead) -> None:
        """A 1xx response; 101 never comes here."""
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            assert self.stream is not None
            self.stream.cancel()
            self.failed(BadResponse("too many 1xx responses"))
        elif self.request.version > HTTP10:
            self.client.send_informational(head)

    def response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        """The head of the final response, and what came of its body with it."""
        self._body = None
        self.body_out = len(data)
        self._edit(head)
        if ended:
            self._close(None)
        self.client.send_response(head, data, ended)

    def _edit(self, head: ResponseHead) -> None:
        self.status = head.status
        route = self.route
        assert route is not None
        if route.response_edits is not None:
            route.response_edits.apply(head.headers)
        if route.affinity is not None:
            self._bind(head)
        if self.proxy.forwarding.via:
            add_via(head.headers, head.version)

    def response_data(self, data: bytes) -> None:
        self.body_out += len(data)
        self.client.send_data(data)

    def response_end(self, trailers: Headers | None) -> None:
        self._close(None)
        self.client.send_end(trailers)

    def switched(self, head: ResponseHead) -> None:
        """Instead of a response: the backend agreed to speak WebSocket. From here on it is a tunnel's
        (`balance.websocket`), until `finished`.
        """
        proxy, route, backend, stream = self.proxy, self.route, self.backend, self.stream
        assert route is not None
        assert backend is not None
        assert stream is not None
        handshake = self._handshake
        assert handshake is not None
        try:
            route.websocket.accept(handshake, head)
        except BadResponse as error:
            stream.cancel()
            self.failed(error)
            return
        self._body = None
        self._edit(head)
        self.stream = None
        backend.proved(proxy.deadlines.now)
        proxy.counters.active -= 1
        proxy.counters.responses[1] += 1
        client, server = self.client.switch(head), stream.hand_over()
        self.tunnel = proxy.tunnels.open(self, route.websocket, handshake, backend, client, server)

    def _bind(self, head: ResponseHead) -> None:
        assert self.route is not None
        assert self.route.affinity is not None
        assert self.backend is not None
        affinity = self.route.affinity
        if self._bound != self.backend.name:
            if self._bound is not None:
                self.proxy.log_rebound(self, self._bound)
            cookie = affinity.bind(self.request, self.client_ip, self.backend.name)
            if cookie is not None:
                head.headers.add(b"Set-Cookie", cookie)

    def pause_response(self) -> None:
        """The client takes no more for now."""
        if self.stream is not None:
            self.stream.pause_response()

    def resume_response(self) -> None:
        if self.stream is not None:
            self.stream.resume_response()

    # --- 10: the end ------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The client is gone: nobody wants the response."""
        error = ClientGone()
        self._abandon(error)
        self._close(error)

    def reject(self, error: ExchangeError) -> None:
        """The request turned out bad on its way (its body, its pace): answer, if that is still possible."""
        self._abandon(error)
        if self.status:
            self._close(error)
            self.client.abort(error)
        else:
            self.fail(error)

    def _abandon(self, error: ExchangeError) -> None:
        """Leave wherever the exchange is: in the queue, dialling, or talking to a backend."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        elif self.stream is not None:
            self.stream.cancel()
        elif self.backend is None and self.route is not None:
            self.route.pool.leave(self)
        self._drop_backend(error)

    def _drop_backend(self, error: ExchangeError | None) -> None:
        """Give the lease back without a response."""
        backend, self.backend, self.stream = self.backend, None, None
        if backend is not None:
            backend.release(error, self.proxy.deadlines.now)

    def finished(self, error: ExchangeError | None, bytes_in: int, bytes_out: int) -> None:
        """The tunnel has ended. How it did tells nothing of the backend's health: that it opened did."""
        proxy, backend, tunnel = self.proxy, self.backend, self.tunnel
        assert backend is not None
        assert tunnel is not None
        self.body_in, self.body_out = bytes_in, bytes_out
        backend.release(ClientGone(), proxy.deadlines.now)
        if error is not None:
            proxy.count_error(self, error)
        if proxy.access_log is not None:
            proxy.access_log.record(self)
        self.tunnel = None
        proxy.tunnel_closed(tunnel)

    def _close(self, error: ExchangeError | None) -> None:
        """Accounts: the lease, counters, the log. Nothing happens on the exchange after this but the last send."""
        proxy = self.proxy
        backend = self.backend
        if backend is not None:
            backend.release(None, proxy.deadlines.now)
            self.stream = None
        if self.deadline:
            proxy.deadlines.forget(self)
        proxy.counters.active -= 1
        proxy.counters.responses[self.status // 100] += 1
        if error is not None:
            proxy.count_error(self, error)
        if proxy.access_log is not None:
            proxy.access_log.record(self)
