"""HTTP/2 sessions, the usual way: requests and responses, bodies, trailers, windows, the end."""

from __future__ import annotations

from balance.codec.http2.events import GoAwayReceived, RequestReceived, StreamReset
from balance.codec.http2.session import Code
from balance.model import CHUNKED, Headers
from test.unit import http2_frames as frames
from test.unit.http2_cases import SessionCase, on_every_session, request, response


@on_every_session
class Serving(SessionCase):
    """A server's session."""

    def test_a_request_and_its_response(self) -> None:
        (event,) = self.receive(self.headers(1, ended=True))
        assert isinstance(event, RequestReceived)
        self.assertEqual((event.stream_id, event.ended, self.session.open_streams), (1, True, 1))
        self.assertEqual((event.head.method, event.head.target, event.head.host), (b"GET", b"/", b"a.example"))
        self.session.respond(1, response(200, (b"x", b"y"), length=5), False)
        self.assertEqual(self.session.send_data(1, b"hello", True), 0)
        head, body = self.written()
        self.assertEqual(head.value, [(b":status", b"200"), (b"x", b"y"), (b"content-length", b"5")])
        self.assertEqual((head.ended, body.value, body.ended), (False, b"hello", True))
        self.assertEqual(self.session.open_streams, 0)

    def test_bodies_and_trailers_both_ways(self) -> None:
        self.assertEqual(
            self.shape(
                self.headers(1, frames.POST),
                frames.data(1, b"abc"),
                frames.data(1, b"def", padding=9),
                self.headers(1, [(b"sum", b"6")], ended=True),
            ),
            [
                ("RequestReceived", 1),
                ("DataReceived", 1, b"abc", False),
                ("DataReceived", 1, b"def", False),
                ("TrailersReceived", 1),
            ],
        )
        self.session.inform(1, response(103, (b"link", b"</a>")))
        self.session.respond(1, response(length=CHUNKED), False)
        self.session.send_data(1, b"xyz", False)
        self.session.send_trailers(1, Headers.of((b"grpc-status", b"0")))
        interim, head, body, trailers = self.written()
        self.assertEqual(interim.value, [(b":status", b"103"), (b"link", b"</a>")])
        self.assertEqual((head.value, body.value), ([(b":status", b"200")], b"xyz"))
        self.assertEqual((trailers.value, trailers.ended), ([(b"grpc-status", b"0")], True))
        self.assertEqual(self.session.open_streams, 0)


