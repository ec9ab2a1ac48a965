"""Messages mode in memory: real Autobahn, real relay, wires in place of sockets."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from balance.codec.http1 import parse_request, parse_response
from balance.codec.websocket import ABNORMAL, NO_CODE, close_frame
from balance.config import PluginConfig
from balance.errors import BadResponse, Stopping, SubprotocolRefused
from balance.interfaces import IWebSocketConnection, IWebSocketFilter
from balance.registry import PluginError, build
from balance.websocket.autobahn_adapter import AutobahnEndpoints
from balance.websocket.filters import WebSocketFilter
from balance.websocket.options import MessageOptions, WebSocketOptions
from test.unit.test_websocket_codec import MASK, frame
from test.unit.test_websocket_tunnel import SWITCH, UPGRADE, TunnelWorld

Frame = tuple[int, bytes]


def frames(data: bytes) -> list[Frame]:
    """(first byte, unmasked payload) of each frame; nothing may be left over."""
    found = []
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        size, at = second & 0x7F, at + 2
        if size == 126:
            size, at = struct.unpack_from("!H", data, at)[0], at + 2
        elif size == 127:
            size, at = struct.unpack_from("!Q", data, at)[0], at + 8
        mask = b"\0\0\0\0"
        if second & 0x80:
            mask, at = data[at : at + 4], at + 4
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[at : at + size]))
        assert len(payload) == size
        found.append((first, payload))
        at += size
    return found


def close(code: int, reason: bytes = b"") -> Frame:
    return 0x88, struct.pack("!H", code) + reason


def world(
    *, extensions: bytes = b"", filters: tuple[Any, ...] = (), ping: float = 0, ping_backend: float = 0, **more: Any
) -> TunnelWorld:
    options = {key: more.pop(key) for key in ("idle_timeout", "close_timeout") if key in more}
    messages = MessageOptions(
        AutobahnEndpoints(**more), ping_client=ping, ping_backend=ping_backend, ping_timeout=5, filters=filters
    )
    return TunnelWorld(messages, extensions, **options)


def client_got(w: TunnelWorld) -> list[Frame]:
    return frames(w.client.got)


def backend_got(w: TunnelWorld) -> list[Frame]:
    return frames(w.backend.got)


class Messages(SynchronousTestCase):
    """What passes."""

    def test_both_directions(self) -> None:
        w = world()
        w.client.send(frame(1, "grüße".encode(), mask=MASK) + frame(2, bytes(70_000), mask=MASK))
        w.backend.send(frame(2, b"\x00\xff") + frame(1))
        self.assertEqual(backend_got(w), [(0x81, "grüße".encode()), (0x82, bytes(70_000))])
        self.assertEqual(client_got(w), [(0x82, b"\x00\xff"), (0x81, b"")])
        self.assertTrue(w.backend.got[1] & 0x80)  # masked towards the backend
        self.assertFalse(w.client.got[1] & 0x80)
        counts = w.tunnels.counts
        self.assertEqual((counts.messages_in, counts.messages_out), (2, 2))
        self.assertEqual(counts.bytes_out, len(w.client.got))

    def test_fragments_are_put_together(self) -> None:
        w = world()
        for part in (frame(1, b"a", fin=False, mask=MASK), frame(9, b"?", mask=MASK), frame(0, b"b", mask=MASK)):
            w.client.send(part)
        self.assertEqual(backend_got(w), [(0x81, b"ab")])
        self.assertEqual(client_got(w), [(0x8A, b"?")])

    def test_byte_by_byte(self) -> None:
        w = world()
        for byte in frame(1, b"hello", mask=MASK) + close_frame(1000, "bye", MASK):
            w.client.send(bytes((byte,)))
        self.assertEqual(backend_got(w), [(0x81, b"hello"), close(1000, b"bye")])

    def test_pings_are_answered_on_the_spot(self) -> None:
        w = world()
        w.backend.send(frame(9, b"abc") + frame(10, b"unasked"))
        self.assertEqual(backend_got(w), [(0x8A, b"abc")])
        self.assertEqual(client_got(w), [])


class Rules(SynchronousTestCase):
    """What does not pass: the offender is told what, the other that it is over."""

    def check(self, data: bytes, code: int, reason: str = "websocket_violation", **options: Any) -> TunnelWorld:
        w = world(close_timeout=2, **options)
        w.client.send(data)
        first, payload = client_got(w)[-1]
        self.assertEqual((first, struct.unpack("!H", payload[:2])[0]), (0x88, code))
        self.assertTrue(w.client.saw_end)
        self.assertEqual(backend_got(w)[-1], close(1001, b"client violation"))
        w.client.send(frame(1, b"more", mask=MASK))
        self.assertEqual(backend_got(w)[-1][0], 0x88)
        w.client.end()
        w.backend.send(close_frame(1001))
        self.assertEqual(w.backend.gone, "closed")
        self.assertEqual((w.reason, w.tunnels.closes), (reason, {code: 1}))
        return w

    def test_rules_of_the_protocol(self) -> None:
        for data, code in (
            (frame(1, b"x"), 1002),  # no mask
            (frame(3, b"", mask=MASK), 1002),
            (frame(11, b"", mask=MASK), 1002),
            (frame(0, b"x", mask=MASK), 1002),
            (frame(1, b"x", fin=False, mask=MASK) + frame(1, b"y", mask=MASK), 1002),
            (frame(9, b"x" * 126, mask=MASK), 1002),
            (frame(9, b"", fin=False, mask=MASK), 1002),
            (b"\xc1" + frame(1, b"x", mask=MASK)[1:], 1002),  # RSV1, and nothing agreed on
            (frame(8, b"\x03", mask=MASK), 1002),
            (close_frame(1005, "", MASK), 1002),
            (close_frame(999, "", MASK), 1002),
            (frame(8, b"\x03\xe8\xff", mask=MASK), 1007),
            (frame(1, b"\xff", mask=MASK), 1007),
            (frame(1, b"\xe2\x82", mask=MASK), 1007),
            (frame(1, b"\xe2", fin=False, mask=MASK) + frame(0, b"\x28", mask=MASK), 1007),
            (b"\x82\xfe\x00\x05" + MASK + bytes(5), 1002),  # a length in more bytes than it needs
            (b"\x82\xff" + b"\xff" * 8 + MASK, 1002),
        ):
            w = self.check(data, code)
            self.assertEqual(w.tunnels.counts.messages_out, 0)

    def test_too_big(self) -> None:
        self.check(frame(2, bytes(101), mask=MASK), 1009, max_message=100)
        self.check(frame(2, bytes(60), fin=False, mask=MASK) + frame(0, bytes(60), mask=MASK), 1009, max_message=100)
        self.check(frame(2, bytes(51), mask=MASK), 1009, max_message=100, max_frame=50)
        self.check(frame(2, bytes(10**6), mask=MASK)[:20], 1009, max_message=100)  # told before it has come
        w = world(max_message=100, max_frame=50)
        w.client.send(frame(2, bytes(50), fin=False, mask=MASK) + frame(0, bytes(50), mask=MASK))
        self.assertEqual(backend_got(w), [(0x82, bytes(100))])

    def test_a_bomb(self) -> None:
        """Little that would become much: only as much of it as is allowed."""
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = squeeze.compress(bytes(50 << 20)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        data = frame(2, bomb[:-4], mask=MASK)
        w = world(max_message=1 << 20, compress_client=True, extensions=b"permessage-deflate")
        w.client.send(bytes((data[0] | 0x40,)) + data[1:])
        self.assertEqual(client_got(w)[-1][1][:2], struct.pack("!H", 1009))
        self.assertEqual(backend_got(w), [close(1001, b"client violation")])

    def test_a_backend_against_the_rules(self) -> None:
        w = world(close_timeout=2)
        w.backend.send(frame(1, b"\xff"))
        self.assertEqual(backend_got(w)[-1][1][:2], struct.pack("!H", 1007))
        self.assertEqual(client_got(w), [close(1011, b"backend violation")])
        w.advance(10)
        self.assertEqual((w.reason, w.tunnels.closes), ("backend_websocket_violation", {1007: 1}))


class Ends(SynchronousTestCase):
    """How it ends."""

    def over(self, w: TunnelWorld) -> tuple[str, dict[int, int]]:
        self.assertEqual(sorted(w.over), ["backend", "client"])
        self.assertEqual(len(w.tunnels), 0)
        return w.reason, w.tunnels.closes

    def test_the_client_says_goodbye(self) -> None:
        for code, reason in ((1000, "bye"), (4999, "ä" * 61), (1014, "")):
            w = world()
            w.client.send(close_frame(code, reason, MASK))
            self.assertEqual(client_got(w), [close(code, reason.encode())])
            self.assertEqual(backend_got(w), [close(code, reason.encode())])
            self.assertTrue(w.client.saw_end)
            w.backend.send(close_frame(code))
            w.backend.end()
            w.client.end()
            self.assertEqual(self.over(w), ("", {code: 1}))

    def test_the_backend_says_goodbye(self) -> None:
        w = world()
        w.backend.send(close_frame(4000, "done"))
        self.assertEqual(backend_got(w), [close(4000, b"done")])
        self.assertEqual(client_got(w), [close(4000, b"done")])
        w.backend.end()
        self.assertFalse(w.client.saw_end)
        w.client.send(close_frame(4000, "", MASK))
        self.assertTrue(w.client.saw_end)
        w.client.end()
        self.assertEqual(self.over(w), ("", {4000: 1}))

    def test_a_goodbye_without_a_code(self) -> None:
        w = world()
        w.client.send(frame(8, mask=MASK))
        self.assertEqual((client_got(w), backend_got(w)), ([(0x88, b"")], [(0x88, b"")]))
        w.client.end()
        w.backend.reset()
        self.assertEqual(self.over(w), ("", {NO_CODE: 1}))

    def test_a_lost_backend(self) -> None:
        for how in ("end", "reset"):
            w = world()
            w.backend.send(frame(1, b"half")[:3])
            getattr(w.backend, how)()
            self.assertEqual(client_got(w), [close(1011, b"backend lost")])
            w.client.send(close_frame(1011, "", MASK))
            w.client.end()
            self.assertEqual(self.over(w), ("tunnel_lost", {1011: 1}))

    def test_a_lost_client(self) -> None:
        for how in ("end", "reset"):
            w = world()
            getattr(w.client, how)()
            self.assertEqual(backend_got(w), [close(1001, b"client lost")])
            w.backend.send(frame(1, b"late") + close_frame(1001))
            self.assertEqual(self.over(w), ("client_gone", {ABNORMAL: 1}))

    def test_going_away(self) -> None:
        w = world()
        w.tunnel.part(1001, Stopping(), "going away")
        self.assertEqual(client_got(w), [close(1001, b"going away")])
        w.client.send(frame(1, b"last", mask=MASK) + close_frame(1001, "", MASK))
        self.assertEqual(backend_got(w), [(0x81, b"last"), close(1001)])
        w.client.end()
        self.assertEqual(w.backend.gone, "")
        w.backend.send(close_frame(1001))
        self.assertEqual(self.over(w), ("stopping", {1001: 1}))

    def test_nobody_answers(self) -> None:
        w = world(close_timeout=2)
        w.tunnel.part(1001, Stopping(), "going away")
        w.advance(8)
        self.assertEqual(backend_got(w), [close(1001)])
        self.assertEqual(self.over(w), ("stopping", {1001: 1}))

    def test_kill(self) -> None:
        w = world()
        w.tunnel.kill()
        self.assertEqual(client_got(w), [close(1001, b"stopping")])
        self.assertEqual(self.over(w), ("stopping", {1001: 1}))

    def test_silence(self) -> None:
        """Pings are not what a connection is there for."""
        w = world(idle_timeout=60, close_timeout=2)
        w.advance(40)
        w.client.send(frame(9, mask=MASK))
        w.client.send(frame(2, bytes(50), mask=MASK)[:30])
        w.advance(40)
        self.assertEqual(client_got(w), [(0x8A, b"")])
        w.client.send(frame(9, mask=MASK)[:0])
        w.advance(30)
        self.assertEqual(client_got(w)[-1], close(1001, b"idle timeout"))
        w.advance(8)
        self.assertEqual(self.over(w), ("idle_timeout", {1001: 1}))

    def test_any_order(self) -> None:
        rng = random.Random(6455)
        for _ in range(300):
            w = world(idle_timeout=20, close_timeout=2, ping=rng.choice((0, 3)), ping_backend=rng.choice((0, 3)))
            sides = [(w.client, MASK), (w.backend, b"")]
            for _ in range(14):
                wire, mask = rng.choice(sides)
                action = rng.randrange(12)
                if action < 6 and not wire.gone and wire.reading:
                    wire.send(
                        rng.choice(
                            (
                                frame(1, b"text", mask=mask),
                                frame(2, bytes(300), mask=mask),
                                frame(9, b"p", mask=mask),
                                frame(10, b"", mask=mask),
                                close_frame(1000, "", mask) if rng.random() < 0.3 else b"\x81",
                                frame(1, b"\xff", mask=mask) if rng.random() < 0.1 else frame(1, b"", mask=mask),
                            )
                        )
                    )
                elif action == 6:
                    rng.choice((wire.stall, wire.unstall))()
                elif action == 7 and rng.random() < 0.3:
                    w.tunnel.part(1001, Stopping(), "going away")
                elif action == 8 and rng.random() < 0.4 and not wire.gone and wire.reading:
                    rng.choice((wire.reset, wire.end))()
                else:
                    w.advance(rng.choice((0.5, 3)))
            w.client.unstall()
            w.backend.unstall()
            w.advance(200)
            self.assertEqual(len(w.ended), 1)
            self.over(w)
            for got in (client_got(w), backend_got(w)):
                closes = [n for n, (first, _) in enumerate(got) if first == 0x88]
                self.assertIn(closes, ([], [len(got) - 1]))


class Pressure(SynchronousTestCase):
    """Nobody's slowness fills our memory."""

    def test_a_slow_client_stops_the_backend(self) -> None:
        w = world()
        w.client.stall()
        w.backend.send(b"".join(frame(2, bytes(8000)) for _ in range(20)))
        self.assertFalse(w.backend.reading)
        self.assertLess(w.client.pending, 40_000)
        w.client.unstall()
        self.assertTrue(w.backend.reading)
        self.assertEqual(client_got(w), [(0x82, bytes(8000))] * 20)

    def test_an_end_waits_behind_what_waits(self) -> None:
        w = world()
        w.client.stall()
        w.backend.send(b"".join(frame(2, bytes(8000)) for _ in range(5)) + close_frame(1000))
        w.backend.protocol.readConnectionLost()
        w.client.unstall()
        self.assertEqual(client_got(w), [(0x82, bytes(8000))] * 5 + [close(1000)])

    def test_little_that_becomes_much(self) -> None:
        """Many small messages, each decompressed to something large: worked off at the pace they are taken."""
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = b""
        for _ in range(100):
            data = frame(2, (squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4], mask=MASK)
            stream += bytes((data[0] | 0x40,)) + data[1:]
        w = world(max_message=1 << 20, compress_client=True, extensions=b"permessage-deflate")
        w.backend.stall()
        for at in range(0, len(stream), 65536):
            if not w.client.reading:
                break
            w.client.send(stream[at : at + 65536])
        self.assertFalse(w.client.reading)
        self.assertLess(w.backend.pending, 24 << 20)


