"""Layer 4 against those who mean it ill: floods, half-open connections, ends in every state, and nothing left to open."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from balance.codec.proxy_protocol import write_proxy_header
from test.integration.harness import PATIENCE, Balance, ScriptedBackend, backends, balance, free_port, reset, wait_for
from test.integration.test_tcp_relay import echo, metric, read_exactly, tcp
from test.unit.test_client_hello import hello, message, records, sni


def descriptors(running: Balance) -> dict[str, int]:
    """What the process has open: sockets, and pipes."""
    found = {"socket": 0, "pipe": 0}
    for path in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind = os.readlink(path).partition(":")[0]
            found[kind] = found.get(kind, 0) + 1
    return found


@contextlib.contextmanager
def nothing_left(running: Balance) -> Iterator[None]:
    """After the block: no lease, no connection, no descriptor, no traceback."""
    wait_for(lambda: metric(running, "balance_connections_open") == 0, "the harness' own connection to end")
    before = descriptors(running)
    yield
    names = ["balance_connections_open", "balance_active_requests", "balance_backend_active_requests"]
    for name in [*names, "balance_backend_connections_open", "balance_pool_queued_requests"]:
        wait_for(lambda name=name: metric(running, name) == 0, f"{name} to be 0")
    wait_for(lambda: descriptors(running)["socket"] <= before["socket"], "the sockets to be closed")
    assert descriptors(running)["pipe"] <= before["pipe"] + 2 * 8  # those kept for the next transfer
    assert "Traceback" not in running.log
    assert running.process.poll() is None


def served(running: Balance) -> bool:
    with running.connect() as client:
        client.sendall(b"ping")
        return read_exactly(client, 4) == b"ping"


# --- transfers that end in any way, in any state ------------------------------------------------------------------

#: What is sent, again and again; its length is no power of two, so that a shift would show.
BLOCK = random.Random(7).randbytes((1 << 18) - 5)
PLAN = struct.Struct("!IIIB")
GRACEFUL, CLIENT_RESETS, BACKEND_RESETS, CLIENT_CLOSES, BOTH_RESET = range(5)


class Transfer:
    """One end of a connection: sends and receives at once, at its own uneven pace, and checks every byte."""

    def __init__(self, connection: socket.socket, seed: int, sends: int, expects: int, cut: int) -> None:
        self.connection = connection
        self.rng = random.Random(seed)
        self.sends, self.expects, self.cut = sends, expects, cut
        self.got = 0
        #: "end" or "reset", as reading found it.
        self.saw = ""
        #: Sending met the reset. (The kernel reports it once: reading then sees an end.)
        self.broken = False

    def run(self) -> None:
        sending = threading.Thread(target=self._send, daemon=True)
        sending.start()
        self._receive()
        sending.join(PATIENCE)

    def run_until_cut(self) -> None:
        """As far as asked; sending may still be under way then."""
        threading.Thread(target=self._send, daemon=True).start()
        self._receive()

    def _send(self) -> None:
        sent = 0
        try:
            while sent < self.sends:
                start = sent % len(BLOCK)
                piece = BLOCK[start : start + min(self.rng.choice((1, 900, 70_000, 262_144)), self.sends - sent)]
                self.connection.sendall(piece)
                sent += len(piece)
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True

    def _receive(self) -> None:
        rng = random.Random(self.got)
        try:
            while self.got < self.cut:
                data = self.connection.recv(rng.choice((1000, 65536, 1 << 20)))
                if not data:
                    self.saw = "end"
                    return
                for start in range(0, len(data), len(BLOCK)):
                    part = data[start : start + len(BLOCK)]
                    offset = (self.got + start) % len(BLOCK)
                    assert part == (BLOCK + BLOCK)[offset : offset + len(part)], "bytes were lost, moved or made up"
                self.got += len(data)
                if rng.random() < 0.1:
                    time.sleep(0.005)
        except OSError:
            self.saw = "reset"


def test_transfers_that_end_in_any_way_in_any_state() -> None:
    wrong: list[str] = []
    whole = 1 << 40

    def check(kind: int, who: str, transfer: Transfer, resets: bool) -> None:
        if kind == GRACEFUL:
            if (transfer.got, transfer.saw) != (transfer.expects, "end"):
                wrong.append(f"{who}: {transfer.got} of {transfer.expects}, {transfer.saw}")
        elif not resets and transfer.saw == "end" and not transfer.broken and transfer.got < transfer.expects:
            wrong.append(f"{who}: a transfer cut short looks complete ({kind=}, {transfer.got} of {transfer.expects})")

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        plan = connection.recv(PLAN.size, socket.MSG_WAITALL)
        if len(plan) < PLAN.size:
            return  # the harness looks whether the port is open
        up, down, cut, kind = PLAN.unpack(plan)
        resets = kind in (BACKEND_RESETS, BOTH_RESET)
        transfer = Transfer(connection, up, down, up, cut if resets else whole)
        transfer.run() if not resets else transfer.run_until_cut()
        check(kind, "backend", transfer, resets or kind == CLIENT_CLOSES)
        if resets:
            reset(connection)

    def client(running: Balance, seed: int) -> None:
        rng = random.Random(seed)
        kind = rng.choice((GRACEFUL, GRACEFUL, CLIENT_RESETS, BACKEND_RESETS, CLIENT_CLOSES, BOTH_RESET))
        up, down = (rng.choice((1, 50_000, 1_000_000, 6_000_000)) for _ in range(2))
        cut = rng.randrange(0, up if kind in (BACKEND_RESETS, BOTH_RESET) else down)
        with running.connect(60) as connection:
            connection.sendall(PLAN.pack(up, down, cut, kind))
            resets = kind in (CLIENT_RESETS, CLIENT_CLOSES, BOTH_RESET)
            transfer = Transfer(connection, seed, up, down, min(cut, down - 1) if resets else whole)
            if resets:
                transfer.run_until_cut()
                if kind != CLIENT_CLOSES:
                    reset(connection)
            else:
                transfer.run()
            check(kind, f"client {seed}", transfer, resets)

    with backends(backend) as (one,), balance(tcp(one)) as running, nothing_left(running):
        with ThreadPoolExecutor(24) as pool:
            list(pool.map(lambda seed: client(running, seed), range(150)))
    assert not wrong, wrong


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=["IPv4", "IPv6", "unix"])
def test_bulk_over_every_kind_of_address(tmp_path: Path, family: socket.AddressFamily) -> None:
    """`":port"` is IPv4 and IPv6; the backend is a Unix socket. Both directions at once."""
    size = 20_000_003
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "back"))
        server.listen()

        def answer(connection: socket.socket) -> None:
            with connection:
                echo(connection, None)  # type: ignore[arg-type]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        port, front = free_port(), tmp_path / "front"
        listeners = [{"name": "any", "listen": f":{port}"}, {"name": "file", "listen": f"unix:{front}"}]
        members = [{"name": "u", "address": f"unix:{tmp_path / 'back'}"}]
        config = {"mode": "tcp", "backends": members, "listeners": listeners}
        where: Any = {socket.AF_INET: ("127.0.0.1", port), socket.AF_INET6: ("::1", port)}.get(family, str(front))
        with balance(config, port=port) as running, socket.socket(family) as client:
            client.settimeout(PATIENCE)
            client.connect(where)
            transfer = Transfer(client, 1, size, size, size + 1)
            transfer.run()
            assert (transfer.got, transfer.saw) == (size, "end")
            label = "file" if family == socket.AF_UNIX else "any"
            assert metric(running, "balance_sent_bytes_total", listener=label) == size


def test_the_write_limit_holds_in_a_bulk_transfer() -> None:
    """A client that takes nothing is reset after `timeouts.write`; one that takes little is served to the end."""
    size = 12 << 20

    def backend(connection: socket.socket, _: ScriptedBackend) -> None:
        if connection.recv(1):
            for _n in range(size >> 20):
                connection.sendall(bytes(1 << 20))

    limits = {"write": "1s"}
    with backends(backend) as (one,), balance(tcp(one, timeouts=limits)) as running, nothing_left(running):
        stuck, slow = running.connect(), running.connect()
        stuck.sendall(b"!")
        slow.sendall(b"!")
        got, pace = 0, threading.Event()
        while data := slow.recv(600_000):
            got += len(data)
            pace.wait(0.05)
        assert got == size
        wait_for(lambda: metric(running, "balance_errors_total", reason="client_timeout") == 1, "the stuck one's end")
        with pytest.raises(ConnectionResetError):
            while stuck.recv(1 << 20):
                pass
        stuck.close()
        slow.close()


def test_a_reset_during_an_upload_is_no_good_end() -> None:
    """The backend resets while we write to it: that write may be what meets the reset."""
    block = bytes(70_000)

    def ends(client: socket.socket) -> str:
        client.setblocking(False)
        while True:
            readable, _, _ = select.select([client], [client], [], PATIENCE)
            try:
                if readable:
                    return "data" if client.recv(1) else "a good end"
                client.send(block)
            except ConnectionError:
                return "reset"

    with backends(lambda connection, _: (connection.recv(300_000), reset(connection))) as (one,):
        with balance(tcp(one)) as running, nothing_left(running):
            for _ in range(60):
                with running.connect() as client:
                    assert ends(client) == "reset"


def flood(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for _ in range(100):
            connection.sendall(bytes(70_000))


# --- half-open, and floods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["proxy", "hello"])
def test_a_thousand_half_open_connections(kind: str) -> None:
    """They say a byte now and then, and are cut `timeouts.head` after they came; others are served meanwhile."""
    opening = write_proxy_header(2, ("203.0.113.7", 1), ("198.51.100.1", 2)) if kind == "proxy" else HELLO
    with backends(echo) as (one,):
        config = tcp(one, timeouts={"head": "2s"})
        if kind == "proxy":
            config.update(accept_proxy=True, trusted_proxies=["127.0.0.1"])
        else:
            config["routes"] = [{"name": "r", "sni": "a.example", "backends": [one.config["name"]]}]
        with balance(config) as running, nothing_left(running):
            came = time.monotonic()
            half_open = [running.connect() for _ in range(1000)]
            for count, byte in enumerate(opening[:8]):
                for client in half_open:
                    with contextlib.suppress(OSError):
                        client.sendall(bytes([byte]))
                with running.connect() as client:  # nobody else waits for them
                    client.sendall(opening + b"%d" % count)
                    got = read_exactly(client, len(opening) + 1 if kind == "hello" else 1)
                    assert got.endswith(b"%d" % count)
            counted = lambda: metric(running, "balance_errors_total", reason="client_timeout")  # noqa: E731
            wait_for(lambda: counted() == 1000, "all to be cut")
            assert time.monotonic() - came < 2 + PATIENCE / 2
            for client in half_open:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                client.close()


HELLO = records(message(hello(sni(b"a.example"))))


@pytest.mark.parametrize(
    ("name", "route"),
    [
        (b"A.EXAMPLE.", "exact"),
        (b"x.A.Example", "wild"),
        (b"a.b.c.a.example", "wild"),
        (b"xn--bcher-kva.example", "idn"),
        (b"other.example", None),
        (b"example", None),
        (b"a.example\x00.evil", None),
        (b"a.example\n", None),
        (b"*.a.example", None),
        ("bücher.example".encode(), None),
    ],
)
def test_odd_server_names(sni_proxy: tuple[Balance, dict[int, str]], name: bytes, route: str | None) -> None:
    running, _ = sni_proxy
    data = records(message(hello(sni(name))), 5)
    with running.connect() as client:
        client.sendall(data)
        if route is None:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            assert read_exactly(client, len(data) + len(route)) == route.encode() + data


@pytest.fixture(scope="module")
def sni_proxy() -> Iterator[tuple[Balance, dict[int, str]]]:
    def named(name: bytes) -> Any:
        def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
            connection.sendall(name)
            echo(connection, backend)

        return handle

    with backends(named(b"exact"), named(b"wild"), named(b"idn")) as members:
        routes = [
            {"name": name, "sni": sni, "backends": [member.config["name"]]}
            for member, name, sni in zip(
                members, ("exact", "wild", "idn"), ("a.example", "*.a.example", "bücher.example"), strict=True
            )
        ]
        with balance(tcp(*members, routes=routes)) as running:
            yield running, {}


def test_no_descriptors_left() -> None:
    """Too many clients: some are cut, no backend is blamed, and all is well again when they have gone."""
    with backends(echo, echo) as (one, two), balance(tcp(one, two)) as running, nothing_left(running):
        assert served(running)
        hard = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)[1]
        used = sum(descriptors(running).values())
        for free in (30, 31):  # a client takes two: once its own descriptor is the last one, once its backend's
            resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (used + free, hard))
            clients = [running.connect() for _ in range(100)]
            for client in clients:
                client.settimeout(PATIENCE)
                with contextlib.suppress(OSError):
                    client.sendall(b"x")
                    client.recv(1)
            for client in clients:
                client.close()
            wait_for(lambda: metric(running, "balance_connections_open") == 0, "the clients to have gone")
        assert all(served(running) for _ in range(4))
        assert metric(running, "balance_errors_total", reason="out_of_resources") > 0
        assert metric(running, "balance_backend_failures_total") == 0
        assert "is now ejected" not in running.log


def test_clients_that_leave_while_we_dial_or_queue() -> None:
    """A backend that never accepts, one place, a queue: whoever goes, however, gives back what he had."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        member = {"name": "full", "address": f"127.0.0.1:{full.getsockname()[1]}", "max_connections": 3}
        config = {"mode": "tcp", "backends": [member], "load_balancer": {"max_queue": 50}}
        with balance({**config, "timeouts": {"connect": "60s", "queue": "60s"}}) as running:
            wait_for(lambda: metric(running, "balance_connections_open") == 1, "the harness' own connection")
            clients = [running.connect() for _ in range(40)]
            wait_for(lambda: metric(running, "balance_connections_open") == 41, "all of them")
            assert metric(running, "balance_backend_active_requests") == 3
            for n, client in enumerate(clients):
                if n % 2:
                    client.sendall(b"early")
                reset(client)
            wait_for(lambda: metric(running, "balance_connections_open") == 1, "all but the harness' own to go")
            assert metric(running, "balance_backend_active_requests") == 1
            assert metric(running, "balance_pool_queued_requests") == 0
            assert "Traceback" not in running.log
        for filler in fillers:
            filler.close()


