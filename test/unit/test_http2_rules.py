"""RFC 9113 rule by rule: what a peer may not do, what becomes of it, and what has to be put up with.

Rule of this file: tables. A connection fault ends the connection, a stream fault resets one stream, and what is tolerated
leaves no trace.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar

from balance.codec.http2.session import Code, SessionOptions
from test.unit import http2_frames as frames
from test.unit.http2_cases import SessionCase, on_every_session, request, response, shape
from test.unit.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Packer,
    frame,
)

PROTOCOL, FLOW, SIZE = Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.FRAME_SIZE_ERROR
CLOSED, COMPRESSION = Code.STREAM_CLOSED, Code.COMPRESSION_ERROR

#: Frames to be made with the peer's packer, or as they are.
Raw = bytes | Callable[[Packer], bytes]
Rule = tuple[str, Code, Raw]

#: Streams of `Populated`.
OPEN, HALF, RESET_BY_PEER, RESET_BY_US, DONE, NEXT = 1, 3, 5, 7, 9, 11

#: Whatever the side. `NEXT` and 2 are idle.
CONNECTION_RULES: list[Rule] = [
    # 4.1, 6: frames of the wrong stream
    ("DATA of stream 0 (6.1)", PROTOCOL, frame(DATA, 0, 0, b"x")),
    ("HEADERS of stream 0 (6.2)", PROTOCOL, lambda packer: packer.headers(0, frames.GET)),
    ("HEADERS of stream 0, to be continued (6.2)", PROTOCOL, lambda packer: packer.headers(0, frames.GET, pieces=2)),
    ("PRIORITY of stream 0 (6.3)", PROTOCOL, frame(PRIORITY, 0, 0, bytes(5))),
    ("RST_STREAM of stream 0 (6.4)", PROTOCOL, frame(RST_STREAM, 0, 0, bytes(4))),
    ("SETTINGS of a stream (6.5)", PROTOCOL, frame(SETTINGS, 0, OPEN)),
    ("SETTINGS acknowledgement of a stream (6.5)", PROTOCOL, frame(SETTINGS, ACK, OPEN)),
    ("PING of a stream (6.7)", PROTOCOL, frame(PING, 0, OPEN, bytes(8))),
    ("GOAWAY of a stream (6.8)", PROTOCOL, frame(GOAWAY, 0, OPEN, bytes(8))),
    ("CONTINUATION of stream 0 (6.10)", PROTOCOL, frame(CONTINUATION, END_HEADERS, 0)),
    # 5.1: idle streams
    ("DATA of an idle stream (5.1)", PROTOCOL, frames.data(NEXT, b"x")),
    ("DATA of an even stream (5.1.1)", PROTOCOL, frames.data(2, b"x")),
    ("RST_STREAM of an idle stream (6.4)", PROTOCOL, frames.rst_stream(NEXT)),
    ("RST_STREAM of an even stream (6.4)", PROTOCOL, frames.rst_stream(2)),
    ("WINDOW_UPDATE of an idle stream (5.1)", PROTOCOL, frames.window_update(NEXT, 1)),
    ("WINDOW_UPDATE of an even stream (5.1)", PROTOCOL, frames.window_update(2, 1)),
    ("HEADERS of an even stream (5.1.1)", PROTOCOL, lambda packer: packer.headers(2, frames.GET)),
    # 5.1: closed streams
    ("DATA of a stream that both have ended (5.1)", CLOSED, frames.data(DONE, b"x")),
    ("HEADERS of a stream that both have ended (5.1)", CLOSED, lambda packer: packer.headers(DONE, frames.GET)),
    # 6: lengths
    ("PRIORITY of 4 bytes (6.3)", SIZE, frame(PRIORITY, 0, OPEN, bytes(4))),
    ("PRIORITY of 6 bytes (6.3)", SIZE, frame(PRIORITY, 0, OPEN, bytes(6))),
    ("RST_STREAM of 3 bytes (6.4)", SIZE, frame(RST_STREAM, 0, OPEN, bytes(3))),
    ("RST_STREAM of 5 bytes (6.4)", SIZE, frame(RST_STREAM, 0, OPEN, bytes(5))),
    ("SETTINGS of 5 bytes (6.5)", SIZE, frame(SETTINGS, 0, 0, bytes(5))),
    ("SETTINGS acknowledgement with values (6.5)", SIZE, frame(SETTINGS, ACK, 0, bytes(6))),
    ("PING of 7 bytes (6.7)", SIZE, frame(PING, 0, 0, bytes(7))),
    ("PING of 9 bytes (6.7)", SIZE, frame(PING, 0, 0, bytes(9))),
    ("GOAWAY of 7 bytes (6.8)", SIZE, frame(GOAWAY, 0, 0, bytes(7))),
    ("WINDOW_UPDATE of 3 bytes (6.9)", SIZE, frame(WINDOW_UPDATE, 0, OPEN, bytes(3))),
    ("WINDOW_UPDATE of 5 bytes (6.9)", SIZE, frame(WINDOW_UPDATE, 0, 0, bytes(5))),
    ("HEADERS too short for their priority (6.2)", SIZE, frame(HEADERS, PRIORITISED | END_HEADERS, NEXT, bytes(4))),
    ("HEADERS too short for their padding (6.2)", SIZE, frame(HEADERS, PADDED | END_HEADERS, NEXT)),
    ("DATA too short for its padding (6.1)", SIZE, frame(DATA, PADDED, OPEN)),
    # 4.2: frames larger than we said; the head of the frame is enough
    ("DATA too large (4.2)", SIZE, b"\0\x40\x01" + bytes([DATA, 0]) + struct.pack(">I", OPEN)),
    ("HEADERS too large (4.2)", SIZE, b"\0\x40\x01" + bytes([HEADERS, 0]) + struct.pack(">I", NEXT)),
    ("SETTINGS too large (4.2)", SIZE, b"\xff\xff\xff" + bytes([SETTINGS, 0]) + bytes(4)),
    ("an unknown frame too large (4.2)", SIZE, b"\x10\0\0" + bytes([0xEE, 0]) + bytes(4)),
    # 6.1, 6.2: padding
    ("DATA all padding and more (6.1)", PROTOCOL, frame(DATA, PADDED, OPEN, b"\x03" + bytes(2))),
    ("HEADERS all padding and more (6.2)", PROTOCOL, frame(HEADERS, PADDED | END_HEADERS, NEXT, b"\x03" + bytes(2))),
    (
        "padding where the priority is (6.2)",
        PROTOCOL,
        frame(HEADERS, PADDED | PRIORITISED | END_HEADERS, NEXT, b"\x01" + bytes(5)),
    ),
    # 6.10: header blocks
    ("CONTINUATION without HEADERS (6.10)", PROTOCOL, frame(CONTINUATION, END_HEADERS, OPEN)),
    ("PING in a header block (4.3)", PROTOCOL, frame(HEADERS, 0, OPEN) + frames.ping()),
    ("DATA in a header block (4.3)", PROTOCOL, frame(HEADERS, 0, OPEN) + frames.data(OPEN, b"x")),
    ("an unknown frame in a header block (5.5)", PROTOCOL, frame(HEADERS, 0, OPEN) + frame(0xEE, 0, OPEN)),
    ("HEADERS in a header block (4.3)", PROTOCOL, frame(HEADERS, 0, OPEN) * 2),
    (
        "CONTINUATION of another stream (6.10)",
        PROTOCOL,
        frame(HEADERS, 0, OPEN) + frame(CONTINUATION, END_HEADERS, HALF),
    ),
    # 8.4
    ("PUSH_PROMISE (8.4)", PROTOCOL, frame(PUSH_PROMISE, END_HEADERS, OPEN, struct.pack(">I", 2))),
    # 6.5.2
    ("ENABLE_PUSH of 2 (6.5.2)", PROTOCOL, frames.settings((frames.ENABLE_PUSH, 2))),
    ("a window of 2**31 (6.5.2)", FLOW, frames.settings((frames.INITIAL_WINDOW_SIZE, 1 << 31))),
    (
        "a bad value that is taken back (6.5.3)",
        FLOW,
        frames.settings((frames.INITIAL_WINDOW_SIZE, 1 << 31), (frames.INITIAL_WINDOW_SIZE, 1)),
    ),
    ("frames of 2**14 - 1 (6.5.2)", PROTOCOL, frames.settings((frames.MAX_FRAME_SIZE, (1 << 14) - 1))),
    ("frames of 2**24 (6.5.2)", PROTOCOL, frames.settings((frames.MAX_FRAME_SIZE, 1 << 24))),
    ("ENABLE_CONNECT_PROTOCOL of 2 (RFC 8441, 3)", PROTOCOL, frames.settings((frames.ENABLE_CONNECT_PROTOCOL, 2))),
    (
        "ENABLE_CONNECT_PROTOCOL taken back (RFC 8441, 3)",
        PROTOCOL,
        frames.settings((frames.ENABLE_CONNECT_PROTOCOL, 1)) + frames.settings((frames.ENABLE_CONNECT_PROTOCOL, 0)),
    ),
    # 6.9
    ("the connection's window widened by nothing (6.9)", PROTOCOL, frames.window_update(0, 0)),
    ("the connection's window too wide (6.9.1)", FLOW, frames.window_update(0, (1 << 31) - 1)),
    (
        "a stream's window too wide by SETTINGS (6.9.2)",
        FLOW,
        frames.window_update(OPEN, 1) + frames.settings((frames.INITIAL_WINDOW_SIZE, (1 << 31) - 1)),
    ),
    # RFC 7541
    ("a block with index 0 (RFC 7541, 6.1)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\x80")),
    ("a block with an index out of reach (RFC 7541, 2.3.3)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\xfe")),
    ("a block cut short (RFC 7541, 5.2)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\x40\x05ab")),
    ("an endless integer (RFC 7541, 5.1)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\xff" + b"\xff" * 50)),
    ("a table too large (RFC 7541, 6.3)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\x3f\xe2\x1f")),
    ("a table resized late (RFC 7541, 4.2)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\x82\x20")),
    ("bad Huffman code (RFC 7541, 5.2)", COMPRESSION, frame(HEADERS, END_HEADERS, OPEN, b"\x40\x81\xff\x81\xff")),
    ("a broken block of a stream that is gone (4.3)", COMPRESSION, frame(HEADERS, END_HEADERS, RESET_BY_US, b"\x80")),
]

#: Of a peer that is a client.
CLIENT_RULES: list[Rule] = [
    ("a broken request block (4.3)", COMPRESSION, frame(HEADERS, END_HEADERS, NEXT, b"\x80")),
    (
        "an id that was skipped (5.1.1)",
        PROTOCOL,
        lambda packer: packer.headers(NEXT + 4, frames.GET) + packer.headers(NEXT, frames.GET),
    ),
]

#: Of a peer that is a server.
SERVER_RULES: list[Rule] = [
    ("ENABLE_PUSH of a server (6.5.2)", PROTOCOL, frames.settings((frames.ENABLE_PUSH, 1))),
    ("HEADERS of an idle stream (5.1)", PROTOCOL, lambda packer: packer.headers(NEXT, frames.OK)),
]

#: A stream, and what is wrong with frames of it.
STREAM_RULES: list[tuple[str, int, Code, Raw]] = [
    ("DATA after END_STREAM (5.1)", HALF, CLOSED, frames.data(HALF, b"x")),
    ("an empty DATA after END_STREAM (5.1)", HALF, CLOSED, frames.data(HALF)),
    ("HEADERS after END_STREAM (5.1)", HALF, CLOSED, lambda packer: packer.headers(HALF, [(b"a", b"b")], ended=True)),
    ("trailers without END_STREAM (8.1)", OPEN, PROTOCOL, lambda packer: packer.headers(OPEN, [(b"a", b"b")])),
    (
        "a pseudo-header field in trailers (8.1)",
        OPEN,
        PROTOCOL,
        lambda packer: packer.headers(OPEN, [(b":path", b"/")], ended=True),
    ),
    (
        "upper case in trailers (8.2.1)",
        OPEN,
        PROTOCOL,
        lambda packer: packer.headers(OPEN, [(b"A", b"b")], ended=True),
    ),
    (
        "a line end in trailers (8.2.1)",
        OPEN,
        PROTOCOL,
        lambda packer: packer.headers(OPEN, [(b"a", b"b\r\nc: d")], ended=True),
    ),
    ("the window widened by nothing (6.9)", OPEN, PROTOCOL, frames.window_update(OPEN, 0)),
    ("the window too wide (6.9.1)", OPEN, FLOW, frames.window_update(OPEN, (1 << 31) - 1)),
]

#: Neither answered nor reported.
TOLERATED: list[tuple[str, Raw]] = [
    ("WINDOW_UPDATE of a stream that both have ended (5.1)", frames.window_update(DONE, 1)),
    ("WINDOW_UPDATE by nothing of a stream that both have ended", frames.window_update(DONE, 0)),
    ("RST_STREAM of a stream that both have ended (5.1)", frames.rst_stream(DONE)),
    ("PRIORITY of a stream that both have ended (5.1)", frames.priority(DONE)),
    ("PRIORITY of an idle stream (5.1)", frames.priority(NEXT)),
    ("PRIORITY that depends on itself (5.3.2)", frames.priority(OPEN, OPEN)),
    ("DATA of a stream that we have reset (5.1)", frames.data(RESET_BY_US, b"x")),
    ("the end of a stream that we have reset (5.1)", frames.data(RESET_BY_US, b"x", ended=True)),
    ("trailers of a stream that we have reset (5.1)", lambda packer: packer.headers(RESET_BY_US, [(b"a", b"b")])),
    ("WINDOW_UPDATE of a stream that we have reset (5.1)", frames.window_update(RESET_BY_US, 1)),
    ("RST_STREAM of a stream that we have reset (5.1)", frames.rst_stream(RESET_BY_US)),
    ("RST_STREAM twice (5.1)", frames.rst_stream(RESET_BY_PEER)),
    ("WINDOW_UPDATE of a stream that the peer has reset", frames.window_update(RESET_BY_PEER, 1)),
    ("an unknown frame of the connection (5.5)", frame(0xEE, 0xFF, 0, b"whatever")),
    ("an unknown frame of a stream (5.5)", frame(0xEE, 0xFF, OPEN, b"whatever")),
    ("an unknown frame of an idle stream (5.5)", frame(0xEE, 0, 2, b"")),
    ("PING answered that nobody asked for", frames.ping(ack=True)),
    ("SETTINGS acknowledged that nobody sent", frames.settings_ack()),
    ("flags that mean nothing (4.1)", frame(WINDOW_UPDATE, 0xFF, OPEN, struct.pack(">I", 1))),
    ("a reserved bit in a stream id (4.1)", frame(PRIORITY, 0, 0x80000000 | OPEN, bytes(5))),
    ("a reserved bit in an increment (6.9)", frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x80000001))),
]


class Populated(SessionCase):
    """A connection with streams in every state."""

    def raw(self, raw: Raw) -> bytes:
        return raw if isinstance(raw, bytes) else raw(self.packer)

    def check_connection(self, rules: list[Rule]) -> None:
        for name, code, raw in rules:
            self.populate()
            try:
                self.check_ended(self.receive(self.raw(raw)), code)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error

    def check_streams(self, rules: list[tuple[str, int, Code, Raw]]) -> None:
        for name, stream_id, code, raw in rules:
            self.populate()
            try:
                self.check_reset(self.receive(self.raw(raw)), stream_id, code)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error

    def check_tolerated(self, rules: list[tuple[str, Raw]]) -> None:
        for name, raw in rules:
            self.populate()
            open_streams = self.session.open_streams
            try:
                self.assertEqual(self.shape(self.raw(raw)), [])
                self.assertEqual([each for each in self.kinds() if each != ("WindowUpdate", 0)], [])
                self.assertEqual(self.session.open_streams, open_streams)
                self.check_alive()
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error

    def check_reset_by_peer(self) -> None:
        """What comes after its RST_STREAM, the peer is told so (section 5.1)."""
        late: list[Raw] = [frames.data(RESET_BY_PEER, b"x"), lambda p: p.headers(RESET_BY_PEER, [(b"a", b"b")])]
        for raw in late:
            self.populate()
            self.assertEqual(self.shape(self.raw(raw)), [])
            self.assertEqual([each[:2] + each[3:] for each in self.written()], [("RstStream", RESET_BY_PEER, CLOSED)])
            self.check_alive()

    def populate(self) -> None:
        raise NotImplementedError


@on_every_session
class OfClients(Populated):
    """Rules for a client, kept by a server's session."""

    options: ClassVar[SessionOptions] = SessionOptions(connect=True)

    def populate(self) -> None:
        self.start()
        self.receive(*[self.headers(each, frames.POST) for each in (1, 3, 5, 7, 9)])
        self.receive(*[frames.data(each, ended=True) for each in (HALF, DONE)], frames.rst_stream(RESET_BY_PEER))
        self.session.reset(RESET_BY_US, Code.CANCEL)
        self.session.respond(DONE, response(length=0), True)
        self.assertEqual(self.session.open_streams, 2)
        self.written()

    def test_connection(self) -> None:
        self.check_connection(CONNECTION_RULES + CLIENT_RULES)

    def test_streams(self) -> None:
        self.check_streams(STREAM_RULES)

    def test_tolerated(self) -> None:
        self.check_tolerated(TOLERATED)

    def test_after_a_reset(self) -> None:
        self.check_reset_by_peer()

    def test_an_id_that_goes_down_though_none_was_skipped(self) -> None:
        self.populate()
        self.check_ended(self.receive(self.headers(DONE)), CLOSED)

    def test_a_client_may_ask_for_pushes(self) -> None:
        self.assertEqual(self.shape(frames.settings((frames.ENABLE_PUSH, 1))), [("SettingsReceived", 0)])

    def test_the_end_of_a_request_that_was_answered_already(self) -> None:
        self.receive(self.headers(1, frames.POST))
        self.session.respond(1, response(413, length=0), True)
        self.assertEqual(self.session.open_streams, 1)
        self.assertEqual(
            self.shape(frames.data(1, b"x"), frames.data(1, ended=True)),
            [("DataReceived", 1, b"x", False), ("DataReceived", 1, b"", True)],
        )
        self.assertEqual(self.session.open_streams, 0)


