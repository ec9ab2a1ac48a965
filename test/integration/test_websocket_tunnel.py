"""WebSocket through a real Balance, byte by byte: real clients, real servers, and what goes wrong between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from test.integration.harness import PATIENCE, Balance, backends, balance, free_port, wait_for
from test.integration.test_tcp_relay import metric, read_exactly

MANY = 200
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    "GET /socket HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def echoing(config: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[tuple[Balance, Server]]:
    """An echo server of the `websockets` package behind Balance."""
    async with serve(echo, "127.0.0.1", 0, max_size=None, **options) as server:
        port = server.sockets[0].getsockname()[1]
        backend = {"name": "ws-backend", "address": f"localhost:{port}"}
        with running({"backends": [backend], **(config or {})}) as proxy:
            yield proxy, server


@contextlib.contextmanager
def running(config: dict[str, Any]) -> Iterator[Balance]:
    with balance(config) as proxy:
        yield proxy


def url(proxy: Balance, path: str = "/socket") -> str:
    return f"ws://127.0.0.1:{proxy.port}{path}"


def bounded(main: Any) -> None:
    """Run a coroutine, for no longer than a minute."""

    async def within() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(within())


# --- sessions -------------------------------------------------------------------------------------------------


def test_example_3_of_the_original() -> None:
    """The configuration as it stands there, and what `wscat` does: lines go out and come back."""

    async def main() -> None:
        async with echoing({"http": {"enable_websocket": True}}) as (proxy, _):
            async with connect(url(proxy)) as client:
                for line in ("hello", "grüße", ""):
                    await client.send(line)
                    assert await client.recv() == line
            assert client.close_code == 1000
            wait_for(lambda: metric(proxy, "balance_websocket_open") == 0, "the end")
            assert metric(proxy, "balance_websocket_opened_total") == 1
            assert proxy.process.poll() is None
            assert "not built" not in proxy.log

    bounded(main())


def test_messages_of_all_sizes() -> None:
    """Small ones, such as need longer headers, such as are moved in the kernel, fragments, pings; both directions at once."""

    async def main() -> None:
        async with echoing() as (proxy, _):
            async with connect(url(proxy), max_size=None, compression=None) as client:
                for size in (0, 1, 125, 126, 127, 65535, 65536, 1 << 20, (8 << 20) + 3):
                    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
                    await client.send(message)
                    assert await client.recv() == message
                await client.send(["frag", "men", "ted"])
                assert await client.recv() == "fragmented"
                await (await client.ping())

                async def send() -> None:
                    for n in range(30):
                        await client.send(bytes((n,)) * 700_000)

                sending = asyncio.create_task(send())
                for n in range(30):
                    assert await client.recv() == bytes((n,)) * 700_000
                await sending
            assert metric(proxy, "balance_websocket_messages_total", direction="in") == 40
            assert metric(proxy, "balance_websocket_messages_total", direction="out") == 40

    bounded(main())


def test_compression_and_subprotocols_pass_end_to_end() -> None:
    async def main() -> None:
        async with echoing(subprotocols=["v2", "v1"]) as (proxy, _):
            async with connect(url(proxy), subprotocols=["v1", "v2"], origin="https://a.example") as client:  # type: ignore[arg-type]
                assert client.subprotocol == "v2"
                assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
                await client.send("x" * 10_000)
                assert await client.recv() == "x" * 10_000

    bounded(main())


def test_close_codes_pass() -> None:
    async def closing(connection: ServerConnection) -> None:
        await connection.close(4321, await connection.recv())

    async def main() -> None:
        async with serve(closing, "127.0.0.1", 0) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with balance({"backends": [{"name": "a", "address": address}]}) as proxy:
                async with connect(url(proxy)) as client:
                    await client.send("because")
                    with pytest.raises(ConnectionClosed):
                        await client.recv()
                assert (client.close_code, client.close_reason) == (4321, "because")
                wait_for(lambda: 'code="4321"' in proxy.metrics(), "the account")

    bounded(main())


def test_a_refusal_of_the_backend_is_relayed() -> None:
    async def main() -> None:
        async with echoing(process_request=lambda c, r: c.respond(401, "who are you?\n")) as (proxy, _):
            with pytest.raises(InvalidStatus) as caught:
                async with connect(url(proxy)):
                    pass
            assert caught.value.response.status_code == 401
            assert caught.value.response.body == b"who are you?\n"

    bounded(main())


def test_switched_off_is_426() -> None:
    config = {"backends": [{"name": "a", "address": "127.0.0.1:9"}], "http": {"enable_websocket": False}}
    with balance(config) as proxy:
        answer = proxy.ask(HANDSHAKE)
        assert (answer.status, answer.complete) == (426, True)


def test_the_access_log_has_a_line_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    async def main() -> None:
        config = {"access_log": {"path": str(path), "format": "json"}}
        async with echoing(config) as (proxy, _):
            async with connect(url(proxy), compression=None) as client:
                await client.send("0123456789")
                await client.recv()
                await asyncio.sleep(1.2)  # longer than it takes until lines are written
                assert not path.exists()
            (line,) = wait_for(lambda: path.exists() and path.read_text().splitlines(), "the line")
        record = json.loads(line)
        assert (record["status"], record["backend"], record["reason"]) == (101, "ws-backend", None)
        assert record["websocket"] == {"close_code": 1000, "messages_in": 1, "messages_out": 1}
        assert record["request_bytes"] == 16 + 8
        assert record["response_bytes"] == 12 + 4
        assert record["seconds"] > 1

    bounded(main())


# --- what goes wrong ------------------------------------------------------------------------------------------

_SERVER = """
import asyncio, sys
from websockets.asyncio.server import serve
async def echo(c):
    async for m in c: await c.send(m)
