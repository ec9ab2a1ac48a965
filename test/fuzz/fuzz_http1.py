"""Fuzz the HTTP/1 codec for a while: ``python -m test.fuzz.fuzz_http1 --seconds 10 [--seed N]``.

Rule of this file: it only drives. What is mutated comes from the hostile tables, what has to hold from
`test.unit.http1_invariants`: nothing but `ExchangeError` is raised, a message means the same however it is cut, h11
reads what Balance accepts as Balance does, and what Balance sends on is read as what it received.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from test.fuzz.mutate import mutate, pieces, seeds
from test.unit.http1_cases import NEXT, REQUESTS, RESPONSES
from test.unit.http1_invariants import check_request, check_response

_REQUESTS = seeds([case.raw for case in REQUESTS])
_RESPONSES = [(case.raw, case.to) for case in RESPONSES if len(case.raw) <= 600]


def one(rng: random.Random) -> tuple[str, bytes, str]:
    """One random message: its kind, its bytes, and what is wrong with how it was read."""
    if rng.random() < 0.65:
        kind, method = "request", b""
        raw = mutate(rng, rng.choice(_REQUESTS)) + NEXT
    else:
        raw, method = rng.choice(_RESPONSES)
        kind, raw = f"response to {method.decode()}", mutate(rng, raw)
    cut = pieces(rng, raw)
    try:
        return kind, raw, check_response(raw, method, cut) if method else check_request(raw, cut)
    except Exception as error:  # the point of the exercise
        return kind, raw, repr(error)


def run(seconds: float, seed: int) -> tuple[int, list[str]]:
    """Messages tried, and a line for each finding. Every message has a seed of its own, which the line gives."""
    end = time.monotonic() + seconds
    findings: list[str] = []
    count = 0
    while time.monotonic() < end and len(findings) < 20:
        own_seed = seed + count
        count += 1
        kind, raw, problem = one(random.Random(own_seed))
        if problem:
            findings.append(f"seed {own_seed}: {kind} {raw!r}: {problem}")
    return count, findings


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fuzz the HTTP/1 codec.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="begin with this one, to see a finding again")
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 40) if options.seed is None else options.seed
    count, findings = run(options.seconds, seed)
    for finding in findings:
        sys.stdout.write(finding + "\n")
    sys.stdout.write(f"{count} messages from seed {seed}: {len(findings)} findings\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
