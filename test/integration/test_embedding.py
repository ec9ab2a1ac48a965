"""The examples of doc/embedding.md, run as a user runs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from test.integration.harness import (
    PATIENCE,
    ROOT,
    TWISTD,
    ScriptedBackend,
    accepts,
    answering,
    backends,
    free_port,
    read_head,
    read_response,
    simple,
    wait_for,
)

EXAMPLES = ROOT / "examples" / "embedding"


@contextmanager
def running(arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        arguments, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def ask(port: int, path: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        lines = [f"{method} {path} HTTP/1.1", "Host: a.example", *fields]
        lines += [f"Content-Length: {len(body)}"] if body else []
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return read_response(connection, method.encode()).body


@contextmanager
def site(*addresses: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with running([sys.executable, str(EXAMPLES / "site.py"), "0", *addresses]) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("http://127.0.0.1:"), line
        yield int(line.rpartition(":")[2].strip("/\n")), process


def echo(connection: socket.socket, backend: ScriptedBackend) -> None:
    """Answers with the request it got."""
    while head := read_head(connection):
        length = next(
            (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0
        )
        start, _, body = head.partition(b"\r\n\r\n")
        while len(body) < length:
            body += connection.recv(65536)
        connection.sendall(simple(start + b"\n\n" + body))


def test_mounted_in_a_site() -> None:
    with backends(echo, echo) as (one, two), site(f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}") as (port, process):
        assert ask(port, "/") == b"the application's own page\n"
        told = ask(port, "/shop/cart?x=1")
        assert told.startswith(b"GET /cart?x=1 HTTP/1.1")
        assert b"X-Forwarded-For: 127.0.0.1" in told
        told = ask(port, "/shop/file", method="PUT", body=b"x" * 300_000)
        assert told.startswith(b"PUT /file HTTP/1.1")
        assert told.endswith(b"x" * 300_000)
        told = ask(port, "/shop/chat", "Connection: upgrade", "Upgrade: websocket")
        assert b"upgrade" not in told.lower()  # as the document says: it goes on as a plain request
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_responses_stream_through_a_site() -> None:
    go_on = threading.Event()

    def in_two(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        assert go_on.wait(PATIENCE)
        connection.sendall(b"two")

    with backends(in_two) as (one,), site(f"127.0.0.1:{one.port}") as (port, _):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")
            seen = b""
            while not seen.endswith(b"one"):
                seen += connection.recv(65536)
            go_on.set()
            while not seen.endswith(b"onetwo"):
                more = connection.recv(65536)
                assert more
                seen += more


def test_a_response_that_breaks_off_breaks_off() -> None:
    def cut(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")

    with backends(cut) as (one,), site(f"127.0.0.1:{one.port}") as (port, _):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not read_response(connection).complete


def test_a_service_made_of_objects() -> None:
    port = free_port()
    with backends(answering(simple(b"one")), answering(simple(b"two"))) as running_backends:
        addresses = " ".join(f"127.0.0.1:{backend.port}" for backend in running_backends)
        arguments = [*TWISTD, "--nodaemon", "--pidfile=", "--python", str(EXAMPLES / "service.tac")]
        with running(arguments, LISTEN=f"127.0.0.1:{port}", BACKENDS=addresses) as process:
            wait_for(lambda: process.poll() is not None or accepts(port), "the service to listen")
            assert ask(port, "/rest") == b"one"
            assert {ask(port, "/api/") for _ in range(30)} == {b"one", b"two"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


def test_the_service_file_is_the_one_in_the_document() -> None:
    assert (EXAMPLES / "service.tac").read_text() in Path(ROOT / "doc" / "embedding.md").read_text()
