"""h11 as the oracle, hypothesis for what people would send, mutation for what they should not."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http1 import chunk, last_chunk, write_request, write_response
from balance.model import CHUNKED, HTTP11, NO_BODY, Headers, RequestHead, ResponseHead
from test.fuzz.fuzz_http1 import one
from test.fuzz.mutate import pieces
from test.unit import http1_oracle as oracle
from test.unit.http1_cases import NEXT, REQUESTS, RESPONSES
from test.unit.http1_invariants import check_request, check_response
from test.unit.http1_reader import read_request, read_response

#: The same examples on every machine and every day: a red build is somebody's change, not chance. `test.fuzz` explores.
STEADY = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RESERVED = oracle.REQUEST_FIELDS | {b"http2-settings"}

tokens = st.text(TCHAR, min_size=1, max_size=12).map(str.encode)
names = tokens.filter(lambda name: name.lower() not in _RESERVED)
visible = [bytes([byte]) for byte in range(0x21, 0x100) if byte != 0x7F]
words = st.lists(st.sampled_from(visible), min_size=1, max_size=8).map(b"".join)
values = st.lists(words, max_size=4).map(b" ".join) | st.lists(words, max_size=3).map(b" \t".join)
fields = st.lists(st.tuples(names, values), max_size=8)
trailer_names = names.filter(lambda name: oracle.is_kept_trailer(name))
trailers = st.lists(st.tuples(trailer_names, values), max_size=3)
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"]) | tokens.filter(
    lambda method: method not in (b"CONNECT", b"TRACE")
)
target_bytes = [bytes([byte]) for byte in range(0x21, 0x7F) if byte != 0x23]
targets = st.lists(st.sampled_from(target_bytes), max_size=30).map(lambda parts: b"/" + b"".join(parts))
hosts = st.sampled_from([b"a", b"A.Example", b"a:8080", b"10.0.0.1", b"[::1]", b"[2001:db8::1]:443", b"a-b.c_d", b"a:"])
bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
chances = st.integers(0, 1 << 32).map(random.Random)


def wire_body(parts: list[bytes], length: int, trailing: Headers | None) -> bytes:
    if length != CHUNKED:
        return b"".join(parts)
    return b"".join(chunk(part) for part in parts) + last_chunk(trailing)


class RoundTrips(SynchronousTestCase):
    """What is written is read again as it was, by Balance and by h11, however it is cut."""

    @STEADY
    @given(methods, targets, hosts, fields, bodies, trailers, st.booleans(), chances)
    def test_requests(
        self,
        method: bytes,
        target: bytes,
        host: bytes,
        pairs: list[tuple[bytes, bytes]],
        body: list[bytes],
        trailing: list[tuple[bytes, bytes]],
        chunked: bool,
        chance: random.Random,
    ) -> None:
        length = CHUNKED if chunked else len(b"".join(body))
        head = RequestHead(method, target, host, Headers.of(*pairs), length=length)
        raw = write_request(head, host) + wire_body(body, length, Headers.of(*trailing)) + NEXT
        read = read_request([raw])
        self.assertEqual(read.outcome, "ok", read)
        self.assertEqual((read.head.method, read.head.target, read.head.host), (method, target, host))
        self.assertEqual(read.head.headers, head.headers)
        self.assertEqual((read.head.length, read.body, read.rest), (length, b"".join(body), NEXT))
        self.assertEqual(list(read.trailers or ()), list(Headers.of(*trailing)) if chunked else [])
        self.assertEqual(check_request(raw, pieces(chance, raw)), "")

    @STEADY
    @given(st.integers(200, 599), values, fields, bodies, trailers, st.booleans(), st.booleans(), chances)
    def test_responses(
        self,
        status: int,
        reason: bytes,
        pairs: list[tuple[bytes, bytes]],
        body: list[bytes],
        trailing: list[tuple[bytes, bytes]],
        chunked: bool,
        to_head: bool,
        chance: random.Random,
    ) -> None:
        method = b"HEAD" if to_head else b"GET"
        bodiless = to_head or status in (204, 304)
        length = NO_BODY if bodiless else CHUNKED if chunked else len(b"".join(body))
        head = ResponseHead(status, reason, Headers.of(*pairs), length=length)
        raw = write_response(head, HTTP11, True)
        if not bodiless:
            raw += wire_body(body, length, Headers.of(*trailing))
        read = read_response([raw], method, closed=True)
        self.assertEqual(read.outcome, "ok", read)
        self.assertEqual((read.head.status, read.head.reason, read.head.length), (status, reason, length))
        self.assertEqual(read.head.headers, head.headers)
        self.assertEqual((read.body, read.rest), (b"" if bodiless else b"".join(body), b""))
        self.assertEqual(check_response(raw, method, pieces(chance, raw)), "")


class Oracle(SynchronousTestCase):
    """Whatever Balance accepts, h11 reads the same way; and what Balance then sends on is read the same way again."""

    def test_requests_of_the_table(self) -> None:
        for case in REQUESTS:
            if case.expected == "ok":
                raw = case.raw + NEXT
                self.assertEqual(check_request(raw, [raw]), "", case.name)

    def test_responses_of_the_table(self) -> None:
        for case in RESPONSES:
            if case.expected == "ok":
                self.assertEqual(check_response(case.raw, case.to, [case.raw]), "", case.name)

    def test_mutations(self) -> None:
        """The first steps of the fuzzer; ``python -m test.fuzz.fuzz_http1`` goes on."""
        for seed in range(10_000):
            kind, raw, problem = one(random.Random(seed))
            self.assertEqual(problem, "", f"seed {seed}: {kind} {raw!r}")

    def test_the_oracle_can_disagree(self) -> None:
        """A check that never fails proves nothing: show it a head that says other things than the bytes."""
        raw = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX: y\r\n\r\nhi"

        def wrong(attribute: str, value: Any) -> str:
            read = read_request([raw])
            setattr(read.head, attribute, value)
            return oracle.request_difference(raw, read)

        self.assertEqual(wrong("method", b"POST"), "")
        for attribute, value in (("method", b"GET"), ("target", b"/"), ("host", b"b"), ("length", 1), ("version", 10)):
            self.assertIn(attribute, wrong(attribute, value))
        self.assertIn("fields", wrong("headers", Headers()))
        self.assertIn("body", oracle.request_difference(raw, read_request([raw])._replace(body=b"ho")))
        self.assertIn("rest", oracle.request_difference(raw, read_request([raw])._replace(rest=b"!")))
