"""TLS with clients: openssl, curl and Python's ssl against a running Balance."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from balance.net.tls_session import TlsSession
from test.certificates import Authority, Pair, self_signed
from test.integration.harness import (
    PATIENCE,
    Balance,
    ScriptedBackend,
    answering,
    backends,
    balance,
    free_port,
    read_head,
    read_response,
    simple,
    wait_for,
)
from test.integration.test_tcp_relay import echo, metric

CURL, OPENSSL = shutil.which("curl"), shutil.which("openssl")
needs_openssl = pytest.mark.skipif(not OPENSSL, reason="openssl is not installed")
needs_curl = pytest.mark.skipif(not CURL, reason="curl is not installed")
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class Site:
    """An authority, and certificates of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.ec = self.authority.issue("a.example", "127.0.0.1")
        self.rsa = self.authority.issue("a.example", kind="RSA")
        self.wild = self.authority.issue("*.wild.example", "wild.example")

    def tls(self, *pairs: Pair, **more: Any) -> dict[str, Any]:
        return {"enabled": True, "certificates": [pair.config for pair in pairs or (self.ec,)], **more}

    def context(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.set_alpn_protocols(list(alpn)) if alpn else None
        return context

    def connect(
        self, running: Balance, name: str = "a.example", context: ssl.SSLContext | None = None
    ) -> ssl.SSLSocket:
        return (context or self.context()).wrap_socket(running.connect(), server_hostname=name)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with backends(answering(simple(b"ok"))) as (one,):
        yield one


def config(backend: ScriptedBackend, tls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"backends": [backend.config], "tls": tls, **more}


def s_client(running: Balance, *options: str, send: bytes = b"") -> str:
    """What openssl says: of the handshake, and of one request if there is one."""
    command = [str(OPENSSL), "s_client", "-connect", f"127.0.0.1:{running.port}", "-ign_eof", *options]
    request = send or b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, timeout=PATIENCE)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@needs_openssl
