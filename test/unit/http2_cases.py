"""What tests of HTTP/2 sessions stand on: every test runs on every session.

Rule of this file: a test class is written once, against `balance.codec.http2.session.Session`, and decorated with
`on_every_session`. A new session is one more line in `SESSIONS`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http2 import h2_session, lean
from balance.codec.http2.events import DataReceived, Event, SessionEnded, StreamReset
from balance.codec.http2.session import Session, SessionOptions
from balance.model import HTTP2, Headers, RequestHead, ResponseHead
from test.unit import http2_frames as frames
from test.unit.http2_frames import PREFACE, Packer, Reader, Written

#: Modules that have a ServerSession and a ClientSession.
SESSIONS: dict[str, Any] = {"H2": h2_session, "Lean": lean}

Case = TypeVar("Case", bound="type[SessionCase]")


def on_every_session(case: Case) -> Case:
    """The class on the first session under its own name, and beside it one for each of the others."""
    module = sys.modules[case.__module__]
    made: list[Any] = []
    for name, implementation in SESSIONS.items():
        label = f"{case.__name__}On{name}" if made else case.__name__  # by which workers of `trial -j` look it up
        made.append(type(label, (case,), {"implementation": implementation, "__module__": case.__module__}))
        if len(made) > 1:
            setattr(module, label, made[-1])
    return made[0]  # type: ignore[no-any-return]


def shape(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """Kind and stream of each event, with what most tests look at."""
    return [_shape(event) for event in events]


def _shape(event: Event) -> tuple[Any, ...]:
    name = type(event).__name__
    if isinstance(event, DataReceived):
        return name, event.stream_id, event.data, event.ended
    if isinstance(event, StreamReset):
        return name, event.stream_id, int(event.code), event.remote
    if isinstance(event, SessionEnded):
        return name, int(event.code), event.defence
    return name, event.stream_id


class SessionCase(SynchronousTestCase):
    """A session and its scripted peer. ``client``: the session is the client, the peer a server."""

    implementation: ClassVar[Any] = None
    client: ClassVar[bool] = False
    options: ClassVar[SessionOptions] = SessionOptions()

    session: Any

    def setUp(self) -> None:
        self.start()

    def start(self, options: SessionOptions | None = None, *peer_settings: tuple[int, int]) -> None:
        """A fresh session whose settings, and the peer's, are exchanged and acknowledged."""
        self.fresh(options)
        preface = b"" if self.client else PREFACE
        self.receive(preface + frames.settings(*peer_settings) + frames.settings_ack())
        self.written()

    def fresh(self, options: SessionOptions | None = None) -> None:
        """A fresh session that has heard nothing yet."""
        side = self.implementation.ClientSession if self.client else self.implementation.ServerSession
        session: Session = side(options or self.options)
        self.session = session
        self.now = 1000.0
        self.packer = Packer()
        self.reader = Reader(preface=self.client)
        session.start()

    # --- what the peer does -----------------------------------------------------------------------------------

    def receive(self, *raw: bytes) -> Sequence[Event]:
        """Bytes of the peer."""
        return list(self.session.receive(b"".join(raw), self.now))

    def shape(self, *raw: bytes) -> list[tuple[Any, ...]]:
        return shape(self.receive(*raw))

    def headers(self, stream_id: int, fields: Iterable[frames.Field] = frames.GET, **more: Any) -> bytes:
        return self.packer.headers(stream_id, fields, **more)

    # --- what the session does --------------------------------------------------------------------------------

    def written(self) -> list[Written]:
        """The frames that the session has written since."""
        return self.reader.read(self.session.take())

    def kinds(self) -> list[tuple[str, int]]:
        return [(each.kind, each.stream_id) for each in self.written()]

    # --- checks -----------------------------------------------------------------------------------------------

    def check_ended(self, events: Sequence[Event], code: int, defence: str = "") -> None:
        """The connection is over, said so with GOAWAY, and nothing works any more."""
        self.assertTrue(events, "the connection goes on")
        self.assertEqual(_shape(events[-1]), ("SessionEnded", int(code), defence), events)
        assert isinstance(events[-1], SessionEnded)
        self.assertTrue(events[-1].reason)
        last = self.written()[-1]
        self.assertEqual((last.kind, last.value[1]), ("GoAway", int(code)))
        self.assertTrue(self.session.closed)
        self.assertEqual((self.session.open_streams, self.session.queued), (0, 0))
        self.assertEqual(self.receive(frames.ping()), [])
        self.session.ping()
        self.session.go_away()
        self.session.reset(1, 8)
        self.session.acknowledge(1, 100_000)
        self.assertEqual(self.session.send_data(1, b"x", True), 0)
        self.session.send_trailers(1, None)
        self.assertEqual(self.session.take(), b"")

    def check_reset(self, events: Sequence[Event], stream_id: int, code: int) -> None:
        """The session reset that stream, and nothing else happened; the connection goes on."""
        self.assertEqual(shape(events), [("StreamReset", stream_id, int(code), False)])
        assert isinstance(events[0], StreamReset)
        self.assertTrue(events[0].reason)
        written = [each for each in self.written() if each.kind != "WindowUpdate"]
        self.assertEqual(
            [(each.kind, each.stream_id, each.value) for each in written], [("RstStream", stream_id, code)]
        )
        self.check_alive()

    def check_alive(self) -> None:
        """The connection goes on."""
        self.assertFalse(self.session.closed)
        self.assertEqual(self.shape(frames.ping()), [])
        self.assertEqual(self.kinds(), [("Ping", 0)])


def request(method: bytes = b"GET", target: bytes = b"/", *, length: int = 0, **more: Any) -> RequestHead:
    head = RequestHead(method, target, b"a.example", Headers.of((b"accept", b"*/*")), version=HTTP2)
    head.length = length
    for name, value in more.items():
        setattr(head, name, value)
    return head


def response(status: int = 200, *fields: tuple[bytes, bytes], length: int = -1) -> ResponseHead:
    head = ResponseHead(status, b"", Headers.of(*fields), version=HTTP2)
    head.length = length
    return head
