"""Clients, backends and time do anything in any order: what has to hold all the same.

Nothing is lost or kept: when everybody has left, no lease, no queue place, no connection and no exchange is left; every
complete response that a client sees is one that a backend gave in full, or one of our own; and nobody whose turn it is stays
paused.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from test.unit.support import Peer, World

REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello, world",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: v\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 5,
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"BAD\r\n\r\n",
    b"GET /long/" + b"x" * 7000 + b" HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 2500,
    b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody",
    b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody and more",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"garbage",
]
ACTIONS = st.tuples(
    st.sampled_from(
        ["send"] * 6 + ["answer"] * 6 + ["dial"] * 5 + ["refuse", "time", "client", "leave", "fail", "stall", "unstall"]
    ),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)


class Run:
    """One history."""

    def __init__(self, case: SynchronousTestCase, max_connections: int, retry_attempts: int) -> None:
        self.case = case
        self.world = World(
            2, max_connections=max_connections, max_queue=3, max_idle=2, retry_attempts=retry_attempts, replay_size=1000
        )
        self.clients = [self.world.client()]
        self.backends: list[Peer] = []
        #: What each peer still has to say.
        self.unsent: dict[Peer, bytes] = {}
        self.stalled: set[Peer] = set()

    def act(self, what: str, which: int, how: int) -> None:
        getattr(self, what)(which, how)
        self.deliver_closes()

    def open(self, peers: list[Peer]) -> list[Peer]:
        return [peer for peer in peers if not peer.gone]

    def say(self, peer: Peer, messages: list[bytes], how: int) -> None:
        """The rest of a message, or some of a new one."""
        data = self.unsent.pop(peer, b"") or messages[how % len(messages)]
        cut = len(data) if how % 3 else 1 + how % len(data)
        if data[cut:]:
            self.unsent[peer] = data[cut:]
        if peer.transport.producerState == "producing":
            peer.send(data[:cut])
        else:
            self.unsent[peer] = data

    def send(self, which: int, how: int) -> None:
        clients = self.open(self.clients)
        if clients:
            self.say(clients[which % len(clients)], REQUESTS, how)

    def answer(self, which: int, how: int) -> None:
        backends = self.open(self.backends)
        if backends:
            self.say(backends[which % len(backends)], RESPONSES, how)

    def dial(self, which: int, how: int) -> None:
        dials = [dial for dial in self.world.dialer.dials if not dial.cancelled]
        self.world.dialer.dials[:] = dials
        if dials:
            self.backends.append(dials.pop(which % len(dials)).accept())
            self.world.dialer.dials[:] = dials

    def refuse(self, which: int, how: int) -> None:
        dials = [dial for dial in self.world.dialer.dials if not dial.cancelled]
        if dials:
            dial = dials[which % len(dials)]
            self.world.dialer.dials.remove(dial)
            dial.refuse()

    def time(self, which: int, how: int) -> None:
        self.world.advance([0.3, 2, 11, 31][how % 4])

    def client(self, which: int, how: int) -> None:
        if len(self.open(self.clients)) < 5:
            self.clients.append(self.world.client())

    def leave(self, which: int, how: int) -> None:
        self.end(self.open(self.clients), which, how)

    def fail(self, which: int, how: int) -> None:
        self.end(self.open(self.backends), which, how)

    def end(self, peers: list[Peer], which: int, how: int) -> None:
        if peers:
            peer = peers[which % len(peers)]
            if how % 2:
                peer.close()
            else:
                peer.reset()

    def stall(self, which: int, how: int) -> None:
        peers = [peer for peer in self.open(self.clients + self.backends) if peer not in self.stalled]
        if peers:
            peer = peers[which % len(peers)]
            self.stalled.add(peer)
            peer.stall()

    def unstall(self, which: int, how: int) -> None:
        peers = sorted((peer for peer in self.stalled if not peer.gone), key=lambda peer: peer.number)
        if peers:
            peer = peers[which % len(peers)]
            self.stalled.discard(peer)
            peer.unstall()

    def deliver_closes(self) -> None:
        """A transport that we closed is lost soon after; one that waits for its peer to read is not."""
        while True:
            closing = [
                peer
                for peer in self.open(self.clients + self.backends)
                if peer.transport.aborted or (peer.transport.disconnecting and not peer.transport.pending)
            ]
            if not closing:
                return
            for peer in closing:
                if not peer.gone:
                    peer.close()

    def check(self) -> None:
        world, case = self.world, self.case
        case.assertGreaterEqual(world.counters.active, 0)
        for backend in world.backends:
            case.assertGreaterEqual(backend.active, 0)
        for client in self.open(self.clients):
            channel = client.protocol
            idle = channel._exchange is None and not channel._stalled and not client.transport.closed
            if idle:
                case.assertEqual(client.transport.producerState, "producing", "nobody will ever resume it")
            self.check_flow(client)
        for backend in self.open(self.backends):
            if backend.protocol.exchange is None and not backend.transport.closed:
                case.assertEqual(backend.transport.producerState, "producing", "an idle connection is paused")

    def check_flow(self, client: Peer) -> None:
        """Each side is read as long as the other takes what it says."""
        channel = client.protocol
        exchange = channel._exchange
        stream = exchange.stream if exchange is not None else None
        if stream is None or client.transport.closed or stream.transport is None or stream.transport.closed:
            return
        if not channel._stalled:
            self.case.assertEqual(stream.transport.producerState, "producing", "the response is not read")
        if channel._reader is not None and not stream._stalled:
            self.case.assertEqual(client.transport.producerState, "producing", "the request is not read")

    def finish(self) -> None:
        """Everybody leaves: nothing is left."""
        for peer in self.open(self.clients):
            peer.close()
            self.deliver_closes()
        world, case = self.world, self.case
        case.assertEqual(world.counters.active, 0)
        case.assertEqual(world.counters.connections_open, 0)
        case.assertEqual([backend.active for backend in world.backends], [0, 0])
        case.assertEqual(world.pool.queued, 0)
        case.assertEqual([dial for dial in world.dialer.dials if not dial.cancelled], [])
        world.advance(100)
        self.deliver_closes()
        case.assertEqual([backend.connections_open for backend in world.backends], [0, 0])
        case.assertFalse(any(world.deadlines._buckets.values()))


class Anything(SynchronousTestCase):
    def play(self, history: list[tuple[str, int, int]], max_connections: int, attempts: int) -> None:
        run = Run(self, max_connections, attempts)
        for action in history:
            run.act(*action)
            run.check()
        run.finish()
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(deadline=None, max_examples=150)
    @given(st.lists(ACTIONS, max_size=60), st.integers(0, 2), st.integers(0, 1))
    def test_short_histories(self, history: list[tuple[str, int, int]], max_connections: int, attempts: int) -> None:
        self.play(history, max_connections, attempts)

    def test_long_histories(self) -> None:
        names = ["send"] * 6 + ["answer"] * 6 + ["dial"] * 5
        names += ["refuse", "time", "client", "leave", "fail", "stall", "unstall"]
        for seed in range(150):
            rng = random.Random(seed)
            history = [(rng.choice(names), rng.randrange(10_000), rng.randrange(10_000)) for _ in range(300)]
            try:
                self.play(history, seed % 3, seed % 2)
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
