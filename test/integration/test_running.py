"""Running it: the first examples of the documentation, the start that fails, the load, the stop."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import pytest_twisted
import treq
import yaml

from test.integration.harness import (
    PATIENCE,
    TWISTD,
    Balance,
    ScriptedBackend,
    accepts,
    answering,
    backends,
    balance,
    free_port,
    read_head,
    read_response,
    simple,
    wait_for,
)

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


# --- the usage examples of the original's document ---------------------------------------------------------


def test_example_simple_proxy() -> None:
    """Example 1: two backends in turn."""
    with backends(answering(simple(b"one")), answering(simple(b"two"))) as running:
        config = {
            "backends": [{"name": f"backend{n}", "address": f"localhost:{b.port}"} for n, b in enumerate(running, 1)],
            "load_balancer": {"algorithm": "round-robin"},
        }
        with balance(config) as proxy:
            assert Counter(proxy.get().body for _ in range(10)) == {b"one": 5, b"two": 5}


def test_example_multi_host_routing() -> None:
    """Example 2: one backend for each host."""
    with backends(answering(simple(b"api")), answering(simple(b"web"))) as (api, web):
        config = {
            "backends": [
                {"name": "api", "address": f"localhost:{api.port}"},
                {"name": "web", "address": f"localhost:{web.port}"},
            ],
            "http": {
                "routes": [
                    {"name": "api-route", "host": "api.localhost", "backends": ["api"]},
                    {"name": "web-route", "host": "www.localhost", "backends": ["web"]},
                ]
            },
        }
        with balance(config) as proxy:
            for host, body in (("api.localhost", b"api"), ("www.localhost:8080", b"web"), ("API.Localhost", b"api")):
                assert proxy.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).body == body
            assert proxy.ask(b"GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n").status == 404


# --- demo backends, statistics, a client from another library -------------------------------------------------


@pytest.fixture
def demo() -> object:
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        yield stack.enter_context(balance({"demo_backends": ports})), ports


@pytest_twisted.ensureDeferred
async def test_demo_backends_by_treq(demo: tuple[Balance, list[int]]) -> None:
    proxy, ports = demo
    url = f"http://127.0.0.1:{proxy.port}"
    names = set()
    for _ in range(6):
        answer = await treq.get(url + "/x?y=1", headers={"Accept": "application/json"}, persistent=False)
        about = await answer.json()
        names.add(about["name"])
        assert (about["method"], about["path"]) == ("GET", "/x?y=1")
        assert ["X-Forwarded-For", "127.0.0.1"] in about["headers"]
    assert names == {f"demo-{port}" for port in ports}
    answer = await treq.post(url + "/echo", b"hello" * 10000, persistent=False)
    assert await answer.content() == b"hello" * 10000
    answer = await treq.get(url + "/status/418", persistent=False)
    assert answer.code == 418
    await answer.content()
    answer = await treq.get(url + "/stream?chunks=3&ms=5", persistent=False)
    assert (await answer.text()).count("chunk ") == 3


def test_statistics(demo: tuple[Balance, list[int]]) -> None:
    proxy, ports = demo
    for _ in range(6):
        assert proxy.get().status == 200
    proxy.ask(b"GET /\r\n\r\n")
    text = proxy.metrics()
    assert f'balance_requests_total{{listener="127.0.0.1:{proxy.port}"}} 7.0' in text
    assert f'balance_backend_requests_total{{backend="demo-{ports[0]}"}} 2.0' in text
    assert 'reason="bad_request"' in text
    with urlopen(f"http://127.0.0.1:{proxy.metrics_port}/status", timeout=PATIENCE) as answer:
        status = json.load(answer)
    assert {b["state"] for b in status["backends"]} == {"healthy"}
    assert status["listeners"][0]["routes"] == {"default": 6}


def test_access_log(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    with backends(answering(simple(b"hi"))) as (server,):
        config = {"backends": [server.config], "access_log": {"path": str(log), "format": "json"}}
        with balance(config) as proxy:
            assert proxy.get('/a"b').status == 200
            line = wait_for(lambda: log.exists() and log.read_text(), "a record")
            record = json.loads(line.splitlines()[0])
            assert (record["target"], record["status"], record["backend"]) == ('/a"b', 200, f"b{server.port}")
            assert record["response_bytes"] == 2


@pytest.mark.parametrize("form", ["json", "combined"])
def test_access_log_to_standard_output(form: str) -> None:
    """Where twistd's own log goes, too."""
    with backends(answering(simple(b"hi"))) as (server,):
        config = {"backends": [server.config], "access_log": {"path": "-", "format": form}}
        with balance(config) as proxy:
            for n in (1, 2):  # what time does goes on after the first line
                assert proxy.get(f"/number/{n}").status == 200
                line = wait_for(lambda n=n: [x for x in proxy.log.splitlines() if f"/number/{n}" in x], "a record")[0]  # type: ignore[misc]
                if form == "json":
                    assert json.loads(line)["target"] == f"/number/{n}"
                else:
                    assert f'"GET /number/{n} HTTP/1.1" 200 2 ' in line
            assert "Traceback" not in proxy.log


