"""Every way a backend can fail, against a real Balance: what the client sees, and what the log says."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from test.integration.harness import (
    PATIENCE,
    ScriptedBackend,
    answering,
    backends,
    balance,
    free_port,
    read_head,
    read_response,
    reset,
    simple,
    wait_for,
)

SHORT = {"connect": "1s", "read": "1s", "write": "1s"}


def config(*running: ScriptedBackend, **more: object) -> dict[str, object]:
    return {"backends": [backend.config for backend in running], "timeouts": SHORT, **more}


def test_refused_backend_is_passed_over() -> None:
    with backends(answering(simple(b"ok"))) as (good,):
        dead = {"name": "dead", "address": f"127.0.0.1:{free_port()}"}
        with balance({"backends": [dead, good.config], "timeouts": SHORT}) as proxy:
            for _ in range(10):
                assert proxy.get().body == b"ok"
            assert "balance_retries_total" in proxy.metrics()


def test_all_refused() -> None:
    with balance({"backends": [{"name": "dead", "address": f"127.0.0.1:{free_port()}"}]}) as proxy:
        response = proxy.get()
        assert response.status == 502
        assert "error=connection_refused" in response.headers["proxy-status"]
        assert "127.0.0.1" not in response.body.decode()
        assert "connect_refused" in proxy.log


def test_reset_before_the_answer() -> None:
    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        reset(connection)

    with backends(handle) as (bad,), balance(config(bad)) as proxy:
        response = proxy.get()
        assert response.status == 502
        assert "error=connection_terminated" in response.headers["proxy-status"]


def test_never_answers() -> None:
    with backends(lambda c, b: b.closed.wait(PATIENCE) and None) as (mute,), balance(config(mute)) as proxy:
        response = proxy.get()
        assert response.status == 504
        assert "error=http_response_timeout" in response.headers["proxy-status"]


def test_backlog_is_full() -> None:
    """Nobody accepts, and the kernel does not answer either: only the connect timeout helps."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        with balance({"backends": [{"name": "full", "address": f"127.0.0.1:{port}"}], "timeouts": SHORT}) as proxy:
            response = proxy.get()
            assert response.status == 504
            assert "error=connection_timeout" in response.headers["proxy-status"]
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    "head", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\na\r\n"], ids=["length", "chunked"]
)
def test_dies_in_the_middle_of_a_response(head: bytes) -> None:
    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"12345")

    with backends(handle) as (bad,), balance(config(bad)) as proxy:
        response = proxy.get()
        assert response.status == 200
        assert not response.complete
        wait_for(lambda: "response_truncated" in proxy.log, "the log")


def test_half_a_head() -> None:
    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")

    with backends(handle) as (bad,), balance(config(bad)) as proxy:
        assert proxy.get().status == 502


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ],
    ids=["tls", "smtp", "two-lengths", "length-and-chunked", "space-before-colon"],
)
def test_garbage(garbage: bytes) -> None:
    with backends(answering(garbage)) as (bad,), balance(config(bad)) as proxy:
        response = proxy.get()
        assert response.status == 502
        assert "error=http_protocol_error" in response.headers["proxy-status"]


def test_ill_backend_is_taken_out_and_comes_back() -> None:
    """Passive health: five failures, out; then one probe, and in again."""
    ill = threading.Event()
    ill.set()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        while head := read_head(connection):
            backend.requests.append(head)
            if ill.is_set():
                return
            connection.sendall(simple(b"b"))

    health = {"enable_passive_checks": True, "consecutive_failures": 5, "ejection_time": "2s"}
    with backends(answering(simple(b"a")), handle) as (good, bad):
        with balance(config(good, bad, health_check=health)) as proxy:
            statuses = [proxy.get().status for _ in range(30)]
            assert statuses.count(502) == 5
            assert len(bad.requests) == 5
            ill.clear()
            wait_for(lambda: proxy.get().body == b"b", "the probe", 10)
            assert {proxy.get().body for _ in range(4)} == {b"a", b"b"}


def test_client_that_leaves_cancels_the_backend_request() -> None:
    left = threading.Event()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        backend.requests.append(read_head(connection))
        try:
            if not connection.recv(1):
                left.set()
        except ConnectionError:
            left.set()

    with backends(handle) as (slow,), balance({"backends": [slow.config]}) as proxy:
        connection = proxy.connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: slow.requests, "the request")
        connection.close()
        assert left.wait(PATIENCE)


def test_slow_head_is_ended() -> None:
    with backends(answering(simple(b"ok"))) as (good,), balance(config(good, timeouts={"head": "1s"})) as proxy:
        with proxy.connect() as connection:
            started = time.monotonic()
            connection.sendall(b"GET / HTTP/1.1\r\n")
            stop = threading.Event()

            def drip() -> None:
                while not stop.wait(0.2):
                    try:
                        connection.sendall(b"A: b\r\n")
                    except OSError:
                        return

            thread = threading.Thread(target=drip)
            thread.start()
            response = read_response(connection)
            stop.set()
            thread.join()
            assert response.status == 408
            assert time.monotonic() - started < 10
        assert good.requests == []


def test_idle_connection_closed_by_the_backend_is_not_noticed_by_clients() -> None:
    """The backend closes each connection after its answer, without saying so: every request succeeds all the same."""

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        backend.requests.append(read_head(connection))
        connection.sendall(simple(b"ok"))

    with backends(handle) as (rude,), balance(config(rude)) as proxy:
        with proxy.connect() as connection:
            for _ in range(200):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert read_response(connection).body == b"ok"
        assert len(rude.requests) >= 200


def test_too_much_after_the_answer() -> None:
    """A second response that nobody asked for must not become the next client's answer."""
    with backends(answering(simple(b"good") + simple(b"evil"))) as (bad,), balance(config(bad)) as proxy:
        for _ in range(20):
            assert proxy.get().body == b"good"


def test_overflowing_queue_and_its_timeout() -> None:
    release = threading.Event()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        while head := read_head(connection):
            backend.requests.append(head)
            release.wait(PATIENCE)
            connection.sendall(simple(b"ok"))

    with backends(handle) as (slow,):
        whole = {
            "backends": [{**slow.config, "max_connections": 1}],
            "load_balancer": {"algorithm": "round-robin", "max_queue": 1},
            "timeouts": {"queue": "1s"},
        }
        with balance(whole) as proxy:
            first, second, third = proxy.connect(), proxy.connect(), proxy.connect()
            request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            first.sendall(request)
            wait_for(lambda: slow.requests, "the first request")
            second.sendall(request)
            wait_for(lambda: "queue" in proxy.metrics(), "metrics")
            third.sendall(request)
            answers = sorted((read_response(second).status, read_response(third).status))
            assert answers == [503, 503]
            release.set()
            assert read_response(first).status == 200
            assert "queue_full" in proxy.log
            assert "queue_timeout" in proxy.log
