"""The command. See `benchmarks`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.http import (
    FILES,
    SCENARIOS,
    Result,
    Scenario,
    idle_bytes,
    idle_http2_bytes,
    idle_websocket_bytes,
    measure,
)
from benchmarks.peers import PEERS, STREAM_MODULE, Peer, Setting, backend
from benchmarks.processes import PINNED, free_port, running
from benchmarks.report import idle_table, scenario_table

IDLE = 5000
#: Those that keep connections to their backends.
KEPT = ("haproxy", "nginx", "balance")


def main() -> int:
    options = _options()
    peers = [peer for peer in PEERS if peer.name in options.peers]
    for peer in peers:
        if peer.missing:
            print(f"skipped: {peer.name}: {peer.missing}")
    peers = [peer for peer in peers if not peer.missing]
    print("pinned: the proxy has a core of its own" if PINNED else "not pinned: proxy and load share their cores")
    print(f"{options.rounds} rounds of {options.duration:g} s for each proxy, taking turns; medians\n", flush=True)
    collected: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        _make_files(folder)
        _make_certificate(folder)
        ports = (free_port(), free_port())
        h2c = (free_port(), free_port())
        with running(backend(folder, ports, h2c), ports[0], folder / "backend.log", proxy=False):
            for scenario in SCENARIOS:
                if scenario.name in options.scenario:
                    results = _run(scenario, peers, folder, h2c if scenario.http2_backends else ports, options)
                    if not results:
                        continue
                    collected[scenario.name] = {n: [asdict(r) for r in rounds] for n, rounds in results.items()}
                    print(scenario_table(scenario, results), flush=True)
            for name, tcp in (("idle", False), ("tcp-idle", True)):
                if name in options.scenario:
                    idle = {p.name: _idle(p, folder, ports, tcp) for p in _able(peers, tcp) if p.name in KEPT}
                    collected[name] = idle
                    print(idle_table(idle, IDLE, "relayed" if tcp else "kept"), flush=True)
        if "h2-idle" in options.scenario:
            able = [p for p in peers if p.name == "balance"]
            collected["h2-idle"] = idle = {p.name: _idle_http2(p, folder, ports) for p in able}
            print(idle_table(idle, IDLE, "HTTP/2"), flush=True)
        if "ws-idle" in options.scenario:
            collected["ws-idle"] = grown = _idle_websocket(peers, folder)
            print(idle_table(grown, IDLE, "WebSocket"), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(collected, indent=1))
    return 0


def _options() -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS] + ["idle", "tcp-idle", "ws-idle", "h2-idle"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What a request costs, beside the peers.")
    parser.add_argument("--scenario", nargs="+", choices=names, default=names)
    parser.add_argument("--peers", nargs="+", choices=[p.name for p in PEERS], default=[p.name for p in PEERS])
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write all rounds to this file")
    return parser.parse_args()


def _make_files(folder: Path) -> None:
    www = folder / "www"
    www.mkdir()
    for name, size in FILES.items():
        (www / name).write_bytes(b"x" * size)


def _make_certificate(folder: Path) -> None:
    """The same for every proxy; wrk trusts anybody."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "crt"), "-subj", "/CN=bench.example", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "tls.pem").write_bytes((folder / "crt").read_bytes() + (folder / "key").read_bytes())


def _run(
    scenario: Scenario, peers: list[Peer], folder: Path, ports: tuple[int, ...], options: argparse.Namespace
) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {}
    with ExitStack() as stack:
        started = []
        if scenario.bulk:
            ports = (free_port(),)
            source = [sys.executable, "-m", "benchmarks.bulk", "source", str(ports[0])]
            stack.enter_context(running(source, ports[0], folder / "source.log", proxy=False))
        if scenario.websocket:
            ports = (free_port(),)
            server = [sys.executable, "-m", "benchmarks.websocket", "echo", str(ports[0])]
            stack.enter_context(running(server, ports[0], folder / "echo.log", proxy=False))
        if scenario.grpc:
            ports = (free_port(),)
            server = [sys.executable, "-m", "benchmarks.grpc", "server", str(ports[0])]
            stack.enter_context(running(server, ports[0], folder / "grpc.log", proxy=False))
        for peer in _able(peers, scenario.tcp):
            if peer.name in scenario.skip or (peer.name == "balance-messages" and not scenario.websocket):
                continue
            setting = Setting(
                folder,
                free_port(),
                ports,
                scenario.routes,
                scenario.tcp,
                tls=scenario.tls,
                http2=bool(scenario.streams),
                http2_backends=scenario.http2_backends,
            )
            log = folder / f"{peer.name}.log"
            process = stack.enter_context(running(peer.command(setting), setting.port, log))
            started.append((peer, process, setting.port))
            results[peer.name] = []
            measure(scenario, process, setting.port, 1.0)  # warm up
        for turn in range(options.rounds):
            for offset in range(len(started)):
                peer, process, port = started[(turn + offset) % len(started)]
                results[peer.name].append(measure(scenario, process, port, options.duration))
    return results


def _able(peers: list[Peer], tcp: bool) -> list[Peer]:
    """Those that can relay bytes, where that is asked for."""
    return [
        peer
        for peer in peers
        if not tcp or (peer.name != "twisted.web" and (peer.name != "nginx" or STREAM_MODULE.exists()))
    ]


def _idle(peer: Peer, folder: Path, ports: tuple[int, ...], tcp: bool) -> float:
    setting = Setting(folder, free_port(), ports, tcp=tcp)
    with running(peer.command(setting), setting.port, folder / f"{peer.name}.log") as process:
        return idle_bytes(process, setting.port, IDLE)


def _idle_http2(peer: Peer, folder: Path, ports: tuple[int, ...]) -> float:
    setting = Setting(folder, free_port(), ports, http2=True)
    with running(peer.command(setting), setting.port, folder / f"{peer.name}.log") as process:
        return idle_http2_bytes(process, setting.port, IDLE)


def _idle_websocket(peers: list[Peer], folder: Path) -> dict[str, float]:
    grown = {}
    ports = (free_port(),)
    server = [sys.executable, "-m", "benchmarks.websocket", "echo", str(ports[0])]
    with running(server, ports[0], folder / "echo.log", proxy=False):
        for peer in peers:
            if peer.name == "twisted.web":
                continue
            setting = Setting(folder, free_port(), ports)
            with running(peer.command(setting), setting.port, folder / f"{peer.name}.log") as process:
                grown[peer.name] = idle_websocket_bytes(process, setting.port, IDLE)
    return grown


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    sys.exit(main())