@on_every_session
class Asking(SessionCase):
    """A client's session."""

    client = True

    def test_a_request_and_its_response(self) -> None:
        self.assertEqual(self.session.request(request(), b"https", b"b.example", True), 1)
        (written,) = self.written()
        self.assertEqual(
            written.value,
            [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":path", b"/"),
                (b":authority", b"b.example"),
                (b"accept", b"*/*"),
            ],
        )
        self.assertTrue(written.ended)
        self.assertEqual(
            self.shape(self.headers(1, frames.OK), frames.data(1, b"abc", ended=True)),
            [("ResponseReceived", 1), ("DataReceived", 1, b"abc", True)],
        )
        self.assertEqual(self.session.open_streams, 0)
        self.assertEqual(self.session.request(request(), b"https", b"b.example", True), 3)

    def test_what_cannot_be_opened(self) -> None:
        self.receive(frames.settings((frames.MAX_CONCURRENT_STREAMS, 0)))
        self.assertEqual(self.session.request(request(), b"https", b"b.example", True), 0)
        self.written()
        self.receive(frames.settings((frames.MAX_CONCURRENT_STREAMS, 1)))
        self.assertEqual(self.session.request(request(), b"https", b"b.example", True), 1)

    def test_a_body_and_trailers(self) -> None:
        self.session.request(request(b"POST", length=CHUNKED), b"http", b"b", False)
        self.session.send_data(1, b"abc", False)
        self.session.send_trailers(1, Headers.of((b"a", b"b")))
        self.assertEqual([each.ended for each in self.written()], [False, False, True])
        self.receive(self.headers(1, frames.OK, ended=True))
        self.assertEqual(self.session.open_streams, 0)

    def test_an_answer_before_the_end_of_the_request(self) -> None:
        self.session.request(request(b"POST", length=CHUNKED), b"http", b"b", False)
        self.receive(self.headers(1, frames.OK, ended=True))
        self.assertEqual(self.session.open_streams, 1)
        self.session.send_data(1, b"abc", False)
        self.session.send_data(1, b"", True)
        self.assertEqual(self.session.open_streams, 0)
        self.assertEqual([each.kind for each in self.written()], ["Headers", "Data", "Data"])

    def test_goaway_of_the_server(self) -> None:
        """Section 6.8: no new streams; those it names go on to their end."""
        for _ in range(3):
            self.session.request(request(), b"http", b"b", True)
        events = self.receive(frames.goaway(3, 0, b"debug"))
        self.assertEqual(events, [GoAwayReceived(3, 0)])
        self.assertEqual(self.session.request(request(), b"http", b"b", True), 0)
        self.assertEqual(
            self.shape(self.headers(1, frames.OK), frames.data(1, b"x", ended=True), self.headers(3, frames.OK)),
            [("ResponseReceived", 1), ("DataReceived", 1, b"x", True), ("ResponseReceived", 3)],
        )
        self.assertFalse(self.session.closed)
        self.session.reset(5, Code.CANCEL)
        self.session.go_away()
        self.assertFalse(self.session.closed)
        self.receive(frames.data(3, ended=True))
        self.assertTrue(self.session.closed)

    def test_goaway_of_ours(self) -> None:
        self.session.request(request(), b"http", b"b", True)
        self.written()
        self.session.go_away()
        (written,) = self.written()
        self.assertEqual((written.kind, written.value), ("GoAway", (0, 0)))
        self.assertEqual(self.session.request(request(), b"http", b"b", True), 0)
        self.assertEqual(self.shape(self.headers(1, frames.OK, ended=True)), [("ResponseReceived", 1)])
        self.assertFalse(self.session.closed)
        self.receive(frames.goaway())
        self.assertTrue(self.session.closed)

    def test_interim_responses_that_never_end_a_stream(self) -> None:
        self.session.request(request(), b"http", b"b", True)
        self.receive(self.headers(1, [(b":status", b"103")]))
        self.assertEqual(self.session.open_streams, 1)


