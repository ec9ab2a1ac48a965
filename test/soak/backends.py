"""The backends of a soak: one that speaks HTTP/1.1, and one that speaks HTTP/2 and is moody.

Rule of this file: what a backend answers follows from the path alone, so the client can check it. Only moods are random.

    GET  /N/size/SIZE     SIZE bytes of `pattern`
    POST /N/hash          SHA-256 of the body; trailers: its length, and the request's trailer
    GET  /N/broken/HOW    never a whole response: reset before the head, or in the body
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from typing import Any

from test.soak.wire import Fields, Lost, Stream, Wire

REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 7, 8, 2
_BLOCK = bytes(range(256)) * 256


def pattern(size: int) -> bytes:
    """A body that shows when a piece of it is missing, doubled or displaced."""
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]


class MoodyWire(Wire):
    """A server's connection: refuses some streams that it has not looked at, and leaves after some hundreds."""

    def __init__(self, moods: Moods) -> None:
        super().__init__(client=False)
        self.moods = moods
        self._left = moods.rng.randint(100, 600)

    def opened(self, stream: Stream) -> None:
        head = dict(stream.head or ())
        # Only what can be sent again in full: small bodies; and each request is refused once at most.
        token = head.get(b"x-token", b"")
        if token and self.moods.refuses(token):
            stream.reset(REFUSED_STREAM)
            return
        self._left -= 1
        if not self._left:
            self.moods.goaways += 1
            self.go_away()
        task = asyncio.ensure_future(self._serve(stream, head))
        self.moods.tasks.add(task)
        task.add_done_callback(self.moods.tasks.discard)

    async def _serve(self, stream: Stream, head: dict[bytes, bytes]) -> None:
        with contextlib.suppress(Lost):
            try:
                await self._answer(stream, head)
            finally:
                self.over(stream)

    async def _answer(self, stream: Stream, head: dict[bytes, bytes]) -> None:
        _, _, kind, *rest = head[b":path"].split(b"/")
        if kind == b"size":
            body = pattern(int(rest[0]))
            stream.send_fields([(b":status", b"200"), (b"content-length", b"%d" % len(body))], end=not body)
            await stream.send(body, end=True)
        elif kind == b"hash":
            digest = hashlib.sha256()
            size = 0
            while piece := await stream.read():
                digest.update(piece)
                size += len(piece)
            stream.send_fields([(b":status", b"200")])
            await stream.send(digest.hexdigest().encode())
            stream.send_fields([(b"x-size", b"%d" % size), *_echoed(stream.trailers)], end=True)
        else:
            self.moods.resets += 1
            if rest[0] == b"body":
                stream.send_fields([(b":status", b"200"), (b"content-length", b"100000")])
                await stream.send(pattern(50_000))
            stream.reset(INTERNAL_ERROR)


def _echoed(trailers: Fields) -> Fields:
    return [(b"x-echo", value) for name, value in trailers if name == b"x-sent"]


class Moods:
    """What all connections of the HTTP/2 backends share."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.goaways = self.resets = self.refusals = 0
        self.tasks: set[asyncio.Future[None]] = set()
        self._refused: set[bytes] = set()

    def refuses(self, token: bytes) -> bool:
        if token in self._refused:
            self._refused.discard(token)
            return False
        if self.rng.random() < 0.02:
            self._refused.add(token)
            self.refusals += 1
            return True
        return False


async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection of the HTTP/1.1 backend."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            fields = {}
            while (field := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = field.partition(b":")
                fields[name.strip().lower()] = value.strip()
            await _http1_answer(reader, writer, line.split(b" ")[1], fields)
            await writer.drain()
    writer.close()


async def _http1_answer(reader: Any, writer: Any, path: bytes, fields: dict[bytes, bytes]) -> None:
    _, _, kind, *rest = path.split(b"/")
    if kind == b"size":
        body = pattern(int(rest[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    elif kind == b"hash":
        digest, size, trailers = hashlib.sha256(), 0, b""
        if b"content-length" in fields:
            left = int(fields[b"content-length"])
            while left:
                piece = await reader.read(min(left, 65536))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                digest.update(piece)
                size, left = size + len(piece), left - len(piece)
        else:
            while length := int((await reader.readline()).partition(b";")[0] or b"0", 16):
                digest.update(await reader.readexactly(length))
                size += length
                await reader.readexactly(2)
            while (field := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = field.partition(b":")
                if name.lower() == b"x-sent":
                    trailers += b"x-echo:" + value
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + digest.hexdigest().encode())
        writer.write(b"\r\n0\r\nx-size: %d\r\n" % size + trailers + b"\r\n")
    else:
        if rest[0] == b"body":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + pattern(50_000))
            await writer.drain()
        writer.transport.abort()
