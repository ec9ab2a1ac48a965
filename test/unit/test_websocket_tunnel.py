"""WebSocket in memory: handshakes through the whole proxy, and what becomes of a tunnel."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http1 import parse_request
from balance.codec.websocket import close_frame
from balance.errors import ClientTimeout, ExchangeError, Stopping
from balance.http.route import HeaderEdits
from balance.http.streams import Line
from balance.model import Address
from balance.net.deadlines import Deadlines
from balance.observe.counters import ListenerCounters
from balance.pool.affinity import StickyCookie
from balance.pool.backend import Backend
from balance.websocket.options import Handshake, MessageOptions, WebSocketOptions
from balance.websocket.tunnel import Tunnel
from balance.websocket.tunnels import Tunnels
from test.unit.support import Clock, Peer, World
from test.unit.test_tcp_session import Wire
from test.unit.test_websocket_codec import ACCEPT, KEY, MASK, frame

UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + ACCEPT
    + b"\r\n\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Handshakes(SynchronousTestCase):
    """The request that asks for WebSocket, through the whole proxy."""

    def opened(self, world: World, request: bytes = UPGRADE, answer: bytes = SWITCH) -> tuple[Peer, Peer]:
        client = world.client()
        client.send(request)
        backend = world.accept()
        self.asked = backend.received()
        backend.send(answer)
        return client, backend

    def test_switch(self) -> None:
        world = World()
        extra = b"Sec-WebSocket-Protocol: chat, v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        answer = SWITCH[:-2] + b"Sec-WebSocket-Protocol: v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        client, backend = self.opened(world, UPGRADE[:-2] + extra, answer)
        for line in (
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Key: " + KEY,
            b"Sec-WebSocket-Protocol: chat, v2",
            b"Sec-WebSocket-Extensions: permessage-deflate",
            b"X-Forwarded-For: 192.0.2.1",
        ):
            self.assertIn(line + b"\r\n", self.asked)
        self.assertEqual(sorted(client.received().split(b"\r\n")), sorted(answer.split(b"\r\n")))
        client.send(frame(1, b"hi", mask=MASK))
        self.assertEqual(backend.received(), frame(1, b"hi", mask=MASK))
        backend.send(frame(1, b"ho"))
        self.assertEqual(client.received(), frame(1, b"ho"))
        self.assertEqual((world.counters.active, world.backends[0].active, len(world.proxy.tunnels)), (0, 1, 1))
        self.assertEqual(world.counters.responses[1], 1)

    def test_the_end_is_accounted_for(self) -> None:
        world = World()
        client, backend = self.opened(world)
        client.send(close_frame(1000, "", MASK))
        backend.send(close_frame(1000))
        backend.end()
        self.assertTrue(client.transport.half_closed)
        client.end()
        self.assertTrue(backend.transport.disconnecting)
        client.close()
        backend.close()
        tunnels = world.proxy.tunnels
        self.assertEqual((len(tunnels), tunnels.total, tunnels.closes), (0, 1, {1000: 1}))
        self.assertEqual((world.backends[0].active, world.backends[0].connections_open), (0, 0))
        self.assertEqual((world.counters.connections_open, world.counters.errors), (0, {}))

    def test_bytes_behind_the_heads_are_kept(self) -> None:
        world = World()
        client, backend = self.opened(world, UPGRADE + frame(1, b"early", mask=MASK), SWITCH + frame(1, b"welcome"))
        self.assertTrue(client.received().endswith(b"\r\n\r\n" + frame(1, b"welcome")))
        self.assertEqual(backend.received(), frame(1, b"early", mask=MASK))

    def test_nothing_of_the_client_goes_before_the_switch(self) -> None:
        world = World()
        client = world.client()
        client.send(UPGRADE)
        backend = world.accept()
        backend.received()
        client.send(frame(1, b"x", mask=MASK))
        self.assertEqual(backend.received(), b"")
        backend.send(SWITCH)
        self.assertEqual(backend.received(), frame(1, b"x", mask=MASK))

    def test_other_answers_leave_the_connections_usable(self) -> None:
        for answer in (
            OK,
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ):
            world = World()
            client, backend = self.opened(world, answer=answer)
            self.assertEqual(client.received(), answer)
            client.send(GET)
            self.assertTrue(backend.received().startswith(b"GET / HTTP/1.1"))
            backend.send(OK)
            self.assertEqual(client.received(), OK)
            self.assertEqual(len(world.proxy.tunnels), 0)

    def test_what_was_sent_ahead_of_a_refusal_is_a_request(self) -> None:
        """Both sides agree on what the bytes are: nobody is in a tunnel."""
        world = World()
        client = world.client()
        client.send(UPGRADE + GET)
        backend = world.accept()
        self.assertEqual(backend.received().count(b"GET "), 1)
        backend.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(backend.received().startswith(b"GET / HTTP/1.1"))

    def test_agreements_that_are_none(self) -> None:
        for answer in (
            SWITCH.replace(ACCEPT, KEY),
            SWITCH.replace(b"Upgrade: websocket\r\n", b""),
            SWITCH.replace(b"Connection: Upgrade\r\n", b""),
            SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        ):
            world = World()
            client, backend = self.opened(world, answer=answer)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "), answer)
            self.assertTrue(backend.transport.aborted)
            self.assertEqual(len(world.proxy.tunnels), 0)

    def test_switch_that_nobody_asked_for(self) -> None:
        world = World()
        client, backend = self.opened(world, GET, SWITCH)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertTrue(backend.transport.aborted)

    def test_no_handshake(self) -> None:
        for request, status in (
            (UPGRADE.replace(KEY, b"short"), b"400"),
            (UPGRADE[:-2] + b"Content-Length: 3\r\n\r\nabc", b"400"),
            (UPGRADE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
            (UPGRADE.replace(b"Version: 13", b"Version: 12"), b"426"),
        ):
            world = World()
            client = world.client()
            client.send(request)
            answer = client.received()
            self.assertTrue(answer.startswith(b"HTTP/1.1 " + status), (request, answer))
            self.assertEqual(world.dialer.dials, [])
            if status == b"426":
                self.assertIn(b"\r\nUpgrade: websocket\r\n", answer)
                self.assertIn(b"\r\nSec-WebSocket-Version: 13\r\n", answer)

    def test_switched_off(self) -> None:
        world = World(route_options={"websocket": WebSocketOptions(enabled=False)})
        client = world.client()
        client.send(UPGRADE)
        answer = client.received()
        self.assertTrue(answer.startswith(b"HTTP/1.1 426 "))
        self.assertIn(b"\r\nConnection: Upgrade\r\nUpgrade: HTTP/1.1\r\n", answer)
        client.send(GET)  # and the connection is good for more
        world.accept().send(OK)
        self.assertEqual(client.received(), OK)

    def test_switched_off_and_ignored(self) -> None:
        world = World(route_options={"websocket": WebSocketOptions(enabled=False, ignore=True)})
        client, _ = self.opened(world, answer=OK)
        self.assertNotIn(b"upgrade", self.asked.lower().replace(b"sec-websocket", b""))
        self.assertEqual(client.received(), OK)

    def test_origins(self) -> None:
        for origin, allowed in (
            (b"Origin: https://app.example\r\n", True),
            (b"Origin: HTTPS://App.example\r\n", True),
            (b"Origin: https://evil.example\r\n", False),
            (b"Origin: null\r\n", False),
            (b"", False),
        ):
            world = World(route_options={"websocket": WebSocketOptions(origins=["https://app.example"])})
            client = world.client()
            client.send(UPGRADE[:-2] + origin + b"\r\n")
            self.assertEqual(bool(world.dialer.dials), allowed, origin)
            if not allowed:
                self.assertTrue(client.received().startswith(b"HTTP/1.1 403 "))

    def test_affinity_and_edits(self) -> None:
        sticky = StickyCookie("srv", b"s" * 32, ["b1"], ttl=60)
        edits = HeaderEdits({"X-Team": "ws"})
        client, _ = self.opened(World(route_options={"affinity": sticky, "response_edits": edits}))
        answer = client.received()
        self.assertIn(b"\r\nSet-Cookie: srv=", answer)
        self.assertIn(b"\r\nX-Team: ws\r\n", answer)

    def test_a_tunnel_holds_its_place(self) -> None:
        world = World(max_connections=1)
        client, backend = self.opened(world)
        other = world.client()
        other.send(GET)
        self.assertEqual(world.pool.queued, 1)
        backend.reset()
        client.close()
        world.accept().send(OK)
        self.assertEqual(other.received(), OK)

    def test_a_kept_connection_carries_a_handshake(self) -> None:
        world = World()
        client, backend = self.opened(world, GET, OK)
        client.received()
        client.send(UPGRADE)
        self.assertIn(b"Upgrade: websocket", backend.received())
        backend.send(SWITCH)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 101 "))
        self.assertEqual(world.connections[world.backends[0]].idle, 0)

    def test_the_client_leaves_before_the_answer(self) -> None:
        world = World()
        client = world.client()
        client.send(UPGRADE)
        backend = world.accept()
        client.close()
        self.assertTrue(backend.transport.aborted)
        self.assertEqual((world.backends[0].active, world.counters.active), (0, 0))


class TunnelWorld:
    """An open tunnel between two wires."""

    client_ip = "192.0.2.1"
    route = None

    def __init__(self, messages: MessageOptions | None = None, extensions: bytes = b"", **options: float) -> None:
        self.request = parse_request(UPGRADE.removesuffix(b"\r\n\r\n"))
        handshake = Handshake(self.request)
        if messages is not None and extensions:
            _, handshake.client_extension = messages.endpoints.agree_with_client([extensions])
        self.clock = Clock()
        deadlines = Deadlines(self.clock)
        deadlines.start()
        self.counters = ListenerCounters("t")
        self.tunnels = Tunnels(self.counters, deadlines, read=30, write=30)
        self.backend_side = Backend("b", Address("10.0.0.1", 1))
        self.backend_side.lease()
        self.client, self.backend = Wire(), Wire()
        self.over: list[str] = []
        self.ended: list[ExchangeError | None] = []
        self.tunnel: Tunnel = self.tunnels.open(
            self,
            WebSocketOptions(messages=messages, **options),  # type: ignore[arg-type]
            handshake,
            self.backend_side,
            Line(self.client, b"", lambda: self.over.append("client")),
            Line(self.backend, b"", lambda: self.over.append("backend")),
        )

    def finished(self, error: ExchangeError | None, bytes_in: int, bytes_out: int) -> None:
        self.ended.append(error)
        self.tunnels.closed(self.tunnel)

    @property
    def reason(self) -> str:
        (error,) = self.ended
        return error.reason if error is not None else ""

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds * 4) + 1):
            self.clock.advance(0.25)


LOST = close_frame(1011, "backend lost")
AWAY = close_frame(1001, "going away")


class Ends(SynchronousTestCase):
    """How a tunnel ends."""

    def part(self, world: TunnelWorld) -> None:
        world.tunnel.part(1001, Stopping(), "going away")

    def test_a_lost_backend_is_told(self) -> None:
        for end in ("reset", "end"):
            world = TunnelWorld()
            world.backend.send(frame(1, b"x"))
            getattr(world.backend, end)()
            self.assertEqual(world.client.got, frame(1, b"x") + LOST)
            self.assertTrue(world.client.saw_end)
            world.client.send(close_frame(1011, "", MASK))
            self.assertEqual(world.ended, [])
            world.client.end()
            self.assertEqual((world.reason, world.tunnels.closes), ("tunnel_lost", {1011: 1}))
            self.assertEqual(sorted(world.over), ["backend", "client"])

    def test_a_client_that_does_not_answer_is_not_waited_for_long(self) -> None:
        world = TunnelWorld(close_timeout=2)
        world.backend.reset()
        world.advance(1)
        self.assertEqual(world.client.gone, "")
        world.advance(3)
        self.assertNotEqual(world.client.gone, "")
        self.assertEqual(world.reason, "tunnel_lost")

    def test_a_backend_lost_within_a_frame(self) -> None:
        """No Close frame can be put there; a reset says that something is wrong."""
        world = TunnelWorld()
        world.backend.send(frame(1, b"hello")[:4])
        world.backend.reset()
        self.assertEqual((world.client.got, world.client.gone), (frame(1, b"hello")[:4], "aborted"))
        self.assertEqual((world.reason, world.tunnels.closes), ("tunnel_lost", {1006: 1}))

    def test_a_backend_that_said_goodbye_is_not_lost(self) -> None:
        for end in ("reset", "end"):
            world = TunnelWorld()
            world.client.send(close_frame(1000, "", MASK))
            world.backend.send(close_frame(1000))
            getattr(world.backend, end)()
            self.assertEqual(world.client.got, close_frame(1000))
            self.assertTrue(world.client.saw_end)
            world.client.end()
            self.assertEqual((world.reason, world.tunnels.closes), ("", {1000: 1}))

    def test_a_backend_that_does_not_answer_a_goodbye(self) -> None:
        """It may close without a word what a client has closed against the rules."""
        for end in ("reset", "end"):
            world = TunnelWorld()
            world.client.send(close_frame(999, "", MASK))
            getattr(world.backend, end)()
            self.assertEqual((world.client.got, world.client.saw_end), (b"", True))
            world.client.end()
            self.assertEqual((world.reason, world.tunnels.closes), ("", {999: 1}))

    def test_a_client_that_leaves(self) -> None:
        world = TunnelWorld()
        world.client.reset()
        self.assertEqual((world.backend.gone, world.backend.got), ("aborted", b""))
        self.assertEqual((world.reason, world.tunnels.closes), ("client_gone", {1006: 1}))

    def test_a_client_that_ends_without_a_word(self) -> None:
        world = TunnelWorld()
        world.client.end()
        self.assertTrue(world.backend.saw_end)
        world.backend.send(frame(1, b"rest"))
        self.assertEqual(world.client.got, frame(1, b"rest"))
        world.backend.end()
        self.assertEqual(world.client.got, frame(1, b"rest"))
        self.assertEqual((world.reason, world.client.gone), ("client_gone", "closed"))

    def test_parting(self) -> None:
        """The client's answer goes to the backend as its goodbye; what the backend still sends is not seen."""
        world = TunnelWorld()
        self.part(world)
        self.assertEqual(world.client.got, AWAY)
        world.backend.send(frame(1, b"late"))
        world.client.send(frame(1, b"last words", mask=MASK) + close_frame(1001, "", MASK))
        self.assertEqual(world.client.got, AWAY)
        self.assertEqual(world.backend.got, frame(1, b"last words", mask=MASK) + close_frame(1001, "", MASK))
        world.backend.send(close_frame(1001))
        world.backend.end()
        self.assertTrue(world.client.saw_end)
        world.client.end()
        self.assertEqual((world.client.got, world.reason, world.tunnels.closes), (AWAY, "stopping", {1001: 1}))

    def test_parting_waits_for_the_end_of_a_frame(self) -> None:
        whole = frame(2, bytes(500))
        for cut in (1, 2, 4, 5, 300, len(whole) - 1):
            for more in (b"", frame(1, b"next"), frame(1, b"next")[:3]):
                world = TunnelWorld()
                world.backend.send(whole[:cut])
                self.part(world)
                self.assertEqual(world.client.got, whole[:cut])
                world.backend.send(whole[cut:] + more)
                self.assertEqual(world.client.got, whole + AWAY, cut)
                world.backend.send(frame(1, b"more"))
                self.assertEqual(world.client.got, whole + AWAY)

    def test_parting_while_the_ends_part(self) -> None:
        world = TunnelWorld()
        world.backend.send(close_frame(4000, "own"))
        self.part(world)
        self.assertEqual(world.client.got, close_frame(4000, "own"))
        half = TunnelWorld()
        half.backend.send(close_frame(4000)[:3])
        self.part(half)
        half.backend.send(close_frame(4000)[3:])
        self.assertEqual(half.client.got, close_frame(4000))

    def test_nobody_answers(self) -> None:
        world = TunnelWorld(close_timeout=2)
        self.part(world)
        world.advance(4)
        self.assertEqual(world.client.gone, "closed")
        self.assertEqual(world.backend.gone, "closed")
        self.assertEqual(world.backend.got[:2], bytes((0x88, 0x82)))  # masked, as a client's has to be
        self.assertEqual(world.reason, "stopping")

    def test_a_backend_within_a_frame_is_not_waited_for_long(self) -> None:
        world = TunnelWorld(close_timeout=2)
        world.backend.send(frame(2, bytes(500))[:10])
        self.part(world)
        world.advance(4)
        self.assertEqual((world.client.got, world.reason), (frame(2, bytes(500))[:10], "stopping"))

    def test_kill(self) -> None:
        world = TunnelWorld()
        world.tunnel.kill()
        self.assertEqual((world.client.got, world.client.gone), (close_frame(1001, "stopping"), "closed"))
        self.assertEqual((world.backend.gone, world.reason), ("closed", "stopping"))

    def test_kill_does_not_wait_for_who_takes_nothing(self) -> None:
        world = TunnelWorld(close_timeout=2)
        world.client.stall()
        world.backend.send(frame(2, bytes(100)))
        world.tunnel.kill()
        world.advance(5)
        self.assertEqual((world.client.gone, world.backend.gone), ("aborted", "closed"))

    def test_silence(self) -> None:
        world = TunnelWorld(idle_timeout=60, close_timeout=2)
        for _ in range(3):
            world.advance(50)
            world.client.send(frame(9, b"", mask=MASK))
        self.assertEqual(world.client.got, b"")
        world.advance(62)
        self.assertEqual(world.client.got, close_frame(1001, "idle timeout"))
        world.advance(4)
        self.assertEqual((world.reason, world.tunnels.closes), ("idle_timeout", {1001: 1}))

    def test_a_client_that_takes_nothing(self) -> None:
        world = TunnelWorld()
        world.client.stall()
        world.backend.send(frame(2, bytes(120)))
        self.assertFalse(world.backend.reading)
        world.advance(32)
        self.assertEqual((world.client.gone, world.reason), ("aborted", ClientTimeout.reason))

    def test_a_stalled_client_and_a_lost_backend(self) -> None:
        world = TunnelWorld()
        world.client.stall()
        world.backend.send(frame(2, bytes(120)))
        world.backend.reset()
        world.client.unstall()
        self.assertEqual(world.client.got, frame(2, bytes(120)) + LOST)

    def test_counting(self) -> None:
        world = TunnelWorld()
        world.client.send(frame(1, b"a", mask=MASK) + frame(9, b"", mask=MASK) + frame(2, bytes(200), mask=MASK))
        world.backend.send(frame(1, b"a", fin=False))
        world.backend.send(frame(0, b"b"))
        counts = world.tunnels.counts
        self.assertEqual((counts.messages_in, counts.messages_out), (2, 1))
        self.assertEqual((counts.bytes_in, counts.bytes_out), (len(world.backend.got), len(world.client.got)))

    def test_codes_are_bounded(self) -> None:
        closes: dict[int, int] = {}
        for code in range(1000, 1100):
            world = TunnelWorld()
            world.tunnels.closes = closes
            world.backend.send(close_frame(code))
            world.backend.end()
            world.client.end()
        self.assertLessEqual(len(closes), 65)
        self.assertEqual(sum(closes.values()), 100)

    def test_any_order(self) -> None:
        """Whatever happens: the client never sees a Close frame within another frame, nor anything behind one, and all
        is accounted for in the end."""
        rng = random.Random(20250)
        for _ in range(400):
            world = TunnelWorld(idle_timeout=20, close_timeout=2)
            stream = b"".join(frame(rng.choice((1, 2, 9)), bytes(rng.choice((0, 5, 200)))) for _ in range(6))
            stream += close_frame(1000) if rng.random() < 0.3 else b""
            sent = 0
            for _ in range(12):
                action = rng.randrange(12)
                if action < 5 and not world.backend.gone and world.backend.reading:
                    step = rng.choice((1, 3, 7, 60, 250))
                    world.backend.send(stream[sent : sent + step])
                    sent += step
                elif action == 5 and not world.client.gone and world.client.reading:
                    world.client.send(rng.choice((frame(1, b"q", mask=MASK), close_frame(1000, "", MASK))))
                elif action == 6:
                    rng.choice((world.client.stall, world.client.unstall))()
                elif action == 7 and rng.random() < 0.5:
                    self.part(world)
                elif action == 8 and rng.random() < 0.3 and not world.backend.gone and world.backend.reading:
                    rng.choice((world.backend.reset, world.backend.end))()
                elif action == 9 and rng.random() < 0.3 and not world.client.gone and world.client.reading:
                    rng.choice((world.client.reset, world.client.end))()
                else:
                    world.advance(rng.choice((0.5, 3)))
            world.client.unstall()
            world.advance(200)
            self.assertEqual(len(world.ended), 1)
            self.assertEqual((len(world.tunnels), sorted(world.over)), (0, ["backend", "client"]))
            self.check_frames(world.client.got)

    def check_frames(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            opcode, size = data[at] & 0x0F, data[at + 1] & 0x7F if at + 1 < len(data) else 0
            self.assertIn(opcode, (1, 2, 8, 9))
            if size == 126:
                size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            at += 2 + size
            if opcode == 8:
                self.assertGreaterEqual(at, len(data))


class Together(SynchronousTestCase):
    """Many tunnels, closed over a time."""

    def test_spread(self) -> None:
        world = World(route_options={"websocket": WebSocketOptions(close_timeout=2)})
        clients = []
        for _ in range(40):
            client = world.client()
            client.send(UPGRADE)
            world.accept().send(SWITCH)
            client.received()
            clients.append(client)
        world.proxy.drain_spread = 5.0
        world.proxy.drain()
        self.assertEqual(b"".join(client.received() for client in clients), b"")
        patience = world.proxy.hurry()
        self.assertGreaterEqual(patience, 5 + 2)
        told = []
        for _ in range(11):
            told.append(sum(client.received() == AWAY for client in clients))
            world.advance(0.5)
        self.assertEqual(sum(told), 40)
        self.assertLessEqual(max(told), 10)
        self.assertGreaterEqual(sum(1 for number in told if number), 6)
