"""Peers and applications do anything: what has to hold all the same, on every session.

No exception; no event of a stream after its end, and none after the connection's; no byte sent beyond a window or a frame's
size; ``queued`` is what waits; and bytes mean the same wherever they are cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http2.events import (
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    SessionEnded,
    StreamReset,
    StreamWritable,
    TrailersReceived,
)
from test.unit import http2_frames as frames
from test.unit.http2_cases import SESSIONS
from test.unit.http2_frames import PREFACE, Written
from test.unit.http2_traffic import Player, Step, Traffic, by_stream, plain

SEEDS = st.integers(0, 1 << 40)


class Watch:
    """What a session reports, held against the order in which a stream's life goes."""

    def __init__(self) -> None:
        self.over: set[int] = set()
        self.heard_all: set[int] = set()
        self.ended = False

    def events(self, events: Iterable[Event]) -> str:
        """What is wrong with them; empty if nothing is."""
        for event in events:
            if self.ended:
                return f"{event} after the end of the connection"
            if event.stream_id in self.over:
                return f"{event} after the reset of the stream"
            heard = isinstance(event, RequestReceived | ResponseReceived | DataReceived | TrailersReceived)
            if heard and event.stream_id in self.heard_all:
                return f"{event} after the end of the peer's side"
            if isinstance(event, SessionEnded):
                self.ended = True
            elif isinstance(event, StreamReset):
                self.over.add(event.stream_id)
            elif isinstance(event, TrailersReceived) or getattr(event, "ended", False):
                self.heard_all.add(event.stream_id)
            elif isinstance(event, StreamWritable) and not event.stream_id:
                return "the connection is no stream that could be writable"
        return ""


class Windows:
    """The peer's windows as it keeps them itself, read from what it sends: no byte may come beyond them."""

    def __init__(self) -> None:
        self.connection = 65_535
        self.initial = 65_535
        self.frame = 16_384
        self.streams: dict[int, int] = {}

    def sends(self, raw: bytes) -> None:
        """Frames of the peer, each of them right."""
        raw = raw.removeprefix(PREFACE)
        while raw:
            length, kind, flags = int.from_bytes(raw[:3]), raw[3], raw[4]
            stream_id, payload, raw = int.from_bytes(raw[5:9]), raw[9 : 9 + length], raw[9 + length :]
            if kind == frames.WINDOW_UPDATE and not stream_id:
                self.connection += int.from_bytes(payload)
            elif kind == frames.WINDOW_UPDATE:
                self.streams[stream_id] = self.streams.get(stream_id, self.initial) + int.from_bytes(payload)
            elif kind == frames.HEADERS:
                self.streams.setdefault(stream_id, self.initial)
            elif kind == frames.SETTINGS and not flags:
                self._settings(payload)

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6])
            if name == frames.INITIAL_WINDOW_SIZE:
                for stream_id in self.streams:
                    self.streams[stream_id] += value - self.initial
                self.initial = value
            elif name == frames.MAX_FRAME_SIZE:
                self.frame = value

    def takes(self, written: Iterable[Written]) -> str:
        """Frames of the session. What is wrong with them; empty if nothing is."""
        for each in written:
            if each.kind == "Headers":
                self.streams.setdefault(each.stream_id, self.initial)
            if each.kind == "Data" and each.value:
                size = len(each.value)
                self.connection -= size
                self.streams[each.stream_id] -= size
                if min(self.connection, self.streams[each.stream_id]) < 0 or size > self.frame:
                    return f"{size} bytes of stream {each.stream_id} are too many: {vars(self)}"
        return ""


