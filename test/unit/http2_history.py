"""Histories of HTTP/2: clients, backends and time do anything in any order. What has to hold is checked after each step.

Rule of this file: a peer does only what its own state machine (the `h2` package's) allows, unless it is said to talk
rubbish; so each frame of ours is judged as well.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import h2.settings
from h2.exceptions import ProtocolError
from h2.stream import StreamState

from balance.codec.http2.session import SessionOptions
from balance.http.http2_client import Http2BackendStream
from test.unit.http2_peers import OK, Http2Peer
from test.unit.support import Peer, World

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE")
SIZES = (1, 10, 1000, 16_000, 40_000)
CODES = (0, 2, 7, 8, 11)
RUBBISH = (
    b"\0\0\0\4\0\0\0\0\0",  # SETTINGS
    b"\0\0\x08\6\0\0\0\0\0abcdefgh",  # PING
    b"\0\0\4\x08\0\0\0\0\0\0\0\0\1",  # WINDOW_UPDATE
    b"\0\0\1\xee\0\0\0\0\0x",  # an unknown type
    b"\0\0\0\0\1\0\0\0\1",  # DATA with END_STREAM of stream 1
    b"\0\0\4\3\0\0\0\0\1\0\0\0\x08",  # RST_STREAM of stream 1
    b"\0\0\0\1\5\0\0\0\7",  # HEADERS without a field
    b"\xff\xff\xff\0\0\0\0\0\1",  # too large
)
NAMES = (
    ["request"] * 6
    + ["body"] * 5
    + ["dial"] * 6
    + ["answer"] * 7
    + ["more"] * 7
    + ["open_window"] * 4
    + ["client", "refuse", "time", "cancel", "give_up", "interim", "go_away", "leave", "fail", "stall", "unstall"]
    + ["unstall", "rubbish", "settings"]
)


class AnyPeer(Http2Peer):
    """A peer that stops reading when it likes, and writes only while Balance reads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.stalled = False
        #: It has said what its own state machine does not know of.
        self.confused = False
        #: Of the requests that it made.
        self.paths: dict[int, bytes] = {}
        #: Streams that it has reset: what crosses that on its way is no fault.
        self.given_up: set[int] = set()
        #: Streams of which it has said the head of the final response; and the end.
        self.answered: set[int] = set()
        self.ended: set[int] = set()
        super().__init__(*args, **options)

    def pump(self) -> None:
        for _ in range(500):  # byte by byte it may take longer: then the rest comes later
            held = self.peer.transport.producerState == "paused" or self.peer.gone
            sent = b"" if held else self.connection.data_to_send()
            if sent:
                self.peer.send(sent)
            self.world.clock.advance(0)
            received = b"" if self.stalled else self.peer.received()
            self._take(received)
            if not received and not sent:
                return

    def _take(self, data: bytes) -> None:
        while data:
            end = 9 + int.from_bytes(data[:3], "big")
            try:
                self._read(data[:end])
            except ProtocolError:
                if int.from_bytes(data[5:9], "big") not in self.given_up and not self.confused:
                    raise
                self.peer.reset()
                return
            data = data[end:]