class Pings(SynchronousTestCase):
    """Are you there?"""

    def test_answered(self) -> None:
        w = world(ping=10, ping_backend=20, idle_timeout=0)
        for _ in range(3):
            w.advance(11.5)
            self.assertEqual(client_got(w)[-1], (0x89, b""))
            w.client.send(frame(10, mask=MASK))
            w.backend.send(frame(10))
        self.assertEqual(len(client_got(w)), 3)
        self.assertEqual(w.client.gone, "")

    def test_traffic_makes_them_unnecessary(self) -> None:
        w = world(ping=10)
        for _ in range(10):
            w.advance(5)
            w.client.send(frame(1, b"x", mask=MASK))
        self.assertEqual(client_got(w), [])

    def test_a_silent_client(self) -> None:
        w = world(ping=10, close_timeout=2)
        w.advance(16)
        self.assertEqual(w.client.gone, "aborted")
        self.assertEqual(backend_got(w), [close(1001, b"client lost")])
        w.backend.send(close_frame(1001))
        self.assertEqual(w.reason, "client_timeout")

    def test_a_silent_backend(self) -> None:
        w = world(ping_backend=10, close_timeout=2)
        w.advance(16)
        self.assertEqual(w.backend.gone, "aborted")
        self.assertEqual(client_got(w), [close(1011, b"backend lost")])
        w.client.send(close_frame(1011, "", MASK))
        w.client.end()
        self.assertEqual(w.reason, "tunnel_lost")


