"""The two ends of WebSocket connections: ``python -m benchmarks.websocket echo PORT`` and ``... load PORT ...``.

Python on raw sockets, on the core that the proxy does not have. Masks are zero, so that neither end has to work on the
payload: what is measured is the proxy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from statistics import quantiles

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = base64.b64encode(bytes(16))
_READ = 1 << 18


def header(size: int, mask: bool) -> bytes:
    """Of a binary message in one frame."""
    bit = 0x80 if mask else 0
    tail = bytes(4) if mask else b""
    if size < 126:
        return bytes((0x82, bit | size)) + tail
    if size < 65536:
        return bytes((0x82, bit | 126)) + size.to_bytes(2, "big") + tail
    return bytes((0x82, bit | 127)) + size.to_bytes(8, "big") + tail


class _Echo:
    """One connection of the server: what comes goes back, with the header of a server."""

    def __init__(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._selector = selector
        self._head = b""
        self._open = False
        self._left = 0
        self._out = bytearray()
        selector.register(connection, selectors.EVENT_READ, self.ready)

    def ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ:
                data = self._socket.recv(_READ)
                if not data:
                    raise ConnectionError
                self._take(data)
                self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self._selector.unregister(self._socket)
            self._socket.close()

    def _take(self, data: bytes) -> None:
        if not self._open:
            self._head += data
            if not self._head.endswith(b"\r\n\r\n"):
                return
            key = self._head.lower().partition(b"sec-websocket-key:")[2].partition(b"\r\n")[0]
            key = self._head[self._head.lower().index(key) :][: len(key)].strip()
            accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
            self._out += b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            self._out += b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            self._open, self._head = True, b""
            return
        while data:
            if self._left:
                self._out += data[: self._left]
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
                continue
            data, self._head = self._head + data, b""
            length = data[1] & 0x7F if len(data) > 1 else 0
            size = 2 + (8 if length == 127 else 2 if length == 126 else 0)
            masked = size + (4 if len(data) > 1 and data[1] & 0x80 else 0)
            if len(data) < masked:
                self._head = data
                return
            self._left = length if length < 126 else int.from_bytes(data[2:size], "big")
            self._out += header(self._left, False)
            data = data[masked:]

    def _flush(self) -> None:
        if self._out:
            sent = self._socket.send(self._out)
            del self._out[:sent]
        events = selectors.EVENT_READ if len(self._out) < 4 * _READ else 0
        self._selector.modify(self._socket, events | (selectors.EVENT_WRITE if self._out else 0), self.ready)


class _QuickEcho(_Echo):
    """The same, with a short way for small messages."""

    def ready(self, events: int) -> None:
        if self._open and not self._left and not self._out and not self._head and events == selectors.EVENT_READ:
            try:
                data = self._socket.recv(_READ)
                if len(data) > 6 and len(data) == 6 + (data[1] & 0x7F) < 132:
                    self._socket.send(bytes((data[0], data[1] & 0x7F)) + data[6:])
                    return
                if data:
                    self._take(data)
                    self._flush()
                    return
            except BlockingIOError:
                return
            except OSError:
                pass
            self._selector.unregister(self._socket)
            self._socket.close()
            return
        super().ready(events)


def echo(port: int) -> None:
    """Serve until killed."""
    server = socket.create_server(("127.0.0.1", port), backlog=1024)
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ, None)
    while True:
        for key, events in selector.select():
            if key.data is None:
                _QuickEcho(server.accept()[0], selector)
            else:
                key.data(events)


def connect(port: int) -> socket.socket:
    """An open WebSocket connection."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(
        b"GET /ws HTTP/1.1\r\nHost: bench.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + _KEY + b"\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        if not data:
            break
        answer += data
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"no 101, but {answer[:100]!r}")
    return connection


class _Talker:
    """One connection of the client: a message at a time, the next one when its echo is back."""

    def __init__(self, port: int, size: int) -> None:
        self.socket = connect(port)
        self.socket.setblocking(False)
        self._message = memoryview(header(size, True) + bytes(size))
        self._wanted = len(header(size, False)) + size
        self._sent = self._got = 0
        self._began = 0.0
        self.messages = 0
        self.times: list[float] = []

    def begin(self) -> None:
        self._sent = self._got = 0
        self._began = time.monotonic()

    def ready(self, events: int) -> bool:
        """Whether it has more to send."""
        if events & selectors.EVENT_READ:
            data = self.socket.recv(_READ)
            if not data:
                raise ConnectionError("the connection was closed")
            self._got += len(data)
            if self._got >= self._wanted:
                self.messages += 1
                self.times.append(time.monotonic() - self._began)
                self.begin()
        if self._sent < len(self._message):
            try:
                self._sent += self.socket.send(self._message[self._sent :])
            except BlockingIOError:
                pass
        return self._sent < len(self._message)


def load(port: int, connections: int, size: int, seconds: float) -> dict[str, float]:
    """Messages through so many connections, each waiting for its echo before it sends the next one."""
    talkers = [_Talker(port, size) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for talker in talkers:
        talker.begin()
        selector.register(talker.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, talker)
    began = time.monotonic()
    writing = dict.fromkeys(talkers, True)
    while time.monotonic() - began < seconds:
        for key, events in selector.select(1):
            more = key.data.ready(events)
            if more is not writing[key.data]:
                writing[key.data] = more
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
                selector.modify(key.fileobj, wanted, key.data)
    took = time.monotonic() - began
    times = [each for talker in talkers for each in talker.times]
    cuts = quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    count = sum(talker.messages for talker in talkers)
    return {"messages": count, "rate": count / took, "p50": cuts[49], "p99": cuts[98]}


def main(arguments: Sequence[str]) -> int:
    role, *numbers = arguments
    if role == "echo":
        echo(int(numbers[0]))
    port, connections, size, seconds = numbers
    print(json.dumps(load(int(port), int(connections), int(size), float(seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
