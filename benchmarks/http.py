"""The scenarios, and how one round of each is measured."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

from benchmarks.load import h2load, wrk
from benchmarks.peers import ROUTE_HEADER
from benchmarks.processes import Cpu, Process, pinned
from benchmarks.websocket import connect

MIB = 1 << 20


@dataclass(frozen=True)
class Scenario:
    """One kind of traffic.

    :param unit: what the CPU time is divided by, for the table's head
    :param units: how many of those one request is
    :param tcp: the proxies relay bytes (layer 4) instead of requests
    :param tls: clients speak TLS 1.3, with an ECDSA P-256 certificate
    :param websocket: bytes of a WebSocket message that is echoed, in place of requests
    :param streams: HTTP/2 streams on each of ``connections``; 0 is HTTP/1.1
    :param http2_backends: the backends speak HTTP/2 (h2c)
    :param grpc: unary calls of grpcio, which has the server too, in place of requests
    :param bulk: bytes moved through each of ``connections``, in place of requests
    """

    name: str
    title: str
    path: str = "/small"
    connections: int = 64
    headers: tuple[str, ...] = ()
    routes: int = 0
    unit: str = "request"
    units: float = 1.0
    tcp: bool = False
    tls: bool = False
    bulk: int = 0
    websocket: int = 0
    streams: int = 0
    http2_backends: bool = False
    grpc: bool = False
    skip: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Result:
    """One round of one peer. CPU in seconds for each unit."""

    cpu: Cpu
    rate: float
    p50: float
    p99: float
    errors: int


#: Those that cannot speak it.
NO_TLS = ("twisted.web",)
#: Those that cannot relay it.
NO_WEBSOCKET = ("twisted.web",)

#: Peers that do not speak HTTP/2.
_HTTP1 = ("twisted.web",)
SCENARIOS = (
    Scenario("small", "65-byte answers, 64 kept connections"),
    Scenario("10k", "10 kB answers, 64 kept connections", path="/10k"),
    Scenario("1m", "1 MB answers, 16 kept connections", path="/1m", connections=16, unit="MiB"),
    Scenario("close", "a new connection for each request", headers=("Connection: close",)),
    Scenario(
        "routes20",
        "20 routes with a header to match, the last one asked for",
        headers=(f"{ROUTE_HEADER}: t19",),
        routes=20,
        skip=("twisted.web",),
    ),
    Scenario("h2-small", "h2c: 65-byte answers, 8 connections x 32 streams", connections=8, streams=32, skip=_HTTP1),
    Scenario(
        "h2-h2",
        "h2c to h2c backends: 65-byte answers, 8 connections x 32 streams",
        connections=8,
        streams=32,
        http2_backends=True,
        skip=(*_HTTP1, "nginx"),
    ),
    Scenario(
        "h2-1m",
        "h2c: 1 MB answers, 4 connections x 4 streams",
        path="/1m",
        connections=4,
        streams=4,
        unit="MiB",
        skip=_HTTP1,
    ),
    Scenario(
        "h2-tls",
        "HTTP/2 over TLS: 65-byte answers, 8 connections x 32 streams",
        connections=8,
        streams=32,
        tls=True,
        skip=_HTTP1,
    ),
    Scenario(
        "grpc",
        "gRPC: unary calls of 65 bytes, 64 at a time",
        unit="call",
        connections=1,
        streams=64,
        http2_backends=True,
        grpc=True,
        skip=(*_HTTP1, "nginx"),
    ),
    Scenario("tcp-small", "layer 4: small questions and answers, 64 kept connections", unit="round trip", tcp=True),
    Scenario(
        "tcp-close", "layer 4: connect, transfer, close", headers=("Connection: close",), unit="connection", tcp=True
    ),
    Scenario("tcp-1g", "layer 4: 1 GiB through one connection", connections=1, unit="GiB", tcp=True, bulk=1 << 30),
    Scenario("tcp-64", "layer 4: 64 x 16 MiB at once", connections=64, unit="GiB", tcp=True, bulk=16 << 20),
    Scenario("tls-small", "TLS: 65-byte answers, 64 kept connections", tls=True, skip=NO_TLS),
    Scenario(
        "tls-1m",
        "TLS: 1 MB answers, 16 kept connections",
        path="/1m",
        connections=16,
        unit="MiB",
        tls=True,
        skip=NO_TLS,
    ),
    Scenario(
        "tls-handshake",
        "TLS: a full handshake, one request and the end, again and again",
        headers=("Connection: close",),
        unit="connection",
        tls=True,
        skip=NO_TLS,
    ),
    Scenario(
        "ws-small", "WebSocket: echo of 64 bytes, 64 connections", unit="message", websocket=64, skip=NO_WEBSOCKET
    ),
    Scenario(
        "ws-1m",
        "WebSocket: echo of 1 MiB, 16 connections (both directions count)",
        connections=16,
        unit="MiB",
        units=2.0,
        websocket=MIB,
        skip=NO_WEBSOCKET,
    ),
)
FILES = {"small": 65, "10k": 10 * 1024, "1m": MIB}


def measure(scenario: Scenario, process: Process, port: int, seconds: float) -> Result:
    """One round."""
    if scenario.bulk:
        return _measure_bulk(scenario, process, port)
    if scenario.websocket:
        return _measure_websocket(scenario, process, port, seconds)
    if scenario.grpc:
        return _measure_grpc(process, port, seconds)
    before = process.cpu()
    scheme = "https" if scenario.tls else "http"
    url = f"{scheme}://127.0.0.1:{port}{scenario.path}"
    if scenario.streams:
        load = h2load(url, seconds, scenario.connections, scenario.streams)
    else:
        load = wrk(url, seconds, scenario.connections, scenario.headers)
    spent = process.cpu() - before
    units = max(1.0, load.requests * scenario.units)
    return Result(Cpu(spent.user / units, spent.system / units), load.rate, load.p50, load.p99, load.errors)


def _measure_grpc(process: Process, port: int, seconds: float) -> Result:
    command = [sys.executable, "-m", "benchmarks.grpc", "load", str(port), str(seconds)]
    before = process.cpu()
    done = subprocess.run(
        pinned(command, proxy=False), capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    spent = process.cpu() - before
    load = json.loads(done.stdout)
    units = max(1.0, load["calls"])
    return Result(Cpu(spent.user / units, spent.system / units), load["rate"], load["p50"], load["p99"], 0)


def _measure_websocket(scenario: Scenario, process: Process, port: int, seconds: float) -> Result:
    numbers = map(str, (port, scenario.connections, scenario.websocket, seconds))
    command = [sys.executable, "-m", "benchmarks.websocket", "load", *numbers]
    before = process.cpu()
    done = subprocess.run(
        pinned(command, proxy=False), capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    spent = process.cpu() - before
    load = json.loads(done.stdout)
    units = max(1.0, load["messages"] * scenario.units)
    return Result(Cpu(spent.user / units, spent.system / units), load["rate"], load["p50"], load["p99"], 0)


def _measure_bulk(scenario: Scenario, process: Process, port: int) -> Result:
    """One transfer, however long it takes."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.bulk",
        "sink",
        str(port),
        str(scenario.connections),
        str(scenario.bulk),
    ]
    before, began = process.cpu(), time.monotonic()
    missing = subprocess.run(pinned(command, proxy=False), timeout=300).returncode
    took = time.monotonic() - began
    spent = process.cpu() - before
    units = scenario.connections * scenario.bulk / (1 << 30)
    return Result(Cpu(spent.user / units, spent.system / units), 1 / took, took, took, missing)


