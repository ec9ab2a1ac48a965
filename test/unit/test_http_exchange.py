"""The life of a request, in memory: what each side is sent, and how each side is closed."""

from __future__ import annotations

import ipaddress

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http1 import ChunkedReader
from test.unit.support import Peer, World

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def read_chunked(message: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Payload and trailers of a message: how it is cut into chunks is nobody's business."""
    reader = ChunkedReader()
    payload = reader.feed(message.partition(b"\r\n\r\n")[2])
    assert reader.ended
    assert not reader.rest
    return payload, list(reader.trailers or ())


class Forwarding(SynchronousTestCase):
    """A request goes out, a response comes back."""

    def test_request_and_response(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        self.assertEqual(
            backend.received(),
            b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            b"X-Real-IP: 192.0.2.1\r\nX-Forwarded-Host: a.example\r\n\r\n",
        )
        backend.send(OK)
        self.assertEqual(client.received(), OK)
        self.assertFalse(client.transport.closed)
        self.assertEqual((world.backends[0].active, world.counters.active, world.counters.requests), (0, 0, 1))

    def test_every_split_gives_the_same(self) -> None:
        request = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n"
        response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: w\r\n\r\n"
        for cut in range(1, max(len(request), len(response))):
            world = World()
            client = world.client()
            client.send(request[:cut])
            if request[cut:]:
                client.send(request[cut:])
            backend = world.accept()
            self.assertEqual(read_chunked(backend.received()), (b"abc", [(b"t", b"v")]), cut)
            backend.send(response[:cut])
            if response[cut:]:
                backend.send(response[cut:])
            self.assertEqual(read_chunked(client.received()), (b"hi", [(b"x-t", b"w")]), cut)

    def test_connection_is_used_again(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        client.send(GET)
        self.assertEqual(world.dialer.dials, [])
        self.assertEqual(backend.received().count(b"GET /"), 2)
        self.assertEqual((world.backends[0].connections_opened, world.backends[0].connections_reused), (1, 1))

    def test_most_recently_used_first(self) -> None:
        world = World()
        clients = [world.client(), world.client()]
        for client in clients:
            client.send(GET)
        first, second = world.accept(), world.accept()
        second.send(OK)
        first.send(OK)
        first.received()
        second.received()
        clients[0].send(GET)
        self.assertTrue(first.received())
        self.assertEqual(second.received(), b"")

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        world = World()
        client = world.client()
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(50)))
        backend = world.accept()
        for n in range(50):
            self.assertTrue(backend.received().startswith(b"GET /%d " % n))
            backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n)
            self.assertTrue(client.received().endswith(b"%02d" % n))
        self.assertFalse(client.transport.closed)

    def test_a_flood_of_pipelined_requests_is_no_recursion(self) -> None:
        world = World(rules=lambda pool: [])
        client = world.client()
        client.send(GET * 5000)
        self.assertEqual(client.received().count(b"HTTP/1.1 404 "), 5000)

    def test_pipelined_bytes_are_bounded(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        for _ in range(3):
            client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 30000 + b"\r\n\r\n")
        self.assertEqual(client.transport.producerState, "paused")
        backend = world.accept()
        for _ in range(4):
            self.assertEqual(backend.received().count(b"GET "), 1)
            backend.send(OK)
        self.assertEqual(client.transport.producerState, "producing")

    def test_interim_responses_are_relayed(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        backend.send(hints + hints)
        self.assertEqual(client.received(), hints + hints)
        backend.send(OK)
        self.assertEqual(client.received(), OK)

    def test_http10_client_gets_no_interim_response_and_no_chunks(self) -> None:
        world = World()
        client = world.client()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        backend = world.accept()
        self.assertIn(b"Host: 10.0.0.1:8001\r\n", backend.received())
        backend.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        )
        self.assertEqual(client.received(), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi")
        self.assertTrue(client.transport.disconnecting)

    def test_endless_interim_responses(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
        self.assertIn(b"HTTP/1.1 502 ", client.received())
        self.assertTrue(backend.transport.aborted)

    def test_expect_continue_is_the_backends_to_answer(self) -> None:
        world = World()
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        backend = world.accept()
        self.assertIn(b"Expect: 100-continue\r\n", backend.received())
        self.assertEqual(client.received(), b"")
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(client.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abc")
        self.assertEqual(backend.received(), b"abc")
        backend.send(OK)
        self.assertEqual(client.received(), OK)

    def test_head_has_no_body(self) -> None:
        world = World()
        client = world.client()
        client.send(GET.replace(b"GET", b"HEAD"))
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        self.assertEqual(client.received(), b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        client.send(GET)
        self.assertTrue(backend.received())

    def test_close_delimited_body_becomes_chunked(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        backend.send(b"def")
        self.assertEqual(
            client.received(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n"
        )
        backend.close()
        self.assertEqual(client.received(), b"0\r\n\r\n")
        self.assertFalse(client.transport.closed)

    def test_close_delimited_body_that_was_reset_is_not_complete(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        backend.reset()
        self.assertNotIn(b"0\r\n\r\n", client.received())
        self.assertTrue(client.transport.aborted)

    def test_absolute_form_names_the_host(self) -> None:
        world = World()
        client = world.client()
        client.send(b"GET http://b.example:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(world.accept().received().startswith(b"GET /x?y HTTP/1.1\r\nHost: b.example:81\r\n"))

    def test_options_asterisk(self) -> None:
        world = World()
        client = world.client()
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(world.accept().received().startswith(b"OPTIONS * HTTP/1.1\r\n"))

    def test_hop_by_hop_fields_stay_here(self) -> None:
        world = World()
        client = world.client()
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret, Upgrade\r\nKeep-Alive: 5\r\nX-Secret: 1\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nTE: trailers, gzip\r\nProxy-Connection: x\r\nA: b\r\n\r\n"
        )
        backend = world.accept()
        sent = backend.received()
        for name in (b"X-Secret", b"Keep-Alive", b"Upgrade", b"HTTP2-Settings", b"Proxy-Connection", b"gzip"):
            self.assertNotIn(name, sent)
        self.assertIn(b"A: b\r\n", sent)
        self.assertIn(b"TE: trailers\r\n", sent)
        backend.send(
            b"HTTP/1.1 200 OK\r\nConnection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(client.received(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def test_forwarded_fields_of_strangers_are_replaced(self) -> None:
        world = World()
        client = world.client()
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"
            b"X-Forwarded-Port: 1\r\n\r\n"
        )
        sent = world.accept().received()
        self.assertNotIn(b"6.6.6.6", sent)
        self.assertNotIn(b"Port", sent)
        self.assertEqual(sent.count(b"X-Forwarded-For: 192.0.2.1\r\n"), 1)

    def test_a_trusted_proxys_chain_is_kept(self) -> None:
        world = World(trusted=[ipaddress.ip_network("10.0.0.0/8")])
        client = world.client("10.1.1.1")
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.2.2.2\r\n\r\n")
        sent = world.accept().received()
        self.assertIn(b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.2.2.2, 10.1.1.1\r\n", sent)
        self.assertIn(b"X-Real-IP: 203.0.113.9\r\n", sent)


class Failures(SynchronousTestCase):
    """Who is told what when something breaks."""

    def test_refused_connect_goes_to_the_next_backend_whatever_the_method(self) -> None:
        world = World(backends=3)
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        world.dial().refuse()
        world.dial().refuse()
        backend = world.accept()
        self.assertTrue(backend.received().endswith(b"\r\n\r\nabc"))
        backend.send(OK)
        self.assertEqual(client.received(), OK)
        self.assertEqual([b.failures for b in world.backends], [1, 1, 0])
        self.assertEqual([b.active for b in world.backends], [0, 0, 0])

    def test_all_refused(self) -> None:
        world = World(backends=2)
        client = world.client()
        client.send(GET)
        world.dial().refuse()
        world.dial().refuse()
        response = client.received()
        self.assertTrue(response.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"))
        self.assertIn(b'Proxy-Status: balance; error=connection_refused; details="connect_refused"\r\n', response)
        self.assertFalse(client.transport.closed)
        self.assertEqual(world.counters.errors, {"connect_refused": 1})

    def test_json_where_it_is_asked_for(self) -> None:
        world = World()
        client = world.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        world.dial().refuse()
        response = client.received()
        self.assertIn(b"Content-Type: application/json\r\n", response)
        self.assertIn(b'"reason": "connect_refused"', response)

    def test_reset_before_the_response(self) -> None:
        world = World(backends=2)
        client = world.client()
        client.send(GET)
        world.accept().reset()
        self.assertIn(b"HTTP/1.1 502 ", client.received())
        self.assertEqual(world.dialer.dials, [])

    def test_stale_connection_is_replaced_for_get(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        client.received()
        client.send(GET)
        backend.close()
        fresh = world.accept()
        self.assertTrue(fresh.received().startswith(b"GET / "))
        fresh.send(OK)
        self.assertEqual(client.received(), OK)
        self.assertEqual(world.backends[0].failures, 0)

    def test_stale_connection_is_not_replaced_for_post(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        client.received()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        backend.close()
        self.assertEqual(world.dialer.dials, [])
        self.assertIn(b"HTTP/1.1 502 ", client.received())

    def test_stale_replay_happens_once(self) -> None:
        world = World(backends=1)
        clients = [world.client() for _ in range(2)]
        for client in clients:
            client.send(GET)
        backends = [world.accept() for _ in range(2)]
        for backend in backends:
            backend.send(OK)
        clients[0].received()
        clients[0].send(GET)
        backends[1].close()  # the one used last is used first
        fresh = world.accept()
        fresh.close()
        self.assertIn(b"HTTP/1.1 502 ", clients[0].received())

    def test_stale_put_with_small_body_is_replayed_whole(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        client.received()
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        client.send(b"def")
        backend.close()
        fresh = world.accept()
        self.assertTrue(fresh.received().endswith(b"\r\n\r\nabcdef"))

    def test_stale_put_with_a_large_body_is_not(self) -> None:
        world = World(replay_size=4)
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        client.received()
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        client.send(b"def")
        backend.close()
        self.assertIn(b"HTTP/1.1 502 ", client.received())

    def test_death_in_the_middle_of_a_response(self) -> None:
        for head in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            world = World()
            client = world.client()
            client.send(GET)
            backend = world.accept()
            backend.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n3\r\nab")
            backend.close()
            self.assertTrue(client.transport.aborted)
            self.assertFalse(client.received().endswith(b"0\r\n\r\n"))
            self.assertEqual(world.counters.errors, {"response_truncated": 1})

    def test_garbage(self) -> None:
        for garbage in (b"SSH-2.0-OpenSSH\r\n", b"\x00" * 10, b"HTTP/1.1 200 OK\nA: b\n\n", b"HTTP/1.1 OK\r\n\r\n"):
            world = World()
            client = world.client()
            client.send(GET)
            backend = world.accept()
            backend.send(garbage)
            self.assertIn(b"HTTP/1.1 502 ", client.received())
            self.assertTrue(backend.transport.aborted)

    def test_response_nobody_asked_for(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        self.assertTrue(backend.transport.aborted)
        client.received()
        client.send(GET)
        world.accept().send(OK)
        self.assertEqual(client.received(), OK)

    def test_bytes_after_a_response(self) -> None:
        for head in (b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"):
            world = World()
            client = world.client()
            client.send(GET)
            backend = world.accept()
            backend.send(b"HTTP/1.1 200 OK\r\n" + head + b"HTTP/1.1 200 OK")
            self.assertNotIn(b"OKHTTP", client.received())
            self.assertTrue(backend.transport.aborted)
            self.assertEqual(world.connections[world.backends[0]].idle, 0)

    def test_unsolicited_switching_protocols(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        world.accept().send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        self.assertIn(b"HTTP/1.1 502 ", client.received())

    def test_early_answer_closes_both(self) -> None:
        """The backend refuses an upload half way: the client gets the answer, and nobody guesses where it ends."""
        world = World()
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        backend = world.accept()
        backend.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"Connection: close\r\n", client.received())
        self.assertTrue(client.transport.half_closed)
        self.assertTrue(backend.transport.aborted)
        client.send(b"x" * 500)
        self.assertEqual(client.received(), b"")
        world.advance(6)
        self.assertTrue(client.transport.disconnecting or client.transport.aborted)

    def test_client_leaves(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        client.close()
        self.assertTrue(backend.transport.aborted)
        self.assertEqual((world.backends[0].active, world.backends[0].failures, world.counters.active), (0, 0, 0))

    def test_client_leaves_while_dialling(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        dial = world.dial()
        client.close()
        self.assertTrue(dial.cancelled)
        self.assertEqual(world.backends[0].active, 0)

    def test_bad_chunk_in_the_request(self) -> None:
        world = World()
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        backend = world.accept()
        client.send(b"3\r\nabcX")
        self.assertIn(b"HTTP/1.1 400 ", client.received())
        self.assertTrue(backend.transport.aborted)
        self.assertTrue(client.transport.half_closed)

    def test_bad_chunk_with_the_head(self) -> None:
        world = World()
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        self.assertIn(b"HTTP/1.1 400 ", client.received())
        self.assertTrue(client.transport.half_closed)
        self.assertEqual((world.counters.active, world.backends[0].active), (0, 0))

    def test_body_larger_than_the_route_allows(self) -> None:
        for request in (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
        ):
            world = World(route_options={"max_body": 8})
            client = world.client()
            client.send(request)
            self.assertIn(b"HTTP/1.1 413 ", client.received())
            self.assertEqual(world.counters.active, 0)


class Limits(SynchronousTestCase):
    """Queues, time, and slow peers."""

    def test_queue(self) -> None:
        world = World(max_connections=1, max_queue=1)
        clients = [world.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        self.assertIn(b"HTTP/1.1 503 ", clients[2].received())
        backend = world.accept()
        backend.send(OK)
        self.assertEqual(clients[0].received(), OK)
        self.assertEqual(backend.received().count(b"GET /"), 2)
        backend.send(OK)
        self.assertEqual(clients[1].received(), OK)
        self.assertEqual(world.counters.errors, {"queue_full": 1})

    def test_queue_timeout(self) -> None:
        world = World(max_connections=1)
        first, second = world.client(), world.client()
        first.send(GET)
        second.send(GET)
        world.advance(world.timeouts.queue + 1)
        self.assertIn(b"HTTP/1.1 503 ", second.received())
        self.assertEqual(world.counters.errors, {"queue_timeout": 1})
        world.accept().send(OK)
        self.assertEqual(first.received(), OK)

    def test_client_leaves_the_queue(self) -> None:
        world = World(max_connections=1)
        clients = [world.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        clients[1].close()
        backend = world.accept()
        backend.send(OK)
        backend.send(OK)
        self.assertEqual(clients[2].received(), OK)
        self.assertEqual(world.backends[0].active, 0)

    def test_response_timeout(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        world.advance(world.timeouts.read - 1)
        self.assertEqual(client.received(), b"")
        world.advance(3)
        self.assertIn(b"HTTP/1.1 504 ", client.received())
        self.assertTrue(backend.transport.aborted)

    def test_response_timeout_is_by_progress(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for _ in range(5):
            world.advance(world.timeouts.read - 2)
            backend.send(b"x")
        self.assertTrue(client.received().endswith(b"xxxxx"))

    def test_slow_head_is_not_by_progress(self) -> None:
        world = World()
        client = world.client()
        for byte in GET[:-2]:
            client.send(bytes([byte]))
            world.advance(1)
            if client.transport.closed:
                break
        self.assertIn(b"HTTP/1.1 408 ", client.received())
        self.assertLess(world.clock.seconds(), world.timeouts.head + 3)

    def test_silent_client_is_closed_without_a_word(self) -> None:
        world = World()
        client = world.client()
        world.advance(world.timeouts.head + 1)
        self.assertTrue(client.transport.disconnecting)
        self.assertEqual(client.received(), b"")

    def test_idle_client(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        world.accept().send(OK)
        world.advance(world.timeouts.idle - 2)
        self.assertFalse(client.transport.closed)
        world.advance(4)
        self.assertTrue(client.transport.disconnecting)

    def test_second_request_has_its_own_head_limit(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        world.accept().send(OK)
        client.received()
        world.advance(world.timeouts.head + 5)
        client.send(GET[:10])
        world.advance(world.timeouts.head + 1)
        self.assertIn(b"HTTP/1.1 408 ", client.received())

    def test_stalled_upload(self) -> None:
        world = World()
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        backend = world.accept()
        world.advance(world.timeouts.read + 1)
        self.assertIn(b"HTTP/1.1 408 ", client.received())
        self.assertTrue(backend.transport.aborted)

    def test_slow_client_slows_the_backend(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        client.stall()
        self.assertEqual(backend.transport.producerState, "paused")
        for _ in range(5):
            world.advance(world.timeouts.write - 2)
            client.transport.pending -= 100
        self.assertFalse(client.transport.closed)
        client.unstall()
        self.assertEqual(backend.transport.producerState, "producing")
        client.stall()
        world.advance(world.timeouts.write + 1)
        self.assertTrue(client.transport.aborted)
        client.close()
        self.assertTrue(backend.transport.aborted)

    def test_requests_wait_while_their_answers_are_not_read(self) -> None:
        """Whoever pipelines requests and reads no answers does not fill our memory with them."""
        world = World(rules=lambda pool: [])
        client = world.client()
        client.send(GET)
        client.stall()
        client.received()
        for _ in range(10):
            client.send(GET * 1000)
            if client.transport.producerState == "paused":
                break
        self.assertEqual(client.received(), b"")
        self.assertEqual(client.transport.producerState, "paused")
        client.unstall()
        self.assertEqual(client.transport.producerState, "producing")
        self.assertGreaterEqual(client.received().count(b"HTTP/1.1 404 "), 1000)

    def test_answered_and_closed_while_not_read(self) -> None:
        """A transport with a paused producer does not close: the channel must not leave one behind."""
        world = World()
        client = world.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        backend = world.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        client.stall()
        backend.send(b"cd")
        self.assertTrue(client.transport.disconnecting)
        self.assertIsNone(client.transport.producer)
        world.advance(world.timeouts.write + 1)
        self.assertTrue(client.transport.aborted)

    def test_slow_backend_slows_the_client(self) -> None:
        world = World()
        client = world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        backend = world.accept()
        backend.stall()
        self.assertEqual(client.transport.producerState, "paused")
        backend.unstall()
        self.assertEqual(client.transport.producerState, "producing")
        backend.stall()
        world.advance(world.timeouts.write + 1)
        self.assertIn(b"HTTP/1.1 504 ", client.received())
        self.assertEqual(world.counters.errors, {"backend_write_timeout": 1})

    def test_a_response_nobody_reads_does_not_hold_the_connection(self) -> None:
        """The whole response is queued, the client takes none of it, and says nothing: it is cut in the end."""
        world = World()
        client = world.client()
        client.send(GET)
        world.accept().send(OK)
        client.transport.pending = 50
        world.advance(world.timeouts.idle + 1)
        world.advance(world.timeouts.write + 1)
        self.assertTrue(client.transport.aborted)

    def test_idle_backend_connection(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        backend.send(OK)
        world.advance(91)
        self.assertTrue(backend.transport.closed)
        self.assertEqual(world.connections[world.backends[0]].idle, 0)

    def test_idle_connections_are_bounded(self) -> None:
        world = World(max_idle=1)
        clients = [world.client(), world.client()]
        for client in clients:
            client.send(GET)
        backends = [world.accept(), world.accept()]
        for backend in backends:
            backend.send(OK)
        self.assertEqual([b.transport.closed for b in backends], [False, True])


class Draining(SynchronousTestCase):
    """Stopping without losing a request."""

    def drained(self, world: World) -> list[object]:
        done: list[object] = []
        world.proxy.drain().addCallback(done.append)
        return done

    def test_idle_connections_close_at_once(self) -> None:
        world = World()
        client = world.client()
        done = self.drained(world)
        self.assertTrue(client.transport.disconnecting)
        client.close()
        self.assertEqual(done, [None])

    def test_what_is_under_way_is_finished(self) -> None:
        world = World()
        client = world.client()
        client.send(GET)
        backend = world.accept()
        done = self.drained(world)
        self.assertEqual(done, [])
        backend.send(OK)
        self.assertEqual(client.received(), OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertTrue(client.transport.disconnecting)
        client.close()
        self.assertEqual(done, [None])

    def test_a_head_half_received_is_served(self) -> None:
        world = World()
        client = world.client()
        client.send(GET[:9])
        self.drained(world)
        client.send(GET[9:])
        world.accept().send(OK)
        self.assertIn(b"Connection: close\r\n", client.received())

    def test_kill(self) -> None:
        world = World()
        client: Peer = world.client()
        client.send(GET)
        world.accept()
        self.drained(world)
        world.proxy.kill()
        self.assertTrue(client.transport.aborted)
