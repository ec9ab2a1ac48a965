"""The two sessions held against each other: the same history gives the same events, errors, frames and state.

Rule of this file: `h2` is the oracle. Where the two differ on purpose, the difference is taken out in `test.unit.http2_traffic`
or listed here, with the section of RFC 9113 that decides it:

* reasons are prose (no section);
* a DATA frame is reported by the lean session as it comes, by the other one when it is complete. RFC 9113, section 4.1, has
  frames be of any length, and nothing in them asks to wait for the whole. So bodies are joined before they are compared, and
  bytes that may end within a frame are followed by more.
* how a body is cut into DATA frames, and a head is packed (sections 4.2 and 4.3: up to the sender).
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http2 import h2_session, lean
from test.unit.http2_traffic import OPTIONS, Player, Step, Traffic, by_stream, plain

SEEDS = st.integers(0, 1 << 40)


def difference(steps: list[Step], *, client: bool) -> str:
    """Where the two part, in words; empty if nowhere."""
    players = [Player(each, client=client, options=OPTIONS) for each in (h2_session, lean)]
    for number, step in enumerate(steps):
        results: list[Any] = []
        for player in players:
            events, written = player.play(step)
            results.append({"events": plain(events), "written": by_stream(written), "state": player.state()})
        reference, candidate = results
        for what, value in reference.items():
            if value != candidate[what]:
                return f"{what}: h2 {value!r}; lean {candidate[what]!r}; at step {number}, {step}"
    return ""


def mutated(rng: random.Random, steps: list[Step]) -> list[Step]:
    """All that arrives in ``steps``, with bytes changed, and enough behind it to complete what it has come to."""
    raw = bytearray(b"".join(step.arguments[0] for step in steps if step.what == "receive"))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(raw))
        kind = rng.randrange(4)
        if kind == 0:
            raw[place] = rng.randrange(256)
        elif kind == 1:
            raw[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del raw[place : place + rng.choice((1, 9, 30))]
        else:
            raw[place:place] = rng.randbytes(rng.choice((1, 4, 9)))
        if not raw:
            break
    return [Step("receive", (bytes(raw) + bytes(17_000),))]


class Differential(SynchronousTestCase):
    """Both sides, whole frames and broken ones."""

    def check(self, seed: int, *, client: bool, hostile: int, length: int) -> None:
        steps = Traffic(random.Random(seed), client=client, hostile=hostile).history(length)
        found = difference(steps, client=client)
        self.assertEqual(found, "", f"seed {seed}: {found}")

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_servers_with_honest_peers(self, seed: int) -> None:
        self.check(seed, client=False, hostile=0, length=40)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_clients_with_honest_peers(self, seed: int) -> None:
        self.check(seed, client=True, hostile=0, length=40)

    @settings(max_examples=100, deadline=None)
    @given(SEEDS)
    def test_servers_with_odd_peers(self, seed: int) -> None:
        self.check(seed, client=False, hostile=15, length=30)

    @settings(max_examples=100, deadline=None)
    @given(SEEDS)
    def test_clients_with_odd_peers(self, seed: int) -> None:
        self.check(seed, client=True, hostile=15, length=30)

    @settings(max_examples=80, deadline=None)
    @given(SEEDS)
    def test_broken_bytes(self, seed: int) -> None:
        rng = random.Random(seed)
        client = rng.random() < 0.3
        steps = Traffic(rng, client=client, hostile=5).history(25)
        requests = [step for step in steps if step.what == "request"]
        found = difference(requests + mutated(rng, steps), client=client)
        self.assertEqual(found, "", f"seed {seed}: {found}")
