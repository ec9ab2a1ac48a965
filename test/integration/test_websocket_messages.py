"""WebSocket through a real Balance, message by message; and, in both modes, what only real programs can show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from test.certificates import Authority
from test.integration.harness import PATIENCE, ROOT, balance, free_port, wait_for
from test.integration.test_tcp_relay import metric, read_exactly
from test.integration.test_websocket_tunnel import (
    _SERVER,
    HANDSHAKE,
    _listens,
    bounded,
    closes,
    echoing,
    open_many,
    url,
)

MESSAGES: dict[str, Any] = {"http": {"websocket": {"messages": True}}}
COMPRESSED: dict[str, Any] = {
    "http": {"websocket": {"compression": {"client": True, "backend": True}, "max_message_size": "32MiB"}}
}


def test_messages_of_all_sizes() -> None:
    async def main() -> None:
        async with echoing(COMPRESSED) as (proxy, _):
            async with connect(url(proxy), max_size=None) as client:
                assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
                for size in (0, 1, 125, 126, 65535, 65536, (1 << 20) + 3):
                    for message in (os.urandom(size // 2) + bytes(size - size // 2), "ä" * (size // 2)):
                        await client.send(message)
                        assert await client.recv() == message
                await client.send(["frag", "men", "ted"])
                assert await client.recv() == "fragmented"
                await (await client.ping())
                await client.close(4000, "enough")
            assert (client.close_code, client.close_reason) == (4000, "enough")
            wait_for(lambda: metric(proxy, "balance_websocket_closes_total", code="4000") == 1, "the account")
            assert metric(proxy, "balance_websocket_messages_total", direction="in") == 15

    bounded(main())


def test_limits() -> None:
    async def main() -> None:
        async with echoing({"http": {"websocket": {"max_message_size": 1000}}}) as (proxy, _):
            async with connect(url(proxy)) as client:
                await client.send("x" * 1000)
                assert await client.recv() == "x" * 1000
                await client.send("x" * 1001)
                with pytest.raises(ConnectionClosed):
                    await client.recv()
            assert client.close_code == 1009

    bounded(main())


def test_silent_clients_are_asked(tmp_path: Path) -> None:
    """A client that is there answers pings by itself; one that is frozen does not."""

    async def main() -> None:
        config = {"http": {"websocket": {"ping_client": "1s", "ping_timeout": "1s"}}}
        async with echoing(config) as (proxy, _):
            with proxy.connect() as frozen:
                frozen.sendall(HANDSHAKE)
                async with connect(url(proxy), ping_interval=None) as client:
                    ended = await asyncio.to_thread(_until_end, frozen)
                    assert b"\x89\x00" in ended
                    await client.send("still here")
                    assert await client.recv() == "still here"

    bounded(main())


def _until_end(connection: Any) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            data += more
    return data


_FILTER = """
from balance.websocket.filters import WebSocketFilter

class Shout(WebSocketFilter):
    def from_client(self, connection, data):
        if data == "who am I?":
            connection.send_to_client(f"{connection.client_ip} on {connection.route}")
            return None
        return data.upper()
"""


def test_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_chat.py").write_text(_FILTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def main() -> None:
        config = {"http": {"websocket": {"filters": ["acme_chat:Shout"]}}}
        async with echoing(config) as (proxy, _):
            async with connect(url(proxy)) as client:
                await client.send("hello")
                assert await client.recv() == "HELLO"
                await client.send("who am I?")
                assert await client.recv() == "127.0.0.1 on default"

    bounded(main())


def test_a_backend_is_killed() -> None:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(port)])

    async def main(proxy: Any) -> None:
        clients = await open_many(proxy)
        server.kill()
        assert set(await closes(clients)) == {(1011, "backend lost")}
        wait_for(lambda: metric(proxy, "balance_websocket_open") == 0, "all to be accounted for")

    try:
        wait_for(lambda: _listens(port), "the server")
        with balance({"backends": [{"name": "a", "address": f"127.0.0.1:{port}"}], **MESSAGES}) as proxy:
            bounded(main(proxy))
    finally:
        server.kill()
        server.wait(PATIENCE)


def test_a_slow_reader_costs_no_memory() -> None:
    """100 MB of messages wait to be read: with the backend, not with us."""

    async def flood(connection: Any) -> None:
        await connection.recv()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                await connection.send(bytes(1 << 20))

    async def main() -> None:
        async with serve(flood, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with balance({"backends": [{"name": "a", "address": address}], **MESSAGES}) as proxy:
                with proxy.connect() as client:
                    client.sendall(HANDSHAKE)
                    assert await asyncio.to_thread(read_exactly, client, 12) == b"HTTP/1.1 101"
                    before = proxy.resident
                    client.sendall(b"\x82\x80\x00\x00\x00\x00")
                    most, seen = 0, -1.0
                    while True:  # until nothing moves any more
                        await asyncio.sleep(0.4)
                        most = max(most, proxy.resident - before)
                        moved = metric(proxy, "balance_websocket_messages_total", direction="out")
                        if moved == seen:
                            break
                        seen = moved
                    assert 0 < moved < 50
                    assert most < 16 << 20

    bounded(main())


# --- both modes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, MESSAGES], ids=["tunnel", "messages"])
def test_over_tls(config: dict[str, Any], tmp_path: Path) -> None:
    """Large enough for the kernel's short way, which there is none of with TLS."""
    pair = Authority(tmp_path).issue("localhost", "127.0.0.1")

    async def main() -> None:
        async with echoing({"tls": {"enabled": True, **pair.config}, **config}) as (proxy, _):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            async with connect(
                f"wss://127.0.0.1:{proxy.port}/", ssl=context, max_size=None, compression=None
            ) as client:
                for size in (10, 100_000, 3 << 20):
                    message = os.urandom(size)
                    await client.send(message)
                    assert await client.recv() == message
            assert client.close_code == 1000

    bounded(main())