def test_many_short_connections_leave_nothing() -> None:
    with backends(echo) as (one,), balance(tcp(one)) as running, nothing_left(running):

        def some(many: int) -> None:
            for n in range(many):
                with running.connect() as client:
                    client.sendall(b"%d" % n)
                    client.recv(10)
                    if n % 3 == 0:
                        reset(client)

        some(300)
        before = running.resident
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(some, [500] * 4))
        assert running.resident - before < 4 << 20


# --- stopping -----------------------------------------------------------------------------------------------------


def test_a_second_signal_cuts_what_is_left() -> None:
    """Relays, spliced ones, those who wait for a ClientHello: all are reset, and the process ends."""
    with backends(echo) as (one,):
        routes = [{"name": "r", "sni": "a.example", "backends": [one.config["name"]]}]
        with balance(tcp(one, routes=routes)) as running:
            idle, bulk, waiting = (running.connect() for _ in range(3))
            for client in (idle, bulk):
                client.sendall(HELLO)
                assert read_exactly(client, len(HELLO)) == HELLO
            threading.Thread(target=flood, args=(bulk,), daemon=True).start()
            wait_for(lambda: metric(running, "balance_connections_open") == 3, "all three")
            asked = time.monotonic()
            running.signal(signal.SIGTERM)
            wait_for(lambda: not accepting(running), "the port to close")
            wait_for(lambda: time.monotonic() - asked > 0.6, "what is no echo of the first signal")
            assert running.process.poll() is None
            running.signal(signal.SIGTERM)
            for client in (idle, waiting):
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            assert running.wait() == 0
            assert "Traceback" not in running.log


def accepting(running: Balance) -> bool:
    with contextlib.suppress(OSError):
        running.connect(1).close()
        return True
    return False
