"""A real Balance, real backends, real sockets: what the integration tests share.

Rule of this file: everything is bounded in time, nothing sleeps where an event can be awaited, no port is fixed, and what
was started is stopped, also when a test fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import yaml

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
threading.stack_size(512 * 1024)  # thousands of backends' threads at a time
TWISTD = [str(Path(sys.executable).with_name("twistd"))]


def free_port() -> int:
    """A port nobody listens on now. Somebody else may take it: `start` then tries another one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Poll what has no event to wait for (another process), within bounds."""
    deadline = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.01)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Balance:
    """A `twistd -n balance` process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, metrics_port: int) -> None:
        self.process = process
        self.port = port
        self.metrics_port = metrics_port
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def resident(self) -> int:
        """Resident memory, in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        return self.process.wait(patience)

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def ask(self, request: bytes) -> Response:
        """Send the bytes of one request on a new connection and read one response."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_response(connection, request.split(b" ", 1)[0])

    def get(self, path: str = "/", **headers: str) -> Response:
        lines = [f"GET {path} HTTP/1.1", "Host: test.example"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self.ask("\r\n".join([*lines, "", ""]).encode())

    def metrics(self) -> str:
        with socket.create_connection(("127.0.0.1", self.metrics_port), PATIENCE) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n")
            return read_response(connection, b"GET").body.decode()


class Response:
    """A response as h11 read it; `complete` is False when it was cut off."""

    def __init__(self) -> None:
        self.status = 0
        self.interim: list[int] = []
        self.headers: dict[str, str] = {}
        self.body = b""
        self.trailers: dict[str, str] = {}
        self.complete = False


def _fields(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def read_response(connection: socket.socket, method: bytes = b"GET") -> Response:
    """Read one response strictly."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    response = Response()
    body: list[bytes] = []
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            try:
                data = connection.recv(65536)
            except ConnectionError:
                break
            try:
                parser.receive_data(data)
                if not data and parser.next_event() is h11.NEED_DATA:
                    break
            except h11.RemoteProtocolError:
                break
            if not data:
                response.complete = parser.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
                break
        elif isinstance(event, h11.InformationalResponse):
            response.interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            response.status = event.status_code
            response.headers = _fields(event.headers)
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            response.trailers = _fields(event.headers)
            response.complete = True
            break
        else:
            break
    response.body = b"".join(body)
    return response


@contextlib.contextmanager
def balance(config: dict[str, Any], *, patience: float = PATIENCE, port: int = 0) -> Iterator[Balance]:
    """Run a configuration, with `listen` and `metrics` on free ports, until the block ends.

    :param port: where a configuration with `listeners` listens first
    """
    given = port
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(5):
            port, metrics_port = given or free_port(), free_port()
            whole = {
                **({} if given else {"mode": "http", "listen": f"127.0.0.1:{port}"}),
                "metrics": {"enabled": True, "listen": f"127.0.0.1:{metrics_port}"},
                **config,
            }
            path = Path(folder, "balance.yaml")
            path.write_text(yaml.safe_dump(whole))
            log = Path(folder, "log")
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*TWISTD, "-n", "--pidfile=", "balance", "--config", str(path)],
                    cwd=ROOT,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            running = Balance(process, port, log, metrics_port)
            try:
                listeners = len(config.get("listeners", ())) or 1
                wait_for(
                    lambda r=running, n=listeners: (
                        r.process.poll() is not None or (r.log.count("listening on ") >= n and accepts(r.port))
                    ),
                    "Balance to listen",
                    patience,
                )
                if process.poll() is not None and "in use" in running.log:
                    continue
                assert process.poll() is None, running.log
                yield running
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait(PATIENCE)
            return
        raise AssertionError("no free port in five tries")


class ScriptedBackend:
    """A backend whose every connection is handled by a function, in a thread of its own.

    :param handler: called with each accepted socket and this object; the socket is closed when it returns
    """

    def __init__(self, handler: Callable[[socket.socket, ScriptedBackend], None], port: int = 0) -> None:
        self._handler = handler
        self._server = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = int(self._server.getsockname()[1])
        self.accepted = 0
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def config(self) -> dict[str, Any]:
        return {"name": f"b{self.port}", "address": f"127.0.0.1:{self.port}"}

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                connection.settimeout(PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.accepted += 1
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._handler(connection, self)

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.closed.set()


def read_head(connection: socket.socket) -> bytes:
    """A request head and what came with it; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answering(response: bytes) -> Callable[[socket.socket, ScriptedBackend], None]:
    """A handler that answers every (body-less) request with these bytes and keeps the connection."""

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        while head := read_head(connection):
            backend.requests.append(head)
            connection.sendall(response)

    return handle


def simple(text: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)


@contextlib.contextmanager
def backends(*handlers: Callable[[socket.socket, ScriptedBackend], None]) -> Iterator[list[ScriptedBackend]]:
    """Scripted backends, stopped when the block ends."""
    running = [ScriptedBackend(handler) for handler in handlers]
    try:
        yield running
    finally:
        for backend in running:
            backend.stop()
