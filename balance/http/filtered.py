"""An exchange that others take part in.

Rule of this file: read it beside `balance.http.exchange`: it is the same life, with a stop at each filter. Everything a
filter may wait for stands in a step (see `balance.http.lane`); when a step has done, it goes on as an exchange without
filters would have. How it begins is in `balance.http.opening`.

    request:   request_head -> (route) -> request_head -> choose_backends -> upstream_request -> body -> trailers
    response:  response_head <- body <- trailers      whatever happens: error, log
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from balance.codec.edited import check_fields, check_request
from balance.errors import BackendUnfit, ExchangeError, NoBackend, NoVerdict, Source
from balance.filters import PASS_BODY, Context
from balance.http.answers import answer
from balance.http.exchange import Exchange
from balance.http.opening import as_answer
from balance.model import CHUNKED, NO_BODY, Headers, RequestHead, ResponseHead

if TYPE_CHECKING:
    from balance.http.filters import Filtering, Phase
    from balance.http.lane import Lane, Step
    from balance.http.route import HttpRoute
    from balance.pool.backend import Backend

_log = Logger()


def _note(name: str, problem: Exception) -> None:
    """A filter failed where an error is answered already."""
    _log.failure("filter {name} failed on an error", failure=Failure(problem), name=name)


def _through(
    lane: Lane, exact: frozenset[str], phases: tuple[Phase, ...], context: Context, data: bytes, ended: bool
) -> Generator[Any, Any, bytes]:
    """Some of a body, through all that want to see it."""
    for lane.name, function in phases:
        if not data and not ended:
            break
        result = yield function(context, data, ended)
        if type(result) is not bytes:
            raise TypeError(f"returned {type(result).__name__} for a piece of a body; needed: bytes")
        if lane.name in exact and len(result) != len(data):
            raise ValueError(f"keeps_length is set, and {len(data)} bytes became {len(result)}")
        data = result
    return data


class FilteredExchange(Exchange):
    """An exchange with filters. It begins its life as an `Exchange`, so it has no slots of its own."""

    __slots__ = ()

    def prepare(self, route: HttpRoute) -> Step:
        """Before the first attempt: what of the body is here, and who may be asked."""
        filtering = self.filtering
        lane = filtering.request
        if filtering.chain.on_request and self._body is not None:
            data, ended, trailers = b"".join(self._body), self._ended, self._trailers
            self._body, self._ended, self._trailers = [], False, None
            yield from self._send_on(data, ended, trailers)
        members: tuple[Backend, ...] = route.pool.members
        chosen: tuple[Any, ...] = members
        for lane.name, function in filtering.chain.choose_backends:
            result = yield function(filtering.context, chosen)
            if result is not None:
                chosen = tuple(result)
        if chosen is members:
            return
        known = route.connections or self.proxy.connections
        if any(backend not in known for backend in chosen):
            raise TypeError("choose_backends returned something that is no backend of this listener")
        if not chosen:
            raise NoBackend
        if all(backend in members for backend in chosen):
            filtering.only = chosen
        else:
            filtering.others = chosen

    def _choose(self) -> Backend | None:
        filtering = self.filtering
        if filtering.others is not None:
            free = [each for each in filtering.others if each.active < each.limit and each not in self.tried]
            return min(free, key=lambda backend: backend.active) if free else None
        only = filtering.only
        if only is not None:
            # As if the rest had been tried: neither balancer nor affinity nor a retry takes them then. Asked each time,
            # as a discovery may have found more of them while this waited.
            assert self.route is not None
            rest = [each for each in self.route.pool.members if each not in only and each not in self.tried]
            if rest:
                self.tried = (*rest, *self.tried)
        return super()._choose()

    def _wait_for_place(self, only: Collection[Backend] | None = None) -> None:
        """Others than the pool's are nothing that its queue would hear of."""
        if self.filtering.others is not None:
            self.fail(NoBackend())
        else:
            super()._wait_for_place(self.filtering.only)

    def _connect(self, backend: Backend, reuse: bool) -> None:
        if self.filtering.chain.on_attempt:
            self.filtering.request.run(self._upstream(backend, reuse))
        else:
            super()._connect(backend, reuse)

    def _upstream(self, backend: Backend, reuse: bool) -> Step:
        """The head as it goes to this backend."""
        filtering = self.filtering
        chain, lane = filtering.chain, filtering.request
        head = self.upstream = _copy(self.request)
        for lane.name, function in chain.upstream_request:
            yield function(filtering.context, head)
        check_request(head)
        if chain.resizes_request and self._body is not None:
            whole = self._ended and self._trailers is None
            head.length = sum(map(len, self._body)) if whole else CHUNKED
        super()._connect(backend, reuse)

    def request_data(self, data: bytes, ended: bool, trailers: Headers | None) -> None:
        if not self.filtering.failing:
            super().request_data(data, ended, trailers)

    def _forward(self, data: bytes, ended: bool, trailers: Headers | None) -> None:
        if self.filtering.chain.on_request:
            self.filtering.request.run(self._send_on(data, ended, trailers))
        else:
            super()._forward(data, ended, trailers)

    def _send_on(self, data: bytes, ended: bool, trailers: Headers | None) -> Step:
        filtering = self.filtering
        chain, lane = filtering.chain, filtering.request
        data = yield from _through(lane, chain.exact, chain.request_body, filtering.context, data, ended)
        if trailers is not None:
            for lane.name, function in chain.request_trailers:
                yield function(filtering.context, trailers)
            check_fields(trailers)
        if data or ended:
            super()._forward(data, ended, trailers)

    def pause_request(self) -> None:
        self.filtering.stalled_request = True
        super().pause_request()

    def resume_request(self) -> None:
        self.filtering.stalled_request = False
        if self.filtering.request.free:
            super().resume_request()

    # --- the response -----------------------------------------------------------------------------------------

    def response(self, head: ResponseHead, data: bytes, ended: bool) -> None:
        filtering = self.filtering
        filtering.context.response = head
        if not filtering.chain.on_response:
            super().response(head, data, ended)
            return
        if ended:
            self.stream = None  # it serves others by now
        filtering.response.run(self._respond(head, data, ended))

    def _respond(self, head: ResponseHead, data: bytes, ended: bool) -> Step:
        filtering = self.filtering
        chain, lane = filtering.chain, filtering.response
        passed = []
        lines = head.headers.lines
        count = len(lines)
        for lane.name, function in chain.response_head:
            if (yield function(filtering.context, head)) is PASS_BODY:
                passed.append(lane.name)
        if head.headers.lines is not lines or len(lines) != count:
            check_fields(head.headers)
        if chain.response_body and head.length != NO_BODY:
            body = filtering.body = tuple(each for each in chain.response_body if each[0] not in passed)
            resized = any(name not in chain.exact for name, _ in body)
            if resized and not ended:
                head.length = CHUNKED
            data = yield from _through(lane, chain.exact, body, filtering.context, data, ended)
            if resized and ended:
                head.length = len(data)
        super().response(head, data, ended)

    def response_data(self, data: bytes) -> None:
        if self.filtering.chain.on_response:
            self.filtering.response.run(self._respond_data(data))
        else:
            super().response_data(data)

    def _respond_data(self, data: bytes) -> Step:
        filtering = self.filtering
        data = yield from _through(
            filtering.response, filtering.chain.exact, filtering.body, filtering.context, data, False
        )
        if data:
            super().response_data(data)

    def response_end(self, trailers: Headers | None) -> None:
        if self.filtering.chain.on_response:
            self.stream = None
            self.filtering.response.run(self._respond_end(trailers))
        else:
            super().response_end(trailers)

    def _respond_end(self, trailers: Headers | None) -> Step:
        filtering = self.filtering
        chain, lane = filtering.chain, filtering.response
        data = yield from _through(lane, chain.exact, filtering.body, filtering.context, b"", True)
        if data:
            super().response_data(data)
        if trailers is not None:
            for lane.name, function in chain.response_trailers:
                yield function(filtering.context, trailers)
            check_fields(trailers)
        super().response_end(trailers)

    def pause_response(self) -> None:
        self.filtering.stalled_response = True
        super().pause_response()

    def resume_response(self) -> None:
        self.filtering.stalled_response = False
        if self.filtering.response.free:
            super().resume_response()

    # --- whatever happens -------------------------------------------------------------------------------------

    def fail(self, error: ExchangeError) -> None:
        filtering = self.filtering
        filtering.context.error = error
        if filtering.failing or not (filtering.chain.error or filtering.chain.response_head):
            super().fail(error)
            return
        filtering.failing = True
        filtering.restart()
        filtering.request.run(self._fail(error))

    def _fail(self, error: ExchangeError) -> Step:
        """Answer with an error, which filters may replace, and whose head they see. Those that fail do no more harm."""
        filtering = self.filtering
        lane, context = filtering.request, filtering.context
        head, body = answer(error, self.request)
        for lane.name, function in filtering.chain.error:
            if lane.name == filtering.culprit:
                continue
            try:
                result = yield function(context, error)
                if result is not None:
                    head, body = as_answer(result, "error").response(self.request)
                    break
            except Exception as problem:
                _note(lane.name, problem)
        good = head.headers.copy()
        context.response = head
        for lane.name, function in filtering.chain.response_head:
            if lane.name == filtering.culprit:
                continue
            try:
                yield function(context, head)
                check_fields(head.headers)
            except Exception as problem:
                _note(lane.name, problem)
                head.headers = good.copy()
        self._answer(head, body, error)

    def _judged(self, error: ExchangeError | None) -> ExchangeError | None:
        """What the backend is to be told about the attempt that has ended."""
        health = self.filtering.chain.health
        if health is None or (error is not None and error.source is Source.CLIENT):
            return error
        response = self.filtering.context.response
        try:
            failure = health.is_failure(0 if response is None else response.status, error)
        except Exception:
            _log.failure("health rule failed")
            return error
        return BackendUnfit() if failure else None if error is None else NoVerdict()

    def _drop_backend(self, error: ExchangeError | None) -> None:
        super()._drop_backend(self._judged(error))

    def _close(self, error: ExchangeError | None) -> None:
        filtering = self.filtering
        if self.backend is not None and filtering.chain.health is not None:
            self._drop_backend(None)
        filtering.close()
        if error is not None:
            filtering.context.error = error
        super()._close(error)
        self._over(filtering)

    def switched(self, head: ResponseHead) -> None:
        """The request is through. Filters see the head of the 101; a tunnel has no phases but the last one.

        Nothing can wait here: what a backend sends next is no HTTP any more, and has no place but in the tunnel.
        """
        filtering = self.filtering
        filtering.context.response = head
        filtering.request.close()
        if not filtering.chain.response_head:
            super().switched(head)
            return
        lane = filtering.response
        lane.run(self._switch(head))
        if not lane.free:
            filtering.failed(lane.name, RuntimeError("response_head waits, and cannot where the status is 101"))

    def _switch(self, head: ResponseHead) -> Step:
        filtering = self.filtering
        lane, agreed = filtering.response, _agreed(head)
        for lane.name, function in filtering.chain.response_head:
            yield function(filtering.context, head)
        check_fields(head.headers)
        if _agreed(head) != agreed:
            raise ValueError("the status 101 and the fields of the handshake are not to be changed")
        super().switched(head)

    def finished(self, error: ExchangeError | None, bytes_in: int, bytes_out: int) -> None:
        self.filtering.context.error = error
        super().finished(error, bytes_in, bytes_out)
        self._over(self.filtering)

    def _over(self, filtering: Filtering) -> None:
        for name, function in filtering.chain.log:
            try:
                function(filtering.context)
            except Exception:
                _log.failure("filter {name} failed at the end of an exchange", name=name)
        # An exchange like any other again: what may still come finds nothing of ours, and no cycle is left.
        del self.filtering
        self.__class__ = Exchange  # type: ignore[assignment]


def _agreed(head: ResponseHead) -> tuple[int, list[bytes]]:
    """What client and backend have agreed on in a handshake."""
    fields = zip(head.headers.names, head.headers.lines, strict=True)
    return head.status, [line for name, line in fields if name.startswith(b"sec-websocket-")]


def _copy(request: RequestHead) -> RequestHead:
    """A head that can be edited without changing the other one."""
    copy = RequestHead(
        request.method,
        request.target,
        request.host,
        request.headers.copy(),
        version=request.version,
        length=request.length,
    )
    copy.keep_alive = request.keep_alive
    copy.expect_continue = request.expect_continue
    copy.te_trailers = request.te_trailers
    copy.upgrade = request.upgrade
    return copy
