"""HTTP/2 sessions, the usual way: requests and responses, bodies, trailers, windows, the end."""

from __future__ import annotations

from balance.codec.http2.events import RequestReceived
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
