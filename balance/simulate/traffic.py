"""Requests that come: made up of a scenario, or read from an access log.

Rule of this file: the same seed gives the same requests at the same times, whatever is done with them. What decides
about a request later (its luck) is drawn here, with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import log
from random import Random
from typing import Final

from balance.codec.http1 import parse_request
from balance.errors import BalanceError, ClientError
from balance.explain.question import Question
from balance.model import Headers, RequestHead
from balance.simulate.distributions import Keys
from balance.simulate.scenario import RequestConfig, Scenario

#: Requests in one run.
MAX_REQUESTS: Final = 20_000_000
_TEMPLATES_MAX: Final = 65_536
_FIRST_CLIENT: Final = (198 << 24) | (18 << 16)  # 198.18.0.0/15, set aside for benchmarks (RFC 2544)


#: One request: seconds since the start; index of its class; its head; the client's IP address; its luck, from 0 up to,
#: but without, 1, which decides how long it takes and what it meets; the seconds its answer takes, below 0 where that
#: is as the backend's latency says. (A plain tuple: there are many.)
Arrival = tuple[float, int, RequestHead, str, float, float]


class Traffic:
    """A supply of requests that can be had as often as wanted.

    :ivar kinds: names of the classes
    :ivar duration: seconds over which requests come
    """

    kinds: Sequence[str] = ()
    duration: float = 0.0

    def arrivals(self) -> Iterator[Arrival]:
        """All requests, in the order of their times. Each has a head of its own, which may be edited."""
        raise NotImplementedError


class MadeUp(Traffic):
    """What a scenario describes.

    :raises BalanceError: a class of requests is refused by the parser
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._makers = [_Maker(each) for each in scenario.requests]
        self.kinds = [each.name for each in scenario.requests]
        self.duration = scenario.duration

    def arrivals(self) -> Iterator[Arrival]:
        scenario = self._scenario
        random = Random(scenario.seed)
        draw = random.random
        bounds = list(accumulate(each.share for each in scenario.requests))
        total, last = bounds[-1], len(bounds) - 1
        makers = [(maker.keys, maker.templates, maker.clients, maker.template) for maker in self._makers]
        for count, at in enumerate(self._times(random)):
            if count >= MAX_REQUESTS:
                raise BalanceError(f"the scenario has more than {MAX_REQUESTS} requests")
            kind = bisect_right(bounds, draw() * total, 0, last) if last else 0
            keys, templates, clients, template = makers[kind]
            # Which key, which client, its luck: always three draws, so that one class changes nothing for others.
            key, client, luck = draw(), draw(), draw()
            number = 0 if keys is None else keys(key)
            head = templates.get(number) or template(number)
            yield at, kind, copy(head), clients[int(client * len(clients))], luck, -1.0

    def _times(self, random: Random) -> Iterator[float]:
        scenario = self._scenario
        draw = random.random
        even = scenario.arrivals == "even"
        starts = [(0.0, scenario.rate), *((step.at, step.rate) for step in scenario.steps)]
        ends = [*(start for start, _ in starts[1:]), scenario.duration]
        for (start, rate), end in zip(starts, ends, strict=True):
            now = start
            end = min(end, scenario.duration)
            while rate:
                now += 1.0 / rate if even else -log(1.0 - draw()) / rate
                if now >= end:
                    break
                yield now


class _Maker:
    """Makes the heads of one class.

    :ivar keys: which key, for a place between 0 and 1; None where the class has none
    :ivar templates: heads by the number of their key, as many as fit
    """

    def __init__(self, request: RequestConfig) -> None:
        self.clients = [address(index) for index in range(request.clients)]
        self.templates: dict[int, RequestHead] = {}
        self._request = request
        keyed = "{key}" in request.url or any("{key}" in value for value in request.headers.values())
        exponent = request.keys.exponent if request.keys.distribution == "zipf" else 0.0
        self.keys = Keys(request.keys.count, exponent).draw if keyed else None
        try:
            self.template(0)
        except ClientError as error:
            raise BalanceError(f"requests of the class {request.name!r} are refused: {error.detail}") from None

    def template(self, key: int) -> RequestHead:
        """The head of a key, read by the server's parser."""
        name = f"k{key + 1}"
        request = self._request
        headers = [(field, value.replace("{key}", name)) for field, value in request.headers.items()]
        question = Question(request.url.replace("{key}", name), request.method, headers)
        if len(self.templates) >= _TEMPLATES_MAX:
            self.templates.clear()
        head = self.templates[key] = parse_request(question.block())
        return head


_new_head = RequestHead.__new__
_new_headers = Headers.__new__


def copy(head: RequestHead) -> RequestHead:
    """One that may be edited. (Attribute by attribute: this is done for every request, and twice as fast.)"""
    own = _new_head(RequestHead)
    headers = own.headers = _new_headers(Headers)
    headers.names = head.headers.names.copy()
    headers.lines = head.headers.lines.copy()
    own.method = head.method
    own.target = head.target
    own.path = head.path
    own.host = head.host
    own.version = head.version
    own.length = head.length
    own.keep_alive = head.keep_alive
    own.expect_continue = head.expect_continue
    own.te_trailers = head.te_trailers
    own.upgrade = head.upgrade
    own.has_forwarded = head.has_forwarded
    own.has_underscore = head.has_underscore
    return own


def address(index: int) -> str:
    """The IP address of a made-up client."""
    number = _FIRST_CLIENT + index
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
