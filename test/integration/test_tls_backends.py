"""TLS with backends: nginx, HAProxy and scripted ones; whom Balance trusts, and what it says of whom it does not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balance.codec.proxy_protocol import parse_proxy_header
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
    simple,
    wait_for,
)
from test.integration.test_tcp_relay import metric
from test.integration.test_tcp_servers import running as server_running

NGINX, HAPROXY = shutil.which("nginx"), shutil.which("haproxy")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def over_tls(pair: Pair, handler: Any, prepare: Any = None) -> Any:
    """A handler of secure connections out of one of plain ones."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if prepare is not None:
        prepare(context)

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        try:
            secure = context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        except (ssl.SSLError, ConnectionError):
            return
        backend.seen = secure  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            handler(secure, backend)

    return handle


def trusting(backend: ScriptedBackend, authority: Authority, **more: Any) -> dict[str, Any]:
    return {**backend.config, "tls": {"ca_file": str(authority.file), "server_name": "b.example", **more}}


def test_verified(authority: Authority) -> None:
    """Requests go out over kept connections; SNI and HTTP/1.1 are sent; an address is verified as one."""
    names: list[str | None] = []

    def prepare(context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = lambda connection, name, context: names.append(name)

    pair = authority.issue("b.example", "127.0.0.1")
    with backends(over_tls(pair, answering(simple(b"ok")), prepare)) as (one,):
        config = {"backends": [trusting(one, authority)]}
        with balance(config) as running:
            assert [running.get().body for _ in range(5)] == [b"ok"] * 5
            assert one.accepted == 1
            assert names == ["b.example"]
            assert one.seen.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        config = {"backends": [{**one.config, "tls": {"ca_file": str(authority.file)}}]}
        with balance(config) as running:
            assert running.get().body == b"ok"
            assert names[1:] == [None]


def test_not_trusted(authority: Authority, tmp_path: Path) -> None:
    """502, and the log says which check failed; not one byte of the request was sent."""
    kinds = {
        "name": (authority.issue("other.example"), "Hostname mismatch"),
        "authority": (Authority(tmp_path, "Another").issue("b.example"), "unable to get local issuer certificate"),
        "self-signed": (self_signed(tmp_path, "b.example"), "self-signed certificate"),
        "expired": (authority.issue("b.example", days=-1), "certificate has expired"),
        "address": (authority.issue("b.example"), "IP address mismatch"),
    }
    with backends(*(over_tls(pair, answering(simple(b"ok"))) for pair, _ in kinds.values())) as all_of_them:
        items, routes = [], []
        for kind, one in zip(kinds, all_of_them, strict=True):
            items.append(trusting(one, authority, **({"server_name": "127.0.0.1"} if kind == "address" else {})))
            to = {"backends": [one.config["name"]]}
            routes.append({"name": kind, "path_prefix": f"/{kind}", **to})
            routes.append({"name": f"any-{kind}", "path_prefix": f"/any/{kind}", **to, "tls": {"verify": False}})
        with balance({"backends": items, "http": {"routes": routes}}) as running:
            for kind, (_, detail) in kinds.items():
                assert running.get(f"/{kind}").status == 502
                assert detail in running.log
            assert metric(running, "balance_errors_total", reason="tls_certificate_error") == len(kinds)
            assert not any(one.requests for one in all_of_them)
            for kind in kinds:
                assert running.get(f"/any/{kind}").body == b"ok"


def test_the_next_backend(authority: Authority) -> None:
    """Nothing was sent to one that is not trusted, so whatever the method is, another one may serve it."""
    good, bad = authority.issue("b.example"), authority.issue("other.example")
    with backends(*(over_tls(pair, answering(simple(b"ok"))) for pair in (bad, good))) as both:
        with balance({"backends": [trusting(each, authority) for each in both]}) as running:
            request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            assert [running.ask(request).body for _ in range(4)] == [b"ok"] * 4
            assert both[0].requests == []


def test_not_tls_and_not_in_time(authority: Authority) -> None:
    def silent(connection: socket.socket, backend: ScriptedBackend) -> None:
        backend.closed.wait(PATIENCE)

    def closing(connection: socket.socket, backend: ScriptedBackend) -> None:
        connection.recv(10)

    plain = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    def clear(connection: socket.socket, backend: ScriptedBackend) -> None:
        connection.recv(1000)
        connection.sendall(plain)

    expected = {
        silent: (504, "connect_timeout"),
        closing: (502, "tls_protocol_error"),
        clear: (502, "tls_protocol_error"),
    }
    with backends(*expected) as all_of_them:
        routes = [
            {"name": f"r{n}", "path_prefix": f"/{n}", "backends": [one.config["name"]]}
            for n, one in enumerate(all_of_them)
        ]
        config = {"backends": [trusting(one, authority) for one in all_of_them], "http": {"routes": routes}}
        with balance({**config, "timeouts": {"connect": "500ms"}}) as running:
            for n, (status, reason) in enumerate(expected.values()):
                before = metric(running, "balance_errors_total", reason=reason)
                assert running.get(f"/{n}").status == status
                assert metric(running, "balance_errors_total", reason=reason) == before + 1


def test_our_certificate(authority: Authority, tmp_path: Path) -> None:
    pair, mine = authority.issue("b.example"), authority.issue(subject="balance")

    def require(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)

    with backends(over_tls(pair, answering(simple(b"ok")), require)) as (one,):
        with balance({"backends": [trusting(one, authority, **mine.config)]}) as running:
            assert running.get().body == b"ok"
            assert dict(one.seen.getpeercert()["subject"][0]) == {"commonName": "balance"}  # type: ignore[attr-defined]
        routes = [
            {"name": version, "path_prefix": f"/{version}", "backends": [one.config["name"]], "tls": tls}
            for version in ("1.2", "1.3")
            for tls in [trusting(one, authority, max_version=version)["tls"]]
        ]
        with balance({"backends": [one.config], "http": {"routes": routes}}) as running:
            for version, reason in (("1.2", "tls_alert_received"), ("1.3", "backend_reset")):
                assert running.get(f"/{version}").status == 502
                assert metric(running, "balance_errors_total", reason=reason) == 1
            assert "alert handshake failure" in running.log or "alert_handshake_failure" in running.log
            assert "certificate_required" in running.log


def test_truncation_is_not_an_end(authority: Authority) -> None:
    """A body that ends with the connection is complete when TLS says so, and only then."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

    def ending(connection: socket.socket, backend: ScriptedBackend) -> None:
        request = read_head(connection)
        connection.sendall(head + b"x" * 100_000)
        if b"/clean" in request:
            connection.unwrap()  # type: ignore[attr-defined]
        else:
            connection.shutdown(socket.SHUT_WR)  # a FIN, as anybody on the way can send one

    with backends(over_tls(authority.issue("b.example"), ending)) as (one,):
        with balance({"backends": [trusting(one, authority)]}) as running:
            whole = running.get("/clean")
            assert whole.complete
            assert len(whole.body) == 100_000
            cut = running.get("/cut")
            assert not cut.complete
            assert metric(running, "balance_errors_total", reason="response_truncated") == 1


def test_routes_have_their_own(authority: Authority, tmp_path: Path) -> None:
    """TLS of a route takes the place of the backend's, and no connection made under one setting serves another."""
    pair = authority.issue("b.example")
    secure = over_tls(pair, answering(simple(b"secure")))

    def either(connection: socket.socket, backend: ScriptedBackend) -> None:
        first = connection.recv(1, socket.MSG_PEEK)
        (secure if first == b"\x16" else answering(simple(b"clear")))(connection, backend)

    with backends(either) as (one,):
        name = one.config["name"]
        routes = [
            {"name": "clear", "path_prefix": "/clear", "backends": [name], "tls": False},
            {"name": "strict", "path_prefix": "/strict", "backends": [name], "tls": True},
            {"name": "rest", "backends": [name]},
        ]
        health = {"enable_passive_checks": False}
        config = {"backends": [trusting(one, authority)], "http": {"routes": routes}, "health_check": health}
        with balance(config) as running:
            for _ in range(3):
                assert running.get("/").body == b"secure"
                assert running.get("/clear").body == b"clear"
                assert running.get("/strict").status == 502
            assert "unable to get local issuer certificate" in running.log


def test_layer_4(authority: Authority) -> None:
    """Clear text in, TLS out; a PROXY header goes before the handshake; both ends are passed on."""
    pair = authority.issue("b.example")
    headers: list[Any] = []
    secure = over_tls(pair, lambda connection, backend: talk(connection))

    def talk(connection: ssl.SSLSocket) -> None:
        digest, size = hashlib.sha256(), 0
        while size < 10 << 20:
            piece = connection.recv(65536)
            digest.update(piece)
            size += len(piece)
        connection.sendall(digest.hexdigest().encode())
        connection.unwrap()

    def introduced(connection: socket.socket, backend: ScriptedBackend) -> None:
        data = connection.recv(16)
        while (parsed := parse_proxy_header(data)) is None:
            data += connection.recv(1)
        headers.append(parsed[0])
        secure(connection, backend)

    data = os.urandom(10 << 20)
    with backends(introduced) as (one,):
        backend = {**trusting(one, authority), "send_proxy": "v2"}
        with balance({"mode": "tcp", "backends": [backend]}) as running:
            with running.connect() as client:
                client.sendall(data)
                got = b""
                while piece := client.recv(65536):
                    got += piece
                assert got.decode() == hashlib.sha256(data).hexdigest()
            assert headers[0].source[0] == "127.0.0.1"
    with backends(over_tls(authority.issue("other.example"), answering(b""))) as (one,):
        with balance({"mode": "tcp", "backends": [trusting(one, authority)]}) as running:
            with running.connect() as client, pytest.raises(ConnectionError):
                client.sendall(b"hello")
                if client.recv(1) == b"":
                    raise ConnectionError
            assert metric(running, "balance_errors_total", reason="tls_certificate_error") >= 1


@contextlib.contextmanager
def nginx(folder: Path, pair: Pair) -> Iterator[int]:
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; error_log stderr; pid {folder}/nginx.pid;
        events {{ worker_connections 100; }}
        http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{ listen 127.0.0.1:{port} ssl; server_name b.example; ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};
            location / {{ return 200 "$ssl_protocol $ssl_session_reused $ssl_server_name"; }} }} }}"""
    )
    with server_running([str(NGINX), "-c", str(folder / "nginx.conf")], port):
        yield port


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_nginx_behind(authority: Authority, tmp_path: Path) -> None:
    """And it takes sessions up again, where connections are not kept."""
    with nginx(tmp_path, authority.issue("b.example")) as port:
        tls = {"ca_file": str(authority.file), "server_name": "b.example"}
        backend = {"name": "nginx", "address": f"127.0.0.1:{port}", "tls": tls}
        config = {"backends": [backend], "http": {"max_idle_conns_per_host": 0}}
        with balance(config) as running:
            answers = [running.get().body for _ in range(4)]
            assert answers[0] == b"TLSv1.3 . b.example"
            assert answers[-1] == b"TLSv1.3 r b.example"


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
def test_haproxy_behind(authority: Authority, tmp_path: Path) -> None:
    port, pair = free_port(), authority.issue("b.example")
    (tmp_path / "haproxy.cfg").write_text(
        f"""defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend f
  bind 127.0.0.1:{port} ssl crt {pair.combined} ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2
  http-request return status 200 content-type text/plain lf-string "%[ssl_fc_protocol] %[ssl_fc_sni]"
