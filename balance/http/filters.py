"""The filters of a route or a listener, and what an exchange that has some needs besides.

Rule of this file: an exchange without filters never comes here. One with filters becomes a `FilteredExchange` (see
`balance.http.filtered`): the same object, whose phases go through the filters first. It does so as soon as that is
known, and only if there is more to do than `request_head`, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from balance.codec.edited import check_request
from balance.errors import ExchangeError, FilterFailed, FilterTimeout
from balance.filters import Context
from balance.filters.base import as_filter
from balance.http.exchange import Exchange
from balance.http.filtered import FilteredExchange
from balance.http.lane import Lane
from balance.http.opening import begin, find_route

if TYPE_CHECKING:
    from balance.interfaces import IHealthRule
    from balance.pool.backend import Backend

_log = Logger()
#: A filter's name, and what it does in a phase.
Phase = tuple[str, Callable[..., Any]]
#: Phases in which the last filter is the first.
_INWARD: Final = frozenset(("response_head", "response_body", "response_trailers", "error"))


class FilterChain:
    """The filters of a route, or of a listener: what each phase has to call, in order.

    :param filters: with their names, in the order of the configuration
    :param outer: those of the listener, around a route's. Their `request_head` is over when there is a route
    :param health: judges attempts; None for the rule that backends have by themselves
    """

    def __init__(
        self,
        filters: Iterable[tuple[str, Any]],
        outer: FilterChain | None = None,
        health: IHealthRule | None = None,
    ) -> None:
        self.health = health
        around = outer.filters if outer is not None else ()
        #: (name, filter), the outermost first; names are unique.
        self.filters: tuple[tuple[str, Any], ...] = _numbered(*around, *((n, as_filter(each)) for n, each in filters))
        self.request_head = self._phase("request_head", self.filters[len(around) :])
        self.choose_backends = self._phase("choose_backends")
        self.upstream_request = self._phase("upstream_request")
        self.request_body = self._phase("request_body")
        self.request_trailers = self._phase("request_trailers")
        self.response_head = self._phase("response_head")
        self.response_body = self._phase("response_body")
        self.response_trailers = self._phase("response_trailers")
        self.error = self._phase("error")
        self.log = self._phase("log")
        #: Names of those that return as much of a body as they are given.
        self.exact = frozenset(name for name, each in self.filters if getattr(each, "keeps_length", False))
        self.resizes_request = any(name not in self.exact for name, _ in self.request_body)
        self.on_attempt = bool(self.upstream_request or self.request_body)
        self.on_request = bool(self.request_body or self.request_trailers)
        self.on_response = bool(self.response_head or self.response_body or self.response_trailers)
        #: An exchange whose `request_head` is over is one like any other.
        self.head_only = not (
            self.choose_backends
            or self.on_attempt
            or self.on_request
            or self.on_response
            or self.error
            or self.log
            or health is not None
        )

    def _phase(self, phase: str, filters: tuple[tuple[str, Any], ...] | None = None) -> tuple[Phase, ...]:
        filters = self.filters if filters is None else filters
        found = [(name, getattr(each, phase)) for name, each in filters if getattr(each, phase, None) is not None]
        return tuple(reversed(found) if phase in _INWARD else found)

    def open(self, exchange: Exchange, context: Context | None = None) -> None:
        """Take over an exchange whose head is complete, before it has a route, or as soon as it has.

        :param context: where the listener's filters have seen it already
        """
        if context is None:
            context = Context(exchange)
        if not self.head_only:
            Filtering(exchange, self, context).begin()
            return
        request = exchange.request
        method, target, host, lines = request.method, request.target, request.host, request.headers.lines
        count = len(lines)
        each: Phase = ("", as_filter)
        try:
            for each in self.request_head:
                result = each[1](context)
                if result is not None:  # an answer, or something to wait for
                    Filtering(exchange, self, context).begin(self.request_head.index(each), result)
                    return
            if (
                request.headers.lines is not lines
                or len(lines) != count
                or request.target is not target
                or request.host is not host
                or request.method is not method
            ):
                check_request(request)
        except Exception as error:
            exchange.reject(blamed(each[0], error))
            return
        route = exchange.route
        if route is None or route.strict:
            self._go_on(exchange, context)
        else:
            exchange._attempt()

    def _go_on(self, exchange: Exchange, context: Context) -> None:
        """Nothing is left to do here: the exchange is one like any other."""
        try:
            route = exchange.route
            if route is None:
                route = find_route(exchange)
                if route.filters is not None:
                    route.filters.open(exchange, context)
                    return
            if route.strict:
                exchange._admit(route)
        except ExchangeError as error:
            exchange.reject(error)
            return
        exchange._attempt()


def _numbered(*filters: tuple[str, Any]) -> tuple[tuple[str, Any], ...]:
    seen: dict[str, int] = {}
    named = []
    for name, each in filters:
        count = seen[name] = seen.get(name, 0) + 1
        named.append((name if count == 1 else f"{name}#{count}", each))
    return tuple(named)


class Filtering:
    """What an exchange with filters has besides."""

    __slots__ = (
        "_exchange",
        "body",
        "chain",
        "context",
        "culprit",
        "failing",
        "only",
        "others",
        "request",
        "response",
        "stalled_request",
        "stalled_response",
    )

    def __init__(self, exchange: Exchange, chain: FilterChain, context: Context) -> None:
        self._exchange = exchange
        self.chain = chain
        self.context = context
        if not exchange.started:
            exchange.started = exchange.proxy.clock()
        self.request = Lane(exchange)
        self.response = Lane(exchange)
        #: Those that look at the body of this response.
        self.body: tuple[Phase, ...] = ()
        #: Those of the route's pool that filters have left, if not all; or backends of which some are not of that pool.
        self.only: tuple[Backend, ...] | None = None
        self.others: tuple[Backend, ...] | None = None
        #: An error is about to be answered; nothing else matters any more.
        self.failing = False
        #: The filter that failed; it is not asked again.
        self.culprit = ""
        #: Whether the other side, too, takes no more for now.
        self.stalled_request = False
        self.stalled_response = False

    def begin(self, done: int = 0, result: Any = None) -> None:
        """
        :param done: how many filters have seen the head already
        :param result: what the next one returned, if it was asked
        """
        exchange = self._exchange
        exchange.filtering = self
        exchange.__class__ = FilteredExchange
        assert isinstance(exchange, FilteredExchange)
        self.request.run(begin(exchange, self, done, result))

    def hold(self, lane: Lane) -> None:
        if lane is self.response:
            Exchange.pause_response(self._exchange)
        else:
            Exchange.pause_request(self._exchange)

    def release(self, lane: Lane) -> None:
        if lane is self.response:
            if not self.stalled_response:
                Exchange.resume_response(self._exchange)
        elif not self.stalled_request and not self.failing:
            Exchange.resume_request(self._exchange)

    def failed(self, name: str, error: Exception) -> None:
        """A step ended with an error."""
        if isinstance(error, FilterTimeout) or not isinstance(error, ExchangeError):
            self.culprit = name
        self._exchange.reject(blamed(name, error))

    def restart(self) -> None:
        """Whatever was waited for does not matter any more; something else does."""
        self.close()
        self.request = Lane(self._exchange)

    def close(self) -> None:
        self.request.close()
        self.response.close()


def blamed(name: str, error: Exception) -> ExchangeError:
    """What becomes of an exchange whose filter raised ``error``. What was not meant is logged."""
    if isinstance(error, ExchangeError):
        return error
    _log.failure("filter {name} failed", failure=Failure(error), name=name)
    return FilterFailed(f"filter {name}: {type(error).__name__}: {error}")
