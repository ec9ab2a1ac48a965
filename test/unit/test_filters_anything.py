"""Clients, backends, time and filters do anything in any order: what holds without filters holds with them.

The filters wait, fail, answer, hold data back, or do nothing, as chance has it.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from balance.errors import FilterTimeout, RequestDenied
from balance.filters import Answer, Context, Filter
from balance.http.filters import FilterChain
from balance.testing import Peer
from test.unit.support import World
from test.unit.test_http_anything import Run


class Chaos(Filter):
    """Does anything that a filter may do, and some that it may not."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.waiting: list[tuple[Deferred[Any], Any]] = []

    def _anything(self, good: Any, often: int = 1) -> Any:
        chance = self._rng.random() / often
        if chance < 0.02:
            raise ZeroDivisionError("chaos")
        if chance < 0.03:
            raise RequestDenied("chaos")
        if chance < 0.3:
            deferred: Deferred[Any] = Deferred()
            self.waiting.append((deferred, good))
            return deferred
        if chance < 0.4:
            return self._soon(good)
        return good

    async def _soon(self, good: Any) -> Any:
        return good

    def fire(self, which: int, how: int) -> None:
        if self.waiting:
            deferred, good = self.waiting.pop(which % len(self.waiting))
            if deferred.called:
                return
            if how % 10:
                deferred.callback(good)
            else:
                deferred.errback(ZeroDivisionError("chaos"))

    def request_head(self, context: Context) -> Any:
        return self._anything(Answer(200, "x") if self._rng.random() < 0.1 else None)

    def upstream_request(self, context: Context, request: Any) -> Any:
        return self._anything(None)

    def choose_backends(self, context: Context, candidates: Any) -> Any:
        return self._anything(candidates[self._rng.randrange(3) :] if self._rng.random() < 0.1 else None)

    def request_body(self, context: Context, data: bytes, ended: bool) -> Any:
        return self._anything(data.upper())

    def response_head(self, context: Context, response: Any) -> Any:
        return self._anything(None)

    def response_body(self, context: Context, data: bytes, ended: bool) -> Any:
        return self._anything(data * self._rng.randrange(3))

    def error(self, context: Context, error: Any) -> Any:
        return self._anything(Answer(500, "y") if self._rng.random() < 0.1 else None, often=2)

    def log(self, context: Context) -> None:
        self.logged = True


class FilteredRun(Run):
    def __init__(
        self, case: SynchronousTestCase, rng: random.Random, max_connections: int, retry_attempts: int
    ) -> None:
        super().__init__(case, max_connections, retry_attempts)
        self.chaos = Chaos(rng)
        self.world = World(
            2,
            max_connections=max_connections,
            max_queue=3,
            max_idle=2,
            retry_attempts=retry_attempts,
            replay_size=1000,
            route_options={"filters": FilterChain([("chaos", self.chaos)])},
        )
        self.clients = [self.world.client()]

    def fire(self, which: int, how: int) -> None:
        self.chaos.fire(which, how)

    def check_flow(self, client: Peer) -> None:
        exchange = client.protocol._exchange
        filtering = getattr(exchange, "filtering", None)
        if filtering is None or (filtering.request.free and filtering.response.free):
            super().check_flow(client)


class Anything(SynchronousTestCase):
    def test_long_histories(self) -> None:
        names = ["send"] * 6 + ["answer"] * 6 + ["dial"] * 5 + ["fire"] * 12
        names += ["refuse", "time", "client", "leave", "fail", "stall", "unstall"]
        for seed in range(200):
            rng = random.Random(seed)
            run = FilteredRun(self, rng, seed % 3, seed % 2)
            try:
                for _ in range(200):
                    run.act(rng.choice(names), rng.randrange(10_000), rng.randrange(10_000))
                    run.check()
                run.finish()
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
            self.flushLoggedErrors(ZeroDivisionError, FilterTimeout, RequestDenied)