"""
    )
    with server_running([str(HAPROXY), "-db", "-f", str(tmp_path / "haproxy.cfg")], port):
        tls = {"ca_file": str(authority.file), "server_name": "b.example"}
        backend = {"name": "haproxy", "address": f"127.0.0.1:{port}", "tls": tls}
        with balance({"backends": [backend]}) as running:
            assert running.get().body == b"TLSv1.2 b.example"


# --- reload: listeners ------------------------------------------------------------------------------------------


def serial(running: Balance, authority: Authority) -> int:
    context = ssl.create_default_context(cafile=str(authority.file))
    with context.wrap_socket(running.connect(), server_hostname="a.example") as client:
        certificate = client.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def test_certificates_are_reloaded(authority: Authority, tmp_path: Path) -> None:
    """Under load, without one failed request, and without touching connections that are there. A file that is broken,
    or does not fit its key yet, keeps the old one."""
    cert, key = tmp_path / "live.crt", tmp_path / "live.key"

    def put(pair: Pair) -> None:
        for source, target in ((pair.cert, cert), (pair.key, key)):
            fresh = target.with_suffix(".new")
            shutil.copy(source, fresh)
            fresh.rename(target)

    put(authority.issue("a.example"))
    failed: list[Exception] = []
    done, over = [0], threading.Event()

    def load(running: Balance, keep: bool) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
        client = None
        try:
            while not over.is_set():
                if client is None:
                    client = context.wrap_socket(running.connect(), server_hostname="a.example")
                client.sendall(request)
                assert b"200 OK" in client.recv(4096)
                done[0] += 1
                if not keep:
                    client.close()
                    client = None
        except Exception as error:
            failed.append(error)

    with backends(answering(simple(b"ok"))) as (one,):
        tls = {"enabled": True, "cert_file": str(cert), "key_file": str(key)}
        with balance({"backends": [one.config], "tls": tls}) as running:
            threads = [threading.Thread(target=load, args=(running, keep)) for keep in (True, False, False)]
            for thread in threads:
                thread.start()
            for _ in range(2):
                old = serial(running, authority)
                put(authority.issue("a.example"))
                wait_for(lambda old=old: serial(running, authority) != old, "the new certificate")
            old = serial(running, authority)
            reloads = metric(running, "balance_tls_reloads_total", result="good")
            assert reloads >= 2

            whole = cert.read_bytes()
            cert.write_bytes(whole[: len(whole) // 2])  # half written
            wait_for(lambda: metric(running, "balance_tls_reloads_total", result="bad") >= 1, "the broken file")
            assert serial(running, authority) == old
            assert "cannot be read" in status_problem(running)
            looked = metric(running, "balance_tls_reloads_total", result="bad")
            begun = done[0]
            wait_for(lambda: done[0] > begun + 50, "load to go on")
            assert metric(running, "balance_tls_reloads_total", result="bad") == looked  # told once
            cert.write_bytes(whole)
            wait_for(lambda: metric(running, "balance_tls_reloads_total", result="good") > reloads, "the good file")
            assert status_problem(running) == ""
            over.set()
            for thread in threads:
                thread.join(PATIENCE)
            assert failed == []
            assert done[0] > 100
            expiry = metric(running, "balance_tls_certificate_expiry_seconds")
            assert 18 * 86400 < expiry < 21 * 86400


def status_problem(running: Balance) -> str:
    import json
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{running.metrics_port}/status", timeout=PATIENCE) as answer:
        listener = json.load(answer)["listeners"][0]
    assert listener["tls"]["certificates"][0]["names"] == ["a.example"]
    return str(listener["tls"]["problem"])
