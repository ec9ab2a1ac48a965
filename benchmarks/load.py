"""wrk and h2load: running them, and reading what they print."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.processes import pinned

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw. Times in seconds."""

    requests: int
    rate: float
    p50: float
    p99: float
    errors: int


def parse_wrk(output: str) -> Load:
    """Read wrk's report (with ``--latency``)."""

    def number(pattern: str) -> float:
        match = re.search(pattern, output)
        return float(match[1]) if match else 0.0

    def seconds(percentile: str) -> float:
        match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s|m)", output)
        return float(match[1]) * _UNITS[match[2]] if match else 0.0

    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = int(number(r"Non-2xx or 3xx responses: (\d+)"))
    errors += sum(map(int, sockets.groups())) if sockets else 0
    return Load(
        int(number(r"(\d+) requests in")), number(r"Requests/sec:\s+([\d.]+)"), seconds("50"), seconds("99"), errors
    )


def parse_h2load(output: str) -> Load:
    """Read h2load's report."""
    done = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", output)
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", output)
    mean = re.search(r"time for request:\s+\S+\s+([\d.]+)(us|ms|s)\s+([\d.]+)(us|ms|s)", output)
    if done is None or rate is None:
        raise RuntimeError(f"h2load said:\n{output[-2000:]}")
    slowest, usual = (
        (float(mean[1]) * _UNITS[mean[2]], float(mean[3]) * _UNITS[mean[4]]) if mean is not None else (0.0, 0.0)
    )
    return Load(int(done[2]), float(rate[1]), usual, slowest, int(done[1]) - int(done[2]))


def header_savings(output: str) -> float:
    """Share of the header bytes that HPACK saved, out of h2load's report."""
    match = re.search(r"\(space savings ([\d.]+)%\)", output)
    return float(match[1]) if match else 0.0


def h2load(url: str, seconds: float, connections: int, streams: int) -> Load:
    """HTTP/2: ``p50`` is h2load's mean and ``p99`` its maximum, as it tells no percentiles."""
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds:g}"]
    done = subprocess.run(
        pinned([*command, url], proxy=False), capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    return parse_h2load(done.stdout)


def wrk(url: str, seconds: float, connections: int, headers: Sequence[str] = ()) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    for header in headers:
        command += ["-H", header]
    done = subprocess.run(
        pinned([*command, url], proxy=False), capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    return parse_wrk(done.stdout)
