"""gRPC through Balance: grpcio at both ends, every kind of call."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from test.integration.harness import PATIENCE, Balance, balance, free_port

LARGE = 20 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service(grpc.GenericRpcHandler):
    """A service of bytes: no generated code stands between the test and the wire."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.deadline = 0.0

    def service(self, call: Any) -> Any:
        return {
            "/t.T/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/t.T/Down": grpc.unary_stream_rpc_method_handler(self.down),
            "/t.T/Up": grpc.stream_unary_rpc_method_handler(self.up),
            "/t.T/Both": grpc.stream_stream_rpc_method_handler(self.both),
            "/t.T/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/t.T/Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        }.get(call.method)

    def unary(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-seen", str(len(request))), ("x-raw-bin", b"\0\xff")))
        return request[::-1]

    def down(self, request: bytes, context: Any) -> Iterator[bytes]:
        for n in range(int(request)):
            yield b"%d" % n

    def up(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b",".join(requests)

    def both(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()

    def fail(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        raise AssertionError

    def wait(self, request: bytes, context: Any) -> bytes:
        self.deadline = context.time_remaining()
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(PATIENCE)
        return b""


@contextlib.contextmanager
def serving(service: Service) -> Iterator[int]:
    """A grpcio server."""
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[service], options=OPTIONS)
    port = server.add_insecure_port(f"127.0.0.1:{free_port()}")
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


@pytest.fixture(params=["h2", "lean"])
def running(request: Any) -> Iterator[tuple[Balance, Service, grpc.Channel]]:
    service = Service()
    with serving(service) as port:
        backend = {"name": "g", "address": f"127.0.0.1:{port}", "protocol": "h2c"}
        config = {"backends": [backend], "http": {"http2_session": request.param}}
        with balance(config) as proxy, grpc.insecure_channel(f"127.0.0.1:{proxy.port}", options=OPTIONS) as channel:
            yield proxy, service, channel


Running = tuple[Balance, Service, grpc.Channel]


def test_unary_with_trailers(running: Running) -> None:
    _, _, channel = running
    answer, call = channel.unary_unary("/t.T/Unary").with_call(b"abc", timeout=PATIENCE)
    assert answer == b"cba"
    assert call.code() is grpc.StatusCode.OK
    assert dict(call.trailing_metadata())["x-seen"] == "3"
    assert dict(call.trailing_metadata())["x-raw-bin"] == b"\0\xff"


def test_streams(running: Running) -> None:
    _, _, channel = running
    assert list(channel.unary_stream("/t.T/Down")(b"500", timeout=PATIENCE)) == [b"%d" % n for n in range(500)]
    assert channel.stream_unary("/t.T/Up")(iter([b"a", b"b", b"c"]), timeout=PATIENCE) == b"a,b,c"


def test_both_directions_take_turns(running: Running) -> None:
    """Each message is answered before the next one is sent: nothing is held back on the way."""
    _, _, channel = running
    answered = threading.Semaphore(1)

    def questions() -> Iterator[bytes]:
        for n in range(50):
            assert answered.acquire(timeout=PATIENCE)
            yield b"q%d" % n

    for n, answer in enumerate(channel.stream_stream("/t.T/Both")(questions(), timeout=PATIENCE)):
        assert answer == b"Q%d" % n
        answered.release()


def test_trailers_only(running: Running) -> None:
    _, _, channel = running
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Fail")(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such thing"
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Unknown")(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_deadline(running: Running) -> None:
    _, service, channel = running
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Wait")(b"", timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < service.deadline <= 0.5
    assert service.cancelled.wait(PATIENCE)


def test_cancellation_reaches_the_server(running: Running) -> None:
    _, service, channel = running
    call = channel.unary_unary("/t.T/Wait").future(b"", timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while not service.deadline and time.monotonic() < deadline:
        time.sleep(0.01)
    call.cancel()
    assert service.cancelled.wait(PATIENCE)


def test_large_messages(running: Running) -> None:
    _, _, channel = running
    message = bytes(range(256)) * (LARGE // 256)
    assert channel.unary_unary("/t.T/Unary")(message, timeout=60) == message[::-1]


def test_many_calls_at_once(running: Running) -> None:
    _, _, channel = running
    calls = [channel.unary_unary("/t.T/Unary").future(b"%d" % n, timeout=PATIENCE) for n in range(300)]
    assert [call.result() for call in calls] == [(b"%d" % n)[::-1] for n in range(300)]


def test_no_server() -> None:
    backend = {"name": "g", "address": f"127.0.0.1:{free_port()}", "protocol": "h2c"}
    with balance({"backends": [backend]}) as proxy, grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Unary")(b"", timeout=PATIENCE)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