class Compression(SynchronousTestCase):
    """permessage-deflate, on each side for itself."""

    def test_with_the_client_only(self) -> None:
        w = world(compress_client=True, extensions=b"permessage-deflate; client_max_window_bits")
        w.backend.send(frame(1, b"x" * 1000) * 2)
        (first, payload), (_, again) = client_got(w)
        self.assertEqual(first, 0xC1)
        self.assertLess(len(again), len(payload))  # the window is kept
        inflate = zlib.decompressobj(-15)
        self.assertEqual(inflate.decompress(payload + b"\0\0\xff\xff"), b"x" * 1000)
        data = frame(1, payload, mask=MASK)
        w.client.send(bytes((data[0] | 0x40,)) + data[1:])
        self.assertEqual(backend_got(w), [(0x81, b"x" * 1000)])

    def test_negotiation(self) -> None:
        both = AutobahnEndpoints(compress_client=True, compress_backend=True)
        none = AutobahnEndpoints()
        self.assertEqual(both.offer().partition(b";")[0], b"permessage-deflate")
        self.assertEqual(none.offer(), b"")
        self.assertEqual(none.agree_with_client([b"permessage-deflate"]), (b"", None))
        for offer, answered in (
            (b"permessage-deflate", b"permessage-deflate"),
            (
                b"x-unknown, permessage-deflate; server_no_context_takeover",
                b"permessage-deflate; server_no_context_takeover",
            ),
            (b"permessage-deflate; nonsense=1, permessage-deflate", b"permessage-deflate"),
            (b"permessage-deflate; server_max_window_bits=7", b""),
            (b"x-unknown", b""),
            (b"", b""),
        ):
            self.assertEqual(both.agree_with_client([offer])[0], answered, offer)
        fresh = AutobahnEndpoints(compress_client=True, context_takeover=False)
        self.assertIn(b"client_no_context_takeover", fresh.agree_with_client([b"permessage-deflate"])[0])

    def test_backends_that_agree_to_something_else(self) -> None:
        both = AutobahnEndpoints(compress_backend=True)
        self.assertIsNone(both.agree_with_backend([]))
        self.assertIsNotNone(both.agree_with_backend([b"permessage-deflate"]))
        for endpoints, answer in (
            (AutobahnEndpoints(), b"permessage-deflate"),
            (both, b"x-webkit-deflate-frame"),
            (both, b"permessage-deflate, permessage-deflate"),
            (both, b"permessage-deflate; server_max_window_bits=99"),
            (both, b"permessage-deflate; nonsense"),
        ):
            with self.assertRaises(BadResponse, msg=str(answer)):
                endpoints.agree_with_backend([answer])