def test_cookie_affinity() -> None:
    with backends(*(answering(simple(b"%d" % n)) for n in range(4))) as running:
        balancer = {"algorithm": "session-affinity", "hash_key": "cookie:SRV"}
        with balance({"backends": [b.config for b in running], "load_balancer": balancer}) as proxy:
            first = proxy.get()
            cookie = first.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite" in cookie
            assert "127.0.0.1" not in cookie
            pair = cookie.partition(";")[0]
            again = [proxy.get(Cookie=pair) for _ in range(8)]
            assert {r.body for r in again} == {first.body}
            assert not any("set-cookie" in r.headers for r in again)
            running[int(first.body)].stop()
            moved = proxy.get(Cookie=pair)
            assert moved.status == 200
            assert moved.body != first.body
            assert "set-cookie" in moved.headers
            wait_for(lambda: "affinity" in proxy.log, "the log")


# --- the start ------------------------------------------------------------------------------------------------


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TWISTD, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_port_in_use(tmp_path: Path, daemon: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = {"listen": f"127.0.0.1:{port}", "backends": [{"name": "b", "address": "127.0.0.1:9"}]}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        done = run(*([] if daemon else ["-n"]), "balance", "--config", "c.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert f"balance: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_broken_configuration(tmp_path: Path, daemon: bool) -> None:
    (tmp_path / "c.yaml").write_text("listen: ':99999'\nbackends: [{name: a, adress: 'h:1'}]\n")
    done = run(*([] if daemon else ["-n"]), "balance", "--config", "c.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "c.yaml:1:9: listen: found ':99999'" in done.stderr
    assert "did you mean 'address'?" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_daemon(tmp_path: Path) -> None:
    with backends(answering(simple(b"ok"))) as (server,):
        port = free_port()
        config = {"listen": f"127.0.0.1:{port}", "backends": [server.config]}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        done = run("balance", "--config", "c.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        pidfile = tmp_path / "twistd.pid"
        pid = int(wait_for(lambda: pidfile.exists() and pidfile.read_text(), "the pid file"))
        try:
            wait_for(lambda: accepts(port), "the daemon")
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(GET)
                assert read_response(connection).body == b"ok"
        finally:
            subprocess.run(["kill", str(pid)], check=True)
        wait_for(lambda: not pidfile.exists(), "the daemon to end")


# --- load ---------------------------------------------------------------------------------------------------------


class Clients:
    """Threads that ask one request after the other on kept connections, and note what became of each."""

    def __init__(self, port: int, number: int, requests: int = 1 << 30) -> None:
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()
        self._port = port
        self._left = requests
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0 and not self.stop.is_set()

    def _run(self) -> None:
        outcomes: Counter[str] = Counter()
        connection = None
        while self._take():
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
            except ConnectionRefusedError:
                outcomes["refused"] += 1
                break
            try:
                connection.sendall(GET)
                head = read_head(connection)
            except ConnectionError:
                head = b""
            if not head:
                outcomes["lost"] += 1
                connection = None
                continue
            outcomes[head.split(b" ", 2)[1].decode()] += 1
            if b"Connection: close" in head:
                connection.close()
                connection = None
        with self._lock:
            self.outcomes += outcomes

    def join(self) -> Counter[str]:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()
        return self.outcomes


def served(connection: socket.socket, backend: ScriptedBackend) -> None:
    while read_head(connection):
        connection.sendall(simple(b"ok"))


def test_50000_requests_with_a_backend_killed_and_restarted() -> None:
    """What the rules allow: a request that was on its way to the backend when it died, on a connection that was fresh."""
    demo = [ScriptedBackend(served) for _ in range(3)]
    try:
        with balance({"backends": [b.config for b in demo], "health_check": {"ejection_time": "1s"}}) as proxy:
            clients = Clients(proxy.port, 8, 50_000)
            for turn in (0, 1):
                time.sleep(1.0)  # time under load is what is tested here, not an event
                port = demo[turn].port
                demo[turn].stop()
                time.sleep(1.0)
                demo[turn] = ScriptedBackend(served, port)
            outcomes = clients.join()
            assert sum(outcomes.values()) == 50_000
            assert outcomes["200"] >= 50_000 - 50, outcomes
            assert set(outcomes) <= {"200", "502"}, outcomes
            assert proxy.get().status == 200
    finally:
        for backend in demo:
            backend.stop()


def test_5000_idle_connections() -> None:
    with backends(served) as (server,), balance({"backends": [server.config]}) as proxy:
        for _ in range(50):
            assert proxy.get().status == 200
        before = proxy.resident
        kept = []
        try:
            for _ in range(5000):
                connection = proxy.connect()
                connection.sendall(GET)
                assert read_head(connection).startswith(b"HTTP/1.1 200 ")
                kept.append(connection)
            assert (proxy.resident - before) / 5000 < 4096
            for connection in kept[::500]:
                connection.sendall(GET)
                assert read_head(connection).startswith(b"HTTP/1.1 200 ")
        finally:
            for connection in kept:
                connection.close()
        assert accepts(proxy.port)


# --- the stop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_graceful_stop_under_load(number: int) -> None:
    """Every request that was accepted is answered; afterwards connections are refused."""
    with backends(served, served) as running, balance({"backends": [b.config for b in running]}) as proxy:
        clients = Clients(proxy.port, 8)
        time.sleep(1.0)  # time under load, as above
        proxy.signal(number)
        assert proxy.wait() == 0
        clients.stop.set()
        outcomes = clients.join()
        assert outcomes["200"] > 100
        # A client whose idle connection is closed just as it sends again has lost no request that was taken.
        assert set(outcomes) <= {"200", "refused", "lost"}
        assert outcomes["lost"] <= 8, outcomes
        assert "Traceback" not in proxy.log


def test_stop_waits_for_what_is_under_way() -> None:
    release = threading.Event()

    def handle(connection: socket.socket, backend: ScriptedBackend) -> None:
        backend.requests.append(read_head(connection))
        release.wait(PATIENCE)
        connection.sendall(simple(b"late"))

    with backends(handle) as (slow,), balance({"backends": [slow.config]}) as proxy, proxy.connect() as connection:
        connection.sendall(GET)
        wait_for(lambda: slow.requests, "the request")
        proxy.signal()
        wait_for(lambda: not accepts(proxy.port), "the listener to close")
        assert proxy.process.poll() is None
        release.set()
        response = read_response(connection)
        assert response.body == b"late"
        assert response.headers["connection"] == "close"
        assert proxy.wait() == 0


def test_drain_has_a_limit() -> None:
    with backends(lambda c, b: b.requests.append(read_head(c)) or b.closed.wait(PATIENCE)) as (mute,):
        with balance({"backends": [mute.config], "timeouts": {"drain": "1s"}}) as proxy:
            with proxy.connect() as connection:
                connection.sendall(GET)
                wait_for(lambda: mute.requests, "the request")
                proxy.signal()
                assert proxy.wait(10) == 0


def test_second_signal_insists() -> None:
    with backends(lambda c, b: b.requests.append(read_head(c)) or b.closed.wait(PATIENCE)) as (mute,):
        with balance({"backends": [mute.config]}) as proxy, proxy.connect() as connection:
            connection.sendall(GET)
            wait_for(lambda: mute.requests, "the request")
            proxy.signal()
            wait_for(lambda: not accepts(proxy.port), "the listener to close")
            time.sleep(0.6)  # signals closer together than this are one request to stop
            proxy.signal()
            assert proxy.wait(10) == 0


def test_python_client() -> None:
    with backends(answering(simple(b"ok"))) as (server,), balance({"backends": [server.config]}) as proxy:
        with urlopen(Request(f"http://127.0.0.1:{proxy.port}/"), timeout=PATIENCE) as answer:
            assert answer.read() == b"ok"
