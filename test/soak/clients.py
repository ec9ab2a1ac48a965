"""The clients of a soak: what they ask, and what they take for the right answer.

Rule of this file: every request has exactly one right outcome, and everything else is a lost stream. What is broken on
purpose must be seen to be broken: a clean end of it is as bad as a lost one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator

from test.soak.backends import CANCEL, pattern
from test.soak.wire import Fields, Lost, Stream, Wire

#: Seconds for one request, on a machine that may be busy.
PATIENCE = 90.0
#: HTTP/1.1, moody HTTP/2.
ROUTES = (b"/1", b"/2")


class Wrong(Exception):
    """Not the answer it should have been."""


class Load:
    """Some connections with some workers each, until the time is over.

    :param pace: seconds that a worker rests between two requests, on average
    """

    def __init__(self, port: int, seed: int, pace: float) -> None:
        self._port = port
        self._rng = random.Random(seed)
        self._pace = pace
        self._tokens = itertools.count(1)
        self.done: Counter[str] = Counter()
        self.lost: list[str] = []
        self.connections = 0

    async def run(self, connections: int, workers: int, end: float) -> None:
        """:param end: on the event loop's clock"""
        await asyncio.gather(*(self._keep_connected(workers, end) for _ in range(connections)))

    async def _keep_connected(self, workers: int, end: float) -> None:
        """One connection after the other."""
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            _, wire = await loop.create_connection(lambda: Wire(client=True), "127.0.0.1", self._port)
            self.connections += 1
            until = min(end, loop.time() + self._rng.uniform(5, 60))
            await asyncio.gather(*(self._work(wire, until) for _ in range(workers)))
            wire.close()

    async def _work(self, wire: Wire, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until and not wire.gone.is_set() and not wire.going:
            name, task = self._rng.choices(self.TASKS, self.WEIGHTS)[0]
            route = self._rng.choice(ROUTES)
            try:
                await asyncio.wait_for(task(self, wire, route), PATIENCE)
                self.done[name] += 1
            except (Lost, Wrong, TimeoutError) as error:
                self.lost.append(f"{name} {route.decode()}: {type(error).__name__} {error}")
            await asyncio.sleep(self._rng.expovariate(1 / self._pace))

    # --- requests -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(
        self, wire: Wire, method: bytes, path: bytes, *fields: tuple[bytes, bytes], end: bool = True
    ) -> Iterator[Stream]:
        head: Fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"soak.example")]
        stream = wire.open([*head, *fields], end=end)
        try:
            yield stream
        finally:
            wire.over(stream)

    def _token(self) -> tuple[bytes, bytes]:
        """It may be refused: Balance has to send it again."""
        return b"x-token", b"%d" % next(self._tokens)

    async def _small(self, wire: Wire, route: bytes) -> None:
        size = self._rng.choice((0, 1, 65, 2000))
        with self._open(wire, b"GET", route + b"/size/%d" % size, self._token()) as stream:
            await self._check(stream, pattern(size))

    async def _slow(self, wire: Wire, route: bytes) -> None:
        """A reader that lets the windows fill."""
        size = 400_000
        with self._open(wire, b"GET", route + b"/size/%d" % size, self._token()) as stream:
            await stream.answer()
            await asyncio.sleep(self._rng.uniform(0.1, 3))
            pieces = []
            while piece := await stream.read():
                pieces.append(piece)
                await asyncio.sleep(0.02)
        _same(b"".join(pieces), pattern(size))

    async def _upload(self, wire: Wire, route: bytes) -> None:
        body = self._rng.randbytes(self._rng.choice((10, 30_000, 60_000, 500_000)))
        # What is larger than what is kept for a replay cannot be sent again, so it goes where nothing is refused.
        route = b"/1" if len(body) > 60_000 else route
        length = b"content-length", b"%d" % len(body)
        with self._open(wire, b"POST", route + b"/hash", length, self._token(), end=False) as stream:
            await stream.send(body, end=True)
            await self._check(stream, hashlib.sha256(body).hexdigest().encode())

    async def _trailers(self, wire: Wire, route: bytes) -> None:
        body = self._rng.randbytes(self._rng.randrange(1, 20_000))
        sent = b"%d" % self._rng.randrange(1 << 30)
        with self._open(wire, b"POST", route + b"/hash", (b"te", b"trailers"), self._token(), end=False) as stream:
            await stream.send(body)
            stream.send_fields([(b"x-sent", sent)], end=True)
            await self._check(stream, hashlib.sha256(body).hexdigest().encode())
        _same(dict(stream.trailers), {b"x-size": b"%d" % len(body), b"x-echo": sent})

    async def _reset(self, wire: Wire, route: bytes) -> None:
        """A client that changes its mind, anywhere."""
        with self._open(wire, b"GET", route + b"/size/300000") as stream:
            await asyncio.sleep(self._rng.choice((0, 0.001, 0.01, 0.1)))
            if not stream.ended:
                stream.reset(CANCEL)

    async def _broken(self, wire: Wire, route: bytes) -> None:
        how = self._rng.choice((b"head", b"body"))
        with self._open(wire, b"POST", route + b"/broken/" + how) as stream:
            try:
                head = await stream.answer()
                await stream.body()
            except Lost as lost:
                if lost.code is None:
                    raise
            else:
                if how == b"body" or head[b":status"] != b"502":
                    raise Wrong(f"a clean end of a broken response: {head[b':status']!r}")

    async def _check(self, stream: Stream, body: bytes) -> None:
        head = await stream.answer()
        got = await stream.body()
        if head[b":status"] != b"200":
            raise Wrong(f"{head[b':status']!r} {got[:200]!r}")
        _same(got, body)

    TASKS = (
        ("small", _small),
        ("slow", _slow),
        ("upload", _upload),
        ("trailers", _trailers),
        ("reset", _reset),
        ("broken", _broken),
    )
    WEIGHTS = (60, 4, 10, 12, 9, 5)


def _same(got: object, wanted: object) -> None:
    if got != wanted:
        size = (
            f"{len(got)} bytes instead of {len(wanted)}"
            if isinstance(got, bytes) and isinstance(wanted, bytes)
            else got
        )
        raise Wrong(f"another answer: {size}")
