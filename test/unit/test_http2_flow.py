"""Flow control of HTTP/2 sessions, both ways and on both levels (RFC 9113, sections 5.2, 6.5.2, 6.9)."""

from __future__ import annotations

from typing import Any

from balance.codec.http2.session import Code, SessionOptions
from balance.model import Headers
from test.unit import http2_frames as frames
from test.unit.http2_cases import SessionCase, on_every_session, response

WIDE = (1 << 31) - 1


class Flow(SessionCase):
    """A server, as streams are easier opened there; both sides share what is tested."""

    def open(self, *stream_ids: int, answered: bool = True) -> None:
        self.receive(*[self.headers(each, frames.POST) for each in stream_ids])
        if answered:
            for each in stream_ids:
                self.session.respond(each, response(), False)
        self.written()

    def bodies(self) -> list[tuple[int, int, bool]]:
        """Stream, size and end of each DATA frame written."""
        return [(each.stream_id, len(each.value), each.ended) for each in self.written() if each.kind == "Data"]

    def sizes(self) -> dict[int, int]:
        sizes: dict[int, int] = {}
        for stream_id, size, _ in self.bodies():
            sizes[stream_id] = sizes.get(stream_id, 0) + size
        return sizes


@on_every_session
class Sending(Flow):
    """The peer's windows hold whatever it does."""

    def test_a_body_waits_for_the_streams_window(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 10))
        self.open(1)
        self.assertEqual(self.session.send_data(1, b"x" * 25, False), 15)
        self.assertEqual((self.session.waiting(1), self.session.queued), (15, 15))
        self.assertEqual(self.bodies(), [(1, 10, False)])
        self.assertEqual(self.shape(frames.window_update(1, 10)), [])
        self.assertEqual(self.bodies(), [(1, 10, False)])
        self.assertEqual(self.shape(frames.window_update(1, 10)), [("StreamWritable", 1)])
        self.assertEqual(self.bodies(), [(1, 5, False)])
        self.assertEqual(self.session.send_data(1, b"x" * 5, True), 0)
        self.assertEqual(self.bodies(), [(1, 5, True)])

    def test_what_comes_later_waits_behind_what_waits(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 2))
        self.open(1)
        self.session.send_data(1, b"abcd", False)
        self.assertEqual(self.session.send_data(1, b"ef", False), 4)
        self.assertEqual(self.session.send_data(1, b"", True), 4)
        self.assertEqual(self.session.send_data(1, b"late", True), 0)
        self.receive(frames.window_update(1, 100))
        written = [each for each in self.written() if each.kind == "Data"]
        self.assertEqual(b"".join(each.value for each in written), b"abcdef")
        self.assertEqual([each.ended for each in written], [False] * (len(written) - 1) + [True])

    def test_the_end_is_reported_too(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 2))
        self.open(1)
        self.session.send_data(1, b"abcd", True)
        self.assertEqual(self.shape(frames.window_update(1, 100)), [("StreamWritable", 1)])
        self.assertEqual(self.session.queued, 0)

    def test_trailers_wait_behind_the_body(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 2))
        self.open(1)
        self.session.send_data(1, b"abcd", False)
        self.session.send_trailers(1, Headers.of((b"a", b"b")))
        self.session.send_trailers(1, Headers.of((b"c", b"d")))
        self.assertEqual(self.session.send_data(1, b"late", True), 0)
        self.assertEqual(self.bodies(), [(1, 2, False)])
        self.receive(frames.window_update(1, 2))
        body, trailers = self.written()
        self.assertEqual((body.value, body.ended, trailers.value, trailers.ended), (b"cd", False, [(b"a", b"b")], True))

    def test_an_empty_end_needs_no_window(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 0))
        self.open(1, 3, 5)
        self.assertEqual(self.session.send_data(1, b"", True), 0)
        self.session.send_trailers(3, Headers.of((b"a", b"b")))
        self.session.send_trailers(5, None)
        self.assertEqual([each.ended for each in self.written()], [True] * 3)

    def test_nothing_is_sent_for_an_empty_piece(self) -> None:
        self.open(1)
        self.assertEqual(self.session.send_data(1, b"", False), 0)
        self.assertEqual(self.written(), [])

    def test_the_connections_window(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, WIDE))
        self.open(1, 3)
        self.assertEqual(self.session.send_data(1, bytes(100_000), False), 100_000 - 65_535)
        self.assertEqual(self.session.send_data(3, bytes(50), False), 50)
        self.assertEqual(self.sizes(), {1: 65_535})
        self.assertEqual(self.shape(frames.window_update(0, 40_000)), [("StreamWritable", 3), ("StreamWritable", 1)])
        self.assertEqual(self.sizes(), {1: 100_000 - 65_535, 3: 50})

    def test_streams_take_turns_when_the_connections_window_opens(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, WIDE))
        self.open(1, 3, 5)
        for stream_id in (1, 3, 5):
            self.session.send_data(stream_id, bytes(400_000), False)
        self.written()
        self.receive(frames.window_update(0, 600_000))
        sizes = self.sizes()
        self.assertEqual(sum(sizes.values()), 600_000)
        self.assertGreater(min(sizes.values()), 150_000)

    def test_frames_are_no_larger_than_the_peer_takes(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, WIDE), (frames.MAX_FRAME_SIZE, 20_000))
        self.receive(frames.window_update(0, 1 << 20))
        self.open(1)
        self.assertEqual(self.session.send_data(1, bytes(50_000), True), 0)
        self.assertEqual(self.bodies(), [(1, 20_000, False), (1, 20_000, False), (1, 10_000, True)])

    def test_heads_larger_than_a_frame_are_continued(self) -> None:
        self.open(1, answered=False)
        fields = [(b"x-%d" % number, b"%d" % number * 1500) for number in range(12)]
        self.session.respond(1, response(200, *fields), True)
        (written,) = self.written()
        self.assertEqual(written.value[1:], fields)
        self.assertTrue(written.ended)

    def test_a_window_that_becomes_negative(self) -> None:
        """Section 6.9.2: SETTINGS may take back what was sent already."""
        self.open(1, 3)
        self.assertEqual(self.session.send_data(1, bytes(65_000), False), 0)
        self.receive(frames.window_update(0, WIDE // 2))
        self.assertEqual(self.shape(frames.settings((frames.INITIAL_WINDOW_SIZE, 1_000))), [("SettingsReceived", 0)])
        self.assertEqual(self.session.send_data(1, bytes(10), False), 10)
        self.assertEqual(self.session.send_data(3, bytes(2_000), False), 1_000)
        self.written()
        self.assertEqual(self.shape(frames.window_update(1, 64_000)), [])
        self.assertEqual(self.bodies(), [])
        self.assertEqual(self.shape(frames.window_update(1, 5)), [])
        self.assertEqual(self.bodies(), [(1, 5, False)])
        self.assertEqual(
            self.shape(frames.settings((frames.INITIAL_WINDOW_SIZE, 65_535))),
            [("SettingsReceived", 0), ("StreamWritable", 1), ("StreamWritable", 3)],
        )
        self.assertEqual(self.sizes(), {1: 5, 3: 1_000})

    def test_a_reset_drops_what_waits(self) -> None:
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 0))
        self.open(1, 3, 5)
        for stream_id in (1, 3, 5):
            self.session.send_data(stream_id, b"abc", True)
        self.assertEqual(self.session.queued, 9)
        self.session.reset(1, Code.CANCEL)
        self.receive(frames.rst_stream(3))
        self.assertEqual((self.session.queued, self.session.waiting(1), self.session.waiting(3)), (3, 0, 0))
        self.written()
        self.receive(frames.window_update(1, 5), frames.window_update(3, 5), frames.window_update(0, 5))
        self.assertEqual(self.bodies(), [])
        self.receive(frames.window_update(5, 5))
        self.assertEqual(self.bodies(), [(5, 3, True)])
        self.assertEqual(self.session.queued, 0)

    def test_the_widest_windows(self) -> None:
        self.receive(frames.window_update(0, WIDE - 65_535))
        self.open(1)
        self.assertEqual(self.shape(frames.window_update(1, WIDE - 65_535)), [])
        self.assertEqual(self.session.send_data(1, bytes(200_000), True), 0)

    def test_a_stream_that_nobody_reads_stalls_only_itself(self) -> None:
        self.receive(frames.window_update(0, 10_000_000))
        self.open(1, 3)
        self.assertEqual(self.session.send_data(1, bytes(500_000), False), 500_000 - 65_535)
        self.assertEqual(self.session.send_data(3, bytes(60_000), True), 0)


