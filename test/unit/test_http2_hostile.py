"""HTTP/2 peers that mean it ill, or are merely unlucky, on every session: what it costs, and what is left of it."""

from __future__ import annotations

from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import POST, backend_of, client_of
from test.unit.test_http2_protocols import Base

H1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@on_every_session
class LastBytes(Base):
    """The end of a body that waited for a window."""

    def test_response(self) -> None:
        world = self.front()
        client = client_of(world, acknowledge=False)
        stream = client.request()
        world.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)
        client.pump()
        client.connection.increment_flow_control_window(70_000)
        client.connection.increment_flow_control_window(70_000, stream)
        client.pump()
        self.assertTrue(client.streams[stream].ended)
        self.assertEqual(client.peer.protocol.streams, {})
        world.advance(70)
        self.assertEqual(world.counters.errors, {})

    def test_request(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request(POST, b"x" * 16_000, end=False)
        backend = backend_of(world, acknowledge=False)
        for n in range(5):
            client.pump()
            client.data(stream, b"x" * 16_000, end=n == 4)
        backend.pump()
        self.assertEqual(len(backend.streams[1].data), 65_535)
        backend.connection.increment_flow_control_window(70_000)
        backend.connection.increment_flow_control_window(70_000, 1)
        backend.pump()
        self.assertTrue(backend.streams[1].ended)
        world.advance(31)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"504")
        self.assertEqual(list(world.counters.errors), ["response_timeout"])
        self.assert_rest(world)
