"""The lean session and the borders of frames: bytes mean the same wherever they are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpack import Encoder
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http2 import lean_frames as frames
from balance.codec.http2.events import DataReceived, Event, SessionEnded
from balance.codec.http2.lean import ClientSession, ServerSession
from balance.codec.http2.lean_session import LeanSession
from balance.codec.http2.session import PREFACE, Code, SessionOptions
from balance.model import CHUNKED, NO_BODY, Headers, RequestHead, ResponseHead

OPTIONS = SessionOptions(max_streams=10)


def frame(kind: int, flags: int, stream_id: int, body: bytes = b"") -> bytes:
    return frames.write_head(len(body) << 8 | kind, flags, stream_id) + body


def request_block(encoder: Encoder, path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a.example"), *more]
    return encoder.encode(fields)


def conversation() -> bytes:
    """Every kind of frame that a client sends, and several ways to send the same."""
    encoder = Encoder()
    long = [(b"x-long-%d" % number, b"v" * 300) for number in range(10)]
    first = request_block(encoder, b"/1", (b"content-length", b"12"))
    second = request_block(encoder, b"/2", *long)
    third = request_block(encoder, b"/3")
    trailers = encoder.encode([(b"x-sum", b"1")])
    fourth = request_block(encoder, b"/4")
    return b"".join(
        [
            PREFACE,
            frame(frames.SETTINGS, 0, 0, b"\x00\x04\x00\x00\x01\x00" + b"\x00\x99\x00\x00\x00\x01"),
            frame(frames.SETTINGS, frames.ACK, 0),
            frame(frames.WINDOW_UPDATE, 0, 0, b"\x00\x00\x10\x00"),
            frame(frames.PRIORITY, 0, 3, b"\x00\x00\x00\x00\x10"),
            frame(frames.HEADERS, frames.END_HEADERS, 1, first),
            frame(frames.DATA, 0, 1, b"hello "),
            frame(frames.PING, 0, 0, b"12345678"),
            frame(
                frames.HEADERS,
                frames.END_STREAM | frames.PADDED | frames.PRIORITY_FLAG,
                3,
                b"\x03\x80\x00\x00\x01\xff" + second[:700] + b"\0\0\0",
            ),
            frame(frames.CONTINUATION, 0, 3, second[700:1500]),
            frame(frames.CONTINUATION, frames.END_HEADERS, 3, second[1500:]),
            frame(frames.DATA, frames.PADDED, 1, b"\x04wor\0\0\0\0"),
            frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x00ld!"),
            frame(0xEE, 0xFF, 7, b"unknown"),
            frame(frames.HEADERS, frames.END_HEADERS, 5, third),
            frame(frames.DATA, 0, 5, b"d" * 3000),
            frame(frames.WINDOW_UPDATE, 0, 1, b"\x00\x00\x10\x00"),
            frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 5, trailers),
            frame(frames.HEADERS, frames.END_HEADERS, 7, fourth),
            frame(frames.RST_STREAM, 0, 7, b"\x00\x00\x00\x08"),
            frame(frames.GOAWAY, 0, 0, b"\x00\x00\x00\x00\x00\x00\x00\x00bye"),
        ]
    )


def joined(events: Iterable[Event]) -> list[Event]:
    """Data that came in pieces as one."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived) and last.stream_id == event.stream_id:
            event = DataReceived(event.stream_id, last.data + event.data, last.size + event.size, event.ended)
            result[-1] = event
        else:
            result.append(event)
    return result