async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), backlog=512): await asyncio.Future()
asyncio.run(main())
"""


async def open_many(proxy: Balance) -> list[ClientConnection]:
    gate = asyncio.Semaphore(32)

    async def open_one() -> ClientConnection:
        async with gate:
            client = await connect(url(proxy), compression=None)
            await client.send("x")
            assert await client.recv() == "x"
            return client

    return list(await asyncio.gather(*(open_one() for _ in range(MANY))))


async def closes(clients: list[ClientConnection]) -> list[tuple[int | None, str | None]]:
    """What each was told."""

    async def ended(client: ClientConnection) -> tuple[int | None, str | None]:
        await client.wait_closed()
        return client.close_code, client.close_reason

    return list(await asyncio.gather(*map(ended, clients)))


def test_a_backend_is_killed_under_200_connections() -> None:
    """Every client is told, with a Close frame."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(port)])

    async def main(proxy: Balance) -> None:
        clients = await open_many(proxy)
        assert metric(proxy, "balance_websocket_open") == MANY
        server.kill()
        assert set(await closes(clients)) == {(1011, "backend lost")}
        wait_for(lambda: metric(proxy, "balance_websocket_open") == 0, "all to be accounted for")
        assert metric(proxy, "balance_websocket_closes_total", code="1011") == MANY
        assert metric(proxy, "balance_errors_total", reason="tunnel_lost") == MANY
        assert metric(proxy, "balance_backend_active_requests") == 0
        assert metric(proxy, "balance_backend_connections_open") == 0

    try:
        wait_for(lambda: _listens(port), "the server")
        with balance({"backends": [{"name": "a", "address": f"127.0.0.1:{port}"}]}) as proxy:
            bounded(main(proxy))
    finally:
        server.kill()
        server.wait(PATIENCE)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_balance_stops_under_200_connections() -> None:
    """They live until the time to drain is over; then all are told, one after the other."""

    async def main() -> None:
        config = {"timeouts": {"drain": "1s"}, "http": {"websocket": {"drain_spread": "2s", "close_timeout": "3s"}}}
        async with echoing(config) as (proxy, _):
            clients = await open_many(proxy)
            began = time.monotonic()
            proxy.signal(signal.SIGTERM)
            await clients[0].send("still here")
            assert await clients[0].recv() == "still here"
            ends: list[float] = []

            async def noted(client: ClientConnection) -> None:
                await client.wait_closed()
                ends.append(time.monotonic() - began)

            await asyncio.gather(*map(noted, clients))
            assert {(c.close_code, c.close_reason) for c in clients} == {(1001, "going away")}
            assert min(ends) > 0.9
            assert max(ends) - min(ends) > 1
            assert await asyncio.to_thread(proxy.wait) == 0

    bounded(main())


