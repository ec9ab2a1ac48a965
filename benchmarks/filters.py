"""What a filter costs a request: CPU time in memory, no sockets. ``python -m benchmarks.filters``

Rule of this file: every case runs the real channel, exchange and codecs against the same backend in memory; cases take
turns, and the best of many short runs counts, as a busy machine can only make it slower.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from balance.filters import Context, Filter
from balance.http.filters import FilterChain
from balance.testing import World

_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nUser-Agent: b\r\n\r\n"
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"


def noop(context: Context) -> None:
    return None


class Head(Filter):
    def response_head(self, context: Context, response: Any) -> None:
        return None


class Whole(Filter):
    keeps_length = True

    def request_head(self, context: Context) -> None:
        return None

    def response_head(self, context: Context, response: Any) -> None:
        return None

    def response_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        return data

    def log(self, context: Context) -> None:
        return None


CASES: dict[str, Sequence[Any]] = {
    "no filter": (),
    "one request filter that does nothing": (noop,),
    "five of them": (noop,) * 5,
    "one that sees the response's head": (Head(),),
    "one with four phases": (Whole(),),
}


def one_request(filters: Sequence[Any]) -> Callable[[], None]:
    """A function that sends one request over a kept connection, to a backend that answers at once."""
    options = {"filters": FilterChain([("x", each) for each in filters])} if filters else {}
    world = World(route_options=options)
    client = world.client()
    client.send(_REQUEST)
    backend = world.accept()
    backend.send(_RESPONSE)
    ask, answer = client.protocol.dataReceived, backend.protocol.dataReceived
    forget = client.transport.clear, backend.transport.clear

    def once() -> None:
        ask(_REQUEST)
        answer(_RESPONSE)
        for each in forget:
            each()

    return once


def measure(rounds: int = 60, requests: int = 500) -> dict[str, float]:
    """Microseconds of CPU a request, by case."""
    runs = {name: one_request(filters) for name, filters in CASES.items()}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, once in runs.items():
            began = time.process_time_ns()
            for _ in range(requests):
                once()
            best[name] = min(best[name], (time.process_time_ns() - began) / requests / 1000)
    return best


def main() -> None:
    found = measure()
    base = found["no filter"]
    for name, cost in found.items():
        sys.stdout.write(f"{name:40} {cost:6.2f} us  {cost - base:+6.2f}\n")


if __name__ == "__main__":
    main()
