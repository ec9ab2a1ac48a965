"""What both HTTP/2 sessions share: the budgets, and the bodies that wait for windows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http2.defences import CREDIT_MAX, Budget, ConnectionFault, Defences
from balance.codec.http2.heads import Field
from balance.codec.http2.outbox import Outbox
from balance.codec.http2.session import Code, SessionOptions


class Budgets(SynchronousTestCase):
    """A burst at once, and a rate in the long run."""

    def test_burst_then_rate(self) -> None:
        budget = Budget(3, 2.0)
        self.assertEqual([budget.spend(100.0) for _ in range(5)], [True, True, True, False, False])
        self.assertEqual([budget.spend(100.5) for _ in range(2)], [True, False])
        self.assertEqual([budget.spend(101.5) for _ in range(3)], [True, True, False])

    def test_never_more_than_the_burst(self) -> None:
        budget = Budget(3, 2.0)
        for now in (0.0, 1000.0, 1e9):
            self.assertEqual([budget.spend(now) for _ in range(4)], [True, True, True, False])

    def test_the_rate_holds_for_ever(self) -> None:
        budget = Budget(10, 50.0)
        self.assertTrue(all(budget.spend(n / 50) for n in range(5000)))
        budget = Budget(10, 50.0)
        spent = sum(budget.spend(n / 1000) for n in range(10_000))
        self.assertTrue(505 <= spent <= 511, spent)


class Limits(SynchronousTestCase):
    """Each defence ends the connection, under its name."""

    def defences(self) -> Defences:
        return Defences(SessionOptions(reset_burst=2, reset_rate=1, control_burst=3, control_rate=1, continuations=4))

    def check_fault(self, name: str, fault: ConnectionFault) -> None:
        self.assertEqual((fault.code, fault.defence), (Code.ENHANCE_YOUR_CALM, name))
        self.assertTrue(fault.reason)

    def test_resets(self) -> None:
        defences = self.defences()
        defences.reset()
        defences.reset()
        self.check_fault("resets", self.assertRaises(ConnectionFault, defences.reset))
        defences.now = 1.0
        defences.reset()

    def test_control(self) -> None:
        defences = self.defences()
        for _ in range(3):
            defences.control()
        self.check_fault("control", self.assertRaises(ConnectionFault, defences.control))

    def test_continuations(self) -> None:
        defences = self.defences()
        defences.continuation(4)
        self.check_fault("continuations", self.assertRaises(ConnectionFault, defences.continuation, 5))

    def test_an_honest_download_earns_its_window_updates(self) -> None:
        defences = self.defences()
        for _ in range(5_000):  # 80 MB at one instant, each segment of TCP given back on both levels
            defences.earn(16384, cut=False)
            for _ in range(2 * 16384 // 1448):
                defences.answer()

    def test_small_messages_earn_theirs(self) -> None:
        defences = self.defences()
        for _ in range(10_000):
            defences.earn(7, cut=False)
            defences.answer()
            defences.answer()

    def test_a_window_opened_byte_by_byte_is_not_earned(self) -> None:
        defences = self.defences()
        for _ in range(3):
            defences.earn(1, cut=True)
            defences.answer()
        self.check_fault("control", self.assertRaises(ConnectionFault, defences.answer))

    def test_credit_is_bounded(self) -> None:
        defences = self.defences()
        for _ in range(1000):
            defences.earn(1 << 20, cut=False)
        for _ in range(CREDIT_MAX + 3):
            defences.answer()
        self.assertRaises(ConnectionFault, defences.answer)


class FakeWire:
    """Windows as plain numbers, and a list of what was written."""

    def __init__(self, room: int, streams: dict[int, int], frame: int = 10) -> None:
        self.room = room
        self.streams = streams
        self.frame = frame
        self.written: list[tuple[object, ...]] = []

    def connection_room(self) -> int:
        return self.room

    def stream_room(self, stream_id: int) -> int:
        return self.streams[stream_id]

    def frame_room(self) -> int:
        return self.frame

    def put_data(self, stream_id: int, data: bytes, ended: bool, cut: bool) -> None:
        assert 0 < len(data) <= min(self.room, self.streams[stream_id], self.frame)
        self.room -= len(data)
        self.streams[stream_id] -= len(data)
        self.written.append((stream_id, data, ended))

    def put_trailers(self, stream_id: int, trailers: Sequence[Field]) -> None:
        self.written.append((stream_id, trailers))


class Waiting(SynchronousTestCase):
    """Bodies wait, take turns, and end as they were to end."""

    def test_a_stream_waits_for_its_window(self) -> None:
        wire = FakeWire(100, {1: -5})
        box = Outbox(wire)
        box.add(1, b"abcdef", True)
        self.assertEqual((box.flush(), box.waiting(1), box.queued, 1 in box), ([], 6, 6, True))
        wire.streams[1] = 4
        self.assertFalse(box.flush_stream(1))
        wire.streams[1] = 4
        self.assertTrue(box.flush_stream(1))
        self.assertEqual(wire.written, [(1, b"abcd", False), (1, b"ef", True)])
        self.assertEqual((box.waiting(1), box.queued, 1 in box, bool(box)), (0, 0, False, False))
        self.assertFalse(box.flush_stream(1))

    def test_trailers_come_after_the_data(self) -> None:
        wire = FakeWire(3, {1: 100})
        box = Outbox(wire)
        box.add(1, b"abcdef", False)
        box.end(1, [(b"a", b"b")])
        self.assertEqual(box.flush(), [])
        wire.room = 3
        self.assertEqual(box.flush(), [1])
        self.assertEqual(wire.written, [(1, b"abc", False), (1, b"def", False), (1, [(b"a", b"b")])])

    def test_an_end_without_trailers(self) -> None:
        for trailers in (None, []):
            wire = FakeWire(100, {1: 100})
            box = Outbox(wire)
            box.add(1, b"abc", False)
            box.end(1, trailers)
            box.flush()
            self.assertEqual(wire.written, [(1, b"abc", True)])

    def test_streams_take_turns(self) -> None:
        wire = FakeWire(25, {1: 100, 3: 100, 5: 0})
        box = Outbox(wire)
        for stream_id in (1, 3, 5):
            box.add(stream_id, bytes([48 + stream_id]) * 30, False)
        self.assertEqual(box.flush(), [])
        self.assertEqual([entry[:2] for entry in wire.written], [(1, b"1" * 10), (3, b"3" * 10), (1, b"1" * 5)])
        wire.written.clear()
        wire.room, wire.streams[5] = 30, 100
        box.flush()
        self.assertEqual([entry[0] for entry in wire.written], [5, 3, 1])

    def test_dropping(self) -> None:
        box = Outbox(FakeWire(0, {}))
        box.add(1, b"abc", False)
        box.add(3, b"abcd", False)
        box.drop(1)
        box.drop(1)
        self.assertEqual((box.queued, 1 in box), (4, False))
        box.clear()
        self.assertEqual((box.queued, 3 in box), (0, False))

    def test_small_pieces_are_joined(self) -> None:
        box = Outbox(FakeWire(0, {1: 0}))
        for _ in range(100_000):
            box.add(1, b"x", False)
        self.assertLess(len(box._queues[1].pieces), 100)

    def test_nothing_is_lost_whatever_the_windows(self) -> None:
        rng = random.Random(7)
        for _ in range(200):
            wire = FakeWire(0, {1: 0, 3: 0, 5: 0}, frame=rng.choice((1, 7, 5000)))
            box = Outbox(wire)
            given = dict.fromkeys(wire.streams, b"")
            for _ in range(30):
                stream_id = rng.choice((1, 3, 5))
                action = rng.randrange(4)
                size = rng.choice((1, 2, 9, 3000))
                if action == 0:
                    data = rng.randbytes(size)
                    given[stream_id] += data
                    box.add(stream_id, data, False)
                elif action == 1:
                    wire.streams[stream_id] += size
                    box.flush_stream(stream_id)
                else:
                    wire.room += size
                    box.flush()
            self.assertEqual(box.queued, sum(box.waiting(stream_id) for stream_id in given))
            wire.room = 1 << 30
            wire.streams = dict.fromkeys(given, 1 << 30)
            box.flush()
            self.assertEqual(box.queued, 0)
            for stream_id, data in given.items():
                self.assertEqual(b"".join(str_data(entry) for entry in wire.written if entry[0] == stream_id), data)


def str_data(entry: tuple[object, ...]) -> bytes:
    assert isinstance(entry[1], bytes)
    return entry[1]
