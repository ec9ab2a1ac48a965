"""Layer 4 against real sockets: bytes, ends, resets, pressure, failures, PROXY headers, TLS passed through."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import ssl
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from balance.codec.proxy_protocol import parse_proxy_header, write_proxy_header
from test.certificates import self_signed
from test.integration.harness import (
    PATIENCE,
    Balance,
    ScriptedBackend,
    answering,
    backends,
    balance,
    free_port,
    read_response,
    reset,
    simple,
    wait_for,
)


def echo(connection: socket.socket, backend: ScriptedBackend) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def named(name: bytes) -> Any:
    """Says its name, then echoes."""

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        connection.sendall(name)
        echo(connection, backend)

    return handle


def tcp(*members: ScriptedBackend, **more: Any) -> dict[str, Any]:
    return {"mode": "tcp", "backends": [member.config for member in members], **more}


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, f"it ended after {len(data)} of {size} bytes"
        data += more
    return data


def metric(running: Balance, name: str, **labels: str) -> float:
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    values = [
        float(line.rpartition(" ")[2])
        for line in running.metrics().splitlines()
        if line.startswith((name + "{", name + " ")) and all(each in line for each in wanted)
    ]
    return sum(values)


def test_bytes_and_both_half_closes() -> None:
    got = []

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        data = read_all(connection)  # until the client's half-close
        if data:
            connection.sendall(b"answer to " + data)

    def ends_first(connection: socket.socket, _: ScriptedBackend) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    with backends(backend, ends_first) as (one, two):
        with balance(tcp(one)) as running, running.connect() as client:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"answer to question"
        with balance(tcp(two)) as running, running.connect() as client:
            assert read_all(client) == b"bye"
            client.sendall(b"still here")
            client.shutdown(socket.SHUT_WR)
            wait_for(lambda: b"still here" in got, "what the client sent after the backend's end")
            wait_for(lambda: metric(running, "balance_connections_open") == 0, "the end of the relay")
            assert metric(running, "balance_errors_total") <= 1  # the harness' own look at the port


def test_a_reset_is_passed_on_as_a_reset() -> None:
    seen: list[str] = []

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        connection.sendall(b"x")
        try:
            seen.append("end" if not connection.recv(1) else "data")
            if connection.recv(1):
                return
        except ConnectionResetError:
            seen.append("reset")

    def resets(connection: socket.socket, _: ScriptedBackend) -> None:
        connection.recv(1)
        reset(connection)

    with backends(backend, resets) as (one, two):
        with balance(tcp(one)) as running:
            client = running.connect()
            client.recv(1)
            reset(client)
            wait_for(lambda: "reset" in seen, "the backend's reset")
        with balance(tcp(two)) as running, running.connect() as client:
            client.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert metric(running, "balance_errors_total", reason="backend_reset") >= 1


def test_the_next_backend_when_one_cannot_be_reached() -> None:
    with backends(echo) as (good,):
        dead = {"name": "dead", "address": f"127.0.0.1:{free_port()}"}
        config = {"mode": "tcp", "backends": [dead, good.config]}
        with balance(config) as running:
            for n in range(6):
                with running.connect() as client:
                    client.sendall(b"%d" % n)
                    assert client.recv(10) == b"%d" % n
            assert "trying another backend" in running.log
        with balance({"mode": "tcp", "backends": [dead]}) as running:
            with running.connect() as client, pytest.raises(ConnectionResetError):
                client.recv(1)
            assert metric(running, "balance_errors_total", reason="connect_refused") >= 1
            assert "connect_refused" in running.log


def _pump(target: socket.socket, size: int, block: bytes) -> str:
    digest = hashlib.blake2b()
    left = size
    while left:
        part = block[: min(left, len(block))]
        target.sendall(part)
        digest.update(part)
        left -= len(part)
    target.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def _drink(source: socket.socket) -> tuple[int, str]:
    digest, size, buffer = hashlib.blake2b(), 0, bytearray(1 << 18)
    while got := source.recv_into(buffer):
        digest.update(memoryview(buffer)[:got])
        size += got
    return size, digest.hexdigest()


def test_a_gibibyte_each_way_at_once() -> None:
    size = 1 << 30
    block = os.urandom((1 << 20) - 7)
    results: dict[str, Any] = {}

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        if connection.recv(1) != b"!":
            return
        reading = threading.Thread(target=lambda: results.update(up=_drink(connection)))
        reading.start()
        results["down sent"] = _pump(connection, size, block)
        reading.join(120)

    with backends(backend) as (one,), balance(tcp(one)) as running, running.connect(120) as client:
        client.sendall(b"!")
        sending = threading.Thread(target=lambda: results.update({"up sent": _pump(client, size, block)}))
        sending.start()
        down = _drink(client)
        sending.join(120)
        wait_for(lambda: "up" in results, "the backend's end", 120)
        assert down == (size, results["down sent"])
        assert results["up"] == (size, results["up sent"])
        wait_for(lambda: metric(running, "balance_connections_open") == 0, "the end of the relay")
        assert metric(running, "balance_sent_bytes_total") == size
        assert metric(running, "balance_received_bytes_total") == size + 1


def test_a_client_that_does_not_read_costs_no_memory() -> None:
    size = 200 << 20
    block = os.urandom(1 << 20)
    sent: list[str] = []

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        connection.settimeout(60)
        if connection.recv(1):
            sent.append(_pump(connection, size, block))

    with backends(backend) as (one,), balance(tcp(one)) as running, running.connect(60) as client:
        before = running.resident
        client.sendall(b"!")
        last = -1.0

        def stuck() -> bool:
            nonlocal last
            moved, before_that = metric(running, "balance_sent_bytes_total"), last
            last = moved
            return moved > 0 and moved == before_that

        wait_for(stuck, "the relay to stand still")
        assert running.resident - before < 20 << 20
        assert _drink(client) == (size, (wait_for(lambda: sent, "the backend's end")[0]))


def test_two_thousand_connections_at_once() -> None:
    with backends(echo) as (one,), balance(tcp(one)) as running:
        clients = [running.connect() for _ in range(2000)]
        try:
            for n, client in enumerate(clients):
                client.sendall(b"%06d" % n)
            for n, client in enumerate(clients):
                assert read_exactly(client, 6) == b"%06d" % n
            assert metric(running, "balance_connections_open") == 2000
            assert metric(running, "balance_backend_active_requests") == 2000
        finally:
            for client in clients:
                client.close()
        wait_for(lambda: metric(running, "balance_connections_open") == 0, "all to be closed")
        assert metric(running, "balance_backend_active_requests") == 0
        assert metric(running, "balance_backend_connections_open") == 0


def test_a_backend_killed_under_load() -> None:
    with backends(echo, echo) as (one, two), balance(tcp(one, two)) as running:
        held = [running.connect() for _ in range(50)]
        for client in held:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        one.stop()
        for client in held:  # each has ended, or goes on; none hangs
            try:
                client.sendall(b"y")
                answer = client.recv(1)
            except OSError:
                answer = b""
            assert answer in (b"", b"y")
            client.close()
        for _ in range(20):
            with running.connect() as client:
                client.sendall(b"z")
                assert client.recv(1) == b"z"


def test_silence_ends_a_connection() -> None:
    with backends(echo) as (one,), balance(tcp(one, timeouts={"idle": "500ms"})) as running:
        with running.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert client.recv(1) == b""
        assert metric(running, "balance_errors_total", reason="idle_timeout") >= 1


def test_a_stop_lets_a_transfer_finish() -> None:
    go = threading.Event()

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        connection.sendall(b"first ")
        go.wait(PATIENCE)
        connection.sendall(b"second")

    with backends(backend) as (one,), balance(tcp(one)) as running, running.connect() as client:
        assert client.recv(6) == b"first "
        running.signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                running.connect(1).close()
            except OSError:
                return True
            return False

        wait_for(refused, "the port to close")
        go.set()
        assert read_all(client) == b"second"
        client.close()
        assert running.wait() == 0


def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "back"))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(100):
                    connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    front = tmp_path / "front"
    listeners = [
        {"name": "port", "listen": f"127.0.0.1:{free_port()}"},
        {"name": "socket", "listen": f"unix:{front}"},
    ]
    config = {"backends": [{"name": "u", "address": f"unix:{tmp_path / 'back'}"}], "listeners": listeners}
    with several({"mode": "tcp", **config}) as running, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(front))
        client.sendall(b"through two files")
        assert client.recv(100) == b"through two files"
        assert metric(running, "balance_connections_open", listener="socket") == 1
    server.close()


def several(config: dict[str, Any]) -> Any:
    """A configuration with `listeners`, the first of which has a port."""
    port = int(config["listeners"][0]["listen"].rpartition(":")[2])
    return balance(config, port=port)


def test_an_http_and_a_tcp_listener_in_one_process() -> None:
    with backends(answering(simple(b"web")), named(b"db")) as (web, db):
        ports = free_port(), free_port()
        config = {
            "listeners": [
                {"name": "web", "listen": f"127.0.0.1:{ports[0]}", "mode": "http", "backends": [web.config]},
                {"name": "db", "listen": f"127.0.0.1:{ports[1]}", "mode": "tcp", "backends": [db.config]},
            ]
        }
        with several(config) as running:
            assert running.get().body == b"web"
            with socket.create_connection(("127.0.0.1", ports[1]), PATIENCE) as client:
                assert client.recv(2) == b"db"
            assert metric(running, "balance_requests_total", listener="web") == 1
            assert metric(running, "balance_route_requests_total", listener="db") == 1


# --- the PROXY protocol -------------------------------------------------------------------------------------------


def greeted(seen: list[Any]) -> Any:
    """Reads a PROXY header, then echoes."""

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        data = b""
        while (parsed := parse_proxy_header(data)) is None:
            more = connection.recv(100)
            if not more:
                return
            data += more
        header, size = parsed
        seen.append(header)
        connection.sendall(data[size:])
        echo(connection, backend)

    return handle


@pytest.mark.parametrize("received", [1, 2])
@pytest.mark.parametrize("sent", ["v1", "v2"])
def test_a_header_is_received_in_pieces_and_sent_on(received: int, sent: str) -> None:
    seen: list[Any] = []
    with backends(greeted(seen)) as (one,):
        config = tcp(one, accept_proxy=True, trusted_proxies=["127.0.0.0/8"])
        config["backends"][0]["send_proxy"] = sent
        with balance(config) as running, running.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in write_proxy_header(received, ("203.0.113.7", 4711), ("198.51.100.1", 443)) + b"hello":
                client.sendall(bytes([byte]))
            assert read_exactly(client, 5) == b"hello"
            assert seen[-1].source == ("203.0.113.7", 4711)
            assert seen[-1].destination == ("198.51.100.1", 443)
            assert seen[-1].version == int(sent[1])


def test_a_malformed_header_is_closed_and_counted_and_a_stranger_is_not_believed() -> None:
    seen: list[Any] = []
    with backends(greeted(seen), echo) as (one, two):
        with balance(tcp(one, accept_proxy=True, trusted_proxies=["127.0.0.0/8"])) as running:
            with running.connect() as client, pytest.raises(ConnectionResetError):
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                client.recv(1)
            wait_for(lambda: metric(running, "balance_errors_total", reason="bad_proxy_header") == 1, "the count")
        with balance(tcp(two, accept_proxy=True, trusted_proxies=["10.0.0.0/8"])) as running:
            with running.connect() as client:
                header = write_proxy_header(1, ("203.0.113.7", 4711), ("198.51.100.1", 443))
                client.sendall(header)
                assert read_exactly(client, len(header)) == header  # plain bytes, as from anybody


def test_an_http_listener_believes_it_too() -> None:
    with backends(answering(simple(b"ok"))) as (one,):
        config = {"backends": [one.config], "accept_proxy": True, "trusted_proxies": ["127.0.0.0/8"]}
        with balance(config) as running:
            header = write_proxy_header(2, ("203.0.113.7", 4711), ("198.51.100.1", 80))
            with running.connect() as client:
                client.sendall(header + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert read_response(client).body == b"ok"
            assert b"X-Forwarded-For: 203.0.113.7\r\n" in one.requests[-1]


# --- TLS passed through -------------------------------------------------------------------------------------------


def tls_echo(certificate: Path, name: bytes) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.sendall(name + b" " + (secure.selected_alpn_protocol() or "-").encode())
            while data := secure.recv(65536):
                secure.sendall(data)

    return handle


def ask_tls(port: int, certificate: Path, name: str, alpn: list[str], piecewise: bool = False) -> bytes:
    """Who answers; the client verifies the name, so nobody but the right server can."""
    context = ssl.create_default_context(cafile=str(certificate))
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                return tls.read(100)
            except ssl.SSLWantReadError:
                out = outgoing.read()
                step = 1 if piecewise else max(1, len(out))
                for start in range(0, len(out), step):
                    client.sendall(out[start : start + step])
                data = client.recv(65536)
                if not data:
                    raise ConnectionError("closed") from None
                incoming.write(data)


def test_routes_by_server_name_and_protocol(tmp_path: Path) -> None:
    one, two = (self_signed(tmp_path, name).combined for name in ("one.db.example", "two.example"))
    with backends(tls_echo(one, b"one"), tls_echo(two, b"two"), tls_echo(two, b"h2")) as (first, second, third):
        routes = [
            {"name": "db", "sni": "*.db.example", "backends": [first.config["name"]]},
            {"name": "two", "sni": "two.example", "backends": [second.config["name"]]},
            {"name": "grpc", "sni": "two.example", "alpn": ["h2"], "backends": [third.config["name"]]},
        ]
        with balance(tcp(first, second, third, routes=routes)) as running:
            assert ask_tls(running.port, one, "one.db.example", []) == b"one -"
            assert ask_tls(running.port, one, "one.db.example", ["http/1.1"], piecewise=True) == b"one http/1.1"
            assert ask_tls(running.port, two, "two.example", ["http/1.1"]) == b"two http/1.1"
            assert ask_tls(running.port, two, "two.example", ["h2", "http/1.1"]) == b"h2 h2"
            with pytest.raises(ConnectionError):
                ask_tls(running.port, two, "other.example", [])
            assert metric(running, "balance_errors_total", reason="no_route") == 1
            with running.connect() as client, pytest.raises(ConnectionResetError):
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                client.recv(1)
            assert metric(running, "balance_errors_total", reason="bad_client_hello") == 1


def test_transfers_cut_short_leave_nothing_behind() -> None:
    """Descriptors (sockets, and the pipes of bulk transfers), leases and counters come back whatever the end is."""
    block = os.urandom(1 << 20)

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        kind = connection.recv(1)
        for _n in range(1 << 10 if kind in (b"r", b"c") else 8 if kind else 0):
            connection.sendall(block)
        if kind == b"b":
            reset(connection)

    with backends(backend) as (one,), balance(tcp(one)) as running:

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{running.process.pid}/fd"))

        spare = 2 * 8  # empty pipes that are kept for the next transfer

        wait_for(lambda: metric(running, "balance_connections_open") == 0, "the harness' own connection to end")
        before = descriptors()
        for kind in (b"r", b"c", b"b", b"e") * 8:  # client resets, client closes, backend resets, a good end
            client = running.connect()
            client.sendall(kind)
            if kind in (b"r", b"c"):
                read_exactly(client, 4 << 20)
                reset(client) if kind == b"r" else client.close()
            else:
                try:
                    while client.recv(1 << 20):
                        pass
                except ConnectionResetError:
                    assert kind == b"b"
                client.close()
        wait_for(lambda: metric(running, "balance_connections_open") == 0, "all to be closed")
        wait_for(lambda: descriptors() <= before + spare, "the descriptors to come back")
        assert metric(running, "balance_backend_active_requests") == 0
        assert metric(running, "balance_backend_connections_open") == 0
        assert "Traceback" not in running.log


def test_access_log_and_check(tmp_path: Path) -> None:
    log = tmp_path / "access"
    with backends(echo) as (one,), balance(tcp(one, access_log={"path": str(log), "format": "json"})) as running:
        with running.connect() as client:
            client.sendall(b"12345")
            assert read_exactly(client, 5) == b"12345"
        line = wait_for(lambda: log.exists() and re.search(r'.*"received_bytes":5.*', log.read_text()), "the log")
        assert f'"backend":"{one.config["name"]}"' in line[0]


def test_linger_zero_is_what_we_think() -> None:
    """The harness' `reset` sends RST: otherwise the tests above prove nothing."""
    assert struct.pack("ii", 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        reset(client)
        with accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)
