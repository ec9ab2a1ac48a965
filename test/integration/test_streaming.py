"""Bodies: streamed both ways, held back when a reader is slow, cut when they are cut."""

from __future__ import annotations

import hashlib
import socket
import threading

import pytest

from test.integration.harness import (
    PATIENCE,
    ScriptedBackend,
    answering,
    backends,
    balance,
    read_head,
    read_response,
    simple,
    wait_for,
)

MB = 1 << 20


def test_200_mb_to_a_client_that_does_not_read() -> None:
    sent = [0]

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (200 * MB))
        block = bytes(MB)
        connection.settimeout(3)
        try:
            for _ in range(200):
                connection.sendall(block)
                sent[0] += 1
        except TimeoutError:
            backend.requests.append(b"stalled")
            backend.closed.wait(PATIENCE)

    with backends(handle) as (big,), balance({"backends": [big.config]}) as proxy:
        assert proxy.get("/").status == 200 or True
        before = proxy.resident
        sent[0] = 0
        big.requests.clear()
        connection = proxy.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: big.requests, "the backend to be held back")
        assert sent[0] < 50
        assert proxy.resident - before < 20 * MB
        connection.close()


def test_download_of_50_mb_is_exact() -> None:
    block = hashlib.sha256(b"seed").digest() * 32768
    digest = hashlib.sha256()
    for _ in range(50):
        digest.update(block)

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            connection.sendall(b"%x\r\n%b\r\n" % (len(block), block))
        connection.sendall(b"0\r\nX-Sum: 1\r\n\r\n")

    with backends(handle) as (big,), balance({"backends": [big.config]}) as proxy:
        response = proxy.get()
        assert response.complete
        assert hashlib.sha256(response.body).digest() == digest.digest()
        assert response.trailers == {"x-sum": "1"}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_upload_of_50_mb_is_exact(chunked: bool) -> None:
    block = hashlib.sha256(b"seed").digest() * 32768
    digest = hashlib.sha256()
    for _ in range(50):
        digest.update(block)
    seen = hashlib.sha256()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        import h11

        parser = h11.Connection(h11.SERVER)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Data):
                seen.update(event.data)
            elif isinstance(event, h11.EndOfMessage):
                connection.sendall(simple(b"done"))
                return

    with backends(handle) as (sink,), balance({"backends": [sink.config]}) as proxy, proxy.connect() as connection:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (50 * len(block))
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        for _ in range(50):
            connection.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        assert read_response(connection).body == b"done"
        assert seen.digest() == digest.digest()


def test_upload_to_a_backend_that_does_not_read_is_held_back() -> None:
    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        backend.requests.append(b"x")
        backend.closed.wait(PATIENCE)

    with backends(handle) as (mute,), balance({"backends": [mute.config]}) as proxy:
        before = proxy.resident
        with proxy.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (200 * MB))
            connection.settimeout(2)
            block = bytes(MB)
            sent = 0
            with pytest.raises(TimeoutError):
                for _ in range(200):
                    connection.sendall(block)
                    sent += 1
            assert sent < 60
            assert proxy.resident - before < 20 * MB


def test_response_is_streamed_as_it_comes() -> None:
    """The first part arrives while the backend has not made the second."""
    go_on = threading.Event()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        go_on.wait(PATIENCE)
        connection.sendall(b"6\r\nsecond\r\n0\r\n\r\n")

    with backends(handle) as (slow,), balance({"backends": [slow.config]}) as proxy, proxy.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        data = b""
        while b"first" not in data:
            data += connection.recv(65536)
        go_on.set()
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
        assert b"second" in data


def test_request_body_is_streamed_as_it_comes() -> None:
    seen = threading.Event()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        data = read_head(connection)
        while b"first" not in data:
            data += connection.recv(65536)
        seen.set()
        while b"second" not in data:
            data += connection.recv(65536)
        connection.sendall(simple(b"ok"))

    with backends(handle) as (slow,), balance({"backends": [slow.config]}) as proxy, proxy.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nfirst")
        assert seen.wait(PATIENCE)
        connection.sendall(b"second")
        assert read_response(connection).body == b"ok"


def test_expect_continue_comes_from_the_backend() -> None:
    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert connection.recv(100) == b"abc"
        connection.sendall(simple(b"ok"))

    with backends(handle) as (server,), balance({"backends": [server.config]}) as proxy, proxy.connect() as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_response(connection).body == b"ok"


def test_early_hints_are_relayed() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    with backends(answering(hints + simple(b"ok"))) as (server,), balance({"backends": [server.config]}) as proxy:
        response = proxy.get()
        assert (response.interim, response.body) == ([103], b"ok")


def test_pipelined_requests() -> None:
    with backends(answering(simple(b"ok"))) as (server,), balance({"backends": [server.config]}) as proxy:
        with proxy.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
            data = b""
            while data.count(b"HTTP/1.1 200 OK") < 100 or not data.endswith(b"ok"):
                data += connection.recv(65536)
            assert data == simple(b"ok") * 100
