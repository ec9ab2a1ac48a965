"""The far ends of HTTP/2 connections in memory: the `h2` package's own connections, which know nothing of Balance.

Rule of this file: a peer says what the test tells it to, acknowledges what it has read unless it is told not to, and keeps
what it was sent, stream by stream.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from h2.connection import ConnectionState

from balance.testing import Application
from test.unit.support import Peer, World

Fields = list[tuple[bytes, bytes]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a.example")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
OK: Fields = [(b":status", b"200")]


class Stream:
    """What came on one stream."""

    def __init__(self) -> None:
        self.fields: Fields = []
        self.informational: list[Fields] = []
        self.data = b""
        self.trailers: Fields | None = None
        self.ended = False
        self.reset: int | None = None

    def value(self, name: bytes) -> bytes | None:
        return dict(self.fields).get(name)


class Http2Peer:
    """One end, over a `Peer`."""

    def __init__(
        self,
        world: World | Application,
        peer: Peer,
        *,
        client: bool,
        window: int = 0,
        acknowledge: bool = True,
        settings: dict[Any, int] | None = None,
    ) -> None:
        self.world = world
        self.peer = peer
        self.acknowledge = acknowledge
        self.client = client
        self.streams: dict[int, Stream] = defaultdict(Stream)
        self.requests: list[int] = []
        self.goaways: list[h2.events.ConnectionTerminated] = []
        config = h2.config.H2Configuration(client_side=client, header_encoding=None, validate_outbound_headers=False)
        config.normalize_outbound_headers = False
        self.connection = h2.connection.H2Connection(config)
        if settings:
            self.connection.local_settings = h2.settings.Settings(client, settings)
        self.connection.initiate_connection()
        if window:
            self.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.pump()

    def pump(self) -> None:
        """Exchange bytes until neither side has more to say."""
        while True:
            sent = self.connection.data_to_send()
            if sent and not self.peer.gone:
                self.peer.send(sent)
            self.world.clock.advance(0)
            received = self.peer.received()
            self._read(received)
            if not received and not self.connection._data_to_send:
                return

    def _read(self, data: bytes) -> None:
        """Frame by frame, as `h2` takes a connection for closed once either side said GOAWAY; it goes on, in truth."""
        while data:
            end = 9 + int.from_bytes(data[:3], "big")
            for event in self.connection.receive_data(data[:end]):
                self._saw(event)
            data = data[end:]
            self.go_on()

    def go_on(self) -> None:
        """Keep the connection open after a graceful GOAWAY."""
        machine = self.connection.state_machine
        if machine.state is ConnectionState.CLOSED and not any(each.error_code for each in self.goaways):
            machine.state = ConnectionState.CLIENT_OPEN if self.client else ConnectionState.SERVER_OPEN

    def go_away(self, last_stream_id: int) -> None:
        self.connection.close_connection(last_stream_id=last_stream_id)
        self.go_on()
        self.pump()

    def _saw(self, event: Any) -> None:
        stream = self.streams[getattr(event, "stream_id", 0) or 0]
        if isinstance(event, h2.events.RequestReceived):
            stream.fields = [tuple(field) for field in event.headers]
            self.requests.append(event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived):
            stream.fields = [tuple(field) for field in event.headers]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.informational.append([tuple(field) for field in event.headers])
        elif isinstance(event, h2.events.DataReceived):
            stream.data += event.data
            if self.acknowledge and event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = [tuple(field) for field in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event)

    # --- what it says -------------------------------------------------------------------------------------------

    def request(self, fields: Fields = GET, data: bytes = b"", *, end: bool = True) -> int:
        """Open a stream."""
        stream_id: int = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream_id, fields, end_stream=end and not data)
        if data:
            self.connection.send_data(stream_id, data, end_stream=end)
        self.pump()
        return stream_id

    def respond(self, stream_id: int, fields: Fields = OK, data: bytes = b"", *, end: bool = True) -> None:
        self.connection.send_headers(stream_id, fields, end_stream=end and not data)
        if data:
            self.connection.send_data(stream_id, data, end_stream=end)
        self.pump()

    def data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.connection.send_data(stream_id, data, end_stream=end)
        self.pump()

    def fields(self, stream_id: int, fields: Fields, *, end: bool = True) -> None:
        """Trailers, or a 1xx response."""
        self.connection.send_headers(stream_id, fields, end_stream=end)
        self.pump()

    def reset(self, stream_id: int, code: int = 8) -> None:
        self.connection.reset_stream(stream_id, code)
        self.pump()


def client_of(world: World, **options: Any) -> Http2Peer:
    """A client that speaks HTTP/2 with prior knowledge."""
    return Http2Peer(world, world.client(), client=True, **options)


def backend_of(world: World, **options: Any) -> Http2Peer:
    """The backend that the oldest dial reaches."""
    return Http2Peer(world, world.accept(), client=False, **options)
