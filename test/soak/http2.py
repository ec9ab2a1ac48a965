"""A real Balance under mixed HTTP/2 load for as long as you like: no stream may be lost, and memory may not grow.

    python -m test.soak.http2 --minutes 30

Rule of this file: it starts, samples and judges. Ends with status 0 if all is well, else 1. See doc/http2.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from test.integration.harness import Balance, balance, wait_for
from test.soak.backends import Moods, MoodyWire, http1
from test.soak.clients import Load

#: What resident memory may grow by, from the second quarter of the time to the last: the allocator's own unrest.
_GROWTH, _GROWTH_BYTES = 1.05, 2 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m test.soak.http2", description=__doc__.split("\n", 1)[0])
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--session", choices=("lean", "h2"), default="lean", help="of clients and backends")
    options.add_argument("--connections", type=int, default=6)
    options.add_argument("--workers", type=int, default=8, help="streams of a connection at a time")
    options.add_argument("--pace", type=float, default=0.05, help="seconds a worker rests between requests, on average")
    options.add_argument("--seed", type=int, default=1)
    return asyncio.run(soak(options.parse_args(arguments)))


async def soak(options: argparse.Namespace) -> int:
    """Run it, and print one summary."""
    loop = asyncio.get_running_loop()
    moods = Moods(options.seed)
    plain = await asyncio.start_server(http1, "127.0.0.1", 0)
    moody = [await loop.create_server(lambda: MoodyWire(moods), "127.0.0.1", 0) for _ in range(2)]
    with balance(_config(_port(plain), [_port(each) for each in moody], options.session)) as proxy:
        load = Load(proxy.port, options.seed, options.pace)
        end = loop.time() + options.minutes * 60
        samples: list[int] = []
        sampler = asyncio.ensure_future(_sample(proxy, samples, options.minutes * 60 / 200))
        await load.run(options.connections, options.workers, end)
        sampler.cancel()
        left = await loop.run_in_executor(None, _left, proxy)
        metrics = await loop.run_in_executor(None, proxy.metrics)
        log = [line for line in proxy.log.splitlines() if "Traceback" in line or "Error:" in line]
        proxy.signal()
        status = await loop.run_in_executor(None, proxy.wait)
    for server in [plain, *moody]:
        server.close()
    return _judge(options, load, moods, samples, left, status, metrics, log)


def _port(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


def _config(plain: int, moody: list[int], session: str) -> dict[str, Any]:
    def backend(name: str, port: int, protocol: str) -> dict[str, Any]:
        return {"name": name, "address": f"127.0.0.1:{port}", "protocol": protocol}

    routes = [
        {"name": "one", "path_prefix": "/1/", "backends": ["plain"]},
        {"name": "two", "path_prefix": "/2/", "backends": ["moody1", "moody2"]},
    ]
    return {
        "backends": [
            backend("plain", plain, "http/1.1"),
            *(backend(f"moody{n}", port, "h2c") for n, port in enumerate(moody, 1)),
        ],
        "http": {"routes": routes, "http2_session": session},
        # A refused stream may meet a GOAWAY when it is sent again; and backends that break on purpose stay in service.
        "retries": {"attempts": 5},
        "health_check": {"enable_passive_checks": False},
    }


async def _sample(proxy: Balance, samples: list[int], every: float) -> None:
    while True:
        await asyncio.sleep(every)
        samples.append(proxy.resident)


def _left(proxy: Balance) -> list[str]:
    """Gauges that should be zero when everybody has left."""

    def busy() -> list[str]:
        names = ("balance_active_requests", "balance_backend_active_requests", "balance_connections_open")
        lines = [line for line in proxy.metrics().splitlines() if line.startswith(names)]
        return [line for line in lines if float(line.rsplit(" ", 1)[1])]

    try:
        wait_for(lambda: not busy(), "requests to end", 10.0)
    except AssertionError:
        return busy()
    return []


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _judge(
    options: argparse.Namespace,
    load: Load,
    moods: Moods,
    samples: list[int],
    left: list[str],
    status: int,
    metrics: str,
    log: list[str],
) -> int:
    quarter = max(1, len(samples) // 4)
    before, after = (statistics.median(part) for part in (samples[quarter : 2 * quarter], samples[-quarter:]))
    grown = after > before * _GROWTH + _GROWTH_BYTES
    stalled = [line for line in metrics.splitlines() if line.startswith("balance_errors_total")]
    total = sum(load.done.values())
    _say(f"{options.minutes:g} minutes, session {options.session}, {load.connections} connections of clients")
    _say(f"requests  {total}: " + ", ".join(f"{name} {count}" for name, count in sorted(load.done.items())))
    _say(f"backends  {moods.goaways} GOAWAY, {moods.refusals} refused, {moods.resets} reset")
    _say(f"errors    {', '.join(line.partition('reason=')[2].strip() for line in stalled) or 'none'}")
    _say(f"memory    {before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB (at most {max(samples) / 2**20:.1f})")
    _say(f"lost      {len(load.lost)}")
    for text in load.lost[:20]:
        _say(f"          {text}")
    faults = [
        *(["streams were lost"] if load.lost or not total else []),
        *(["memory grows"] if grown else []),
        *(f"not at rest: {line}" for line in left),
        *(f"in the log: {line}" for line in log[:5]),
        *([f"ended with status {status}"] if status else []),
    ]
    _say("FAILED    " + "; ".join(faults) if faults else "passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