@on_every_session
class OfServers(Populated):
    """Rules for a server, kept by a client's session."""

    client = True

    def populate(self) -> None:
        self.start()
        for stream_id in (1, 3, 5, 7, 9):
            made = self.session.request(request(b"POST", length=-1), b"http", b"a.example", stream_id == DONE)
            self.assertEqual(made, stream_id)
        self.receive(*[self.headers(each, frames.OK, ended=each in (HALF, DONE)) for each in (1, 3, 5, 7, 9)])
        self.receive(frames.rst_stream(RESET_BY_PEER))
        self.session.reset(RESET_BY_US, Code.CANCEL)
        self.assertEqual(self.session.open_streams, 2)
        self.written()

    def test_connection(self) -> None:
        self.check_connection(CONNECTION_RULES + SERVER_RULES)

    def test_streams(self) -> None:
        self.check_streams(STREAM_RULES)

    def test_tolerated(self) -> None:
        self.check_tolerated(TOLERATED)

    def test_after_a_reset(self) -> None:
        self.check_reset_by_peer()

    def test_data_before_the_head(self) -> None:
        self.session.request(request(), b"http", b"a.example", True)
        self.written()
        self.check_reset(self.receive(frames.data(1, b"x")), 1, PROTOCOL)

    def test_data_between_an_interim_head_and_the_head(self) -> None:
        self.session.request(request(), b"http", b"a.example", True)
        self.written()
        self.receive(self.headers(1, [(b":status", b"103")]))
        self.check_reset(self.receive(frames.data(1, b"x")), 1, PROTOCOL)

    def test_trailers_cannot_be_another_head(self) -> None:
        for ended in (False, True):
            self.populate()
            self.check_reset(self.receive(self.headers(OPEN, frames.OK, ended=ended)), OPEN, PROTOCOL)


