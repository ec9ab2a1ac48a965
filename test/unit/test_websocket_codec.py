"""WebSocket's handshake and frames, without a connection."""

from __future__ import annotations

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from balance.codec.http1 import parse_request, parse_response
from balance.codec.websocket import (
    FRAME_SIZES,
    NO_CODE,
    FrameFollower,
    accept_for,
    check_request,
    check_response,
    close_frame,
    new_key,
)
from balance.errors import BadRequest, BadResponse, WrongWebSocketVersion
from balance.model import RequestHead

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # both from RFC 6455, section 1.3
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes = b"") -> bytes:
    """A frame, made by the book (RFC 6455, section 5.2)."""
    bit = 0x80 if mask else 0
    size = len(payload)
    head = bytes(((0x80 if fin else 0) | opcode,))
    if size < 126:
        head += bytes((bit | size,))
    elif size < 65536:
        head += bytes((bit | 126,)) + struct.pack("!H", size)
    else:
        head += bytes((bit | 127,)) + struct.pack("!Q", size)
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + payload


def request(*fields: bytes, first: bytes = b"GET /ws HTTP/1.1") -> RequestHead:
    return parse_request(b"\r\n".join((first, b"Host: a", *fields)))


ASKED = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY)


class Detection(SynchronousTestCase):
    """What counts as the wish for WebSocket."""

    def test_wished(self) -> None:
        for connection, upgrade in (
            (b"Upgrade", b"websocket"),
            (b"keep-alive, UPGRADE", b"WebSocket"),
            (b"upgrade", b"h2c, websocket"),
            (b"upgrade", b"foo/2\r\nUpgrade: websocket"),
        ):
            head = request(*(b"Connection: " + connection + b"\r\nUpgrade: " + upgrade).split(b"\r\n"))
            self.assertEqual(head.upgrade, b"websocket", upgrade)

    def test_not_wished(self) -> None:
        for fields, first in (
            ((b"Upgrade: websocket",), b"GET / HTTP/1.1"),
            ((b"Connection: upgrade",), b"GET / HTTP/1.1"),
            ((b"Connection: upgrade", b"Upgrade: h2c"), b"GET / HTTP/1.1"),
            ((b"Connection: upgrade", b"Upgrade: websockets"), b"GET / HTTP/1.1"),
            ((b"Connection: upgrade", b"Upgrade: websocket"), b"GET / HTTP/1.0"),
            ((b"Connection: upgrade", b"Upgrade: websocket"), b"POST / HTTP/1.1"),
        ):
            self.assertEqual(request(*fields, first=first).upgrade, b"", fields)