@on_every_session
class Receiving(Flow):
    """Our windows: the connection's is given back on receipt, a stream's when its data was passed on."""

    def updates(self) -> dict[int, int]:
        updates: dict[int, int] = {}
        for each in self.written():
            self.assertEqual(each.kind, "WindowUpdate")
            updates[each.stream_id] = updates.get(each.stream_id, 0) + each.value
        return updates

    def fill(self, stream_id: int, size: int, **more: Any) -> None:
        while size:
            piece = min(size, 16_000)
            self.assertEqual(self.shape(frames.data(stream_id, bytes(piece), **more))[0][0], "DataReceived")
            size -= piece

    def test_a_stream_has_its_window_and_no_more(self) -> None:
        self.open(1)
        self.fill(1, 65_536)
        self.assertEqual(self.updates(), {})
        self.check_reset(self.receive(frames.data(1, b"x")), 1, Code.FLOW_CONTROL_ERROR)

    def test_a_stream_gets_back_what_is_acknowledged(self) -> None:
        self.open(1)
        self.fill(1, 65_536)
        self.session.acknowledge(1, 30_000)
        self.assertEqual(self.updates(), {})
        self.session.acknowledge(1, 10_000)
        self.assertEqual(self.updates(), {1: 40_000})
        self.fill(1, 40_000)
        self.check_reset(self.receive(frames.data(1, b"x")), 1, Code.FLOW_CONTROL_ERROR)

    def test_the_connection_gets_back_on_receipt(self) -> None:
        self.open(*range(1, 21, 2))
        for stream_id in range(1, 17, 2):
            self.fill(stream_id, 65_000)
        self.assertEqual(self.updates(), {})
        self.fill(17, 65_000)
        updates = self.updates()
        self.assertEqual(set(updates), {0})
        self.assertGreaterEqual(updates[0], 1 << 19)

    def test_the_connections_window_is_no_wider_than_we_said(self) -> None:
        self.start(SessionOptions(connection_window=100_000, stream_window=1 << 20))
        self.open(1)
        self.fill(1, 40_000)
        self.fill(1, 9_999)
        self.assertEqual(self.updates(), {})
        self.fill(1, 1)
        self.assertEqual(self.updates(), {0: 50_000})
        self.fill(1, 48_000)
        self.assertEqual(self.updates(), {})

    def test_more_than_the_connections_window(self) -> None:
        """A frame may be larger than a window that was never wide."""
        options = SessionOptions(connection_window=65_535, stream_window=1 << 20, max_frame_size=1 << 20)
        self.start(options)
        self.open(1)
        self.check_ended(self.receive(frames.data(1, bytes(65_536))), Code.FLOW_CONTROL_ERROR)
        self.start(options)
        self.open(1)
        self.fill(1, 65_535)

    def test_padding_counts(self) -> None:
        self.open(1)
        (event,) = self.receive(frames.data(1, b"abc", padding=200))
        self.assertEqual(getattr(event, "size", 0), 204)
        for _ in range((65_536 - 204) // 256):
            self.receive(frames.data(1, b"", padding=255))
        self.receive(frames.data(1, b"", padding=50))

    def test_padding_alone_is_given_back(self) -> None:
        self.open(1)
        for _ in range(300):
            self.assertEqual(self.shape(frames.data(1, b"", padding=255)), [])
        self.assertGreaterEqual(self.updates()[1], 32_768)

    def test_what_is_thrown_away_is_given_back(self) -> None:
        """Data of a refused request, on both levels; data of a stream that we reset, to the connection."""
        self.receive(self.headers(1, [*frames.POST, (b"connection", b"x")]))
        self.written()
        for _ in range(10):
            self.assertEqual(self.shape(frames.data(1, bytes(16_000))), [])
            self.now += 1
        self.assertGreaterEqual(self.updates()[1], 120_000)
        self.session.reset(1, Code.PROTOCOL_ERROR)
        self.written()
        for _ in range(40):
            self.assertEqual(self.shape(frames.data(1, bytes(16_000))), [])
        self.assertGreaterEqual(self.updates()[0], 1 << 19)

    def test_no_window_for_a_stream_that_has_ended(self) -> None:
        self.open(1)
        self.fill(1, 48_000)
        self.receive(frames.data(1, ended=True))
        self.session.acknowledge(1, 48_000)
        self.session.acknowledge(99, 48_000)
        self.assertEqual(self.updates(), {})

    def test_a_narrow_window(self) -> None:
        self.start(SessionOptions(stream_window=1))
        self.open(1)
        for _ in range(5):
            self.fill(1, 1)
            self.session.acknowledge(1, 1)
            self.assertEqual(self.updates(), {1: 1})