@on_every_session
class Openings(SessionCase):
    """How a connection begins (section 3.4)."""

    def setUp(self) -> None:
        self.fresh()

    def test_settings_come_first_and_say_what_the_options_say(self) -> None:
        self.fresh(
            SessionOptions(
                max_streams=7,
                stream_window=70_000,
                connection_window=200_000,
                max_frame_size=20_000,
                header_table_size=2048,
                header_list_size=30_000,
                connect=True,
            )
        )
        settings, window = self.written()
        self.assertEqual(
            settings[0::3],
            ("Settings", {1: 2048, 3: 7, 4: 70_000, 5: 20_000, 6: 30_000, 8: 1}),
        )
        self.assertEqual(tuple(window)[0::3] + (window.stream_id,), ("WindowUpdate", 200_000 - 65_535, 0))
        self.fresh()
        self.assertNotIn(8, self.written()[0].value)

    def test_a_preface_that_is_none(self) -> None:
        for raw in (b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", PREFACE[:-1] + b"\r", b"\0"):
            self.fresh()
            self.check_ended(self.receive(raw), PROTOCOL)

    def test_a_preface_in_pieces(self) -> None:
        raw = PREFACE + frames.settings()
        for byte in raw[:-1]:
            self.assertEqual(self.receive(bytes([byte])), [])
        self.assertEqual(self.shape(raw[-1:]), [("SettingsReceived", 0)])

    def test_something_else_before_settings(self) -> None:
        for raw in (
            frames.ping(),
            self.headers(1),
            self.headers(1, padding=1),
            self.headers(1, pieces=2),
            frames.settings_ack(),
            frames.window_update(0, 1),
            frame(0xEE),
            frames.goaway(),
            frame(DATA, 0, 1, b"x"),
        ):
            self.fresh()
            self.check_ended(self.receive(PREFACE, raw), PROTOCOL)

    def test_settings_are_acknowledged(self) -> None:
        self.written()
        self.assertEqual(self.shape(PREFACE, frames.settings((0xAAAA, 5), (1, 100))), [("SettingsReceived", 0)])
        (written,) = self.written()
        self.assertEqual((written.kind, set(written.flags)), ("Settings", {"ACK"}))

    def test_what_the_peer_sends_before_it_knows_our_settings(self) -> None:
        """Windows and tables that are narrower than the defaults hold when they are acknowledged (section 6.5.3)."""
        self.fresh(SessionOptions(stream_window=1000, header_table_size=0))
        block = self.headers(1, frames.POST)
        self.assertEqual(len(self.shape(PREFACE, frames.settings(), block, *[frames.data(1, bytes(16_000))] * 3)), 5)
        self.receive(frames.settings_ack())
        self.assertEqual(self.shape(frames.data(1, ended=True)), [("DataReceived", 1, b"", True)])
        self.packer.encoder.header_table_size = 0
        self.assertEqual(self.shape(self.headers(3, frames.POST), frames.data(3, bytes(1000)))[1][0], "DataReceived")
        self.written()
        self.check_reset(self.receive(frames.data(3, bytes(1))), 3, FLOW)


@on_every_session
class ClientOpenings(SessionCase):
    """How a client begins."""

    client = True

    def test_preface_and_settings(self) -> None:
        self.fresh()
        raw = self.session.take()
        self.assertTrue(raw.startswith(PREFACE + b"\0\0"))
        settings, _ = self.reader.read(raw)
        self.assertEqual(settings.value, {1: 4096, 2: 0, 4: 65536, 5: 16384, 6: 65536})

    def test_something_else_before_settings(self) -> None:
        for raw in (frames.ping(), frames.settings_ack(), b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            self.fresh()
            events = self.receive(raw)
            self.assertEqual(shape(events)[-1][0], "SessionEnded")

    def test_how_many_streams_a_server_takes(self) -> None:
        self.fresh()
        self.assertEqual(self.session.peer_max_streams, 100)
        self.receive(frames.settings())
        self.assertGreaterEqual(self.session.peer_max_streams, 1 << 31 - 1)
        self.receive(frames.settings((frames.MAX_CONCURRENT_STREAMS, 2)))
        self.assertEqual(self.session.peer_max_streams, 2)
        made = [self.session.request(request(), b"http", b"a", True) for _ in range(3)]
        self.assertEqual(made, [1, 3, 0])
        self.receive(self.headers(1, frames.OK, ended=True))
        self.assertEqual(self.session.request(request(), b"http", b"a", True), 5)