class Heads(SynchronousTestCase):
    """What of the handshake is changed."""

    def test_extensions_are_each_sides_own(self) -> None:
        messages = MessageOptions(AutobahnEndpoints(compress_client=True))
        options = WebSocketOptions(messages=messages)
        request = parse_request(UPGRADE[:-4] + b"\r\nSec-WebSocket-Extensions: x-one, permessage-deflate")
        handshake = options.admit(request)
        assert handshake is not None
        self.assertNotIn(b"sec-websocket-extensions", request.headers)
        response = parse_response(SWITCH[:-4], b"GET")
        options.accept(handshake, response)
        self.assertEqual(response.headers.get(b"sec-websocket-extensions"), b"permessage-deflate")
        self.assertIsNotNone(handshake.client_extension)
        self.assertIsNone(handshake.backend_extension)

    def test_subprotocols(self) -> None:
        options = WebSocketOptions(subprotocols=["v2", "v3"])

        def admit(*offers: bytes) -> tuple[Any, Any]:
            lines = b"".join(b"\r\nSec-WebSocket-Protocol: " + offer for offer in offers)
            request = parse_request(UPGRADE[:-4] + lines)
            return options.admit(request), request.headers.get_all(b"sec-websocket-protocol")

        for offers in ((), (b"v1",), (b"V2",), (b"",)):
            with self.assertRaises(SubprotocolRefused):
                admit(*offers)
        handshake, sent = admit(b"v1, v3", b"v2")
        self.assertEqual(sent, [b"v3, v2"])
        for chosen, good in ((b"v3", True), (b"v2", True), (b"v1", False), (b"v9", False), (b"v2, v3", False)):
            response = parse_response(SWITCH[:-4] + b"\r\nSec-WebSocket-Protocol: " + chosen, b"GET")
            if good:
                options.accept(handshake, response)
            else:
                with self.assertRaises(BadResponse):
                    options.accept(handshake, response)
        with self.assertRaises(BadResponse):
            options.accept(handshake, parse_response(SWITCH[:-4], b"GET"))

    def test_a_subprotocol_nobody_offered(self) -> None:
        options = WebSocketOptions()
        handshake = options.admit(parse_request(UPGRADE[:-4]))
        assert handshake is not None
        with self.assertRaises(BadResponse):
            options.accept(handshake, parse_response(SWITCH[:-4] + b"\r\nSec-WebSocket-Protocol: x", b"GET"))