class Run:
    """One history."""

    #: Of the backends.
    protocol = 2

    def __init__(self, case: Any, max_connections: int, attempts: int) -> None:
        self.case = case
        implementation = case.implementation
        options = SessionOptions(max_streams=8, reset_burst=1000)
        self.world = World(
            2,
            max_connections=max_connections,
            max_queue=3,
            retry_attempts=attempts,
            replay_size=30_000,
            http2=lambda: implementation.ServerSession(options),
            http2_backends=(lambda: implementation.ClientSession(options)) if self.protocol == 2 else None,
        )
        self.clients: list[AnyPeer] = []
        self.backends: list[AnyPeer] = []
        #: What each request has sent, and whether that is all; what its answers are made of.
        self.sent: dict[bytes, bytes] = {}
        self.whole: set[bytes] = set()
        #: Bytes of each response so far, by peer and stream; and the responses that were given in full.
        self.given: Counter[tuple[int, int]] = Counter()
        self.full: set[tuple[bytes, int]] = set()
        self.requests = 0
        self.client(0, 0)

    @property
    def http2(self) -> list[AnyPeer]:
        """Peers that speak HTTP/2."""
        return self.clients + self.backends

    # --- what happens -------------------------------------------------------------------------------------------

    def act(self, what: str, which: int, how: int) -> None:
        getattr(self, what)(which, how)
        self.settle()

    def settle(self) -> None:
        """Everything that was said arrives."""
        for _ in range(20):
            for end in self.clients + self.backends:
                if not end.peer.gone:
                    end.pump()
            if not self.deliver_closes():
                return

    def deliver_closes(self) -> bool:
        closing = [
            end
            for end in self.clients + self.backends
            if not end.peer.gone
            and (end.peer.transport.aborted or (end.peer.transport.disconnecting and not end.peer.transport.pending))
        ]
        for end in closing:
            if not end.peer.gone:
                end.peer.close()
        return bool(closing)

    @contextlib.contextmanager
    def may_fail(self) -> Iterator[None]:
        """The peer cannot do that now: its stream is over, or its window shut."""
        with contextlib.suppress(ProtocolError, KeyError):
            yield

    @staticmethod
    def pick(ends: list[AnyPeer], which: int) -> AnyPeer | None:
        ends = [end for end in ends if not end.peer.gone and not end.peer.transport.closed]
        return ends[which % len(ends)] if ends else None

    @staticmethod
    def stream(end: AnyPeer | None, which: int, answered: bool | None = None) -> int:
        """One on which the peer may say something; 0 for none. `h2` takes a stream for closed that is misused.

        :param answered: it has, or has not, said the head of its final response
        """
        if end is None:
            return 0
        ids = []
        for number, stream in end.connection.streams.items():
            machine = stream.state_machine
            open_ = machine.state in (StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE)
            ended = (number in end.ended) or not open_
            if not ended and (answered is None or (number in end.answered) is answered):
                ids.append(number)
        return sorted(ids)[which % len(ids)] if ids else 0

    def client(self, which: int, how: int) -> None:
        if len([end for end in self.clients if not end.peer.gone]) < 3:
            window = 1000 if how % 3 == 1 else 0
            self.clients.append(
                AnyPeer(self.world, self.world.client(), client=True, window=window, acknowledge=how % 2 == 0)
            )

    def request(self, which: int, how: int) -> None:
        end = self.pick(self.clients, which)
        if end is None:
            return
        self.requests += 1
        path = b"/%d" % self.requests
        method = METHODS[how % len(METHODS)]
        fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
        ended = how % 3 == 0
        with self.may_fail():
            end.connection.send_headers(end.connection.get_next_available_stream_id(), fields, end_stream=ended)
            self.sent[path] = b""
            end.paths[end.connection.highest_outbound_stream_id] = path
            if ended:
                end.ended.add(end.connection.highest_outbound_stream_id)
                self.whole.add(path)

    def body(self, which: int, how: int) -> None:
        """More of a request, all of it, or its trailers."""
        end = self.pick(self.clients, which)
        stream = self.stream(end, how)
        if end is None or not stream or stream not in end.paths:
            return
        path = end.paths[stream]
        with self.may_fail():
            if how % 7 == 0:
                end.connection.send_headers(stream, [(b"x-t", b"v")], end_stream=True)
                end.ended.add(stream)
                self.whole.add(path)
                return
            piece = b"%d;" % how * (SIZES[how % 5] // 5 + 1)
            room = min(end.connection.local_flow_control_window(stream), end.connection.max_outbound_frame_size)
            piece = piece[: max(0, room)]
            end.connection.send_data(stream, piece, end_stream=how % 3 == 0)
            self.sent[path] += piece
            if how % 3 == 0:
                end.ended.add(stream)
                self.whole.add(path)

    def dial(self, which: int, how: int) -> None:
        dials = self.dials()
        if dials:
            dial = dials[which % len(dials)]
            self.world.dialer.dials.remove(dial)
            limit = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: how % 4} if how % 3 == 0 else None
            self.backends.append(self.backend(dial.accept(), limit, how))

    def backend(self, peer: Peer, limit: Any, how: int) -> AnyPeer:
        window = 1000 if how % 5 == 1 else 0
        return AnyPeer(self.world, peer, client=False, window=window, acknowledge=how % 2 == 0, settings=limit)

    def dials(self) -> list[Any]:
        dials = self.world.dialer.dials
        dials[:] = [dial for dial in dials if not dial.cancelled]
        return dials

    def refuse(self, which: int, how: int) -> None:
        dials = self.dials()
        if dials:
            dial = dials[which % len(dials)]
            self.world.dialer.dials.remove(dial)
            dial.refuse()

    def answer(self, which: int, how: int) -> None:
        end = self.pick(self.backends, which)
        stream = self.stream(end, how, answered=False)
        if end is None or not stream:
            return
        asked = dict(end.streams[stream].fields)
        ended = asked[b":method"] == b"HEAD" or how % 5 == 0
        with self.may_fail():
            end.connection.send_headers(stream, [*OK, (b"x-path", asked[b":path"])], end_stream=ended)
            end.answered.add(stream)
            if ended:
                end.ended.add(stream)
                self.full.add((asked[b":path"], 0))

    def more(self, which: int, how: int) -> None:
        """More of a response, its end, or its trailers."""
        end = self.pick(self.backends, which)
        stream = self.stream(end, how, answered=True)
        if end is None or not stream:
            return
        path = dict(end.streams[stream].fields)[b":path"]
        ended = how % 3 == 0 or how % 7 == 0
        with self.may_fail():
            if how % 7 == 0:
                end.connection.send_headers(stream, [(b"x-t", path)], end_stream=True)
            else:
                room = min(end.connection.local_flow_control_window(stream), end.connection.max_outbound_frame_size)
                piece = path * (min(SIZES[how % 5], max(0, room)) // len(path))
                end.connection.send_data(stream, piece, end_stream=ended)
                self.given[end.peer.number, stream] += len(piece)
            if ended:
                end.ended.add(stream)
                self.full.add((path, self.given[end.peer.number, stream]))

    def interim(self, which: int, how: int) -> None:
        end = self.pick(self.backends, which)
        stream = self.stream(end, how, answered=False)
        if end is not None and stream:
            with self.may_fail():
                end.connection.send_headers(stream, [(b":status", b"103")])

    def cancel(self, which: int, how: int) -> None:
        self.reset(self.pick(self.clients, which), how)

    def give_up(self, which: int, how: int) -> None:
        self.reset(self.pick(self.backends, which), how)

    def reset(self, end: AnyPeer | None, how: int) -> None:
        stream = self.stream(end, how)
        if end is not None and stream:
            with self.may_fail():
                end.connection.reset_stream(stream, CODES[how % len(CODES)])
                end.given_up.add(stream)

    def go_away(self, which: int, how: int) -> None:
        end = self.pick(self.http2, which)
        if end is not None:
            highest = 0 if end.client else end.connection.highest_inbound_stream_id
            with self.may_fail():
                end.connection.close_connection(last_stream_id=max(0, highest - 2 * (how % 3)))
                end.go_on()

    def open_window(self, which: int, how: int) -> None:
        end = self.pick(self.http2, which)
        if end is not None:
            with self.may_fail():
                end.connection.increment_flow_control_window(SIZES[how % 5])
                open_ = sorted(end.connection.streams)
                stream = open_[how % len(open_)] if open_ else 0
                if stream and end.connection.streams[stream].open:
                    end.connection.increment_flow_control_window(SIZES[how % 5], stream)

    def settings(self, which: int, how: int) -> None:
        """The window of all streams, down and up; the number of streams."""
        end = self.pick(self.http2, which)
        if end is None:
            return
        codes = h2.settings.SettingCodes
        change = {codes.INITIAL_WINDOW_SIZE: (0, 10, 65_535, 200_000)[how % 4]}
        if not end.client and how % 3 == 0:
            change[codes.MAX_CONCURRENT_STREAMS] = 1 + how % 5
        with self.may_fail():
            end.connection.update_settings(change)

    def rubbish(self, which: int, how: int) -> None:
        end = self.pick(self.http2, which)
        if end is not None and end.peer.transport.producerState != "paused":
            end.pump()
            if not end.peer.gone and end.peer.transport.producerState != "paused":
                end.confused = True
                for path in end.paths.values():
                    self.sent.pop(path, None)
                for number in end.requests:
                    self.full.add((end.streams[number].value(b":path") or b"", self.given[end.peer.number, number]))
                end.peer.send(RUBBISH[how % len(RUBBISH)])

    def time(self, which: int, how: int) -> None:
        self.world.advance([0.3, 2, 11, 31][how % 4])

    def leave(self, which: int, how: int) -> None:
        self.end(self.pick(self.clients, which), how)

    def fail(self, which: int, how: int) -> None:
        self.end(self.pick(self.backends, which), how)

    @staticmethod
    def end(end: AnyPeer | None, how: int) -> None:
        if end is not None and how % 2:
            end.peer.close()
        elif end is not None:
            end.peer.reset()

    def stall(self, which: int, how: int) -> None:
        end = self.pick(self.clients + self.backends, which)
        if end is not None and not end.stalled:
            end.stalled = True
            end.peer.stall()

    def unstall(self, which: int, how: int) -> None:
        ends = [end for end in self.clients + self.backends if end.stalled and not end.peer.gone]
        if ends:
            end = ends[which % len(ends)]
            end.stalled = False
            end.peer.unstall()

    # --- what has to hold ---------------------------------------------------------------------------------------

    def check(self) -> None:
        world, case = self.world, self.case
        exchanges = 0
        for end in self.clients:
            link = end.peer.protocol
            for stream in [] if end.peer.gone else link.streams.values():
                if stream.exchange is not None:
                    exchanges += 1
                    self.check_flow(link, stream)
                else:
                    case.assertTrue(link.session.waiting(stream.stream_id), "a stream that is over is kept")
        case.assertEqual(world.counters.active, exchanges)
        for backend in world.backends:
            case.assertGreaterEqual(backend.active, 0)
        case.assertLessEqual(sum(backend.active for backend in world.backends), exchanges)
        for end in self.http2:
            if not end.peer.gone and not end.peer.transport.closed and not end.stalled:
                case.assertEqual(end.peer.transport.producerState, "producing", "nobody will ever resume it")
        for end in self.clients:
            if not end.confused:
                self.check_responses(end)
        self.check_backends()

    def check_backends(self) -> None:
        for end in self.backends:
            for stream in [] if end.peer.gone else end.peer.protocol.streams.values():
                self.case.assertIsNotNone(stream.exchange, "a stream that is over is kept")
            if not end.confused:
                self.check_requests(end)

    def check_flow(self, link: Any, stream: Any) -> None:
        """Each side is paused for a reason that will pass."""
        case, exchange = self.case, stream.exchange
        backend = exchange.stream
        if not isinstance(backend, Http2BackendStream):
            return
        if backend.paused:
            case.assertTrue(stream.blocked or link.stalled, "the response is not read")
        if stream.paused and not stream.request_ended:
            case.assertTrue(backend.blocked or backend._link.stalled, "the request is not read")
        timed = [stream.deadline, backend.deadline, link.deadline, backend._link.deadline]
        case.assertTrue(any(timed), "nobody waits for it")

    def check_responses(self, end: AnyPeer) -> None:
        for number, path in end.paths.items():
            seen = end.streams[number]
            if seen.value(b":status") == b"200":
                self.case.assertEqual(seen.value(b"x-path"), path)
                size = len(seen.data)
                self.case.assertEqual(seen.data, (path * (size // len(path) + 1))[:size])
                if seen.ended and seen.reset is None:
                    self.case.assertIn((path, size), self.full)
                if seen.trailers:
                    self.case.assertEqual(seen.trailers, [(b"x-t", path)])

    def check_requests(self, end: AnyPeer) -> None:
        for number in end.requests:
            seen = end.streams[number]
            path = seen.value(b":path")
            assert path is not None
            if path in self.sent:
                self.case.assertTrue(self.sent[path].startswith(seen.data), "another body")
                if seen.ended:
                    self.case.assertIn(path, self.whole)
                    self.case.assertEqual(len(seen.data), len(self.sent[path]))

    def finish(self) -> None:
        """Everybody leaves: nothing is left."""
        world, case = self.world, self.case
        for end in self.clients:
            if not end.peer.gone:
                end.peer.close()
        self.settle()
        case.assertEqual(world.counters.active, 0)
        case.assertEqual(world.counters.connections_open, 0)
        case.assertEqual([backend.active for backend in world.backends], [0, 0])
        case.assertEqual(world.pool.queued, 0)
        self.check_left()
        for dial in self.dials().copy():
            dial.refuse()
        world.dialer.dials.clear()
        for end in self.backends:
            if not end.peer.gone:
                end.peer.close()
        self.settle()
        world.advance(100)
        self.check_closed()
        case.assertEqual([backend.connections_open for backend in world.backends], [0, 0])
        case.assertFalse(any(world.deadlines._buckets.values()))

    def check_left(self) -> None:
        """The clients have left."""
        for end in self.backends:
            self.case.assertEqual(end.peer.protocol.streams, {})
        for connections in self.world.connections.values():
            self.case.assertEqual(connections._waiting, {})  # type: ignore[attr-defined]

    def check_closed(self) -> None:
        """The backends have left as well."""
        for connections in self.world.connections.values():
            kept: Any = connections
            self.case.assertEqual((kept._connections, kept._opening, kept._dials), ([], set(), set()))
