"""HTTP/2 with the programs people use: curl, nghttp, h2load in front, nghttpd and nginx behind."""

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

import pytest

from test.integration.harness import PATIENCE, ScriptedBackend, accepts, backends, balance, free_port, wait_for

CURL, NGHTTP, H2LOAD, NGHTTPD = (shutil.which(name) for name in ("curl", "nghttp", "h2load", "nghttpd"))
BIG = 50 * 1024 * 1024
SESSIONS = ("h2", "lean")

needs_curl = pytest.mark.skipif(not CURL, reason="curl is not installed")
needs_nghttpd = pytest.mark.skipif(not NGHTTPD, reason="nghttpd is not installed (nghttp2-server)")


def echo(connection: Any, backend: ScriptedBackend) -> None:
    """HTTP/1.1: answers with the body it was sent."""
    stream = connection.makefile("rb")
    while line := stream.readline():
        fields = {}
        while (field := stream.readline()) not in (b"\r\n", b""):
            name, _, value = field.partition(b":")
            fields[name.strip().lower()] = value.strip()
        backend.requests.append(line)
        length = fields.get(b"content-length")
        if fields.get(b"expect"):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length is not None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n")
            left = int(length)
            while left:
                data = stream.read1(min(left, 65536))
                left -= len(data)
                connection.sendall(data)
            continue
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if fields.get(b"transfer-encoding"):
            while size := int(stream.readline().partition(b";")[0], 16):
                data = stream.read(size)
                stream.readline()
                connection.sendall(b"%x\r\n%b\r\n" % (size, data))
            stream.readline()
        connection.sendall(b"0\r\n\r\n")


@contextlib.contextmanager
def nghttpd(folder: Path) -> Iterator[int]:
    """A server of HTTP/2 in clear text, by other people."""
    port = free_port()
    command = [str(NGHTTPD), "--no-tls", "--echo-upload", "-d", str(folder), "-a", "127.0.0.1", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: accepts(port), "nghttpd to listen")
        yield port
    finally:
        process.kill()
        process.wait(PATIENCE)


@contextlib.contextmanager
def http1_or_2(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """An echoing backend that speaks one or the other."""
    if kind == "h2c":
        with nghttpd(folder) as port:
            yield {"name": "n", "address": f"127.0.0.1:{port}", "protocol": "h2c"}
    else:
        with backends(echo) as (backend,):
            yield backend.config


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(CURL), "-sS", "--max-time", "60", *arguments], capture_output=True, timeout=90)


@needs_curl
@needs_nghttpd
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("behind", ["http/1.1", "h2c"])
@pytest.mark.parametrize("front", ["--http1.1", "--http2-prior-knowledge"])
def test_large_bodies_both_ways(tmp_path: Path, session: str, behind: str, front: str) -> None:
    """Four pairings; the body comes back while it is still being sent."""
    if (front, behind) == ("--http1.1", "http/1.1") and session != SESSIONS[0]:
        pytest.skip("no HTTP/2 in it")
    body = tmp_path / "body"
    body.write_bytes(os.urandom(BIG))
    answer = tmp_path / "answer"
    with http1_or_2(behind, tmp_path) as backend:
        with balance({"backends": [backend], "http": {"http2_session": session}}) as proxy:
            before = proxy.resident
            url = f"http://127.0.0.1:{proxy.port}/x"
            done = curl(front, "-T", str(body), "-o", str(answer), "-w", "%{http_code} %{http_version}", url)
            assert done.returncode == 0, done.stderr
            assert done.stdout == (b"200 1.1" if front == "--http1.1" else b"200 2")
            assert proxy.resident - before < BIG / 2
    assert hashlib.sha256(answer.read_bytes()).digest() == hashlib.sha256(body.read_bytes()).digest()


@pytest.mark.skipif(not NGHTTP, reason="nghttp is not installed")
@needs_nghttpd
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("behind", ["http/1.1", "h2c"])
def test_nghttp(tmp_path: Path, session: str, behind: str) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    with http1_or_2(behind, tmp_path) as backend:
        with balance({"backends": [backend], "http": {"http2_session": session}}) as proxy:
            urls = [f"http://127.0.0.1:{proxy.port}/x"] * 3
            done = subprocess.run([str(NGHTTP), "-nv", "-m", "10", *urls], capture_output=True, timeout=PATIENCE)
            text = done.stdout.decode()
            assert done.returncode == 0, text
            assert text.count(":status: 200") == 30
            assert "RST_STREAM" not in text


@pytest.mark.skipif(not H2LOAD, reason="h2load is not installed")
@needs_nghttpd
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("behind", ["http/1.1", "h2c"])
def test_h2load(tmp_path: Path, session: str, behind: str) -> None:
    """100 streams at a time on each connection, all of them answered, heads made smaller by HPACK."""
    (tmp_path / "x").write_bytes(b"x" * 1000)
    with http1_or_2(behind, tmp_path) as backend:
        with balance({"backends": [backend], "http": {"http2_session": session}}) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/x"
            command = [str(H2LOAD), "-n", "3000", "-c", "4", "-m", "100", url]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert "3000 done, 3000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
            saved = re.search(r"space savings ([\d.]+)%", done.stdout)
            assert saved is not None
            assert float(saved[1]) > 60
            assert 'balance_errors_total{listener="' not in proxy.metrics()


@needs_curl
@pytest.mark.parametrize("session", SESSIONS)
def test_graceful_stop(session: str) -> None:
    """A request under way is finished, and then the process ends."""
    released = []

    def slow(connection: Any, backend: ScriptedBackend) -> None:
        connection.recv(65536)
        backend.requests.append(b"")
        wait_for(lambda: released, "the stop to begin")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    with backends(slow) as (backend,):
        with balance({"backends": [backend.config], "http": {"http2_session": session}}) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/"
            client = subprocess.Popen(
                [str(CURL), "-sS", "--max-time", "30", "--http2-prior-knowledge", url], stdout=subprocess.PIPE
            )
            wait_for(lambda: backend.requests, "the request to arrive")
            proxy.signal()
            wait_for(lambda: not accepts(proxy.port), "the port to be closed")
            released.append(True)
            assert client.communicate(timeout=PATIENCE)[0] == b"done"
            assert proxy.wait() == 0