def test_a_slow_reader_costs_no_memory() -> None:
    """100 MB wait to be read: with the backend, not with us."""
    size = 100 << 20

    async def flood(connection: ServerConnection) -> None:
        await connection.recv()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(size >> 20):
                await connection.send(bytes(1 << 20))

    async def main() -> None:
        async with serve(flood, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with balance({"backends": [{"name": "a", "address": address}]}) as proxy:
                with proxy.connect() as client:
                    client.sendall(HANDSHAKE)
                    assert await asyncio.to_thread(read_exactly, client, 12) == b"HTTP/1.1 101"
                    before = proxy.resident
                    client.sendall(b"\x82\x80\x00\x00\x00\x00")
                    most, seen = 0, -1.0
                    while True:  # until nothing moves any more
                        await asyncio.sleep(0.4)
                        most = max(most, proxy.resident - before)
                        moved = metric(proxy, "balance_websocket_bytes_total", direction="out")
                        if moved == seen:
                            break
                        seen = moved
                    assert most < 8 << 20
                    assert 0 < moved < size / 2

                    def read() -> int:
                        left = size
                        while left > 0:
                            data = client.recv(1 << 20)
                            assert data
                            left -= len(data)
                        return left

                    assert await asyncio.to_thread(read) <= 0
                    assert proxy.resident - before < 16 << 20

    bounded(main())


# --- smuggling ------------------------------------------------------------------------------------------------


def test_a_refused_upgrade_opens_no_way_past_the_routes() -> None:
    """The client pretends to be in a tunnel; what it sends is read, routed and refused as any request."""

    def handle(connection: socket.socket, backend: Any) -> None:
        while data := connection.recv(65536):
            backend.requests.append(data)
            connection.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")

    with backends(handle) as (server,):
        route = {"name": "r", "path_prefix": "/socket", "backends": [server.config["name"]]}
        with balance({"backends": [server.config], "http": {"routes": [route]}}) as proxy, proxy.connect() as client:
            client.sendall(HANDSHAKE)
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 426 ")
            client.sendall(b"GET /internal HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
        assert len(server.requests) == 1
        # Nor does a wrong version make the backend an accomplice.
        with balance({"backends": [server.config]}) as proxy:
            answer_ = proxy.ask(HANDSHAKE.replace(b"Version: 13", b"Version: 1337"))
            assert answer_.status == 426
        assert len(server.requests) == 1


def test_a_switch_that_nobody_asked_for_is_a_bad_response() -> None:
    def handle(connection: socket.socket, backend: Any) -> None:
        connection.recv(65536)
        connection.sendall(SWITCH + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.recv(65536)

    with backends(handle) as (server,), balance({"backends": [server.config]}) as proxy:
        assert proxy.get("/").status == 502
        body = proxy.ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert body.status == 502


def test_an_upgrade_with_a_body_is_refused() -> None:
    def handle(connection: socket.socket, backend: Any) -> None:
        backend.requests.append(connection.recv(65536))

    with backends(handle) as (server,), balance({"backends": [server.config]}) as proxy:
        for body in (b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
            assert proxy.ask(HANDSHAKE[:-2] + body).status == 400
        assert server.requests == []


def test_what_follows_the_handshakes_at_once_is_kept() -> None:
    def handle(connection: socket.socket, backend: Any) -> None:
        connection.recv(65536)
        connection.sendall(SWITCH + b"\x81\x05hello")
        backend.requests.append(read_exactly(connection, 8))
        connection.recv(1)

    with backends(handle) as (server,), balance({"backends": [server.config]}) as proxy, proxy.connect() as client:
        client.sendall(HANDSHAKE + b"\x81\x82\x00\x00\x00\x00hi")
        data = b""
        while not data.endswith(b"\x81\x05hello"):
            more = client.recv(65536)
            assert more
            data += more
        assert data.startswith(b"HTTP/1.1 101 ")
        wait_for(lambda: server.requests, "the early bytes")
        assert server.requests == [b"\x81\x82\x00\x00\x00\x00hi"]
