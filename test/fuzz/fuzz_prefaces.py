"""Fuzz what a layer-4 connection may begin with: ``python -m test.fuzz.fuzz_prefaces --seconds 10 [--seed N]``.

Rule of this file: what has to hold for PROXY headers and ClientHellos alike: nothing but the error of its kind is raised;
cutting the bytes changes nothing but when the answer comes; an answer once given stays, whatever follows.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from balance.codec.client_hello import parse_client_hello
from balance.codec.proxy_protocol import parse_proxy_header
from balance.errors import BadClientHello, BadProxyHeader
from test.fuzz.mutate import mutate
from test.unit.test_client_hello import BAD as BAD_HELLOS
from test.unit.test_client_hello import REAL
from test.unit.test_proxy_protocol import BAD as BAD_HEADERS
from test.unit.test_proxy_protocol import GOOD

Parser = Callable[[bytes], Any]
_KINDS: list[tuple[str, Parser, type[Exception], list[bytes]]] = [
    ("PROXY header", parse_proxy_header, BadProxyHeader, [data for data in (*GOOD, *BAD_HEADERS) if len(data) < 500]),
    ("ClientHello", parse_client_hello, BadClientHello, [*(data for data, _ in REAL), *BAD_HELLOS]),
]


def read(parse: Parser, error: type[Exception], data: bytes) -> Any:
    try:
        return parse(data)
    except error:
        return "refused"


def check(parse: Parser, error: type[Exception], data: bytes, cuts: list[int]) -> str:
    """What is wrong with how these bytes are read; empty if nothing is."""
    answer = read(parse, error, data)
    for cut in cuts:
        early = read(parse, error, data[:cut])
        if early is not None and early != answer:
            return f"{cut} bytes give {early!r}, all of them {answer!r}"
    if answer is not None and read(parse, error, data + b"\x16\x03PROXY\r\n") != answer:
        return "what follows changes the answer"
    return ""


def one(rng: random.Random) -> tuple[str, bytes, str]:
    kind, parse, error, seeds = rng.choice(_KINDS)
    data = mutate(rng, rng.choice(seeds))
    cuts = [rng.randrange(len(data) + 1) for _ in range(4)]
    try:
        return kind, data, check(parse, error, data, cuts)
    except Exception as failure:  # the point of the exercise
        return kind, data, repr(failure)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fuzz PROXY headers and ClientHellos.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="begin with this one, to see a finding again")
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 40) if options.seed is None else options.seed
    end, count, found = time.monotonic() + options.seconds, 0, 0
    while time.monotonic() < end and found < 20:
        kind, data, problem = one(random.Random(seed + count))
        if problem:
            found += 1
            sys.stdout.write(f"seed {seed + count}: {kind} {data!r}: {problem}\n")
        count += 1
    sys.stdout.write(f"{count} beginnings from seed {seed}: {found} findings\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
