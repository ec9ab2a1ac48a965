"""How many clients there may be at a time, with real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from test.certificates import Authority
from test.integration.harness import (
    PATIENCE,
    Balance,
    answering,
    backends,
    balance,
    read_response,
    simple,
    wait_for,
)

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
LIMIT = 5


def listener(running: Balance) -> dict[str, Any]:
    """The listener in ``/status``."""
    with urlopen(f"http://127.0.0.1:{running.metrics_port}/status", timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)["listeners"][0]
    return found


@contextlib.contextmanager
def limited(**config: Any) -> Iterator[Balance]:
    """A Balance that has room for `LIMIT` connections, all of which are free."""
    with backends(answering(simple(b"hi"))) as (server,):
        with balance({"backends": [server.config], "max_connections": LIMIT, **config}) as running:
            wait_for(lambda: listener(running)["connections_open"] == 0, "the harness' own connection to end")
            yield running


def answered(connection: socket.socket) -> bool:
    connection.sendall(GET)
    return read_response(connection).body == b"hi"


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_more_clients_than_places(mode: str) -> None:
    with limited(mode=mode) as running, contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(running.connect()) for _ in range(LIMIT)]
        assert all(answered(each) for each in open_ones)
        waiting = [stack.enter_context(running.connect()) for _ in range(3)]
        for each in waiting:
            each.sendall(GET)
        for each in open_ones:  # many turns of its reactor, in any of which the others could be accepted
            assert answered(each)
        seen = listener(running)
        assert (seen["connections_open"], seen["connections_limit"]) == (LIMIT, LIMIT)
        assert (seen["connections_accepted"], seen["connections_paused"]) == (LIMIT + 1, 1)  # one was the harness'
        for number, each in enumerate(waiting, 1):
            open_ones.pop(0).close()
            assert read_response(each).body == b"hi"
            assert listener(running)["connections_paused"] == 1 + number
        assert all(answered(each) for each in [*open_ones, *waiting])
        assert "balance_connections_paused_total{" in running.metrics()
        assert running.log.count("as many as max_connections allows") == 1


def test_more_handshakes_than_there_may_be(tmp_path: Path) -> None:
    """Silent clients make room for those that speak."""
    authority = Authority(tmp_path)
    tls = {"enabled": True, **authority.issue("localhost").config, "max_handshakes": 3, "handshakes_per_turn": 1}
    trust = ssl.create_default_context(cafile=str(authority.file))
    with limited(max_connections=0, tls=tls) as running, contextlib.ExitStack() as stack:

        def refused() -> int:
            found: int = listener(running)["tls"]["failures"].get("too_many_handshakes", 0)
            return found

        for _ in range(5):
            stack.enter_context(running.connect())
        wait_for(lambda: refused() == 2, "two of them to be closed")
        with trust.wrap_socket(running.connect(), server_hostname="localhost") as honest:
            assert answered(honest)
            assert refused() == 3
        assert 'reason="too_many_handshakes"} 3.0' in running.metrics()


def test_stop_while_it_is_full() -> None:
    with limited() as running, contextlib.ExitStack() as stack:
        for _ in range(LIMIT + 2):
            stack.enter_context(running.connect())
        wait_for(lambda: listener(running)["connections_open"] == LIMIT, "all places to be taken")
        running.signal()
        assert running.wait() == 0
        assert "Traceback" not in running.log
