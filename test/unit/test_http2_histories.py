"""HTTP/2 clients, backends of both protocols and time do anything in any order: what has to hold all the same.

Nothing is lost or kept: when everybody has left, no lease, no waiter, no connection, no stream and no time limit is left. A
whole response is one that a backend gave in full, for that very request; a whole request is what the client sent, once. And
nobody whose turn it is stays paused.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.http.http1_client import Http1Connection
from balance.http.http2_client import Http2BackendStream
from test.unit.http2_cases import on_every_session
from test.unit.http2_history import NAMES, Run
from test.unit.support import Peer
from test.unit.test_http_anything import REQUESTS, RESPONSES

ACTIONS = st.tuples(st.sampled_from(NAMES), st.integers(0, 10_000), st.integers(0, 10_000))


class PlainPeer:
    """One that speaks HTTP/1.1, more or less."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.stalled = False
        self.client = False
        #: What it still has to say.
        self.unsent = b""

    def pump(self) -> None:
        self.peer.received()

    def say(self, data: bytes) -> None:
        if self.peer.transport.producerState == "producing":
            self.peer.send(data)
        else:
            self.unsent = data + self.unsent


class PlainRun(Run):
    """A history with backends of HTTP/1.1."""

    protocol = 1

    @property
    def http2(self) -> list[Any]:
        return self.clients

    def dial(self, which: int, how: int) -> None:
        dials = self.dials()
        if dials:
            dial = dials[which % len(dials)]
            self.world.dialer.dials.remove(dial)
            self.backends.append(PlainPeer(dial.accept()))  # type: ignore[arg-type]

    def answer(self, which: int, how: int) -> None:
        end: Any = self.pick(self.backends, which)
        if end is not None:
            message = end.unsent or RESPONSES[how % len(RESPONSES)]
            cut = len(message) if how % 3 else 1 + how % len(message)
            end.unsent = message[cut:]
            end.say(message[:cut])

    def more(self, which: int, how: int) -> None:
        """A large response, which fills windows."""
        end: Any = self.pick(self.backends, which)
        if end is not None and not end.unsent:
            end.unsent = b"x" * 60_000
            end.say(b"HTTP/1.1 200 OK\r\nContent-Length: 120000\r\n\r\n" + b"x" * 60_000)

    def interim(self, which: int, how: int) -> None:
        end: Any = self.pick(self.backends, which)
        if end is not None and not end.unsent:
            end.say(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    def give_up(self, which: int, how: int) -> None:
        self.fail(which, how)

    def check_responses(self, end: Any) -> None:
        """A whole one is one of those that are whole."""
        for number in end.paths:
            seen = end.streams[number]
            if seen.ended and seen.reset is None and seen.value(b":status") == b"200":
                self.case.assertIn(seen.data, (b"", b"body", b"x" * 120_000))

    def check_flow(self, link: Any, stream: Any) -> None:
        backend = stream.exchange.stream
        if isinstance(backend, Http1Connection):
            if backend._paused:
                self.case.assertTrue(stream.blocked or link.stalled, "the response is not read")
            if stream.paused and not stream.request_ended:
                self.case.assertTrue(backend._stalled, "the request is not read")

    def check_backends(self) -> None: ...

    def check_left(self) -> None: ...

    def check_closed(self) -> None: ...


class OldRun(Run):
    """A history with clients of HTTP/1.1, which share the connections to the backends."""

    @property
    def http2(self) -> list[Any]:
        return self.backends

    def client(self, which: int, how: int) -> None:
        if len(self.clients) - sum(end.peer.gone for end in self.clients) < 4:
            self.clients.append(PlainPeer(self.world.client()))  # type: ignore[arg-type]

    def request(self, which: int, how: int) -> None:
        end: Any = self.pick(self.clients, which)
        if end is not None:
            message = end.unsent or REQUESTS[how % len(REQUESTS)]
            cut = len(message) if how % 3 else 1 + how % len(message)
            end.unsent = message[cut:]
            end.say(message[:cut])

    def body(self, which: int, how: int) -> None:
        end: Any = self.pick(self.clients, which)
        if end is not None and end.unsent:
            message, end.unsent = end.unsent, b""
            end.say(message)

    def cancel(self, which: int, how: int) -> None:
        self.leave(which, how)

    def check(self) -> None:
        self.case.assertGreaterEqual(self.world.counters.active, 0)
        for end in self.clients:
            if not end.peer.gone and not end.peer.transport.closed:
                self.check_channel(end.peer)
        self.check_backends()

    def check_channel(self, peer: Peer) -> None:
        channel = peer.protocol
        exchange = channel._exchange
        stream = exchange.stream if exchange is not None else None
        if exchange is None:
            if not channel._stalled:
                self.case.assertEqual(peer.transport.producerState, "producing", "nobody will ever resume it")
        elif isinstance(stream, Http2BackendStream):
            if not channel._stalled:
                self.case.assertFalse(stream.paused, "the response is not read")
            if channel._reader is not None and not (stream.blocked or stream._link.stalled):
                self.case.assertEqual(peer.transport.producerState, "producing", "the request is not read")


KINDS = (Run, PlainRun, OldRun)


@on_every_session
class Anything(SynchronousTestCase):
    implementation: ClassVar[Any]

    def play(self, kind: type[Run], history: list[tuple[str, int, int]], most: int, attempts: int) -> None:
        run = kind(self, most, attempts)
        for action in history:
            run.act(*action)
            run.check()
        run.finish()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_short_histories(self) -> None:
        @settings(deadline=None, max_examples=100)
        @given(st.sampled_from(KINDS), st.lists(ACTIONS, max_size=60), st.integers(0, 2), st.integers(0, 1))
        def play(kind: type[Run], history: list[tuple[str, int, int]], most: int, attempts: int) -> None:
            self.play(kind, history, most, attempts)

        play()

    def test_long_histories(self) -> None:
        for seed in range(40):
            rng = random.Random(seed)
            history = [(rng.choice(NAMES), rng.randrange(10_000), rng.randrange(10_000)) for _ in range(200)]
            try:
                self.play(KINDS[seed % 9 // 3], history, seed % 3, seed % 2)
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
