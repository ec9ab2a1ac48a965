"""Heads in HTTP/2, in tables: what is malformed, what is answered with a status, what is understood, and how.

Rule of this file: a malformed head is a matter of its stream; after each of them the connection goes on (RFC 9113, section
8.1.1). What is accepted has to be fit to be written as HTTP/1.1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hpack import Encoder, NeverIndexedHeaderTuple

from balance.codec.http2.events import RequestReceived, RequestRefused, ResponseReceived, TrailersReceived
from balance.codec.http2.session import Code, SessionOptions
from balance.model import CHUNKED, NO_BODY, Headers
from test.unit import http2_frames as frames
from test.unit.http2_cases import SessionCase, on_every_session, request, response, shape
from test.unit.http2_frames import CONNECT, GET, OK, POST, Field


def without(name: bytes, fields: list[Field] = GET) -> list[Field]:
    return [field for field in fields if field[0] != name]


def changed(name: bytes, value: bytes, fields: list[Field] = GET) -> list[Field]:
    return [(name, value) if field[0] == name else field for field in fields]


#: Names and values that no message may have.
BAD_FIELDS: list[tuple[str, Field]] = [
    ("upper case (8.2.1)", (b"X-Upper", b"x")),
    ("an empty name (8.2.1)", (b"", b"x")),
    ("a blank in a name (8.2.1)", (b"a b", b"x")),
    ("a colon in a name (8.2.1)", (b"a:b", b"x")),
    ("a line end in a name (8.2.1)", (b"a\r\nb", b"x")),
    ("NUL in a name (8.2.1)", (b"a\0", b"x")),
    ("DEL in a name (8.2.1)", (b"a\x7f", b"x")),
    ("a letter beyond ASCII in a name (8.2.1)", (b"\xe4", b"x")),
    ("CR in a value (8.2.1)", (b"a", b"x\ry")),
    ("LF in a value (8.2.1)", (b"a", b"x\ny")),
    ("a field in a value (8.2.1)", (b"a", b"x\r\ntransfer-encoding: chunked")),
    ("NUL in a value (8.2.1)", (b"a", b"x\0y")),
    ("a blank before a value (8.2.1)", (b"a", b" x")),
    ("a blank after a value (8.2.1)", (b"a", b"x ")),
    ("a tab before a value (8.2.1)", (b"a", b"\tx")),
    ("a tab after a value (8.2.1)", (b"a", b"x\t")),
    ("Connection (8.2.2)", (b"connection", b"close")),
    ("Connection naming a field (8.2.2)", (b"connection", b"accept")),
    ("Keep-Alive (8.2.2)", (b"keep-alive", b"timeout=5")),
    ("Proxy-Connection (8.2.2)", (b"proxy-connection", b"keep-alive")),
    ("Transfer-Encoding (8.2.2)", (b"transfer-encoding", b"chunked")),
    ("Transfer-Encoding that does nothing (8.2.2)", (b"transfer-encoding", b"identity")),
    ("Upgrade (8.2.2)", (b"upgrade", b"h2c")),
    ("Upgrade to WebSocket (8.2.2)", (b"upgrade", b"websocket")),
    ("a pseudo-header field after others (8.3)", (b":path", b"/other")),
    ("an unknown pseudo-header field (8.3)", (b":unknown", b"x")),
]

MALFORMED: list[tuple[str, list[Field]]] = [
    *[(name, [*GET, (b"accept", b"*/*"), field]) for name, field in BAD_FIELDS],
    ("TE of codings (8.2.2)", [*GET, (b"te", b"gzip")]),
    ("TE of trailers and codings (8.2.2)", [*GET, (b"te", b"trailers, gzip")]),
    ("an unknown pseudo-header field among the others (8.3)", [*GET, (b":unknown", b"x")]),
    ("a response's pseudo-header field (8.3)", [*GET, (b":status", b"200")]),
    ("no pseudo-header field (8.3.1)", [(b"host", b"a.example")]),
    ("no fields at all (8.3.1)", []),
    ("no :method (8.3.1)", without(b":method")),
    ("no :scheme (8.3.1)", without(b":scheme")),
    ("no :path (8.3.1)", without(b":path")),
    ("an empty :method (8.3.1)", changed(b":method", b"")),
    ("a :method that is no token (8.3.1)", changed(b":method", b"GET /")),
    ("a request line in :method (8.3.1)", changed(b":method", b"GET / HTTP/1.1\r\nhost: b\r\n\r\nGET")),
    ("an empty :path (8.3.1)", changed(b":path", b"")),
    ("a :path without its slash (8.3.1)", changed(b":path", b"x")),
    ("a whole URI in :path (8.3.1)", changed(b":path", b"http://b.example/")),
    ("a blank in :path (8.3.1)", changed(b":path", b"/ HTTP/1.1")),
    ("a line end in :path (8.3.1)", changed(b":path", b"/\r\nx: y")),
    ("NUL in :path (8.3.1)", changed(b":path", b"/\0")),
    (":path of OPTIONS with another method (8.3.1)", changed(b":path", b"*")),
    ("a :scheme that is not HTTP's (8.3.1)", changed(b":scheme", b"ftp")),
    ("an empty :scheme (8.3.1)", changed(b":scheme", b"")),
    ("an empty :authority (8.3.1)", changed(b":authority", b"")),
    ("userinfo in :authority (8.3.1)", changed(b":authority", b"user@a.example")),
    ("a path in :authority (8.3.1)", changed(b":authority", b"a.example/x")),
    ("a blank in :authority (8.3.1)", changed(b":authority", b"a example")),
    ("two hosts in :authority (8.3.1)", changed(b":authority", b"a.example,b.example")),
    ("neither :authority nor Host (8.3.1)", without(b":authority")),
    (":authority and another Host (8.3.1)", [*GET, (b"host", b"b.example")]),
    ("two Host fields (8.3.1)", [*without(b":authority"), (b"host", b"a.example"), (b"host", b"b.example")]),
    ("a Host that is none", [*without(b":authority"), (b"host", b"a/b")]),
    *[(f"{name.decode()} twice (8.3)", [*GET, (name, value)]) for name, value in GET],
    *[
        (f"Content-Length of {value!r} (8.1.1)", [*POST, (b"content-length", value)])
        for value in (b"", b"-1", b"+1", b"1,1", b"1 1", b"0x1", b"1.0", b"\xb2", b"one", b"9" * 30)
    ],
    ("two Content-Length fields", [*POST, (b"content-length", b"1"), (b"content-length", b"2")]),
    ("the same Content-Length twice", [*POST, (b"content-length", b"1"), (b"content-length", b"1")]),
    (":protocol with another method (RFC 8441, 4)", [*GET, (b":protocol", b"websocket")]),
    (":protocol that is not known (RFC 8441, 4)", changed(b":protocol", b"connect-udp", CONNECT)),
    ("extended CONNECT without :path (RFC 8441, 4)", without(b":path", CONNECT)),
    ("extended CONNECT with Content-Length (RFC 8441, 4)", [*CONNECT, (b"content-length", b"5")]),
]

#: Well-formed, and not to be served.
ANSWERED: list[tuple[str, int, list[Field]]] = [
    ("CONNECT (8.5)", 405, [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]),
    ("CONNECT with a path (8.5)", 405, changed(b":method", b"CONNECT")),
    ("TRACE", 405, changed(b":method", b"TRACE")),
    ("a :path that is too long", 414, changed(b":path", b"/" + b"x" * 20_000)),
    ("too many fields", 431, [*GET, *[(b"x-%d" % number, b"x") for number in range(101)]]),
    ("too large a head", 431, [*GET, *[(b"x-%d" % number, b"x" * 3_000) for number in range(12)]]),
    ("Expect of something else", 417, [*POST, (b"expect", b"the-unexpected")]),
]

#: What is understood: attributes of the head.
UNDERSTOOD: list[tuple[str, bool, list[Field], dict[str, Any]]] = [
    ("GET", True, GET, {"method": b"GET", "target": b"/", "host": b"a.example", "length": 0}),
    ("a body of unknown length", False, POST, {"length": CHUNKED}),
    ("a body of known length", False, [*POST, (b"content-length", b"7")], {"length": 7}),
    ("a body of no length", True, [*POST, (b"content-length", b"0")], {"length": 0}),
    ("Host alone", True, [*without(b":authority"), (b"host", b"b.example:81")], {"host": b"b.example:81"}),
    ("Host and :authority", True, [*GET, (b"host", b"A.example")], {"host": b"a.example"}),
    ("OPTIONS *", True, changed(b":path", b"*", changed(b":method", b"OPTIONS")), {"target": b"*"}),
    ("another method", True, changed(b":method", b"PROPFIND"), {"method": b"PROPFIND"}),
    ("TE: trailers", True, [*GET, (b"te", b"trailers")], {"te_trailers": True}),
    ("Expect", False, [*POST, (b"expect", b"100-continue")], {"expect_continue": True}),
    ("Expect without a body", True, [*POST, (b"expect", b"100-continue")], {"expect_continue": False}),
    ("an IPv6 host", True, changed(b":authority", b"[::1]:80"), {"host": b"[::1]:80"}),
    ("a query", True, changed(b":path", b"/a?b=c&d=%20"), {"target": b"/a?b=c&d=%20"}),
    (
        "extended CONNECT (RFC 8441)",
        False,
        [*CONNECT, (b"sec-websocket-version", b"13")],
        {"method": b"GET", "upgrade": b"websocket", "length": CHUNKED},
    ),
]

BAD_RESPONSES: list[tuple[str, bool, list[Field]]] = [
    *[(name, False, [*OK, (b"server", b"x"), field]) for name, field in BAD_FIELDS],
    ("no :status (8.3.2)", False, [(b"server", b"x")]),
    ("no fields at all (8.3.2)", False, []),
    (":status twice (8.3.2)", False, [*OK, *OK]),
    (":status late (8.3.2)", False, [(b"server", b"x"), *OK]),
    ("a request's pseudo-header field (8.3.2)", False, [*OK, (b":path", b"/")]),
    *[
        (f":status of {value!r} (8.3.2)", False, [(b":status", value)])
        for value in (b"", b"20", b"2000", b"099", b"600", b"+20", b"20x", b"\xb200", b" 200")
    ],
    ("101 (8.6)", False, [(b":status", b"101")]),
    ("an end with an interim response (8.1)", True, [(b":status", b"103")]),
    ("two Content-Length fields (8.1.1)", False, [*OK, (b"content-length", b"1"), (b"content-length", b"2")]),
    ("a Content-Length that is none (8.1.1)", False, [*OK, (b"content-length", b"1,1")]),
    ("a Content-Length without a body (8.1.1)", True, [*OK, (b"content-length", b"1")]),
    ("a body of 204 (RFC 9110, 8.6)", False, [(b":status", b"204"), (b"content-length", b"1")]),
    ("too many fields", False, [*OK, *[(b"x-%d" % number, b"x") for number in range(101)]]),
]

GOOD_RESPONSES: list[tuple[str, bytes, bool, list[Field], dict[str, Any]]] = [
    ("200", b"GET", False, OK, {"status": 200, "length": CHUNKED}),
    ("200 without a body", b"GET", True, OK, {"length": 0}),
    ("Content-Length", b"GET", False, [*OK, (b"content-length", b"5")], {"length": 5}),
    ("HEAD", b"HEAD", True, [*OK, (b"content-length", b"5")], {"length": NO_BODY, "declared": 5}),
    ("HEAD, ended later", b"HEAD", False, [*OK, (b"content-length", b"5")], {"length": NO_BODY, "declared": 5}),
    ("HEAD without a length", b"HEAD", True, OK, {"length": NO_BODY, "declared": None}),
    ("304", b"GET", True, [(b":status", b"304"), (b"content-length", b"5")], {"length": NO_BODY, "declared": 5}),
    ("204", b"GET", True, [(b":status", b"204")], {"length": NO_BODY, "declared": None}),
    ("204 of length 0", b"GET", True, [(b":status", b"204"), (b"content-length", b"0")], {"length": NO_BODY}),
    ("an unknown status", b"GET", True, [(b":status", b"599")], {"status": 599}),
]


@on_every_session
class Requests(SessionCase):
    """Heads of requests."""

    options: ClassVar[SessionOptions] = SessionOptions(connect=True)

    def test_malformed(self) -> None:
        for name, fields in MALFORMED:
            for ended in (False, True):
                self.start()
                (event,) = self.receive(self.headers(1, fields, ended=ended))
                assert isinstance(event, RequestRefused), name
                self.assertEqual((event.stream_id, event.error.status), (1, 400), name)
                self.assertEqual(self.session.open_streams, 1, name)
                self.assertEqual(self.written(), [], name)
                self.session.reset(1, Code.PROTOCOL_ERROR)
                self.assertEqual(self.kinds(), [("RstStream", 1)], name)
                self.assertEqual(self.shape(self.headers(3)), [("RequestReceived", 3)], name)

    def test_a_length_without_a_body(self) -> None:
        (event,) = self.receive(self.headers(1, [*POST, (b"content-length", b"5")], ended=True))
        self.assertIsInstance(event, RequestRefused)

    def test_answered(self) -> None:
        for name, status, fields in ANSWERED:
            self.start()
            (event,) = self.receive(self.headers(1, fields, pieces=9))
            assert isinstance(event, RequestRefused), name
            self.assertEqual(event.error.status, status, name)
            self.session.respond(1, response(status, length=0), True)
            (written,) = self.written()
            self.assertTrue(written.ended)
            self.check_alive()

    def test_a_refused_body_is_thrown_away(self) -> None:
        self.receive(self.headers(1, [*POST, (b"upgrade", b"h2c"), (b"content-length", b"1")]))
        self.assertEqual(self.shape(frames.data(1, b"xyz"), frames.data(1, b"x", ended=True)), [])
        self.session.respond(1, response(400, length=0), True)
        self.assertEqual(self.session.open_streams, 0)

    def test_refused_trailers_are_thrown_away(self) -> None:
        self.receive(self.headers(1, [*POST, (b"upgrade", b"h2c")]))
        self.assertEqual(self.shape(self.headers(1, [(b"A", b"b")], ended=True)), [])
        self.session.respond(1, response(400, length=0), True)
        self.assertEqual(self.session.open_streams, 0)

    def test_understood(self) -> None:
        for name, ended, fields, expected in UNDERSTOOD:
            self.start()
            (event,) = self.receive(self.headers(1, fields, ended=ended))
            assert isinstance(event, RequestReceived), (name, event)
            self.assertEqual({key: getattr(event.head, key) for key in expected}, expected, name)
            self.assertEqual((event.ended, event.head.version), (ended, 20), name)

    def test_padding_and_priority_change_nothing(self) -> None:
        ways: list[dict[str, Any]] = [{}, {"padding": 0}, {"padding": 255}, {"prioritised": True}, {"pieces": 7}]
        for number, way in enumerate(ways):
            (event,) = self.receive(self.headers(2 * number + 1, [*GET, (b"a", b"b")], ended=True, **way))
            assert isinstance(event, RequestReceived)
            self.assertEqual((list(event.head.headers), event.ended), ([(b"a", b"b")], True))

    def test_fields_keep_their_order_and_bytes(self) -> None:
        fields = [(b"b", b"1"), (b"a", b""), (b"b", b"2, 3"), (b"x_y", b"\xe4\t!"), (b"c", b'"q"')]
        (event,) = self.receive(self.headers(1, [*GET, *fields], ended=True))
        assert isinstance(event, RequestReceived)
        self.assertEqual(list(event.head.headers), fields)
        self.assertTrue(event.head.has_underscore)

    def test_cookies_are_joined(self) -> None:
        """RFC 9113, section 8.2.3."""
        crumbs = [(b"cookie", b"a=b"), (b"accept", b"*/*"), (b"cookie", b"c=d"), (b"cookie", b"e=f")]
        (event,) = self.receive(self.headers(1, [*GET, *crumbs], ended=True))
        assert isinstance(event, RequestReceived)
        self.assertEqual(list(event.head.headers), [(b"accept", b"*/*"), (b"cookie", b"a=b; c=d; e=f")])

    def test_what_belongs_to_the_framing_is_no_field(self) -> None:
        fields = [*POST, (b"content-length", b"3"), (b"host", b"a.example"), (b"te", b"trailers")]
        (event,) = self.receive(self.headers(1, [*fields, (b"expect", b"100-continue")]))
        assert isinstance(event, RequestReceived)
        self.assertEqual(list(event.head.headers), [])

    def test_extended_connect_has_to_be_offered(self) -> None:
        self.start(SessionOptions())
        (event,) = self.receive(self.headers(1, CONNECT))
        assert isinstance(event, RequestRefused)
        self.assertEqual(event.error.status, 400)

    def test_no_head_in_a_tunnel(self) -> None:
        """RFC 9113, section 8.5."""
        self.receive(self.headers(1, CONNECT), self.headers(3, CONNECT))
        self.session.respond(1, response(), False)
        self.session.respond(3, response(404), False)
        self.written()
        self.assertEqual(self.shape(frames.data(1, b"x")), [("DataReceived", 1, b"x", False)])
        self.check_reset(self.receive(self.headers(1, [(b"a", b"b")], ended=True)), 1, Code.PROTOCOL_ERROR)
        self.assertEqual(self.shape(self.headers(3, [(b"a", b"b")], ended=True)), [("TrailersReceived", 3)])

    def test_lengths(self) -> None:
        """RFC 9113, section 8.1.1: a body is as long as it was said to be."""
        fields = [*POST, (b"content-length", b"5")]
        wrong = [
            [frames.data(1, b"123456")],
            [frames.data(1, b"123"), frames.data(1, b"456")],
            [frames.data(1, b"1234", ended=True)],
            [frames.data(1, b"123"), frames.data(1, ended=True)],
            [frames.data(1, b"1234"), self.headers(1, [(b"a", b"b")], ended=True)],
            [frames.data(1, b"12345"), frames.data(1, b"6", ended=True)],
        ]
        for pieces in wrong:
            self.start()
            self.receive(self.headers(1, fields))
            for piece in pieces[:-1]:
                self.assertEqual(self.shape(piece)[0][0], "DataReceived")
            self.check_reset(self.receive(pieces[-1]), 1, Code.PROTOCOL_ERROR)
            self.assertEqual(self.session.open_streams, 0)
        right = [
            [frames.data(1, b"12345", ended=True)],
            [frames.data(1, b"12345", padding=9), frames.data(1, ended=True)],
            [frames.data(1, b"12"), frames.data(1, b"345"), self.headers(1, [(b"a", b"b")], ended=True)],
        ]
        for pieces in right:
            self.start()
            self.receive(self.headers(1, fields))
            for piece in pieces:
                self.assertIn(self.shape(piece)[0][0], ("DataReceived", "TrailersReceived"))
            self.session.respond(1, response(length=0), True)
            self.assertEqual(self.session.open_streams, 0)

    def test_trailers(self) -> None:
        self.receive(self.headers(1, POST))
        fields = [(b"grpc-status", b"0"), (b"content-length", b"5"), (b"host", b"b"), (b"x", b"y")]
        (event,) = self.receive(self.headers(1, fields, ended=True))
        assert isinstance(event, TrailersReceived)
        self.assertEqual(list(event.trailers), [(b"grpc-status", b"0"), (b"x", b"y")])

    def test_bad_trailers(self) -> None:
        for name, field in BAD_FIELDS:
            self.start()
            self.receive(self.headers(1, POST))
            try:
                self.check_reset(self.receive(self.headers(1, [field], ended=True)), 1, Code.PROTOCOL_ERROR)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error


@on_every_session
class Responses(SessionCase):
    """Heads of responses."""

    client = True

    def ask(self, method: bytes = b"GET") -> None:
        self.start()
        self.session.request(request(method), b"http", b"a.example", True)
        self.written()

    def test_malformed(self) -> None:
        for name, ended, fields in BAD_RESPONSES:
            self.ask()
            try:
                self.check_reset(self.receive(self.headers(1, fields, ended=ended)), 1, Code.PROTOCOL_ERROR)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            self.assertEqual(self.session.open_streams, 0)

    def test_understood(self) -> None:
        for name, method, ended, fields, expected in GOOD_RESPONSES:
            self.ask(method)
            (event,) = self.receive(self.headers(1, fields, ended=ended))
            assert isinstance(event, ResponseReceived), (name, event)
            self.assertEqual({key: getattr(event.head, key) for key in expected}, expected, name)
            self.assertEqual((event.ended, self.session.open_streams), (ended, 0 if ended else 1), name)

    def test_no_body_means_no_body(self) -> None:
        for method, status in ((b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")):
            self.ask(method)
            self.receive(self.headers(1, [(b":status", status)]))
            self.check_reset(self.receive(frames.data(1, b"x")), 1, Code.PROTOCOL_ERROR)
            self.ask(method)
            self.receive(self.headers(1, [(b":status", status)]))
            self.assertEqual(self.shape(frames.data(1, ended=True)), [("DataReceived", 1, b"", True)])

    def test_interim_responses(self) -> None:
        self.ask()
        raw = self.headers(1, [(b":status", b"100")]) + self.headers(1, [(b":status", b"103"), (b"link", b"</a>")])
        self.assertEqual(
            self.shape(raw, self.headers(1, OK, ended=True)),
            [("InformationalReceived", 1), ("InformationalReceived", 1), ("ResponseReceived", 1)],
        )

    def test_an_interim_response_after_the_head(self) -> None:
        self.ask()
        self.receive(self.headers(1, OK))
        self.check_reset(self.receive(self.headers(1, [(b":status", b"103")])), 1, Code.PROTOCOL_ERROR)

    def test_lengths(self) -> None:
        fields = [*OK, (b"content-length", b"5")]
        for pieces in ([b"123456"], [b"1234", None], [b"12345", b"6"]):
            self.ask()
            self.receive(self.headers(1, fields))
            raw = [frames.data(1, piece or b"", ended=piece is None) for piece in pieces]
            self.receive(*raw[:-1])
            self.check_reset(self.receive(raw[-1]), 1, Code.PROTOCOL_ERROR)

    def test_trailers(self) -> None:
        self.ask()
        events = self.receive(self.headers(1, OK), self.headers(1, [(b"grpc-status", b"0")], ended=True))
        self.assertEqual(shape(events), [("ResponseReceived", 1), ("TrailersReceived", 1)])
        self.assertEqual(self.session.open_streams, 0)


@on_every_session
class Writing(SessionCase):
    """Heads that we send."""

    client = True

    def test_requests(self) -> None:
        head = request(b"POST", b"/x", length=5, te_trailers=True, expect_continue=True)
        head.headers = Headers.of((b"A", b"b"))
        head.headers.lines[0] = b"A:  b "
        self.session.request(head, b"https", b"b.example:8", False)
        (written,) = self.written()
        self.assertEqual(
            written.value,
            [
                (b":method", b"POST"),
                (b":scheme", b"https"),
                (b":path", b"/x"),
                (b":authority", b"b.example:8"),
                (b"a", b"b"),
                (b"content-length", b"5"),
                (b"te", b"trailers"),
                (b"expect", b"100-continue"),
            ],
        )

    def test_extended_connect(self) -> None:
        """RFC 8441, section 4."""
        self.receive(frames.settings((frames.ENABLE_CONNECT_PROTOCOL, 1)))
        self.assertTrue(self.session.peer_connect)
        self.written()
        self.session.request(request(upgrade=b"websocket", length=CHUNKED), b"https", b"b.example", False)
        (written,) = self.written()
        self.assertEqual(written.value[:2], [(b":method", b"CONNECT"), (b":protocol", b"websocket")])
        self.assertEqual(
            self.shape(self.headers(1, OK), frames.data(1, b"frame")),
            [("ResponseReceived", 1), ("DataReceived", 1, b"frame", False)],
        )

    def test_a_tunnel_has_no_length_and_no_trailers(self) -> None:
        """RFC 9113, section 8.5; RFC 9110, section 9.3.6."""
        self.receive(frames.settings((frames.ENABLE_CONNECT_PROTOCOL, 1)))
        self.session.request(request(upgrade=b"websocket", length=CHUNKED), b"https", b"b.example", False)
        self.written()
        self.receive(self.headers(1, [*OK, (b"content-length", b"1")]))
        self.assertEqual(self.shape(frames.data(1, b"more")), [("DataReceived", 1, b"more", False)])
        self.check_reset(self.receive(self.headers(1, [(b"a", b"b")], ended=True)), 1, Code.PROTOCOL_ERROR)

    def test_repeated_heads_shrink(self) -> None:
        """The seed of HPACK's use: about 70 % saved."""
        head = request()
        head.headers = Headers.of(*[(b"x-field-%d" % number, b"value %d" % number) for number in range(10)])
        for number in range(50):
            self.session.request(head, b"https", b"a.example", True)
            self.receive(self.headers(2 * number + 1, OK, ended=True))
        self.assertEqual([len(each.value) for each in self.written() if each.kind == "Headers"], [14] * 50)
        self.assertLess(self.session.packed_header_bytes, 0.3 * self.session.plain_header_bytes)

    def test_what_is_never_to_be_indexed_goes_on_so(self) -> None:
        """RFC 7541, section 6.2.3: an intermediary says of a field what was said to it."""
        head = request()
        head.headers = Headers.of((b"x-key", b"of one client"), (b"x", b"y"))
        head.headers.secret = frozenset((b"x-key",))
        for _ in range(3):
            self.session.request(head.copy(), b"https", b"a.example", True)
            fields = self.written()[-1].value
            marked = [field[0] for field in fields if isinstance(field, NeverIndexedHeaderTuple)]
            self.assertEqual(marked, [b"x-key"])
        self.assertIn((b"x", b"y"), self.reader.decoder.header_table.dynamic_entries)
        for name in (b"x-token", b"cookie"):
            block = Encoder().encode([*OK, NeverIndexedHeaderTuple(name, b"value"), (b"y", b"z")])
            (event,) = self.receive(frames.frame(1, 5, 1 if name == b"x-token" else 3, block))
            secret = frozenset((b"x-token",)) if name == b"x-token" else frozenset()
            assert isinstance(event, ResponseReceived)
            self.assertEqual(event.head.headers.secret, secret)
            self.assertEqual(event.head.copy().headers.secret, secret)

    def test_secrets_stay_out_of_the_table(self) -> None:
        """RFC 7541, section 7.1.3: on one connection, requests of clients that do not trust each other."""
        head = request()
        head.headers = Headers.of((b"authorization", b"Basic c2VjcmV0"), (b"cookie", b"session=secret"), (b"x", b"y"))
        for _ in range(3):
            self.session.request(head, b"https", b"a.example", True)
            self.written()
        table = [name for name, _ in self.reader.decoder.header_table.dynamic_entries]
        self.assertIn(b"x", table)
        self.assertNotIn(b"cookie", table)
        self.assertNotIn(b"authorization", table)

    def test_the_peers_table(self) -> None:
        """SETTINGS_HEADER_TABLE_SIZE: shrunk to nothing, and never larger than our own (RFC 7541, section 4.2)."""
        for size in (0, 100, 1 << 31):
            self.start(None, (frames.HEADER_TABLE_SIZE, size))
            for _ in range(3):
                head = request()
                head.headers = Headers.of(*[(b"x-%d" % number, b"y" * 100) for number in range(60)])
                self.session.request(head, b"https", b"a.example", True)
                self.written()
            self.assertLessEqual(self.reader.decoder.header_table.maxsize, min(size, 4096))
