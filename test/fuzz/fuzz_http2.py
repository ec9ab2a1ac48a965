"""Fuzz the HTTP/2 sessions: ``python -m test.fuzz.fuzz_http2 --seconds 10 [--seed N]``.

Rule of this file: a seed is a history, of whole frames or of broken bytes, and both sessions have to see the same in it
(`test.unit.test_http2_differential`). It makes more of what the tests make in every run.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from test.unit.http2_traffic import Step, Traffic
from test.unit.test_http2_differential import difference, mutated


def history(seed: int) -> tuple[list[Step], bool]:
    """The steps, and whether the session is the client."""
    rng = random.Random(seed)
    client = rng.random() < 0.4
    steps = Traffic(rng, client=client, hostile=rng.choice((0, 5, 20, 50))).history(rng.choice((10, 40, 150)))
    if rng.random() < 0.3:
        return [step for step in steps if step.what == "request"] + mutated(rng, steps), client
    return steps, client


def one(seed: int) -> str:
    """What is wrong with a history; empty if nothing is."""
    steps, client = history(seed)
    try:
        return difference(steps, client=client)
    except Exception as failure:  # the point of the exercise
        return repr(failure)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fuzz HTTP/2 sessions.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="begin with this one, to see a finding again")
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 40) if options.seed is None else options.seed
    end, count, found = time.monotonic() + options.seconds, 0, 0
    while time.monotonic() < end and found < 20:
        problem = one(seed + count)
        if problem:
            found += 1
            sys.stdout.write(f"seed {seed + count}: {problem[:2000]}\n")
        count += 1
    sys.stdout.write(f"{count} histories from seed {seed}: {found} findings\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