_PAGE = """<!doctype html><title>WebSocket</title><script>
const report = (what) => fetch("/report?" + encodeURIComponent(JSON.stringify(what)));
const socket = new WebSocket("/socket".replace(/^/, location.origin.replace(/^http/, "ws")), ["chat"]);
socket.binaryType = "arraybuffer";
const got = [];
socket.onopen = () => { socket.send("grüße"); socket.send(new Uint8Array(300000)); };
socket.onmessage = (event) => {
  got.push(typeof event.data === "string" ? event.data : event.data.byteLength);
  if (got.length === 2) socket.close(4001, "done");
};
socket.onclose = (event) => report({got, code: event.code, reason: event.reason, clean: event.wasClean,
                                    protocol: socket.protocol, extensions: socket.extensions});
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize(
    ("config", "compressed", "secure"),
    [({}, True, True), (COMPRESSED, True, False), (MESSAGES, False, True)],
    ids=["tunnel-http2", "compressed-http1", "messages-http2"],
)
def test_chromium(config: dict[str, Any], compressed: bool, secure: bool, tmp_path: Path) -> None:
    """A browser's own client; over TLS it asks by extended CONNECT, on the connection that the page came on."""
    reports: list[dict[str, Any]] = []

    def page(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        if request.path.startswith("/report?"):
            reports.append(json.loads(unquote(request.path.partition("?")[2])))
        response = connection.respond(200, _PAGE if request.path == "/" else "")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html; charset=utf-8"
        return response

    async def main() -> None:
        log = tmp_path / "access.log"
        whole: dict[str, Any] = {**config, "access_log": {"path": str(log), "format": "json"}}
        if secure:
            pair = Authority(tmp_path).issue("localhost", "127.0.0.1")
            whole["tls"] = {"enabled": True, **pair.config}
        async with echoing(whole, subprotocols=["chat"], process_request=page) as (proxy, _):
            async with browsing(f"{'https' if secure else 'http'}://127.0.0.1:{proxy.port}/", tmp_path / "home"):
                for _ in range(4000):
                    if reports:
                        break
                    await asyncio.sleep(0.01)
            (report,) = reports
            wait_for(lambda: log.exists() and '"/socket"' in log.read_text(), "its end")
        assert report["got"] == ["grüße", 300000]
        assert (report["code"], report["reason"], report["clean"]) == (4001, "done", True)
        assert report["protocol"] == "chat"
        assert report["extensions"].startswith("permessage-deflate") is compressed
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        (tunnel,) = [line for line in lines if line["target"] == "/socket"]
        assert (tunnel["status"], tunnel["version"]) == (101, "HTTP/2.0" if secure else "HTTP/1.1")
        assert tunnel["websocket"]["close_code"] == 4001

    bounded(main())


@contextlib.asynccontextmanager
async def browsing(address: str, home: Path) -> AsyncIterator[None]:
    """A headless Chromium that looks at a page."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --disable-dev-shm-usage"
    flags += " --ignore-certificate-errors"
    browser = await asyncio.create_subprocess_exec(
        "chromium",
        *flags.split(),
        f"--user-data-dir={home}",
        address,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, 9)
        await browser.wait()


def test_autobahns_own_suite() -> None:
    """No case may fail that passes directly. (Everything: ``python -m test.autobahn``.)"""
    done = subprocess.run(
        [sys.executable, "-m", "test.autobahn", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    if done.returncode == 2:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