class Anything(SynchronousTestCase):
    """Histories at random, each on every session."""

    def check(self, steps: list[Step], *, client: bool, honest: bool) -> None:
        for implementation in SESSIONS.values():
            self.check_one(implementation, steps, client=client, honest=honest)

    def check_one(self, implementation: Any, steps: list[Step], *, client: bool, honest: bool) -> None:
        player, watch, windows = Player(implementation, client=client), Watch(), Windows()
        for step in steps:
            if step.what == "receive" and honest and not player.session.closed:
                windows.sends(step.arguments[0])
            events, written = player.play(step)
            session = player.session
            self.assertEqual(watch.events(events), "", step)
            self.assertEqual(windows.takes(written) if honest else "", "", step)
            self.assertEqual(session.queued, sum(session.waiting(each) for each in range(1, 199, 2)))
            self.assertGreaterEqual(session.open_streams, 0)
            self.assertTrue(session.closed or not watch.ended)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS, st.booleans())
    def test_honest_peers(self, seed: int, client: bool) -> None:
        steps = Traffic(random.Random(seed), client=client, hostile=0).history(60)
        self.check(steps, client=client, honest=True)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS, st.booleans())
    def test_odd_peers(self, seed: int, client: bool) -> None:
        steps = Traffic(random.Random(seed), client=client, hostile=25).history(40)
        self.check(steps, client=client, honest=False)

    @settings(max_examples=40, deadline=None)
    @given(SEEDS, st.booleans(), st.integers(1, 400))
    def test_cuts_change_nothing(self, seed: int, client: bool, most: int) -> None:
        """The same bytes, whole and in pieces, between the same commands."""
        for implementation in SESSIONS.values():
            self.check_cuts(implementation, seed, client, most)

    def check_cuts(self, implementation: Any, seed: int, client: bool, most: int) -> None:
        steps = Traffic(random.Random(seed), client=client, hostile=10).history(30)
        rng = random.Random(seed)
        whole, cut = Player(implementation, client=client), Player(implementation, client=client)
        for step in steps:
            events, written = whole.play(step)
            cut_events: list[Event] = []
            cut_written: list[Written] = []
            for piece in pieces(rng, step, most):
                more_events, more_written = cut.play(piece)
                cut_events += more_events
                cut_written += more_written
            self.assertEqual(plain(cut_events), plain(events), step)
            self.assertEqual(by_stream(cut_written), by_stream(written), step)
            self.assertEqual(cut.state(), whole.state(), step)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=300), st.booleans())
    def test_noise(self, noise: bytes, client: bool) -> None:
        steps = [Step("receive", (frames.settings() if client else PREFACE + frames.settings(),))]
        self.check([*steps, Step("receive", (noise,))], client=client, honest=False)

    def test_a_cut_at_every_byte(self) -> None:
        """Every kind of frame, cut in two at each of its bytes, and all of them byte by byte."""
        raw = conversation()
        for implementation in SESSIONS.values():
            expected = self.outcome(implementation, [raw])
            for cut in range(1, len(raw)):
                self.assertEqual(self.outcome(implementation, [raw[:cut], raw[cut:]]), expected, cut)
            self.assertEqual(self.outcome(implementation, [raw[at : at + 1] for at in range(len(raw))]), expected)
            self.assertEqual(expected[0][-1], ("SessionEnded", 1, ""))

    def outcome(self, implementation: Any, raw: list[bytes]) -> tuple[Any, ...]:
        player = Player(implementation, client=False)
        events: list[Event] = []
        written: list[Written] = []
        for piece in raw:
            more_events, more_written = player.play(Step("receive", (piece,)))
            events += more_events
            written += more_written
        return plain(events), by_stream(written), player.state()


def pieces(rng: random.Random, step: Step, most: int) -> list[Step]:
    """A step as it may come: what arrives, in pieces of up to so many bytes."""
    if step.what != "receive":
        return [step]
    raw, result = step.arguments[0], []
    while raw:
        size = rng.randint(1, most)
        result.append(Step("receive", (raw[:size],)))
        raw = raw[size:]
    return result or [step]


def conversation() -> bytes:
    """Every kind of frame, and an error at the end."""
    packer = frames.Packer(index=True)
    return b"".join(
        [
            PREFACE,
            frames.settings((frames.INITIAL_WINDOW_SIZE, 100), (0xABCD, 1)),
            frames.settings_ack(),
            frames.window_update(0, 1000),
            frames.priority(3),
            packer.headers(1, frames.POST),
            frames.data(1, b"hello"),
            packer.headers(3, [*frames.GET, (b"x", b"y" * 40)], ended=True, padding=5, prioritised=True, pieces=3),
            frames.ping(),
            frames.data(1, b"world", padding=3),
            frames.frame(0xEE, 0xFF, 9, b"unknown"),
            packer.headers(1, [(b"sum", b"10")], ended=True),
            packer.headers(5, [*frames.POST, (b"connection", b"close")]),
            frames.data(5, b"thrown away"),
            packer.headers(7, [*frames.POST, (b"content-length", b"3")]),
            frames.data(7, b"four"),
            frames.rst_stream(3),
            frames.window_update(5, 0),
            frames.goaway(0, 0, b"bye"),
            frames.data(9, b"idle"),
        ]
    )
