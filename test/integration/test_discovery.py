"""Backends that come and go under a real Balance."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from test.integration.harness import (
    PATIENCE,
    ScriptedBackend,
    answering,
    backends,
    balance,
    read_head,
    simple,
    wait_for,
)

_PLUGIN = """
from pathlib import Path
from twisted.internet.task import LoopingCall
from pydantic import BaseModel
from balance.model import Discovered


class FromFile:
    class Options(BaseModel):
        path: str

    def __init__(self, options):
        self.path = Path(options.path)

    def start(self, found, reactor):
        self.loop = LoopingCall(lambda: found([Discovered(*line.split()) for line in self.path.read_text().splitlines()]))
        self.loop.clock = reactor
        self.loop.start(0.05)

    def stop(self):
        self.loop.stop()
"""


def test_they_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_in_file.py").write_text(_PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    listed = tmp_path / "backends.txt"
    began, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow(connection: object, backend: ScriptedBackend) -> None:
        while head := read_head(connection):  # type: ignore[arg-type]
            if b" /slow " in head:
                began.set()
                go_on.wait(PATIENCE)
            connection.sendall(simple(b"one"))  # type: ignore[attr-defined]
        closed.set()

    with backends(slow, answering(simple(b"two"))) as [one, two]:
        listed.write_text(f"one 127.0.0.1:{one.port}\n")
        use = {"name": "app", "use": "found_in_file:FromFile", "options": {"path": str(listed)}}
        with balance({"discovery": [use], "http": {"routes": [{"name": "r", "backends": ["app"]}]}}) as server:
            wait_for(lambda: server.get("/").status == 200, "the first backend")
            with server.connect() as client:
                client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert began.wait(PATIENCE)
                listed.write_text(f"two 127.0.0.1:{two.port}\n")
                wait_for(lambda: server.get("/").body == b"two", "the second backend")
                assert {server.get("/").body for _ in range(5)} == {b"two"}
                go_on.set()
                answer = b""
                while data := client.recv(65536):
                    answer += data
                assert answer.endswith(b"one"), "what was under way is finished"
            assert closed.wait(PATIENCE), "no connection is kept to one that is gone"
            wait_for(lambda: 'balance_backend_up{backend="app/one"' not in server.metrics(), "statistics to forget it")
            assert 'balance_backend_up{backend="app/two"' in server.metrics()
            listed.write_text("nonsense\n")
            wait_for(lambda: "TypeError" in server.log or "makes no sense" in server.log, "the log")
            assert server.get("/").body == b"two"


def test_dns() -> None:
    with backends(answering(simple(b"found"))) as [one]:
        use = {"name": "app", "use": "dns", "options": {"host": "localhost", "port": one.port}}
        with balance({"discovery": [use]}) as server:
            wait_for(lambda: server.get("/").body == b"found", "the name to be resolved")
            server.signal()
            assert server.wait() == 0
