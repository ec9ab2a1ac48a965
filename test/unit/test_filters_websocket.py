"""What filters have of an exchange that becomes a WebSocket connection: the head of its 101, and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.settings
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.websocket import close_frame
from balance.filters import Context, phase
from balance.http.filters import FilterChain
from balance.model import ResponseHead
from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import backend_of, client_of
from test.unit.support import Peer, World
from test.unit.test_http2_protocols import Base
from test.unit.test_websocket_codec import MASK, frame
from test.unit.test_websocket_http2 import CONNECT, OK_FIELDS, switch_for
from test.unit.test_websocket_tunnel import SWITCH, UPGRADE

Head = Callable[[Context, ResponseHead], Any]


@phase("response_head")
def brand(context: Context, response: ResponseHead) -> None:
    response.headers.set(b"x-brand", b"%d" % response.status)


def with_filters(*filters: Any) -> dict[str, Any]:
    return {"route_options": {"filters": FilterChain([(each.__name__, each) for each in filters])}}


class OverHttp1(SynchronousTestCase):
    def opened(self, *filters: Any, answer: bytes = SWITCH) -> tuple[World, Peer, Peer]:
        world = World(**with_filters(*filters))
        client = world.client()
        client.send(UPGRADE)
        backend = world.accept()
        backend.received()
        backend.send(answer)
        return world, client, backend

    def test_its_head_can_be_edited(self) -> None:
        ended = []

        @phase("log")
        def log(context: Context) -> None:
            ended.append((context.status, context.response and context.response.status, context.body_out))

        world, client, backend = self.opened(brand, log, answer=SWITCH + frame(1, b"welcome"))
        expected = SWITCH[:-2] + b"x-brand: 101\r\n\r\n"
        head, end, rest = client.received().partition(b"\r\n\r\n")
        self.assertEqual(sorted((head + end).split(b"\r\n")), sorted(expected.split(b"\r\n")))
        self.assertEqual(rest, frame(1, b"welcome"))
        client.send(frame(1, b"hi", mask=MASK))
        self.assertEqual(backend.received(), frame(1, b"hi", mask=MASK))
        self.assertEqual((len(world.proxy.tunnels), ended), (1, []))
        client.send(close_frame(1000, "", MASK))
        backend.send(close_frame(1000))
        backend.end()
        client.end()
        client.close()
        backend.close()
        self.assertEqual(ended, [(101, 101, len(frame(1, b"welcome") + close_frame(1000)))])

    def test_the_last_filter_is_the_first(self) -> None:
        @phase("response_head")
        def over(context: Context, response: ResponseHead) -> None:
            response.headers.set(b"x-brand", b"over " + (response.headers.get(b"x-brand") or b"nothing"))

        _, client, _ = self.opened(over, brand)
        self.assertIn(b"\r\nx-brand: over 101\r\n", client.received())

    def test_what_need_not_wait_is_as_good(self) -> None:
        @phase("response_head")
        async def soon(context: Context, response: ResponseHead) -> None:
            await succeed(None)
            brand(context, response)

        world, client, _ = self.opened(soon)
        self.assertIn(b"\r\nx-brand: 101\r\n", client.received())
        self.assertEqual(len(world.proxy.tunnels), 1)

    def refused(self, *filters: Any) -> World:
        """The client is told so, the backend is left, and nothing is a tunnel."""
        world, client, backend = self.opened(*filters, answer=SWITCH + frame(1, b"welcome"))
        self.assertTrue(client.received().startswith(b"HTTP/1.1 500 "))
        self.assertTrue(backend.transport.aborted)
        self.assertEqual(world.counters.errors, {"filter_error": 1})
        self.assertEqual((world.counters.active, world.backends[0].active, world.proxy.tunnels.total), (0, 0, 0))
        return world

    def test_nothing_can_wait(self) -> None:
        cancelled: list[Any] = []

        @phase("response_head")
        def late(context: Context, response: ResponseHead) -> Deferred[None] | None:
            return Deferred(cancelled.append) if response.status == 101 else None

        self.refused(brand, late)
        self.assertEqual(len(cancelled), 1)
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("cannot where the status is 101", str(failure.value))

    def test_what_is_not_to_be_edited(self) -> None:
        def status(response: ResponseHead) -> None:
            response.status = 200

        def accept(response: ResponseHead) -> None:
            response.headers.set(b"Sec-WebSocket-Accept", b"x")

        def protocol(response: ResponseHead) -> None:
            response.headers.add(b"Sec-WebSocket-Protocol", b"chat")

        def upgrade(response: ResponseHead) -> None:
            response.headers.set(b"Upgrade", b"h2c")

        for edit in (status, accept, protocol, upgrade):

            @phase("response_head")
            def wrong(context: Context, response: ResponseHead, edit: Callable[[ResponseHead], None] = edit) -> None:
                if response.status == 101:
                    edit(response)

            self.refused(wrong)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1, edit.__name__)

    def test_one_that_fails(self) -> None:
        @phase("response_head")
        def broken(context: Context, response: ResponseHead) -> None:
            raise KeyError("tenant")

        self.refused(brand, broken)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


@on_every_session
class OverHttp2(Base):
    def test_from_a_client(self) -> None:
        world = World(http2=self.server(connect=True), **with_filters(brand))
        client = client_of(world)
        stream = client.request(CONNECT, end=False)
        backend = world.accept()
        backend.send(switch_for(backend.received()) + frame(1, b"ho"))
        client.pump()
        seen = client.streams[stream]
        self.assertEqual(sorted(seen.fields), sorted([*OK_FIELDS, (b"x-brand", b"101")]))
        self.assertEqual(seen.data, frame(1, b"ho"))

    def test_to_a_backend(self) -> None:
        @phase("response_head")
        def late(context: Context, response: ResponseHead) -> Deferred[None] | None:
            return Deferred() if response.status == 101 else None

        for filters, status in (([brand], b"101"), ([late], b"500")):
            world = self.back(**with_filters(*filters))
            client = world.client()
            client.send(UPGRADE)
            backend = backend_of(world, settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
            (stream,) = backend.requests
            backend.respond(stream, [(b":status", b"200")], end=False)
            got = client.received()
            self.assertEqual(got[9:12], status)
            self.assertEqual(b"\r\nx-brand: 101\r\n" in got, status == b"101")
            if status == b"500":
                backend.pump()
                self.assertIsNotNone(backend.streams[stream].reset)
                self.assert_rest(world)
                self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
