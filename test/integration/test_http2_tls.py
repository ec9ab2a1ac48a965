"""HTTP/2 over TLS: ALPN with clients and with backends, gRPC, and a browser."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from test.certificates import Authority, Pair
from test.integration.harness import PATIENCE, accepts, answering, backends, balance, free_port, simple, wait_for
from test.integration.test_grpc import OPTIONS, Service
from test.integration.test_http2_clients import SESSIONS, curl, echo, needs_curl, needs_nghttpd

CHROMIUM, HAPROXY, NGHTTPD, OPENSSL = (shutil.which(name) for name in ("chromium", "haproxy", "nghttpd", "openssl"))
RESOURCES = 100
LARGE = 50 * 1024 * 1024


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


@contextlib.contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: accepts(port), f"{command[0]} to listen")
        yield port
    finally:
        process.kill()
        process.wait(PATIENCE)


def secure(pair: Pair, **http: Any) -> dict[str, Any]:
    return {"tls": {"enabled": True, **pair.config}, "http": http}


@needs_curl
def test_alpn_chooses(authority: Authority, pair: Pair) -> None:
    trust = ("--cacert", str(authority.file), "-o", os.devnull, "-w", "%{http_code} %{http_version}")
    with backends(answering(simple(b"ok"))) as (backend,):
        with balance({"backends": [backend.config], **secure(pair)}) as proxy:
            url = f"https://127.0.0.1:{proxy.port}/"
            assert curl("--http2", *trust, url).stdout == b"200 2"
            assert curl("--http1.1", *trust, url).stdout == b"200 1.1"
            assert curl("--no-alpn", *trust, url).stdout == b"200 1.1"
            assert b"X-Forwarded-Proto: https" in backend.requests[0]
        with balance({"backends": [backend.config], **secure(pair, enable_http2=False)}) as proxy:
            assert curl("--http2", *trust, f"https://127.0.0.1:{proxy.port}/").stdout == b"200 1.1"


@needs_curl
@pytest.mark.parametrize("session", SESSIONS)
def test_large_body_both_ways(tmp_path: Path, authority: Authority, pair: Pair, session: str) -> None:
    body, answer = tmp_path / "body", tmp_path / "answer"
    body.write_bytes(os.urandom(LARGE))
    with backends(echo) as (backend,):
        with balance({"backends": [backend.config], **secure(pair, http2_session=session)}) as proxy:
            trust = ("--http2", "--cacert", str(authority.file), "-T", str(body), "-o", str(answer))
            done = curl(*trust, f"https://127.0.0.1:{proxy.port}/")
            assert done.returncode == 0, done.stderr
    assert hashlib.sha256(answer.read_bytes()).digest() == hashlib.sha256(body.read_bytes()).digest()


@needs_curl
@needs_nghttpd
@pytest.mark.parametrize("protocol", ["auto", "h2"])
@pytest.mark.parametrize("session", SESSIONS)
def test_backend_over_tls(tmp_path: Path, authority: Authority, pair: Pair, protocol: str, session: str) -> None:
    """ALPN chooses HTTP/2 with a server that has it."""
    (tmp_path / "x").write_bytes(b"hello")
    port = free_port()
    command = [str(NGHTTPD), "-d", str(tmp_path), "-a", "127.0.0.1", str(port), str(pair.key), str(pair.cert)]
    with serving(command, port):
        item = {"name": "n", "address": f"127.0.0.1:{port}", "protocol": protocol}
        item["tls"] = {"ca_file": str(authority.file)}
        with balance({"backends": [item], "http": {"http2_session": session}}) as proxy:
            for _ in range(3):
                assert curl(f"http://127.0.0.1:{proxy.port}/x").stdout == b"hello"
            assert 'balance_backend_connections_opened_total{backend="n"} 1.0' in proxy.metrics()


@needs_curl
@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
def test_backend_that_only_has_http1(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    """`auto` falls back, also for those who waited together for the first connection."""
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 9s\n  timeout server 9s\n"
        f"listen l\n  bind 127.0.0.1:{port} ssl crt {pair.combined} alpn http/1.1\n"
        '  http-request return status 200 content-type text/plain string "one"\n'
    )
    with serving([str(HAPROXY), "-db", "-f", str(config)], port):
        item = {"name": "h", "address": f"127.0.0.1:{port}", "tls": {"ca_file": str(authority.file)}}
        with balance({"backends": [item]}) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/"
            many = curl("--http2-prior-knowledge", "-Z", "--parallel-immediate", *[url] * 10)
            assert many.stdout == b"one" * 10, many.stderr


@pytest.mark.skipif(not OPENSSL, reason="openssl is not installed")
@pytest.mark.parametrize("session", SESSIONS)
def test_backend_that_has_to_speak_http2_and_does_not(authority: Authority, pair: Pair, session: str) -> None:
    port = free_port()
    command = [str(OPENSSL), "s_server", "-www", "-accept", str(port), "-cert", str(pair.cert), "-key", str(pair.key)]
    with serving(command, port):
        item = {"name": "o", "address": f"127.0.0.1:{port}", "tls": {"ca_file": str(authority.file)}}
        config = {"backends": [{**item, "protocol": "h2"}], "http": {"http2_session": session}}
        with balance(config) as proxy:
            assert proxy.get("/").status == 502
            assert "no_http2" in proxy.log


@pytest.mark.parametrize("session", SESSIONS)
def test_grpc_from_end_to_end(authority: Authority, pair: Pair, session: str) -> None:
    from concurrent import futures

    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Service()], options=OPTIONS)
    identity = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    port = server.add_secure_port(f"127.0.0.1:{free_port()}", identity)
    server.start()
    item = {"name": "g", "address": f"127.0.0.1:{port}", "protocol": "h2", "tls": {"ca_file": str(authority.file)}}
    trust = grpc.ssl_channel_credentials(authority.file.read_bytes())
    try:
        with balance({"backends": [item], **secure(pair, http2_session=session)}) as proxy:
            with grpc.secure_channel(f"127.0.0.1:{proxy.port}", trust, options=OPTIONS) as channel:
                message = os.urandom(1 << 20)
                assert channel.unary_unary("/t.T/Unary")(message, timeout=PATIENCE) == message[::-1]
                assert list(channel.unary_stream("/t.T/Down")(b"100", timeout=PATIENCE))[-1] == b"99"
                assert list(channel.stream_stream("/t.T/Both")(iter([b"a", b"b"]), timeout=PATIENCE)) == [b"A", b"B"]
    finally:
        server.stop(0)


PAGE = """<!doctype html><title>page</title><body>waiting<script>
const names = [...Array(COUNT).keys()].map(n => `/r/${n}`);
Promise.all(names.map(name => fetch(name).then(r => r.text()))).then(texts => {
  const good = texts.filter((text, n) => text === `resource ${n}`).length;
  const used = performance.getEntriesByType("resource").filter(e => e.name.includes("/r/") && e.nextHopProtocol === "h2").length;
  document.body.textContent = `good ${good} over h2 ${used}`;
});
</script>""".replace("COUNT", str(RESOURCES))


@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
@pytest.mark.parametrize("session", SESSIONS)
def test_a_browser_loads_a_page(tmp_path: Path, pair: Pair, session: str) -> None:
    """A page of 100 resources, over one HTTP/2 connection."""

    def site(connection: Any, backend: Any) -> None:
        stream = connection.makefile("rb")
        while line := stream.readline():
            while stream.readline() not in (b"\r\n", b""):
                pass
            path = line.split(b" ")[1].decode()
            backend.requests.append(path)
            text = f"resource {path[3:]}" if path.startswith("/r/") else PAGE
            kind = "text/plain" if path.startswith("/r/") else "text/html"
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall((head + text).encode())

    with backends(site) as (backend,):
        with balance({"backends": [backend.config], **secure(pair, http2_session=session)}) as proxy:
            command = [
                str(CHROMIUM),
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *("--ignore-certificate-errors", f"--user-data-dir={tmp_path / 'profile'}"),
                *("--virtual-time-budget=20000", "--dump-dom", f"https://localhost:{proxy.port}/"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=90)
            shown = re.search(r"good (\d+) over h2 (\d+)", done.stdout)
            assert shown is not None, done.stdout + done.stderr
            assert (int(shown[1]), int(shown[2])) == (RESOURCES, RESOURCES)
            connections = re.search(r"balance_http2_connections_total\S* (\d+)", proxy.metrics())
            assert connections is not None
            assert 1 <= int(connections[1]) <= 3