class Noted(WebSocketFilter):
    """Notes what it sees, and does what it is told by messages."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def opened(self, connection: Any) -> None:
        verifyObject(IWebSocketConnection, connection)
        self.seen.append(("opened", connection.client_ip, connection.request.target))
        connection.state["n"] = 0

    def from_client(self, connection: Any, data: str | bytes) -> str | bytes | None:
        connection.state["n"] += 1
        self.seen.append(data)
        if data == "drop":
            return None
        if data == "answer":
            connection.send_to_client(f"seen {connection.state['n']}")
            return None
        if data == "twice":
            connection.send_to_backend(b"first")
        if data == "close":
            connection.close(4002, "enough")
        if data == "raise":
            raise ValueError("on purpose")
        if data == "nonsense":
            return 5  # type: ignore[return-value]
        return data.upper()

    def from_backend(self, connection: Any, data: str | bytes) -> str | bytes | None:
        return b"<" + data + b">" if isinstance(data, bytes) else data

    def closed(self, connection: Any, code: int) -> None:
        self.seen.append(("closed", code))


class Filters(SynchronousTestCase):
    """Third parties between the sides."""

    def test_see_change_drop_answer(self) -> None:
        noted = Noted()
        verifyObject(IWebSocketFilter, noted)
        w = world(filters=(noted,))
        for text in (b"hi", b"drop", b"answer", b"twice"):
            w.client.send(frame(1, text, mask=MASK))
        w.client.send(frame(2, b"bin", mask=MASK))
        w.backend.send(frame(2, b"x") + frame(1, b"y"))
        self.assertEqual(backend_got(w), [(0x81, b"HI"), (0x82, b"first"), (0x81, b"TWICE"), (0x82, b"BIN")])
        self.assertEqual(client_got(w), [(0x81, b"seen 3"), (0x82, b"<x>"), (0x81, b"y")])
        w.client.send(close_frame(1000, "", MASK))
        w.client.end()
        w.backend.end()
        self.assertEqual(noted.seen[0], ("opened", "192.0.2.1", b"/socket"))
        self.assertEqual(noted.seen[1:6], ["hi", "drop", "answer", "twice", b"bin"])
        self.assertEqual(noted.seen[-1], ("closed", 1000))

    def test_order(self) -> None:
        class Tag(WebSocketFilter):
            def __init__(self, tag: str) -> None:
                self.tag = tag

            def from_client(self, connection: Any, data: Any) -> Any:
                return data + self.tag

            from_backend = from_client

        w = world(filters=(Tag("a"), Tag("b")))
        w.client.send(frame(1, b"-", mask=MASK))
        w.backend.send(frame(1, b"-"))
        self.assertEqual((backend_got(w), client_got(w)), ([(0x81, b"-ab")], [(0x81, b"-ba")]))

    def test_closing(self) -> None:
        w = world(filters=(Noted(),), close_timeout=2)
        w.client.send(frame(1, b"close", mask=MASK))
        self.assertEqual(client_got(w), [close(4002, b"enough")])
        self.assertEqual(backend_got(w), [close(4002, b"enough")])
        w.advance(8)
        self.assertEqual((w.reason, w.tunnels.closes), ("websocket_filter_closed", {4002: 1}))

    def test_failing(self) -> None:
        for text in (b"raise", b"nonsense"):
            w = world(filters=(Noted(),), close_timeout=2)
            w.client.send(frame(1, text, mask=MASK) + frame(1, b"next", mask=MASK))
            self.assertEqual(client_got(w), [close(1011)])
            w.advance(8)
            self.assertEqual((w.reason, w.tunnels.closes), ("websocket_filter_failed", {1011: 1}))
            self.assertEqual(len(self.flushLoggedErrors(ValueError, TypeError)), 1)

    def test_loading(self) -> None:
        here = "test.unit.test_websocket_messages"

        def load(use: str) -> Any:
            return build("websocket_filter", PluginConfig(use=use))

        self.assertIsInstance(load(f"{here}:Noted"), Noted)
        for path, message in (
            ("no.such.module:x", "there is no module 'no'"),
            (f"{here}:nothing", "has no 'nothing'"),
            (f"{here}:Messages", "opened|attribute"),
            ("unheard-of", "no WebSocket filter 'unheard-of' is installed"),
        ):
            with self.assertRaisesRegex(PluginError, message):
                load(path)