def test_names_kinds_and_versions(site: Site, backend: ScriptedBackend) -> None:
    other = site.authority.issue("other.example")
    suites = ["ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    tls = site.tls(site.ec, site.rsa, site.wild, cipher_suites=suites)
    tls["certificates"].append({**other.config, "domains": ["*.set.example"]})
    ca = ["-CAfile", str(site.authority.file), "-verify_return_error"]
    with balance(config(backend, tls)) as running:
        for name, subject in [
            ("a.example", "CN = a.example"),
            ("wild.example", "CN = *.wild.example"),
            ("x.wild.example", "CN = *.wild.example"),
            ("deep.set.example", "CN = other.example"),
            ("unknown.example", "CN = a.example"),
        ]:
            said = s_client(running, *ca, "-servername", name)
            assert f"subject={subject}" in said, said
            assert "TLSv1.3" in said
            assert "200 OK" in said
        assert "subject=CN = a.example" in s_client(running, *ca, "-noservername")
        said = s_client(running, *ca, "-servername", "a.example", "-tls1_2", "-sigalgs", "RSA+SHA256")
        assert "Server public key is 2048 bit" in said
        assert "ECDHE-RSA-AES128-GCM-SHA256" in said
        said = s_client(running, *ca, "-servername", "a.example", "-tls1_2")
        assert "Server public key is 256 bit" in said
        assert "ECDHE-ECDSA-AES128-GCM-SHA256" in said
        said = s_client(running, "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305")
        assert "handshake failure" in said
        said = s_client(running, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
        assert "alert" in said
        failures = {
            name: metric(running, "balance_tls_failures_total", reason=name)
            for name in ("no_shared_cipher", "unsupported_protocol")
        }
        assert failures == {"no_shared_cipher": 1, "unsupported_protocol": 1}
    with balance(config(backend, site.tls(min_version="1.3"))) as running:
        assert "alert protocol version" in s_client(running, "-tls1_2")
    with balance(config(backend, site.tls(max_version="1.2"))) as running:
        assert "TLSv1.2" in s_client(running)


@needs_openssl
def test_protocols(site: Site, backend: ScriptedBackend) -> None:
    with balance(config(backend, site.tls(), http={"enable_http2": False})) as running:
        assert "ALPN protocol: http/1.1" in s_client(running, "-alpn", "h2,http/1.1")
        assert "ALPN protocol: http/1.0" in s_client(running, "-alpn", "http/1.0")
        assert "No ALPN negotiated" in s_client(running)
        assert "alert no application protocol" in s_client(running, "-alpn", "imap")
        assert metric(running, "balance_tls_failures_total", reason="no_application_protocol") == 1


@needs_openssl
def test_tickets(site: Site, backend: ScriptedBackend, tmp_path: Path) -> None:
    session = str(tmp_path / "session")
    for version in ("-tls1_2", "-tls1_3"):
        with balance(config(backend, site.tls())) as running:
            assert "New, TLS" in s_client(running, version, "-sess_out", session)
            assert "Reused, TLS" in s_client(running, version, "-sess_in", session)
            assert metric(running, "balance_tls_resumed_total") == 1
            assert metric(running, "balance_tls_handshakes_total") == 2
    with balance(config(backend, site.tls(session_tickets_disabled=True))) as running:
        said = s_client(running, "-tls1_3")
        assert "New, TLS" in said
        assert "TLS session ticket" not in said


@needs_openssl
def test_renegotiation_is_refused(site: Site, backend: ScriptedBackend) -> None:
    """What a client of TLS 1.2 could make a server work with, again and again; the connection is none the worse."""
    with balance(config(backend, site.tls())) as running:
        command = [
            str(OPENSSL),
            "s_client",
            "-connect",
            f"127.0.0.1:{running.port}",
            "-tls1_2",
            "-legacy_renegotiation",
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            assert client.stdin is not None
            client.stdin.write(b"R\n")
            client.stdin.flush()
            said, _ = client.communicate(timeout=PATIENCE)
        assert b"no renegotiation" in said
        with site.connect(running) as other:
            other.sendall(REQUEST)
            assert read_response(other).body == b"ok"


def test_client_certificates(site: Site, backend: ScriptedBackend) -> None:
    """Who it is goes to routes and to backends, and only what was verified."""
    mine = site.authority.issue(subject="billing, Ltd")
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(mine.cert.read_text())).hexdigest()
    routes = [
        {
            "name": "by-subject",
            "path_prefix": "/s",
            "client_subject": "CN=billing\\, Ltd",
            "backends": [backend.config["name"]],
        },
        {
            "name": "by-print",
            "path_prefix": "/f",
            "client_fingerprint": fingerprint.upper(),
            "backends": [backend.config["name"]],
        },
        {"name": "known", "path_prefix": "/k", "client_verified": True, "backends": [backend.config["name"]]},
        {"name": "public", "path_prefix": "/p", "backends": [backend.config["name"]]},
    ]
    tls = site.tls(client_auth="request", client_ca_file=str(site.authority.file))
    known = site.context()
    known.load_cert_chain(mine.cert, mine.key)
    lies = b"X-Client-Cert-Subject: CN=billing\r\nx_client_cert_verified: true\r\nX-Client_Cert-Fingerprint: 00\r\n"

    def status(running: Balance, path: bytes, context: ssl.SSLContext) -> int:
        with site.connect(running, context=context) as client:
            client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: a.example\r\n" + lies + b"\r\n")
            return read_response(client).status

    def fields() -> list[bytes]:
        return sorted(line for line in backend.requests[-1].split(b"\r\n") if b"cert" in line.lower())

    with balance(config(backend, tls, http={"routes": routes})) as running:
        for path in (b"/s", b"/f", b"/k", b"/p"):
            assert status(running, path, known) == 200
        assert fields() == [
            b"X-Client-Cert-Fingerprint: " + fingerprint.encode(),
            b"X-Client-Cert-Subject: CN=billing\\, Ltd",
            b"X-Client-Cert-Verified: true",
        ]
        assert [status(running, path, site.context()) for path in (b"/s", b"/f", b"/k", b"/p")] == [404, 404, 404, 200]
        assert fields() == [b"X-Client-Cert-Verified: false"]
        stranger = site.context()
        pair = self_signed(site.folder, "billing, Ltd")
        stranger.load_cert_chain(pair.cert, pair.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            status(running, b"/p", stranger)
    tls["client_auth"] = "require"
    with balance(config(backend, tls)) as running:
        assert status(running, b"/", known) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            status(running, b"/", site.context())


def test_fields_of_clients_are_private_on_every_listener(site: Site, backend: ScriptedBackend) -> None:
    """A backend cannot tell through which listener a request came."""
    clear = free_port()
    asking = site.tls(client_auth="require", client_ca_file=str(site.authority.file))
    listeners = [
        {"name": "clear", "listen": f"127.0.0.1:{clear}"},
        {"name": "tls", "listen": f"unix:{site.folder}/tls.sock", "tls": asking},
    ]
    with balance({"backends": [backend.config], "listeners": listeners}, port=clear) as running:
        running.get(X_Client_Cert_Subject="CN=me")
        assert b"Cert" not in backend.requests[-1]


def test_scheme_and_plain_http(site: Site, backend: ScriptedBackend) -> None:
    with balance(config(backend, site.tls(), http={"forwarded": True})) as running:
        with site.connect(running) as client:
            client.sendall(REQUEST)
            assert read_response(client).status == 200
        assert b"X-Forwarded-Proto: https\r\n" in backend.requests[-1]
        assert b"proto=https" in backend.requests[-1]
        assert running.get().status == 400
        assert len(backend.requests) == 1
        with running.connect() as client:
            client.sendall(b"\x00garbage\r\n" * 10)
            client.settimeout(PATIENCE)
            with pytest.raises(ConnectionError):
                client.recv(1)
        assert metric(running, "balance_tls_failures_total", reason="plain_http") == 1
        assert metric(running, "balance_tls_failures_total", reason="not_tls") == 1
        assert "Traceback" not in running.log


def test_handshake_time_limit(site: Site, backend: ScriptedBackend) -> None:
    with balance(config(backend, site.tls(handshake_timeout="500ms"))) as running:
        slow = [running.connect() for _ in range(50)]
        slow[0].send(b"\x16\x03\x01\x02")
        with site.connect(running) as client:  # nobody waits for them
            client.sendall(REQUEST)
            assert read_response(client).body == b"ok"
        for each in slow:
            with pytest.raises(ConnectionError), each:
                if each.recv(1) == b"":
                    raise ConnectionError
        assert metric(running, "balance_tls_failures_total", reason="timeout") == 50


@needs_curl
def test_50_megabytes_each_way(site: Site, tmp_path: Path) -> None:
    data = os.urandom(50 << 20)
    (tmp_path / "data").write_bytes(data)

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        head, _, body = read_head(connection).partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            return
        digest, size = hashlib.sha256(body), len(body)
        while size < len(data):
            piece = connection.recv(1 << 18)
            digest.update(piece)
            size += len(piece)
        connection.sendall(simple(digest.hexdigest().encode()))

    with backends(handle) as (one,), balance(config(one, site.tls())) as running:
        curl = [str(CURL), "-sS", "--http1.1", "--cacert", str(site.authority.file)]
        url = f"https://127.0.0.1:{running.port}/"
        got = subprocess.run([*curl, url], capture_output=True, timeout=60, check=True).stdout
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
        command = [*curl, "-H", "Expect:", "--data-binary", f"@{tmp_path}/data", url]
        got = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
        assert got.decode() == hashlib.sha256(data).hexdigest()


def test_slow_reader_costs_no_memory(site: Site) -> None:
    """200 MB for a client that takes nothing: Balance stops reading the backend, and goes on when the client does."""
    size, sent = 200 << 20, [0]

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        block = bytes(1 << 20)
        while sent[0] < size:
            connection.sendall(block)
            sent[0] += len(block)

    with backends(handle) as (one,), balance(config(one, site.tls())) as running:
        with site.connect(running) as client:
            client.sendall(REQUEST)
            before, stuck = running.resident, [-1, 0.0]

            def stalled() -> bool:
                if sent[0] != stuck[0]:
                    stuck[:] = sent[0], time.monotonic()
                return sent[0] > 0 and time.monotonic() - stuck[1] > 0.5

            wait_for(stalled, "the backend to be held up")
            assert sent[0] < 30 << 20
            assert running.resident - before < 20 << 20
            left = size
            while left > 0:
                left -= len(client.recv(1 << 16))
            wait_for(lambda: sent[0] == size, "the rest")
            assert running.resident - before < 20 << 20


def test_in_front_of_tcp(site: Site) -> None:
    """TLS ends here, and the bytes go on: to the server that the name asks for, with a half-close at the end."""

    def until_end(name: bytes) -> Any:
        def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
            data = b""
            while piece := connection.recv(65536):
                data += piece
            connection.sendall(name + hashlib.sha256(data).hexdigest().encode())

        return handle

    data = os.urandom(3 << 20)
    with backends(until_end(b"one "), until_end(b"two "), echo) as (one, two, three):
        routes = [
            {"name": "wild", "sni": "*.wild.example", "backends": [two.config["name"]]},
            {"name": "imap", "alpn": ["imap"], "backends": [three.config["name"]]},
            {"name": "rest", "backends": [one.config["name"]]},
        ]
        tcp = {"mode": "tcp", "backends": [each.config for each in (one, two, three)], "routes": routes}
        tls = site.tls(site.ec, site.wild, alpn_protocols=["imap", "x"])
        with balance({**tcp, "tls": tls}) as running:
            with site.connect(running, context=site.context("imap")) as client:
                assert client.selected_alpn_protocol() == "imap"
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
            for name, answer in [("a.example", b"one "), ("x.wild.example", b"two ")]:
                said = ask_and_end(running, site.context(), name, data)
                assert said == answer + hashlib.sha256(data).hexdigest().encode()


def ask_and_end(running: Balance, context: ssl.SSLContext, name: str, data: bytes) -> bytes:
    """Send all, say close_notify, and read what comes until the other side says it. (Python's `SSLSocket` cannot.)"""
    session = TlsSession(context, server_side=False, server_name=name)
    with running.connect() as client:
        came = b""
        while not session.handshake(came):
            client.sendall(session.take())
            came = client.recv(65536)
        client.sendall(session.take() + session.encrypt(data) + session.close())
        client.shutdown(socket.SHUT_WR)
        answer = session.decrypt(b"")
        while not session.ended:
            came = client.recv(65536)
            assert came, "cut, and not ended"
            answer += session.decrypt(came)
        return answer


def test_websocket_over_tls_on_both_sides(site: Site) -> None:
    """A switch of protocols inside TLS: messages of all sizes, and the close code, go through."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.ec.cert, site.ec.key)

    async def echo_messages(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def talk() -> None:
        async with serve(echo_messages, "127.0.0.1", 0, ssl=context, max_size=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            tls = {"ca_file": str(site.authority.file), "server_name": "a.example"}
            backend = {"name": "socket", "address": f"127.0.0.1:{port}", "tls": tls}
            with balance({"backends": [backend], "tls": site.tls()}) as running:
                url = f"wss://a.example:{running.port}/"
                options: dict[str, Any] = {"ssl": site.context(), "host": "127.0.0.1", "max_size": None}
                async with connect(url, port=running.port, **options) as client:
                    for size in (0, 1, 125, 65536, 3_000_000):
                        data = os.urandom(size)
                        await client.send(data)
                        assert await asyncio.wait_for(client.recv(), PATIENCE) == data
                    await client.close(4001, "done")
                assert client.close_code == 4001

    asyncio.run(talk())
