"""The hostile tables through the codec: in one piece, cut in two at every byte, and byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http1 import BodyReader, parse_request
from balance.errors import BadResponse, ClientError, ResponseTooLarge, ResponseTruncated
from balance.model import CHUNKED, NO_BODY, UNTIL_CLOSE
from test.unit import http1_response_cases
from test.unit.http1_cases import NEXT, REQUESTS, RESPONSES, RequestCase
from test.unit.http1_reader import Read, halves, read_request, read_response, single_bytes
from test.unit.http1_response_cases import ResponseCase

#: Longer cases are about size: they are cut here and there, not everywhere.
EVERYWHERE = 1500
#: The codec knows no requests, so it cannot know that nobody asked for this; the connection does.
NOT_THE_CODECS = frozenset(("101 unasked",))
RESPONSE_OUTCOMES = {"bad": BadResponse, "too-large": ResponseTooLarge, "truncated": ResponseTruncated}


def deliveries(raw: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Ways for ``raw`` to arrive."""
    yield "whole", [raw]
    size = len(raw)
    cuts = range(1, size) if size <= EVERYWHERE else [*range(1, 40), *range(40, size, 2311), *range(size - 40, size)]
    for first, second in halves(raw, cuts):
        yield f"cut at {len(first)}", [first, second]
    if size <= EVERYWHERE:
        yield "byte by byte", single_bytes(raw)


def each_case(cases: list[Any]) -> Callable[[type], type]:
    """One test method a case, so that a report names those that fail."""

    def add_methods(test_class: type) -> type:
        for case in cases:

            def method(self: Any, case: Any = case) -> None:
                self.check(case)

            name = "test_" + "".join(c if c.isalnum() else "_" for c in case.name)
            assert not hasattr(test_class, name), case.name
            method.__doc__ = f"{case.name} ({case.reference})"
            setattr(test_class, name, method)
        return test_class

    return add_methods


@each_case(REQUESTS)
class Requests(SynchronousTestCase):
    """A refusal has its status however the bytes arrive; what is accepted ends where the next request begins."""

    def check(self, case: RequestCase) -> None:
        for how, pieces in deliveries(case.raw + NEXT):
            read = read_request(pieces)
            self.assertEqual(read.outcome, case.expected, f"{how}; {case.reference}; {read}")
            if case.expected == "ok":
                self.assertEqual(read.rest, NEXT, how)
                self.check_seen(case, read, how)
            else:
                self.assertIsInstance(read.error, ClientError, how)

    def check_seen(self, case: RequestCase, read: Read, how: str) -> None:
        fields = dict(read.fields)
        for what, expected in case.sees.items():
            if what == "fields":
                self.assertEqual({name: fields.get(name) for name in expected}, expected, how)
            elif what == "has":
                self.assertLessEqual(set(expected), set(fields), how)
            elif what == "lacks":
                self.assertFalse(set(expected) & set(fields), how)
            elif what == "body":
                self.assertEqual(read.body, expected, how)
            elif what == "trailers":
                self.assertEqual(list(read.trailers or ()), expected, how)
            else:
                self.assertEqual(getattr(read.head, what), expected, f"{how}: {what}")


@each_case([case for case in RESPONSES if case.name not in NOT_THE_CODECS])
class Responses(SynchronousTestCase):
    """A response is refused, or its framing and body are the same however the bytes arrive."""

    def check(self, case: ResponseCase) -> None:
        for how, pieces in deliveries(case.raw):
            read = read_response(pieces, case.to, closed=True)
            where = f"{how}; {case.reference}; {read}"
            if case.expected != "ok":
                self.assertIs(type(read.error), RESPONSE_OUTCOMES[case.expected], where)
                continue
            self.assertEqual(read.outcome, "ok", where)
            self.assertEqual(
                (read.head.length, read.body, read.rest, read.head.keep_alive),
                (case.length, case.body, case.rest, case.keep_alive),
                where,
            )


class Tables(SynchronousTestCase):
    """The tables themselves: as many cases as were asked for, and the constants of the model."""

    def test_sizes(self) -> None:
        self.assertGreaterEqual(sum(case.expected != "ok" for case in REQUESTS), 110)
        self.assertGreaterEqual(sum(case.expected != "ok" for case in RESPONSES), 35)
        self.assertTrue(all(case.reference for case in [*REQUESTS, *RESPONSES]))

    def test_constants(self) -> None:
        cases = http1_response_cases
        self.assertEqual((cases.CHUNKED, cases.UNTIL_CLOSE, cases.NO_BODY), (CHUNKED, UNTIL_CLOSE, NO_BODY))


class Early(SynchronousTestCase):
    """What can never become a message is refused as soon as that is certain; nobody waits for the end of garbage."""

    CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    def test_requests(self) -> None:
        for begun in (
            b"\x16\x03\x01\x02\x00",  # a TLS ClientHello on a port that speaks HTTP
            b"\0",
            b" ",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            self.CHUNKED + b"z",
            self.CHUNKED + b"0x",
            self.CHUNKED + b"5\n",
            self.CHUNKED + b"5;a\nb",
            self.CHUNKED + b"5\r\nhello\n",
            self.CHUNKED + b"5\r\nhello0",
            self.CHUNKED + b"0\r\nX: y\n",
        ):
            self.assertEqual(read_request([begun]).outcome, 400, begun)

    def test_responses(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for begun in (b"HTTP/1.1 200 OK\n", chunked + b"z", chunked + b"5\r\nhelloX"):
            self.assertEqual(read_response([begun]).outcome, 502, begun)

    def test_what_may_still_become_one_is_waited_for(self) -> None:
        for begun in (b"\r", b"\r\n", b"G", b"GET / HTTP/1.1\r", self.CHUNKED + b"5\r", self.CHUNKED + b"5\r\nhello\r"):
            self.assertEqual(read_request([begun]).outcome, "incomplete", begun)


class Caches(SynchronousTestCase):
    """What the codec remembers of one message must not change how it reads the next, nor grow without end."""

    def test_a_refused_name_stays_refused(self) -> None:
        for _ in range(3):
            self.assertEqual(read_request([b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"]).outcome, 400)
            self.assertEqual(read_request([b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"]).outcome, 400)

    def test_a_name_keeps_its_case(self) -> None:
        for name in (b"X-Same", b"x-same", b"X-SAME"):
            head = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": y")
            self.assertEqual((head.headers.names, head.headers.lines), ([b"x-same"], [name + b": y"]))

    def test_invented_names_and_hosts_are_forgotten(self) -> None:
        from balance.codec.http1 import grammar, request

        for i in range(10_000):
            parse_request(b"GET / HTTP/1.1\r\nHost: h%d\r\nX-%d: y" % (i, i))
        self.assertLessEqual(len(grammar.NAMES), 5000)
        self.assertLessEqual(len(request._KNOWN_HOSTS), 5000)
        self.assertIn(b"Content-Length", grammar.NAMES)


class Memory(SynchronousTestCase):
    """A chunked reader holds one incomplete line at most, however long it is fed."""

    def test_data_passes_through(self) -> None:
        reader = BodyReader.of(CHUNKED, BadResponse)
        reader.feed(b"fffffff\r\n")
        for _ in range(100):
            self.assertEqual(len(reader.feed(b"x" * 65536)), 65536)
        self.assertEqual(reader._pending, b"")  # type: ignore[attr-defined]
