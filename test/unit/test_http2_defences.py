"""Every defence of HTTP/2 sessions: triggered by an attack, and not by honest traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from balance.codec.http2.events import Event
from balance.codec.http2.session import Code, SessionOptions
from test.unit import http2_frames as frames
from test.unit.http2_cases import SessionCase, on_every_session, request, response
from test.unit.http2_frames import CONTINUATION, END_HEADERS, HEADERS, frame

BAD = [*frames.GET, (b"connection", b"close")]


class Attack(SessionCase):
    """How often something goes well."""

    options: ClassVar[SessionOptions] = SessionOptions(reset_burst=10, reset_rate=2, control_burst=20, control_rate=5)

    def repeat(self, attack: Callable[[int], bytes], most: int = 100_000) -> tuple[int, Sequence[Event]]:
        """Until the connection is over: how often it went well, and the last events."""
        for count in range(most):
            events = self.receive(attack(count))
            if self.session.closed:
                return count, events
        raise AssertionError("it goes on and on")

    def check(self, defence: str, count: int, attack: Callable[[int], bytes]) -> None:
        """It works ``count`` times at once, and no more."""
        done, events = self.repeat(attack)
        self.check_ended(events, Code.ENHANCE_YOUR_CALM, defence)
        self.assertEqual(done, count)

    def check_honest(self, attack: Callable[[int], bytes], times: int, pause: float = 0.0) -> None:
        for count in range(times):
            self.receive(attack(count))
            self.assertFalse(self.session.closed, f"after {count}")
            self.now += pause
            self.session.take()


@on_every_session
class Resets(Attack):
    """Rapid reset (CVE-2023-44487) and its twin by the server (CVE-2025-8671)."""

    def rapid_reset(self, count: int) -> bytes:
        return self.headers(2 * count + 1, ended=True) + frames.rst_stream(2 * count + 1)

    def test_rapid_reset(self) -> None:
        self.check("resets", 10, self.rapid_reset)

    def test_cancelling_now_and_then_is_honest(self) -> None:
        self.check_honest(self.rapid_reset, 200, pause=0.51)

    def test_the_budget_comes_back(self) -> None:
        self.check_honest(self.rapid_reset, 10)
        self.now += 5.01
        done, _ = self.repeat(lambda count: self.rapid_reset(count + 10))
        self.assertEqual(done, 10)

    def test_made_to_reset_by_window_updates(self) -> None:
        self.check("resets", 10, lambda n: self.headers(2 * n + 1) + frames.window_update(2 * n + 1, 0))

    def test_made_to_reset_by_wide_windows(self) -> None:
        self.check("resets", 10, lambda n: self.headers(2 * n + 1) + frames.window_update(2 * n + 1, 2**31 - 1))

    def test_made_to_reset_by_data_after_the_end(self) -> None:
        self.check("resets", 10, lambda n: self.headers(2 * n + 1, ended=True) + frames.data(2 * n + 1, b"x"))

    def test_made_to_reset_by_lengths(self) -> None:
        fields = [*frames.POST, (b"content-length", b"1")]
        self.check("resets", 10, lambda n: self.headers(2 * n + 1, fields) + frames.data(2 * n + 1, b"xx"))

    def test_malformed_requests(self) -> None:
        self.check("resets", 10, lambda n: self.headers(2 * n + 1, BAD, ended=True))

    def test_refused_streams(self) -> None:
        self.start(SessionOptions(max_streams=1, reset_burst=10, reset_rate=2))
        self.receive(self.headers(1))
        self.check("resets", 10, lambda n: self.headers(2 * n + 3, ended=True))

    def test_all_kinds_share_one_budget(self) -> None:
        kinds = [
            lambda n: self.rapid_reset(n),
            lambda n: self.headers(2 * n + 1, BAD, ended=True),
            lambda n: self.headers(2 * n + 1, ended=True) + frames.data(2 * n + 1, b"x"),
        ]
        self.check("resets", 10, lambda n: kinds[n % 3](n))

    def test_resets_of_ours_that_nobody_provoked_are_free(self) -> None:
        for n in range(500):
            self.receive(self.headers(2 * n + 1, ended=True))
            self.session.reset(2 * n + 1, Code.INTERNAL_ERROR)
        self.check_alive_after_output()

    def check_alive_after_output(self) -> None:
        self.session.take()
        self.assertFalse(self.session.closed)

    def test_refused_for_their_size_is_no_reset(self) -> None:
        """A browser with a cookie that is too large is answered 431, for each of the resources of a page."""
        large = [*frames.GET, *[(b"x", b"x")] * 150]
        self.check_honest(lambda n: self.headers(2 * n + 1, large, ended=True), 90)


@on_every_session
class BackendResets(Attack):
    """A backend may reset what it was asked for."""

    client = True

    def test_resets_are_free(self) -> None:
        for n in range(200):
            self.session.request(request(), b"http", b"a", True)
            self.assertEqual(len(self.receive(frames.rst_stream(2 * n + 1, Code.REFUSED_STREAM))), 1)
        self.assertFalse(self.session.closed)

    def test_malformed_responses_are_not(self) -> None:
        def attack(n: int) -> bytes:
            self.session.request(request(), b"http", b"a", True)
            return self.headers(2 * n + 1, [(b":status", b"20")])

        self.check("resets", 10, attack)

    def test_interim_responses(self) -> None:
        self.session.request(request(), b"http", b"a", True)
        done, events = self.repeat(lambda n: self.headers(1, [(b":status", b"103")]))
        self.check_ended(events, Code.ENHANCE_YOUR_CALM, "control")
        self.assertTrue(15 <= done <= 20)


@on_every_session
class Floods(Attack):
    """Frames that cost work and move nothing (CVE-2019-9511 to 9518)."""

    FLOODS: ClassVar[dict[str, bytes]] = {
        "PING": frames.ping(),
        "PING answers": frames.ping(ack=True),
        "SETTINGS": frames.settings(),
        "SETTINGS answers": frames.settings_ack(),
        "PRIORITY": frames.priority(1),
        "PRIORITY of idle streams": frames.priority(99),
        "unknown frames": frame(0xEE, 0, 0, b"x"),
        "empty DATA": frames.data(1),
        "padding": frames.data(1, padding=10),
        "WINDOW_UPDATE of a stream": frames.window_update(1, 1),
        "WINDOW_UPDATE of the connection": frames.window_update(0, 1),
        "WINDOW_UPDATE of a stream that is gone": frames.window_update(3, 1),
        "RST_STREAM of a stream that is gone": frames.rst_stream(3),
        "DATA of a stream that is gone": frames.data(3),
        "GOAWAY": frames.goaway(),
    }

    def test_floods(self) -> None:
        for name, raw in self.FLOODS.items():
            self.start()
            self.receive(self.headers(1), self.headers(3))
            self.session.reset(3, Code.CANCEL)
            done, events = self.repeat(lambda _, raw=raw: raw)
            self.check_ended(events, Code.ENHANCE_YOUR_CALM, "control")
            self.assertTrue(15 <= done <= 25, (name, done))

    def test_a_ping_for_each_piece_of_data_is_honest(self) -> None:
        """Go's gRPC measures the connection by one PING for each round trip in which data came."""
        self.receive(self.headers(1), frames.window_update(0, 1 << 20), frames.window_update(1, 1 << 20))
        self.session.respond(1, response(), False)
        for _ in range(200):
            self.session.send_data(1, b"x" * 1000, False)
            self.assertEqual(self.receive(frames.ping()), [])
        self.written()
        self.check_alive()

    def test_the_same_now_and_then_is_honest(self) -> None:
        for raw in self.FLOODS.values():
            self.start()
            self.receive(self.headers(1), self.headers(3))
            self.session.reset(3, Code.CANCEL)
            self.check_honest(lambda _, raw=raw: raw, 300, pause=0.21)

    def test_trailers_of_a_stream_that_is_gone(self) -> None:
        self.receive(self.headers(1))
        self.session.reset(1, Code.CANCEL)
        done, events = self.repeat(lambda n: self.headers(1, [(b"a", b"b")], ended=True))
        self.check_ended(events, Code.ENHANCE_YOUR_CALM, "control")
        self.assertTrue(15 <= done <= 25)

    def test_streams_opened_after_the_last(self) -> None:
        self.receive(self.headers(1))
        self.session.go_away()
        self.session.go_away()
        done, events = self.repeat(lambda n: self.headers(2 * n + 3))
        self.check_ended(events, Code.ENHANCE_YOUR_CALM, "control")
        self.assertTrue(15 <= done <= 25)

    def test_settings_of_many_values(self) -> None:
        self.receive(frames.settings(*[(0xAAAA, n) for n in range(32)]))
        self.assertFalse(self.session.closed)
        raw = frames.settings(*[(frames.INITIAL_WINDOW_SIZE, n) for n in range(33)])
        self.check_ended(self.receive(raw), Code.ENHANCE_YOUR_CALM, "control")

    def test_a_window_opened_byte_by_byte(self) -> None:
        """CVE-2019-9511: each byte costs a frame."""
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 0))
        self.receive(self.headers(1))
        self.session.respond(1, response(), False)
        self.session.send_data(1, bytes(50_000), True)
        done, events = self.repeat(lambda _: frames.window_update(1, 1))
        self.check_ended(events, Code.ENHANCE_YOUR_CALM, "control")
        self.assertLess(done, 30)

    def test_a_download_with_small_updates_is_honest(self) -> None:
        """Each 1448 bytes given back on both levels, for 3 MB in an instant."""
        self.start(None, (frames.INITIAL_WINDOW_SIZE, 65_535))
        self.receive(self.headers(1, ended=True))
        self.session.respond(1, response(), False)
        self.session.send_data(1, bytes(3_000_000), True)
        received = 0
        while received < 3_000_000:
            size = sum(len(each.value) for each in self.written() if each.kind == "Data")
            self.assertTrue(size)
            received += size
            pieces = [1448] * (size // 1448) + [size % 1448 or 1]
            self.receive(*[frames.window_update(each, piece) for piece in pieces for each in (0, 1)])
        self.assertFalse(self.session.closed)

    def test_small_messages_given_back_one_by_one_are_honest(self) -> None:
        self.receive(self.headers(1))
        self.session.respond(1, response(), False)
        for _ in range(2_000):
            self.session.send_data(1, b"message", False)
            self.receive(frames.window_update(0, 7), frames.window_update(1, 7))
        self.assertFalse(self.session.closed)

    def test_windows_widened_with_each_request_are_honest(self) -> None:
        """As Firefox does."""

        def page(n: int) -> bytes:
            self.session.respond(2 * n - 1, response(length=0), True)
            return self.headers(2 * n + 1, ended=True) + frames.window_update(2 * n + 1, 12_000_000)

        self.check_honest(page, 1_000)

    def test_uploads_in_small_frames_are_honest(self) -> None:
        self.receive(self.headers(1, frames.POST))
        for _ in range(2_000):
            self.receive(frames.data(1, b"x"))
            self.session.acknowledge(1, 1)
        self.assertFalse(self.session.closed)


@on_every_session
class Heads(Attack):
    """Heads that are too large, packed or unpacked."""

    def test_continuations(self) -> None:
        """CVE-2024-27316: a head that never ends."""
        self.receive(frame(HEADERS, 0, 1, b""))
        self.check("continuations", 16, lambda _: frame(CONTINUATION, 0, 1, b""))

    def test_as_many_continuations_as_allowed(self) -> None:
        fields = [*frames.GET, (b"x", b"y" * 1000)]
        self.assertEqual(self.shape(self.headers(1, fields, ended=True, pieces=17)), [("RequestReceived", 1)])
        self.receive(self.headers(3, fields, ended=True, pieces=18))
        self.assertTrue(self.session.closed)

    def test_large_continuations(self) -> None:
        head = frame(HEADERS, 0, 1, bytes(16_000))
        count = 0
        events = self.receive(head)
        while not self.session.closed:
            count += 1
            events = self.receive(frame(CONTINUATION, 0, 1, bytes(16_000)))
        self.assertLessEqual(count, 17)
        self.assertEqual(events[-1].code, Code.ENHANCE_YOUR_CALM)  # type: ignore[attr-defined]

    def test_a_bomb(self) -> None:
        """CVE-2016-6581: a large field in the table, named again and again by a byte."""
        self.packer = frames.Packer(index=True)
        self.receive(self.headers(1, [*frames.GET, (b"bomb", b"x" * 3000)], ended=True))
        block = self.packer.block([*frames.GET, *[(b"bomb", b"x" * 3000)] * 100])
        self.assertLess(len(block), 300)
        self.check_ended(
            self.receive(frame(HEADERS, END_HEADERS | frames.END_STREAM, 3, block)),
            Code.ENHANCE_YOUR_CALM,
            "header_list",
        )

    def test_many_small_fields(self) -> None:
        block = self.packer.block(frames.GET) + b"\x90" * 2_000
        self.check_ended(self.receive(frame(HEADERS, END_HEADERS, 1, block)), Code.ENHANCE_YOUR_CALM, "header_list")

    def test_the_list_as_large_as_allowed(self) -> None:
        """RFC 9113, section 6.5.2: name, value and 32 for each field."""
        self.start(SessionOptions(header_list_size=1000))
        used = sum(len(name) + len(value) + 32 for name, value in frames.GET)
        for size, alive in ((1000 - used - 33, True), (1001 - used - 33, False)):
            self.receive(self.headers(1 if alive else 3, [*frames.GET, (b"x", b"y" * size)], ended=True))
            self.assertEqual(self.session.closed, not alive)

    def test_a_head_too_large_to_answer_otherwise_is_refused(self) -> None:
        """What is within the list's limit and above the head's is an answer's matter, not the connection's."""
        fields = [*frames.GET, (b"x", b"y" * 40_000)]
        self.assertEqual(self.shape(self.headers(1, fields, ended=True, pieces=4)), [("RequestRefused", 1)])
        self.check_alive()


@on_every_session
class Streams(Attack):
    """No more streams than we said (section 5.1.2)."""

    options: ClassVar[SessionOptions] = SessionOptions(max_streams=2)

    def test_refused_above_the_limit(self) -> None:
        self.receive(self.headers(1), self.headers(3))
        self.assertEqual(self.shape(self.headers(5, frames.POST)), [])
        (written,) = self.written()
        self.assertEqual((written.kind, written.stream_id, written.value), ("RstStream", 5, Code.REFUSED_STREAM))
        self.assertEqual(self.session.open_streams, 2)
        self.assertEqual(self.shape(frames.data(5, b"x"), frames.data(5, ended=True)), [])
        self.assertEqual(self.written(), [])

    def test_a_stream_counts_until_both_have_ended(self) -> None:
        self.receive(self.headers(1, ended=True), self.headers(3, ended=True))
        self.assertEqual(self.shape(self.headers(5, ended=True)), [])
        self.session.respond(1, response(length=0), True)
        self.assertEqual(self.shape(self.headers(7, ended=True)), [("RequestReceived", 7)])
        self.receive(frames.rst_stream(3))
        self.assertEqual(self.shape(self.headers(9, ended=True)), [("RequestReceived", 9)])

    def test_the_table_is_kept_in_step_by_refused_heads(self) -> None:
        self.packer = frames.Packer(index=True)
        self.receive(self.headers(1), self.headers(3))
        self.receive(self.headers(5, [*frames.GET, (b"x-new", b"value")], ended=True))
        self.receive(frames.rst_stream(3))
        (event,) = self.receive(self.headers(7, [*frames.GET, (b"x-new", b"value")], ended=True))
        self.assertEqual(event.head.headers.get(b"x-new"), b"value")  # type: ignore[attr-defined]


@on_every_session
class Unacknowledged(SessionCase):
    """The peer hears our SETTINGS and does not say so (RFC 9113, section 6.5.3)."""

    def hello(self) -> bytes:
        return (b"" if self.client else frames.PREFACE) + frames.settings()

    def test_the_limit_is_told(self) -> None:
        self.assertEqual(type(self.session)(SessionOptions(settings_timeout=3.0)).start(), 3.0)

    def test_nothing_came_at_all(self) -> None:
        self.fresh()
        self.check_ended(self.session.settings_late(), Code.SETTINGS_TIMEOUT, "settings")

    def test_its_own_settings_came_and_no_more(self) -> None:
        self.fresh()
        self.receive(self.hello())
        self.check_ended(self.session.settings_late(), Code.SETTINGS_TIMEOUT, "settings")

    def test_acknowledged_in_time(self) -> None:
        self.fresh()
        self.receive(self.hello() + frames.settings_ack())
        self.written()
        self.assertEqual(list(self.session.settings_late()), [])
        self.check_alive()

    def test_over_already(self) -> None:
        self.fresh()
        self.receive(self.hello() + frames.data(0, b"x"))
        self.assertTrue(self.session.closed)
        self.session.take()
        self.assertEqual(list(self.session.settings_late()), [])
        self.assertEqual(self.session.take(), b"")

    def test_with_streams_open(self) -> None:
        self.fresh()
        if self.client:
            self.receive(self.hello())
            self.session.request(request(b"POST"), b"http", b"a", False)
        else:
            self.receive(self.hello() + self.headers(1))
            self.session.respond(1, response(), False)
        self.session.send_data(1, bytes(100_000), True)
        self.check_ended(self.session.settings_late(), Code.SETTINGS_TIMEOUT, "settings")


@on_every_session
class UnacknowledgedByABackend(Unacknowledged):
    client = True
