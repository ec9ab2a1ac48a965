"""The example of a third party's package: installed into a fresh environment next to Balance, tested there, and driven
through a real twistd.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from test.integration import harness
from test.integration.environment import RUN_TWISTD, Environment
from test.integration.harness import ROOT, ScriptedBackend, answering, backends, balance, read_head, simple

EXAMPLE = ROOT / "examples" / "acme_balance"


@pytest.fixture
def twistd(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TWISTD", [str(environment.python), "-P", "-c", RUN_TWISTD])


def test_its_own_tests(environment: Environment, tmp_path: Path) -> None:
    told = environment.run("-m", "twisted.trial", f"--temp-directory={tmp_path / 'trial'}", "acme_balance")
    assert "PASSED" in told
    assert "Ran 0 tests" not in told


def test_it_is_found(environment: Environment) -> None:
    """By name through twisted.plugin, and told with the distribution it came with."""
    told = environment.run("-c", "from balance.cli import main; raise SystemExit(main(['plugins', '--json']))")
    found = {each["name"]: each for each in json.loads(told)["plugins"]}
    for name in ("acme-tenant", "acme-token", "acme-replace"):
        assert found[name]["distribution"] == "acme-balance 1.0.0", found[name]
    assert found["request-id"]["distribution"] == "balance 0.1.0"


def test_its_configuration(environment: Environment) -> None:
    check = "from balance.cli import main; import sys; raise SystemExit(main(['check', '--config', sys.argv[1]]))"
    assert "filters: acme-token, acme-replace" in environment.run("-c", check, str(EXAMPLE / "acme.yaml"))


def _who_am_i(connection: Any, backend: ScriptedBackend) -> None:
    while head := read_head(connection):
        backend.requests.append(head)
        good = b"authorization: bearer good" in head.lower()
        connection.sendall(simple(b"ann\n") if good else b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def running(twistd: None) -> Iterator[tuple[harness.Balance, list[ScriptedBackend]]]:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 24\r\n\r\n<a href=http://internal>"
    with backends(answering(page), answering(page), _who_am_i) as [one, two, auth]:
        names = [one.config["name"], two.config["name"]]
        config = {
            "backends": [one.config, two.config],
            "load_balancer": {"algorithm": "acme-tenant", "hash_key": "header:X-Tenant", "options": {"salt": "s"}},
            "http": {
                "filters": ["request-id"],
                "routes": [
                    {
                        "name": "closed",
                        "path_prefix": "/shop",
                        "match": [{"use": "acme_balance.match:OfTenants", "options": {"tenants": ["northwind"]}}],
                        "resource": {"use": "acme_balance.pages:Maintenance", "options": {"text": "closed"}},
                    },
                    {"name": "inside", "match": ["acme_balance.match:from_inside"], "backends": names},
                    {
                        "name": "rest",
                        "backends": names,
                        "filters": [
                            {"use": "acme-token", "options": {"url": f"http://127.0.0.1:{auth.port}/whoami"}},
                            {"use": "acme-replace", "options": {"search": "internal", "replace": "www.example.com"}},
                        ],
                    },
                ],
            },
        }
        with balance(config) as server:
            yield server, [one, two, auth]


def test_through_twistd(running: tuple[harness.Balance, list[ScriptedBackend]]) -> None:
    server, (one, two, auth) = running
    closed = server.get("/shop", X_Tenant="northwind")
    assert (closed.status, closed.body, closed.headers["retry-after"]) == (503, b"closed\n", "60")
    assert len(closed.headers["x-request-id"]) == 32

    assert server.get("/").status == 401
    assert server.get("/", Authorization="Bearer bad").status == 401
    assert not one.requests
    assert not two.requests

    for _ in range(3):
        good = server.get("/", Authorization="Bearer good", X_Tenant="a", X_User="root")
        assert (good.status, good.body) == (200, b"<a href=http://www.example.com>")
    assert len(auth.requests) == 2  # the good one and the bad one, once each
    seen = one.requests + two.requests
    assert len(seen) == 3
    assert not (one.requests and two.requests)  # a tenant keeps its backend
    assert all(b"X-User: ann\r\n" in head and b"root" not in head for head in seen)

    assert {len(server.get("/", Authorization="Bearer good", X_Tenant=f"t{n}").body) for n in range(12)} == {31}
    assert one.requests
    assert two.requests
    server.signal()
    assert server.wait() == 0


def test_a_filter_of_messages(twistd: None) -> None:
    """The WebSocket filter, between a client and a server that know nothing of it."""

    def chat(socket: ServerConnection) -> None:
        for message in socket:
            socket.send(f"heard: {message}")

    moderator = {"use": "acme_balance.chat:Moderator", "options": {"hide": ["rats"], "most": 3}}
    with serve(chat, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        backend = {"name": "chat", "address": f"127.0.0.1:{server.socket.getsockname()[1]}"}
        route = {"name": "chat", "backends": ["chat"], "websocket": {"filters": [moderator]}}
        with balance({"backends": [backend], "http": {"routes": [route]}}) as running:
            with connect(f"ws://127.0.0.1:{running.port}/chat") as client:
                client.send("oh rats!")
                assert client.recv(harness.PATIENCE) == "heard: oh ****!"
                client.send("/count")
                assert client.recv(harness.PATIENCE) == "2"
                client.send("three")
                assert client.recv(harness.PATIENCE) == "heard: three"
                client.send("four")
                with pytest.raises(ConnectionClosed) as caught:
                    client.recv(harness.PATIENCE)
                assert caught.value.rcvd is not None
                assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "enough said")
        server.shutdown()


def test_a_plugin_that_blocks_is_named(twistd: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_plugin.py").write_text(
        "import time\n\ndef count_sheep(context):\n    time.sleep(0.5)\n\ndef boom(context):\n    raise RuntimeError('boom')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    routes = [
        {"name": "slow", "path_prefix": "/slow", "filters": ["slow_plugin:count_sheep"]},
        {"name": "rest", "filters": ["slow_plugin:boom"]},
    ]
    with backends(answering(simple(b"x"))) as [one]:
        config = {
            "backends": [one.config],
            "http": {"routes": [{**route, "backends": [one.config["name"]]} for route in routes]},
        }
        with balance(config) as server:
            assert server.get("/slow").status == 200
            harness.wait_for(lambda: "runs again" in server.log, "the watchdog's last word")
            assert "(plugin slow_plugin:count_sheep)" in server.log
            assert "in count_sheep" in server.log
            assert server.get("/").status == 500
            harness.wait_for(lambda: "filter_error" in server.log, "the log")
            assert "filter slow_plugin:boom failed" in server.log
            assert "RuntimeError: boom" in server.log


def test_a_broken_plugin_stops_the_start(twistd: None, environment: Environment, tmp_path: Path) -> None:
    config = tmp_path / "balance.yaml"
    config.write_text(
        "backends: [{name: a, address: '127.0.0.1:1'}]\n"
        "http:\n  filters:\n    - use: acme-token\n      options: {url: 'ftp://x'}\n    - acme_balance.auth:RequireTocken\n"
    )
    told = environment.run("-c", RUN_TWISTD, "-n", "--pidfile=", "balance", "--config", str(config), status=1)
    assert f"{config}:5:22: http.filters[0].options.url: found 'ftp://x'" in told
    assert f"{config}:6:7: http.filters[1].use: filter 'acme_balance.auth:RequireTocken'" in told
    assert "did you mean 'RequireToken'?" in told