def idle_bytes(process: Process, port: int, connections: int = 5000) -> float:
    """Resident bytes for each idle kept connection, after one request on each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections + 500)), hard))
    _ask(port, 200)  # caches, pools and the allocator are warm before the first look
    time.sleep(0.5)
    before = process.resident()
    kept = _ask(port, connections)
    time.sleep(1.0)
    grown = process.resident() - before
    for each in kept:
        each.close()
    return grown / connections


def idle_http2_bytes(process: Process, port: int, connections: int = 5000) -> float:
    """Resident bytes for each idle HTTP/2 connection, after one request on each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections + 500)), hard))
    for each in [_ask_http2(port) for _ in range(200)]:
        each.close()
    time.sleep(0.5)
    before = process.resident()
    kept = [_ask_http2(port) for _ in range(connections)]
    time.sleep(1.0)
    grown = process.resident() - before
    for each in kept:
        each.close()
    return grown / connections


def _ask_http2(port: int) -> socket.socket:
    connection = H2Connection(H2Configuration(header_encoding=None))
    connection.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/small"), (":authority", "bench.example")]
    connection.send_headers(1, fields, end_stream=True)
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(connection.data_to_send())
    while data := client.recv(65536):
        events = connection.receive_data(data)
        client.sendall(connection.data_to_send())
        if any(isinstance(event, StreamEnded) for event in events):
            return client
    raise RuntimeError("the connection was closed")


def idle_websocket_bytes(process: Process, port: int, connections: int = 5000) -> float:
    """Resident bytes for each idle WebSocket connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections + 500)), hard))
    for each in [connect(port) for _ in range(200)]:
        each.close()
    time.sleep(0.5)
    before = process.resident()
    kept = [connect(port) for _ in range(connections)]
    time.sleep(1.0)
    grown = process.resident() - before
    for each in kept:
        each.close()
    return grown / connections


def _ask(port: int, connections: int) -> list[socket.socket]:
    kept = []
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port), 10)
        client.sendall(b"GET /small HTTP/1.1\r\nHost: bench.example\r\n\r\n")
        if not client.recv(65536).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("no 200")
        kept.append(client)
    return kept