@on_every_session
class Ending(SessionCase):
    """Resets, GOAWAY, PING: what is not a message."""

    def test_a_reset_of_the_peer(self) -> None:
        self.receive(self.headers(1, frames.POST))
        self.assertEqual(self.receive(frames.rst_stream(1, 0xDEAD)), [StreamReset(1, 0xDEAD, True)])
        self.assertEqual(self.session.open_streams, 0)
        self.session.respond(1, response(), False)
        self.session.inform(1, response(103))
        self.assertEqual(self.session.send_data(1, b"x", True), 0)
        self.session.send_trailers(1, None)
        self.session.reset(1, Code.CANCEL)
        self.session.acknowledge(1, 100_000)
        self.assertEqual((self.written(), self.session.waiting(1)), ([], 0))

    def test_a_reset_of_ours(self) -> None:
        self.receive(self.headers(1, frames.POST))
        self.session.reset(1, Code.INTERNAL_ERROR)
        self.session.reset(1, Code.CANCEL)
        (written,) = self.written()
        self.assertEqual((written.kind, written.stream_id, written.value), ("RstStream", 1, Code.INTERNAL_ERROR))
        self.assertEqual(self.session.open_streams, 0)

    def test_a_reset_after_an_early_answer(self) -> None:
        """RFC 9113, section 8.1: a response that needs no more of the request, and RST_STREAM with NO_ERROR."""
        self.receive(self.headers(1, frames.POST))
        self.session.respond(1, response(413, length=0), True)
        self.session.reset(1, Code.NO_ERROR)
        self.assertEqual(self.kinds(), [("Headers", 1), ("RstStream", 1)])
        self.assertEqual(self.shape(frames.data(1, b"more")), [])
        self.assertEqual(self.session.open_streams, 0)

    def test_more_resets_than_can_be_remembered(self) -> None:
        for number in range(3_000):
            self.receive(self.headers(2 * number + 1, frames.POST))
            self.session.reset(2 * number + 1, Code.CANCEL)
        self.assertEqual(self.shape(frames.data(5_999, b"x")), [])
        self.assertFalse(self.session.closed)

    def test_commands_after_the_end_of_our_side(self) -> None:
        self.receive(self.headers(1, frames.POST))
        self.session.respond(1, response(length=0), True)
        self.written()
        self.session.respond(1, response(length=0), True)
        self.session.inform(1, response(103))
        self.assertEqual(self.session.send_data(1, b"x", True), 0)
        self.session.send_trailers(1, Headers.of((b"a", b"b")))
        self.assertEqual(self.written(), [])

    def test_going_away_twice(self) -> None:
        """RFC 9113, section 6.8: first so that no request under way is lost, then the last that was taken."""
        self.receive(self.headers(1))
        self.session.go_away()
        (first,) = [each for each in self.written() if each.kind == "GoAway"]
        self.assertEqual(first.value, ((1 << 31) - 1, 0))
        self.assertEqual(self.shape(self.headers(3)), [("RequestReceived", 3)])
        self.session.go_away()
        (second,) = [each for each in self.written() if each.kind == "GoAway"]
        self.assertEqual(second.value, (3, 0))
        self.assertEqual(self.shape(self.headers(5, frames.POST), frames.data(5, b"x", ended=True)), [])
        self.assertEqual(self.session.open_streams, 2)
        self.assertEqual(self.shape(frames.data(3, b"x", ended=True)), [("DataReceived", 3, b"x", True)])
        self.session.respond(3, response(length=0), True)
        self.session.respond(1, response(length=0), True)
        self.receive(frames.data(1, ended=True))
        self.assertEqual((self.session.open_streams, self.session.closed), (0, False))
        self.receive(frames.goaway())
        self.assertTrue(self.session.closed)

    def test_going_away_with_an_error(self) -> None:
        self.receive(self.headers(1))
        self.session.go_away(Code.INTERNAL_ERROR)
        self.assertEqual(self.written()[-1].value, (1, Code.INTERNAL_ERROR))

    def test_the_last_stream_that_was_taken_is_in_an_errors_goaway(self) -> None:
        self.receive(self.headers(1), self.headers(3))
        self.receive(frames.frame(frames.PING))
        self.assertEqual(self.written()[-1].value, (3, Code.FRAME_SIZE_ERROR))

    def test_goaway_of_a_client(self) -> None:
        self.assertEqual(self.receive(self.headers(1), frames.goaway(0, 7))[1:], [GoAwayReceived(0, 7)])
        self.session.respond(1, response(length=CHUNKED), False)
        self.session.send_data(1, b"abc", True)
        self.assertEqual([each.kind for each in self.written()], ["Headers", "Data"])

    def test_ping(self) -> None:
        self.assertEqual(self.shape(frames.ping(b"abcdefgh")), [])
        (answer,) = self.written()
        self.assertEqual((answer.value, set(answer.flags)), (b"abcdefgh", {"ACK"}))
        self.session.ping()
        (asked,) = self.written()
        self.assertEqual((asked.kind, set(asked.flags)), ("Ping", set()))
        self.assertEqual(self.shape(frames.ping(b"whatever", ack=True)), [])
        self.assertEqual(self.shape(frames.ping(asked.value, ack=True)), [("PingAcknowledged", 0)])
        self.assertEqual(self.shape(frames.ping(asked.value, ack=True)), [])

    def test_events_before_a_fault_are_reported(self) -> None:
        events = self.shape(self.headers(1, frames.POST), frames.data(1, b"x"), frames.frame(frames.PING))
        self.assertEqual(
            events,
            [("RequestReceived", 1), ("DataReceived", 1, b"x", False), ("SessionEnded", Code.FRAME_SIZE_ERROR, "")],
        )

    def test_statistics_of_heads(self) -> None:
        block = self.packer.block(frames.GET)
        self.receive(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, block))
        plain = sum(len(name) + len(value) for name, value in frames.GET)
        self.assertEqual((self.session.plain_header_bytes, self.session.packed_header_bytes), (plain, len(block)))
        self.session.respond(1, response(length=0), True)
        self.assertEqual(
            self.session.plain_header_bytes, plain + len(b":status200content-length0"), "names and values, both ways"
        )
        self.assertGreater(self.session.packed_header_bytes, len(block))

    def test_output_is_taken_once(self) -> None:
        self.receive(frames.ping())
        self.assertTrue(self.session.take())
        self.assertEqual(self.session.take(), b"")
