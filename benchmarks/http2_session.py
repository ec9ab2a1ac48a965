"""CPU time of the HTTP/2 sessions alone: no sockets, a server and a client session of one kind talking in memory.

    python -m benchmarks.http2_session [--seconds 1] [--sessions lean h2] [--profile]

Each side is timed by itself while both exchange what h2load and nginx would: rounds of 32 requests on a connection,
65-byte answers, the same with heads as browsers have them and no two alike, or 1 MiB bodies.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import pstats
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from balance.codec.http2.events import DataReceived, RequestReceived
from balance.codec.http2.session import SessionOptions
from balance.model import Headers, RequestHead, ResponseHead

STREAMS = 32
SMALL = b"x" * 65
LARGE = b"x" * (1 << 20)
CHUNK = 64 * 1024

_MODULES = {"lean": "balance.codec.http2.lean", "h2": "balance.codec.http2.h2_session"}


_numbers = count(1)


def request(browser: bool) -> RequestHead:
    """What h2load sends, or what a browser does: much, and no path twice."""
    if not browser:
        return RequestHead(b"GET", b"/small", b"127.0.0.1:8080", Headers.of((b"user-agent", b"h2load nghttp2/1.52.0")))
    headers = Headers.of(
        (b"sec-ch-ua", b'"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"'),
        (b"sec-ch-ua-mobile", b"?0"),
        (b"sec-ch-ua-platform", b'"Linux"'),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0"),
        (b"accept", b"image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
        (b"sec-fetch-site", b"same-origin"),
        (b"sec-fetch-mode", b"no-cors"),
        (b"sec-fetch-dest", b"image"),
        (b"referer", b"https://www.example.com/catalogue/shoes"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
        (b"accept-language", b"en-GB,en;q=0.9"),
        (b"cookie", b"session=0123456789abcdef0123456789abcdef; theme=dark; consent=1"),
    )
    return RequestHead(b"GET", b"/images/%d.webp?v=3" % next(_numbers), b"www.example.com", headers)


def response(length: int, browser: bool) -> ResponseHead:
    """What nginx answers; each a new object, as it would be."""
    if browser:
        number = next(_numbers)
        headers = Headers.of(
            (b"server", b"nginx/1.22.1"),
            (b"date", b"Tue, 25 Nov 2025 20:46:11 GMT"),
            (b"content-type", b"image/webp"),
            (b"last-modified", b"Tue, 25 Nov 2025 20:%02d:%02d GMT" % (number // 60 % 60, number % 60)),
            (b"etag", b'"6926138e-%x"' % number),
            (b"cache-control", b"public, max-age=31536000"),
            (b"accept-ranges", b"bytes"),
        )
        return ResponseHead(200, b"OK", headers, length=length)
    headers = Headers.of(
        (b"server", b"nginx/1.22.1"),
        (b"date", b"Tue, 25 Nov 2025 20:46:11 GMT"),
        (b"content-type", b"application/octet-stream"),
        (b"last-modified", b"Tue, 25 Nov 2025 20:15:02 GMT"),
        (b"etag", b'"6926138e-41"'),
        (b"accept-ranges", b"bytes"),
    )
    return ResponseHead(200, b"OK", headers, length=length)


class Pair:
    """One connection, and the CPU time that each side took."""

    def __init__(self, kind: str, browser: bool) -> None:
        self.browser = browser
        module: Any = importlib.import_module(_MODULES[kind])
        options = SessionOptions(stream_window=1 << 20, connection_window=16 << 20)
        self.server = module.ServerSession(options)
        self.client = module.ClientSession(options)
        self.server_time = self.client_time = 0.0
        self.server.start()
        self.client.start()
        self.move([])

    def move(self, bodies: list[bytes]) -> None:
        """Bytes there and back until none are left. The server answers each request with ``bodies``."""
        cpu = time.process_time
        size = sum(map(len, bodies))
        answers = [(response(size, self.browser), bodies) for _ in range(STREAMS)] if bodies else []
        while True:
            start = cpu()
            sent = self.client.take()
            middle = cpu()
            self.client_time += middle - start
            for event in self.server.receive(sent, 1.0):
                if isinstance(event, RequestReceived):
                    head, body = answers.pop()
                    self.server.respond(event.stream_id, head, False)
                    for chunk in body[:-1]:
                        self.server.send_data(event.stream_id, chunk, False)
                    self.server.send_data(event.stream_id, body[-1], True)
            answer = self.server.take()
            end = cpu()
            self.server_time += end - middle
            if not sent and not answer:
                return
            start = cpu()
            for at in range(0, len(answer), CHUNK):
                for event in self.client.receive(answer[at : at + CHUNK], 1.0):
                    if isinstance(event, DataReceived) and not event.ended:
                        self.client.acknowledge(event.stream_id, event.size)
            self.client_time += cpu() - start

    def round(self, streams: int, bodies: list[bytes]) -> None:
        heads = [request(self.browser) for _ in range(streams)]
        start = time.process_time()
        for head in heads:
            assert self.client.request(head, b"http", b"127.0.0.1:8080", True)
        self.client_time += time.process_time() - start
        self.move(bodies)


def measure(kind: str, seconds: float, streams: int, bodies: list[bytes], browser: bool) -> tuple[float, float]:
    """Microseconds of CPU for each request: of the server, of the client."""
    pair = Pair(kind, browser)
    pair.round(streams, bodies)
    pair.round(streams, bodies)
    pair.server_time = pair.client_time = 0.0
    requests = 0
    end = time.process_time() + seconds
    while time.process_time() < end:
        pair.round(streams, bodies)
        requests += streams
    assert not pair.server.closed
    return pair.server_time / requests * 1e6, pair.client_time / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--sessions", nargs="+", choices=sorted(_MODULES), default=["lean", "h2"])
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    chunks = [LARGE[at : at + CHUNK] for at in range(0, len(LARGE), CHUNK)]
    loads = [("65 bytes", STREAMS, [SMALL], False), ("browser", STREAMS, [SMALL], True), ("1 MiB", 2, chunks, False)]
    print(f"{'session':8} {'body':10} {'server us':>10} {'client us':>10}")
    for kind in arguments.sessions:
        for name, streams, bodies, browser in loads:
            run = partial(measure, kind, arguments.seconds, streams, bodies, browser)
            server, client = _profiled(run) if arguments.profile else run()
            print(f"{kind:8} {name:10} {server:10.2f} {client:10.2f}")


def _profiled(run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    profile = cProfile.Profile()
    result = profile.runcall(run)
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)
    return result


if __name__ == "__main__":
    main()
