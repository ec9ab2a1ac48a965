"""The hostile tables through a whole proxy in memory: what the client is told, and what no backend ever sees."""

from __future__ import annotations

import random
import re

from twisted.trial.unittest import SynchronousTestCase

from test.fuzz.mutate import pieces
from test.unit.http1_cases import NEXT, REQUESTS, RESPONSES, RequestCase
from test.unit.http1_reader import read_request
from test.unit.http1_response_cases import ResponseCase
from test.unit.support import Peer, World
from test.unit.test_http1_hostile import each_case

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
REFUSED = [case for case in REQUESTS if case.expected != "ok"]
BAD = [case for case in RESPONSES if case.expected in ("bad", "too-large")]
WITH_REST = [
    case for case in RESPONSES if case.expected == "ok" and case.rest and not case.raw.startswith(b"HTTP/1.1 1")
]


def statuses(sent: bytes) -> list[int]:
    """The status of each response in what a client was sent. No body here holds a status line."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", sent)]


@each_case(REFUSED)
class Requests(SynchronousTestCase):
    """A refused request is answered once and the connection closed; what followed it reaches nobody."""

    def check(self, case: RequestCase) -> None:
        raw = case.raw + NEXT
        chance = random.Random(case.name)
        for how in ([raw], pieces(chance, raw), pieces(chance, raw)):
            world = World()
            client = world.client()
            for backend in self.deliver(world, client, how):
                # Only a body can be refused this late; the request must not look complete to anybody.
                self.assertEqual(read_request([backend.received()]).outcome, "incomplete")
                self.assertTrue(backend.transport.aborted)
            self.assertEqual(statuses(client.received()), [case.expected], f"{case.reference}; {len(how)} pieces")
            self.assertTrue(client.transport.closed)
            self.assertEqual(world.backends[0].active, 0)
            self.assertEqual(world.backends[0].failures, 0, "a client's mistake is no backend's")

    def deliver(self, world: World, client: Peer, how: list[bytes]) -> list[Peer]:
        """Send the pieces; every dial that is not called off succeeds at once. The backends that were dialled."""
        backends: list[Peer] = []
        for piece in how:
            if piece and not client.transport.aborted:
                client.send(piece)
            backends += [dial.accept() for dial in world.dialer.dials if not dial.cancelled]
            world.dialer.dials.clear()
        return backends


@each_case(BAD)
class Responses(SynchronousTestCase):
    """A bad response is a 502, or a visible truncation once its head went out; the connection is never used again."""

    def check(self, case: ResponseCase) -> None:
        chance = random.Random(case.name)
        for how in ([case.raw], pieces(chance, case.raw), pieces(chance, case.raw)):
            world = World(retry_attempts=0)
            client = world.client()
            client.send(case.to + b" / HTTP/1.1\r\nHost: a\r\n\r\n" + NEXT)
            backend = world.accept()
            for piece in how:
                if piece and not backend.transport.closed:
                    backend.send(piece)
            self.assertTrue(backend.transport.aborted, "the connection must be given up")
            answer = client.received()
            if not client.transport.aborted:
                self.assertEqual(statuses(answer)[:1], [502], f"{case.reference}: {answer!r}")
            else:
                self.assertFalse(answer.endswith(b"0\r\n\r\n"), "a clean end of what was no clean body")
            self.assertEqual(world.backends[0].failures, 1)


@each_case(WITH_REST)
class Surplus(SynchronousTestCase):
    """Bytes after a response belong to no request: the client never sees them, and the connection is given up."""

    def check(self, case: ResponseCase) -> None:
        for how in ([case.raw], [case.raw.removesuffix(case.rest), case.rest]):
            world = World()
            client = world.client()
            client.send(case.to + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
            backend = world.accept()
            for piece in how:
                backend.send(piece)
            self.assertTrue(backend.transport.closed)
            self.assertEqual(len(statuses(client.received())), 1)
            client.send(NEXT)
            world.accept().send(OK)
            self.assertEqual(client.received(), OK, "the next request got somebody else's bytes")


class Connections(SynchronousTestCase):
    """What only the connection can know."""

    def test_switching_protocols_unasked(self) -> None:
        case = next(case for case in RESPONSES if case.name == "101 unasked")
        world = World(retry_attempts=0)
        client = world.client()
        client.send(NEXT)
        world.accept().send(case.raw)
        self.assertEqual(statuses(client.received()), [502])

    def test_one_empty_line_however_it_arrives(self) -> None:
        for how in ([b"\r\n\r\n"], [b"\r\n", b"\r\n"], [b"\r", b"\n", b"\r", b"\n"]):
            world = World()
            client = world.client()
            for piece in [*how, NEXT]:
                client.send(piece)
            self.assertEqual(statuses(client.received()), [400], how)

    def test_requests_before_the_bad_one_are_served(self) -> None:
        world = World()
        client = world.client()
        client.send(NEXT + b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + NEXT)
        world.accept().send(OK)
        self.assertEqual(statuses(client.received()), [200, 400])
        self.assertEqual(world.dialer.dials, [])
        self.assertTrue(client.transport.closed)