class Cuts(SynchronousTestCase):
    """A conversation in one piece, in two at every place, and byte by byte."""

    def play(self, make: Callable[[], LeanSession], pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
        session = make()
        events: list[Event] = []
        for piece in pieces:
            events += session.receive(piece, 1.0)
        return joined(events), session.take()

    def check_cuts(self, make: Callable[[], LeanSession], data: bytes, events: int) -> None:
        expected = self.play(make, [data])
        self.assertEqual(len(expected[0]), events)
        self.assertFalse([event for event in expected[0] if isinstance(event, SessionEnded)])
        for at in range(len(data) + 1):
            if data[at - 1 : at] != data[at : at + 1] or not at % 1000:  # not at every place of a long filler
                self.assertTrue(self.play(make, [data[:at], data[at:]]) == expected, at)
        self.assertTrue(self.play(make, [data[at : at + 1] for at in range(len(data))]) == expected)

    def server(self) -> ServerSession:
        session = ServerSession(OPTIONS)
        session.start()
        return session

    def client(self) -> ClientSession:
        session = ClientSession(OPTIONS)
        session.start()
        for path in (b"/1", b"/2", b"/3"):
            head = RequestHead(b"GET", path, b"a.example", Headers())
            session.request(head, b"http", b"a.example", path == b"/1")
        return session

    def test_server(self) -> None:
        self.check_cuts(self.server, conversation(), 11)

    def test_client(self) -> None:
        server = ServerSession(OPTIONS)
        server.start()
        server.receive(self.client().take(), 1.0)
        server.inform(1, ResponseHead(103, b"", Headers.of((b"link", b"</a>")), length=NO_BODY))
        head = ResponseHead(200, b"", Headers.of((b"server", b"nginx"), (b"x-long", b"v" * 20000)), length=CHUNKED)
        server.respond(1, head, False)
        server.send_data(1, b"x" * 500, False)
        server.ping()
        server.respond(3, head, False)
        server.send_data(1, b"y" * 500, False)
        server.send_trailers(1, Headers.of((b"x-sum", b"1")))
        server.send_data(3, b"z" * 500, True)
        server.reset(5, Code.REFUSED_STREAM)
        server.go_away()
        server.go_away()
        self.check_cuts(self.client, server.take(), 11)

    def test_more_than_a_frame_may_hold_is_refused_by_its_head(self) -> None:
        session = self.server()
        session.receive(PREFACE + frame(frames.SETTINGS, 0, 0), 1.0)
        events = session.receive(b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", 1.0)
        self.assertEqual(events, [SessionEnded(Code.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")])
        self.assertTrue(session.take().endswith(frame(frames.GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x06")))

    def test_a_wrong_preface_is_refused_by_its_first_wrong_byte(self) -> None:
        session = self.server()
        self.assertEqual(session.receive(PREFACE[:10], 1.0), [])
        events = session.receive(b"x", 1.0)
        self.assertEqual([type(event) for event in events], [SessionEnded])

    def test_the_body_of_a_long_frame_is_passed_on_as_it_comes(self) -> None:
        session = self.server()
        session.receive(PREFACE + frame(frames.SETTINGS, 0, 0), 1.0)
        session.receive(frame(frames.HEADERS, frames.END_HEADERS, 1, request_block(Encoder(), b"/")), 1.0)
        whole = frame(frames.DATA, frames.END_STREAM, 1, b"x" * 10000)
        self.assertEqual(session.receive(whole[:109], 1.0), [DataReceived(1, b"x" * 100, 100, False)])
        self.assertEqual(session.receive(whole[109:], 1.0), [DataReceived(1, b"x" * 9900, 9900, True)])

    def test_the_rest_of_a_frame_of_a_stream_that_is_gone_is_skipped(self) -> None:
        session = self.server()
        session.receive(PREFACE + frame(frames.SETTINGS, 0, 0), 1.0)
        session.receive(frame(frames.HEADERS, frames.END_HEADERS, 1, request_block(Encoder(), b"/")), 1.0)
        whole = frame(frames.DATA, 0, 1, b"x" * 100)
        session.receive(whole[:50], 1.0)
        session.reset(1, Code.CANCEL)
        self.assertEqual(session.receive(whole[50:] + frame(frames.PING, 0, 0, b"12345678"), 1.0), [])
        self.assertIn(frame(frames.PING, frames.ACK, 0, b"12345678"), session.take())
