"""HTTP/2 peers that mean it ill, or are merely unlucky, on every session: what it costs, and what is left of it."""

from __future__ import annotations

from h2.settings import SettingCodes

from balance.pool.pool import Pool
from test.unit.http2_cases import on_every_session
from test.unit.http2_peers import POST, Http2Peer, backend_of, client_of
from test.unit.support import Peer, World
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


@on_every_session
class Backends(Base):
    """Backends that are late, silent, full, or say one thing and do another."""

    def test_settings_come_late(self) -> None:
        """How many streams it takes is not known until then, so none is refused."""
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(7)]
        peers = [world.accept()]
        self.assertNotIn(b"a.example", peers[0].received())
        backends = [backend_of_peer(world, peers.pop(), 3)]
        while world.dialer.dials:
            backends.append(backend_of_peer(world, world.accept(), 3))
        answered = 0
        for backend in backends:
            backend.pump()
            while backend.requests:
                self.assertLessEqual(len(backend.requests), 3)
                backend.respond(backend.requests.pop())
                answered += 1
        client.pump()
        self.assertEqual([client.streams[stream].value(b":status") for stream in streams], [b"200"] * 7)
        self.assertEqual((answered, world.counters.retries), (7, 0))
        self.assert_rest(world)

    def test_settings_never_come(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request() for _ in range(3)]
        peer = world.accept()
        world.advance(6)
        client.pump()
        self.assertEqual([client.streams[stream].value(b":status") for stream in streams], [b"504"] * 3)
        world.advance(1)
        self.assertTrue(peer.transport.closed)
        self.assertEqual(world.dialer.dials, [])
        self.assert_rest(world)

    def test_closed_before_settings(self) -> None:
        """Nothing was sent, so another backend may have it, whatever the method."""
        world = self.both(backends=2)
        client = client_of(world)
        stream = client.request(POST, b"x")
        world.accept().close()
        backend = backend_of(world)
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assert_rest(world)

    def test_no_streams_at_all(self) -> None:
        """SETTINGS_MAX_CONCURRENT_STREAMS of 0: no connection after the other."""
        world = self.both()
        client = client_of(world)
        first = client.request()
        backend = backend_of_peer(world, world.accept(), 0)
        others = [client.request() for _ in range(20)]
        self.assertEqual(world.dialer.dials, [])
        backend.connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        backend.pump()
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[first].value(b":status"), b"200")
        world.advance(6)
        client.pump()
        self.assertEqual({client.streams[stream].value(b":status") for stream in others[1:]}, {b"504"})
        self.assertEqual(len(world.connections[world.backends[0]]._waiting), 0)

    def test_dead_under_work(self) -> None:
        """What we send is no sign of the backend's life."""
        world = self.both()
        client = client_of(world)
        client.request()
        backend = backend_of(world)
        for _ in range(80):
            client.request()
            world.advance(1)
            backend.peer.received()  # and never answers, not even PING
        self.assertTrue(backend.peer.transport.aborted)

    def test_no_answer_after_a_stall(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request(POST, b"x", end=False)
        backend = backend_of(world)
        client.pump()
        backend.peer.stall()
        client.data(stream, b"y", end=True)
        backend.peer.unstall()
        for _ in range(4):
            world.advance(10)
            backend.pump()  # answers PINGs
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"504")
        self.assert_rest(world)

    def test_codes_that_ask_for_another_try_are_not_passed_on(self) -> None:
        """Once a response has begun, the request was processed: a client that believed it would do it twice."""
        for code, told in ((7, 2), (13, 2), (8, 8), (11, 11)):
            world = self.both()
            client = client_of(world)
            stream = client.request(POST, b"x")
            backend = backend_of(world)
            backend.respond(1, data=b"some", end=False)
            backend.reset(1, code)
            client.pump()
            self.assertEqual((client.streams[stream].reset, client.streams[stream].ended), (told, False))

    def test_refused_for_ever(self) -> None:
        world = self.both(backends=2)
        client = client_of(world)
        stream = client.request(POST, b"x")
        refused = 0
        while world.dialer.dials:
            backend = backend_of(world)
            for each in backend.requests:
                backend.reset(each, 7)
                refused += 1
            self.assertLess(refused, 5)
            client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"502")
        self.assert_rest(world)

    def test_refused_by_the_one_that_would_be_chosen_again(self) -> None:
        """Whoever balances: one that refuses is asked again only where there is no other."""
        for count in (2, 1):
            world = self.both(backends=count)
            self.patch(Pool, "pick", lambda pool, key, tried: next((b for b in pool.members if b not in tried), None))
            client = client_of(world)
            stream = client.request(POST, b"x")
            first = backend_of(world)
            first.reset(1, 7)
            if count == 2:
                backend_of(world).respond(1)
            else:
                first.respond(3)
                self.assertEqual(world.dialer.dials, [])
            client.pump()
            self.assertEqual(client.streams[stream].value(b":status"), b"200")
            self.assertEqual([each.requests for each in world.backends], [1, 1] if count == 2 else [2])
            self.assert_rest(world)

    def test_goaway_twice(self) -> None:
        world = self.both()
        client = client_of(world)
        streams = [client.request(POST, b"%d" % n) for n in range(4)]
        backend = backend_of(world)
        backend.go_away(5)
        backend.go_away(1)
        other = backend_of(world)
        client.pump()
        self.assertEqual([other.streams[each].data for each in other.requests], [b"3", b"1", b"2"])
        backend.respond(1)
        for each in other.requests:
            other.respond(each, data=other.streams[each].data)
        client.pump()
        self.assertEqual([client.streams[each].data for each in streams], [b"", b"1", b"2", b"3"])
        self.assertTrue(backend.peer.transport.closed)
        self.assert_rest(world)

    def test_goaway_is_all_it_says(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        backend = backend_of_peer(world, world.accept(), None)
        backend.go_away(0)
        backend_of(world).respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assert_rest(world)

    def test_client_resets_while_waiting(self) -> None:
        world = self.both()
        client = client_of(world)
        first, second = client.request(), client.request()
        client.reset(first)
        backend = backend_of(world)
        self.assertEqual(backend.requests, [1])
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[second].value(b":status"), b"200")
        third = client.request()
        client.reset(third)
        backend.pump()
        self.assertEqual(backend.streams[3].reset, 8)
        self.assert_rest(world)

    def test_replayed_once_and_whole(self) -> None:
        """More of the body comes while the first backend is being asked."""
        world = self.both()
        client = client_of(world)
        stream = client.request(POST, b"one,", end=False)
        backend = backend_of(world)
        client.pump()
        client.data(stream, b"two,")
        backend.pump()
        self.assertEqual(backend.streams[1].data, b"one,two,")
        backend.go_away(0)
        client.data(stream, b"three,")
        other = backend_of(world)
        client.data(stream, b"four,")
        client.fields(stream, [(b"x-t", b"v")])
        other.pump()
        self.assertEqual(other.streams[1].data, b"one,two,three,four,")
        self.assertEqual(other.streams[1].trailers, [(b"x-t", b"v")])
        other.respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assert_rest(world)

    def test_stops_while_a_connection_is_being_opened(self) -> None:
        world = self.both()
        client = client_of(world)
        stream = client.request()
        world.connections[world.backends[0]].close()
        backend = backend_of(world)
        backend.respond(1)
        client.pump()
        self.assertEqual(client.streams[stream].value(b":status"), b"200")
        self.assertTrue(backend.peer.transport.closed)


def backend_of_peer(world: World, peer: Peer, streams: int | None) -> Http2Peer:
    """A backend that takes so many streams."""
    settings = {} if streams is None else {SettingCodes.MAX_CONCURRENT_STREAMS: streams}
    return Http2Peer(world, peer, client=False, settings=settings)
