"""How an exchange with filters begins: from the head of its request to its first attempt.

Rule of this file: the first part of `balance.http.filtered`, in the order in which it happens. No backend was asked
yet, so whatever fails or answers here ends the exchange.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from balance.codec.edited import check_fields, check_request, snapshot
from balance.errors import NoRoute
from balance.filters import Answer

if TYPE_CHECKING:
    from balance.http.exchange import Exchange
    from balance.http.filtered import FilteredExchange
    from balance.http.filters import Filtering
    from balance.http.lane import Step
    from balance.http.route import HttpRoute


def find_route(exchange: Exchange) -> HttpRoute:
    """
    :raises NoRoute: there is none
    :raises ClientError: the route refuses the request
    """
    request = exchange.request
    rule = exchange.proxy.routes.match(request, exchange.client.forwarding.facts)
    if rule is None:
        raise NoRoute
    route = exchange.route = rule.target
    route.requests += 1
    if request.upgrade:
        exchange._handshake = route.websocket.admit(request)
    return route


def begin(exchange: FilteredExchange, filtering: Filtering, done: int, result: Any) -> Step:
    """From the head of the request to the first attempt.

    :param done: how many filters have seen the head already
    :param result: what the next one returned, if it was asked
    """
    route = exchange.route
    if route is None:
        if (yield from _heads(exchange, filtering, done, result)):
            return
        route = find_route(exchange)
        done, result = 0, None
        if route.filters is not None:
            filtering.chain = route.filters
    if route.filters is not None and (yield from _heads(exchange, filtering, done, result)):
        return
    if route.strict:
        exchange._admit(route)
    yield from exchange.prepare(route)
    exchange._attempt()


def _heads(exchange: Exchange, filtering: Filtering, done: int, result: Any) -> Generator[Any, Any, bool]:
    """`request_head` of the chain; whether one of them has answered."""
    lane, request = filtering.request, exchange.request
    before = snapshot(request)
    for lane.name, function in filtering.chain.request_head[done:]:
        answered = yield function(filtering.context) if result is None else result
        result = None
        if answered is not None:
            yield from _answer(exchange, filtering, answered)
            return True
    if snapshot(request) != before or done:
        check_request(request)
    return False


def _answer(exchange: Exchange, filtering: Filtering, given: Any) -> Step:
    """A filter answers by itself."""
    head, body = as_answer(given, "request_head").response(exchange.request)
    filtering.context.response = head
    lane = filtering.request
    for lane.name, function in filtering.chain.response_head:
        yield function(filtering.context, head)
    check_fields(head.headers)
    exchange._answer(head, body, None)


def as_answer(given: Any, phase: str) -> Answer:
    """What a filter returned, where only an answer makes sense."""
    if not isinstance(given, Answer):
        raise TypeError(f"{phase} returned {given!r}; needed: None or an Answer")
    return given
