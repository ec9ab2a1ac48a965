"""HTTP/2 traffic made at random: what a peer sends and what we are told to do, honest for the most part.

Rule of this file: everything comes from one `random.Random`, so that a seed is a history; and a history is made before
any session sees it, so that every session sees the same. Nothing is judged here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from balance.codec.http2.events import DataReceived, Event, RequestRefused, SessionEnded, StreamReset
from balance.codec.http2.session import SessionOptions
from balance.model import HTTP2, Headers, RequestHead, ResponseHead
from test.unit import http2_frames as frames
from test.unit.http2_frames import PREFACE, Field, Packer, Reader, Written, frame

#: Narrow limits, so that histories run into them.
OPTIONS = SessionOptions(
    max_streams=4,
    stream_window=2_000,
    connection_window=70_000,
    reset_burst=15,
    reset_rate=1.0,
    control_burst=40,
    control_rate=2.0,
    continuations=3,
    header_list_size=4_000,
    connect=True,
)

_REQUESTS: list[list[Field]] = [
    frames.GET,
    frames.POST,
    [*frames.POST, (b"content-length", b"5"), (b"x", b"y")],
    [*frames.GET, (b"cookie", b"a=b"), (b"cookie", b"c=d"), (b"te", b"trailers")],
    frames.CONNECT,
    [*frames.GET, (b"connection", b"close")],
    [*frames.GET, (b"A", b"b")],
    [(b":method", b"CONNECT"), (b":authority", b"a.example")],
    [*frames.GET, (b"x", b"y" * 3_000)],
    [*frames.GET, *[(b"x-%d" % number, b"y") for number in range(60)]],
    [],
]
_RESPONSES: list[list[Field]] = [
    frames.OK,
    [*frames.OK, (b"content-length", b"5"), (b"x", b"y")],
    [(b":status", b"103"), (b"link", b"</a>")],
    [(b":status", b"204")],
    [(b":status", b"304"), (b"content-length", b"5")],
    [*frames.OK, (b"content-length", b"5"), (b"content-length", b"6")],
    [(b":status", b"101")],
    [(b"server", b"x")],
    [*frames.OK, (b"x", b"y" * 3_000)],
]
_TRAILERS: list[list[Field]] = [[(b"grpc-status", b"0")], [], [(b":path", b"/")], [(b"A", b"b")], [(b"host", b"b")]]


class Step(NamedTuple):
    """One thing that happens: frames arrive (``receive``), time passes (``wait``), or a command of the session."""

    what: str
    arguments: tuple[Any, ...]


class Traffic:
    """A peer and an application, throwing dice.

    :param client: the session under test is the client
    :param hostile: how often, of 100, the peer does something odd
    """

    def __init__(self, rng: random.Random, *, client: bool, hostile: int = 10) -> None:
        self.rng = rng
        self.client = client
        self.hostile = hostile
        self.packer = Packer(index=rng.random() < 0.5)
        self.opened: list[int] = []
        self.answered: set[int] = set()

    def history(self, length: int) -> list[Step]:
        """A connection from its beginning."""
        first = self._settings() if self.rng.random() < 0.5 else frames.settings()
        steps = [Step("receive", (b"" if self.client else PREFACE,)), Step("receive", (first,))]
        while len(steps) < length:
            steps.append(self._step())
            if self.rng.random() < 0.1 and len(steps) == 4:
                steps.append(Step("receive", (frames.settings_ack(),)))
        return steps

    def _step(self) -> Step:
        dice = self.rng.random()
        if dice < 0.08:
            return Step("wait", (self.rng.choice((0.01, 0.5, 3.0)),))
        if dice < 0.5:
            return self._command()
        raw = self._odd() if self.rng.randrange(100) < self.hostile else self._honest()
        return Step("receive", (raw,))

    # --- the application --------------------------------------------------------------------------------------

    def _command(self) -> Step:
        rng = self.rng
        if self.client and rng.random() < 0.4:
            return self._request()
        stream_id = self._stream()
        choices = ["data", "data", "data", "trailers", "acknowledge", "acknowledge", "reset", "ping", "away"]
        if not self.client:
            choices += ["respond"] * 4 + ["inform"]
        what = rng.choice(choices)
        if what == "data" and (self.client or stream_id in self.answered):
            size = rng.choice((0, 1, 5, 5, 100, 3_000, 20_000))
            return Step("send_data", (stream_id, rng.randbytes(size), rng.random() < 0.4))
        if what == "trailers" and (self.client or stream_id in self.answered):
            return Step("send_trailers", (stream_id, rng.choice((None, Headers.of((b"grpc-status", b"0"))))))
        if what == "reset" and rng.random() < 0.4:
            return Step("reset", (stream_id, rng.choice((0, 2, 8))))
        if what == "ping":
            return Step("ping", ())
        if what == "away" and rng.random() < 0.1:
            return Step("go_away", (rng.choice((0, 0, 0, 2)),))
        if what == "respond":
            self.answered.add(stream_id)
            return Step("respond", (stream_id, _response(rng), rng.random() < 0.3))
        if what == "inform" and stream_id not in self.answered:
            head = ResponseHead(103, b"", Headers.of((b"link", b"</a>")), version=HTTP2)
            head.length = -3
            return Step("inform", (stream_id, head))
        return Step("acknowledge", (stream_id, rng.choice((1, 5, 500, 1_500))))

    def _request(self) -> Step:
        rng = self.rng
        self.opened.append(2 * len(self.opened) + 1)
        head = RequestHead(rng.choice((b"GET", b"HEAD", b"POST")), b"/", b"a.example", Headers(), version=HTTP2)
        head.length = rng.choice((0, -1, 5))
        if rng.random() < 0.5:
            head.headers = Headers.of((b"x-%d" % rng.randrange(3), b"y"), (b"authorization", b"secret"))
        return Step("request", (head, b"http", b"b.example", rng.random() < 0.6))

    # --- the peer ---------------------------------------------------------------------------------------------

    def _stream(self) -> int:
        """A stream that exists, or did, or nearly."""
        return self.rng.choice(self.opened[-4:]) if self.opened else 1

    def _any_stream(self) -> int:
        last = self.opened[-1] if self.opened else 1
        return self.rng.choice((0, 1, 2, last, last + 1, last + 2, last + 4, *self.opened))

    def _honest(self) -> bytes:
        rng = self.rng
        if not self.client and (not self.opened or rng.random() < 0.35):
            return self._open()
        stream_id = self._stream()
        dice = rng.random()
        if self.client and dice < 0.3:
            return self._headers(stream_id, rng.choice(_RESPONSES[:5]))
        if dice < 0.5:
            return self._data(stream_id)
        if dice < 0.75:
            return frames.window_update(rng.choice((0, stream_id, stream_id)), rng.choice((1, 10, 1_000, 30_000)))
        if dice < 0.8:
            return self._settings()
        if dice < 0.85:
            return frames.rst_stream(stream_id, rng.choice((0, 5, 8)))
        if dice < 0.93:
            return self._headers(stream_id, _TRAILERS[0], ended=True)
        return rng.choice((frames.ping(), frames.settings_ack(), frames.priority(stream_id), frame(0xEE, 1, 0, b"x")))

    def _open(self) -> bytes:
        rng = self.rng
        stream_id = (self.opened[-1] if self.opened else -1) + rng.choice((2, 2, 2, 2, 4))
        self.opened.append(stream_id)
        fields = rng.choice(_REQUESTS if rng.randrange(100) < self.hostile else _REQUESTS[:4])
        return self._headers(stream_id, fields)

    def _headers(self, stream_id: int, fields: Sequence[Field], ended: bool | None = None) -> bytes:
        rng = self.rng
        return self.packer.headers(
            stream_id,
            fields,
            ended=rng.random() < 0.4 if ended is None else ended,
            padding=rng.choice((None, None, None, 0, 7)),
            prioritised=rng.random() < 0.1,
            pieces=rng.choice((1, 1, 1, 2, 3)),
        )

    def _data(self, stream_id: int) -> bytes:
        rng = self.rng
        body = rng.randbytes(rng.choice((0, 1, 5, 5, 5, 300, 1_500)))
        return frames.data(stream_id, body, ended=rng.random() < 0.3, padding=rng.choice((None, None, None, 0, 9)))

    def _settings(self) -> bytes:
        rng = self.rng
        known = [
            (frames.INITIAL_WINDOW_SIZE, rng.choice((0, 1, 100, 65_535, 100_000))),
            (frames.MAX_FRAME_SIZE, rng.choice((16_384, 20_000))),
            (frames.HEADER_TABLE_SIZE, rng.choice((0, 100, 4_096, 1 << 20))),
            (frames.MAX_CONCURRENT_STREAMS, rng.choice((0, 1, 3, 100))),
            (frames.ENABLE_CONNECT_PROTOCOL, 1),
            (0xF0F0, 7),
        ]
        return frames.settings(*rng.sample(known, rng.randrange(3)))

    def _odd(self) -> bytes:
        """Wrong stream, wrong state, wrong length, wrong value, wrong moment."""
        rng = self.rng
        stream_id = self._any_stream()
        kind = rng.choice((*range(10), 0xEE))
        choices: list[Callable[[], bytes]] = [
            lambda: self._data(stream_id),
            lambda: self._headers(stream_id, rng.choice(_REQUESTS + _RESPONSES + _TRAILERS)),
            lambda: frames.window_update(stream_id, rng.choice((0, 1, (1 << 31) - 1))),
            lambda: frames.rst_stream(stream_id),
            lambda: frames.goaway(stream_id, rng.choice((0, 2))),
            lambda: frame(kind, rng.randrange(256), stream_id, rng.randbytes(rng.choice((0, 1, 4, 5, 6, 8, 12)))),
            lambda: frame(frames.HEADERS, frames.END_HEADERS, stream_id, rng.randbytes(rng.randrange(8))),
            lambda: frames.settings((rng.randrange(10), rng.choice((0, 1, 2, 1 << 14, 1 << 31)))),
            lambda: frames.data(stream_id, rng.randbytes(3_000)),
            lambda: frame(frames.PUSH_PROMISE, 4, stream_id, bytes(4)),
            lambda: frame(frames.CONTINUATION, rng.choice((0, 4)), stream_id),
            lambda: frame(kind, rng.randrange(256), stream_id, bytes(16_385)),
            lambda: frame(frames.HEADERS, 1, stream_id, b"\x82") + frame(frames.CONTINUATION, 4, stream_id, b"\x87"),
        ]
        return rng.choice(choices)()


def _response(rng: random.Random) -> ResponseHead:
    head = ResponseHead(rng.choice((200, 200, 404, 304)), b"", Headers(), version=HTTP2)
    head.headers = Headers.of(*[(b"x-%d" % rng.randrange(4), b"y" * rng.choice((1, 50))) for _ in range(3)])
    head.length = rng.choice((-1, 5, 0))
    return head


# --- what came of it ------------------------------------------------------------------------------------------


def plain(events: Iterable[Event]) -> list[Any]:
    """Events as they can be compared: bodies joined, reasons (which are prose) left out."""
    result: list[Any] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, DataReceived):
            joined = [event.stream_id, event.data, event.size, event.ended]
            if isinstance(last, list) and last[0] == event.stream_id and not last[3]:
                joined = [event.stream_id, last[1] + event.data, last[2] + event.size, event.ended]
                result.pop()
            result.append(joined)
        elif isinstance(event, StreamReset):
            result.append(("StreamReset", event.stream_id, int(event.code), event.remote))
        elif isinstance(event, SessionEnded):
            result.append(("SessionEnded", int(event.code), event.defence))
        elif isinstance(event, RequestRefused):
            result.append(("RequestRefused", event.stream_id, type(event.error)))
        else:
            result.append(event)
    return result


def by_stream(written: Iterable[Written]) -> dict[int, list[Any]]:
    """What was written for each stream, in order: bodies joined, window updates summed up at the end."""
    result: dict[int, list[Any]] = {}
    updates: dict[int, int] = {}
    for each in written:
        if each.kind == "WindowUpdate":
            updates[each.stream_id] = updates.get(each.stream_id, 0) + each.value
            continue
        frames_of = result.setdefault(each.stream_id, [])
        if each.kind == "Data" and frames_of and frames_of[-1][0] == "Data" and not frames_of[-1][2]:
            frames_of[-1] = ("Data", frames_of[-1][1] + each.value, each.ended)
        else:
            frames_of.append((each.kind, each.value, each.ended))
    for stream_id, size in updates.items():
        result.setdefault(stream_id, []).append(("WindowUpdate", size))
    return result


class Player:
    """One session under a history.

    :param implementation: module with `ServerSession` and `ClientSession`
    """

    def __init__(self, implementation: Any, *, client: bool, options: SessionOptions = OPTIONS) -> None:
        side = implementation.ClientSession if client else implementation.ServerSession
        self.session = side(options)
        self.reader = Reader(preface=client)
        self.now = 5.0
        self.session.start()

    def play(self, step: Step) -> tuple[list[Event], list[Written]]:
        """The events, and the frames that were written."""
        events: Sequence[Event] = ()
        if step.what == "wait":
            self.now += step.arguments[0]
        elif step.what == "receive":
            events = self.session.receive(step.arguments[0], self.now)
        else:
            getattr(self.session, step.what)(*step.arguments)
        return list(events), self.reader.read(self.session.take())

    def state(self) -> tuple[Any, ...]:
        """All that the interface tells. What the peer takes is of no interest once it is over."""
        session = self.session
        waiting = {stream_id: size for stream_id in range(1, 99, 2) if (size := session.waiting(stream_id))}
        peer = None if session.closed else (session.peer_max_streams, session.peer_connect)
        return session.open_streams, session.queued, session.closed, peer, session.plain_header_bytes, waiting