class Handshake(SynchronousTestCase):
    """What is asked, and what is answered."""

    def test_good(self) -> None:
        check_request(request(*ASKED))
        self.assertEqual(accept_for(KEY), ACCEPT)
        self.assertEqual(new_key(b"the sample nonce"), KEY)

    def test_refused(self) -> None:
        for fields, error in (
            ((*ASKED, b"Content-Length: 5"), BadRequest),
            ((*ASKED, b"Transfer-Encoding: chunked"), BadRequest),
            (ASKED[:3], BadRequest),
            ((*ASKED, ASKED[3]), BadRequest),
            ((*ASKED[:3], b"Sec-WebSocket-Key: c2hvcnQ="), BadRequest),
            ((*ASKED[:3], b"Sec-WebSocket-Key: " + KEY[:-2] + b"!!"), BadRequest),
            ((*ASKED[:2], ASKED[3]), WrongWebSocketVersion),
            ((*ASKED[:2], ASKED[3], b"Sec-WebSocket-Version: 8"), WrongWebSocketVersion),
            ((*ASKED[:2], ASKED[3], b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"), WrongWebSocketVersion),
            # Named by Connection, the key is for the hop before us only.
            ((b"Connection: upgrade, sec-websocket-key", *ASKED[1:]), BadRequest),
        ):
            with self.assertRaises(error, msg=str(fields)):
                check_request(request(*fields))

    def test_answer(self) -> None:
        good = (b"Connection: upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Accept: " + ACCEPT)

        def check(*fields: bytes) -> None:
            head = parse_response(b"\r\n".join((b"HTTP/1.1 101 Switching Protocols", *fields)), b"GET")
            check_response(head, KEY)

        check(*good)
        for fields in (
            good[1:],
            (good[0], good[2]),
            good[:2],
            (*good, good[2]),
            (good[0], b"Upgrade: h2c", good[2]),
            (*good[:2], b"Sec-WebSocket-Accept: " + ACCEPT.lower()),
        ):
            with self.assertRaises(BadResponse, msg=str(fields)):
                check(*fields)


class Following(SynchronousTestCase):
    """Where frames end, however they are cut."""

    def test_every_split(self) -> None:
        stream = (
            frame(1, b"hello", mask=MASK)
            + frame(2, bytes(300), fin=False)
            + frame(9, b"ping", mask=MASK)
            + frame(0, bytes(70000))
            + frame(1)
            + frame(10, b"x" * 125)
        )
        ends = {0}
        follower = FrameFollower()
        at = 0
        while at < len(stream):
            at += follower.feed_to_end(stream[at:])
            ends.add(at)
        self.assertEqual(len(ends), 7)
        self.assertEqual(follower.messages, 3)
        for cut in [*range(360), *range(len(stream) - 140, len(stream))]:
            follower = FrameFollower()
            follower.feed(stream[:cut])
            self.assertEqual(follower.calm, cut in ends, cut)
            follower.feed(stream[cut:])
            self.assertTrue(follower.calm)
            self.assertEqual((follower.messages, follower.left, follower.close_code), (3, 0, 0))

    def test_random_cuts(self) -> None:
        rng = random.Random(6455)
        for _ in range(200):
            frames = [
                frame(
                    rng.choice((0, 1, 2, 9, 10)),
                    bytes(rng.choice((0, 1, 125, 126, 127, 500))),
                    fin=rng.random() < 0.7,
                    mask=rng.choice((b"", MASK)),
                )
                for _ in range(rng.randrange(1, 8))
            ]
            stream = b"".join(frames)
            follower, at = FrameFollower(), 0
            while at < len(stream):
                step = rng.randrange(1, 40)
                follower.feed(stream[at : at + step])
                at += step
            self.assertTrue(follower.calm)
            self.assertEqual(follower.messages, sum(f[0] & 0x88 == 0x80 for f in frames))

    def test_close_codes(self) -> None:
        for data, code in (
            (close_frame(1001, "bye"), 1001),
            (close_frame(4000, "", MASK), 4000),
            (frame(8), NO_CODE),
            (close_frame(0, "", MASK), NO_CODE),
            (frame(8, b"\x03", mask=MASK), NO_CODE),
            (frame(8, struct.pack("!H", 1000), mask=MASK) + frame(8, struct.pack("!H", 1002)), 1000),
        ):
            for step in (1, 2, 3, 200):
                follower = FrameFollower()
                for at in range(0, len(data), step):
                    self.assertFalse(at == 0 and follower.close_code)
                    follower.feed(data[at : at + step])
                self.assertEqual(follower.close_code, code, (data, step))

    def test_a_close_counts_when_it_is_complete(self) -> None:
        follower = FrameFollower()
        data = close_frame(1001, "going away")
        follower.feed(data[:-1])
        self.assertEqual((follower.close_code, follower.calm), (0, False))
        follower.feed(data[-1:])
        self.assertEqual((follower.close_code, follower.calm), (1001, True))

    def test_close_frames_are_by_the_book(self) -> None:
        self.assertEqual(close_frame(1001, "bye"), frame(8, b"\x03\xe9bye"))
        self.assertEqual(close_frame(1001, "bye", MASK), frame(8, b"\x03\xe9bye", mask=MASK))

    def test_sizes(self) -> None:
        for size in range(126):
            for mask in (b"", MASK):
                data = frame(2, bytes(size), mask=mask)
                self.assertEqual(FRAME_SIZES[data[1]], len(data))
        self.assertEqual({FRAME_SIZES[n] for n in (126, 127, 254, 255)}, {-1})

    def test_skipping(self) -> None:
        """Bytes that only the kernel saw."""
        follower = FrameFollower()
        follower.feed(frame(2, bytes(1000))[:104])
        self.assertEqual(follower.left, 900)
        follower.skip(899)
        self.assertFalse(follower.calm)
        follower.skip(1)
        self.assertTrue(follower.calm)

    def test_absurd_lengths(self) -> None:
        """Followed to the end of all days, without keeping a byte."""
        follower = FrameFollower()
        follower.feed(b"\x82\x7f" + b"\xff" * 8 + bytes(1000))
        self.assertEqual(follower.left, 2**64 - 1 - 1000)
