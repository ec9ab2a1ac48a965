"""The command. See `test.autobahn`."""

from __future__ import annotations

import argparse
import fnmatch
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from test.autobahn.cases import available, load
from test.autobahn.client import Outcome
from test.integration.harness import accepts, balance, free_port, wait_for

#: Those that wait for seconds, or move megabytes a thousand times.
SLOW = ("9.[1256].[3-6]", "9.[34].*", "9.[78].*", "12.*", "13.*")
#: Of which these are taken all the same, with fewer messages.
SAMPLES = ("9.3.5", "9.4.5", "9.7.2", "9.8.3", "12.*.1", "12.*.6", "12.*.12", "13.*.3")
SAMPLE_SIZE = 30

MODES: dict[str, dict[str, Any]] = {
    "tunnel": {},
    "messages": {
        "messages": True,
        "max_message_size": 64 << 20,
        "compression": {"client": True, "backend": True},
    },
}


def chosen(quick: bool, patterns: list[str], messages: int = 0) -> list[tuple[str, type[Any]]]:
    """The cases to run.

    :param messages: where a case sends a thousand, send so many; 0: leave it as it is
    """
    cases = []
    for name, case in load().items():
        if patterns and not any(fnmatch.fnmatchcase(name, each) for each in patterns):
            continue
        count = messages
        if quick and any(fnmatch.fnmatchcase(name, each) for each in SLOW):
            if not any(fnmatch.fnmatchcase(name, each) for each in SAMPLES):
                continue
            count = messages or SAMPLE_SIZE
        if count and hasattr(case, "COUNT"):
            case = type(case.__name__, (case,), {"COUNT": count})
        cases.append((name, case))
    return cases


@contextmanager
def targets(modes: list[str]) -> Iterator[dict[str, int]]:
    """Ports: of an echo server, and of a Balance in front of it for each mode."""
    port = free_port()
    with ExitStack() as stack:
        server = subprocess.Popen([sys.executable, "-m", "test.autobahn.echo", str(port)], stderr=subprocess.DEVNULL)
        stack.callback(server.wait)
        stack.callback(server.kill)
        wait_for(lambda: accepts(port), "the echo server")
        ports = {"direct": port}
        for mode in modes:
            backend = {"name": "echo", "address": f"127.0.0.1:{port}"}
            config = {"backends": [backend], "http": {"websocket": MODES[mode]}}
            ports[mode] = stack.enter_context(balance(config)).port
        yield ports


def worse(direct: dict[str, Outcome], through: dict[str, Outcome]) -> list[str]:
    """The cases that pass directly, and do not through Balance."""
    return [
        name
        for name, outcome in direct.items()
        if (outcome.good and not through[name].good) or (outcome.good_close and not through[name].good_close)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m test.autobahn", description="Autobahn's test suite.")
    parser.add_argument("cases", nargs="*", help="numbers, such as 7.* (default: all)")
    parser.add_argument("--quick", action="store_true", help="leave out, or cut short, what takes long")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--messages", type=int, default=0, help="send so many where a case sends a thousand")
    parser.add_argument("--verbose", action="store_true", help="show every case")
    options = parser.parse_args()
    if not available():
        print("autobahntestsuite is not installed: pip install autobahntestsuite")
        return 2
    cases = chosen(options.quick, options.cases, options.messages)
    failed = 0
    with targets(options.modes) as ports:
        outcomes = {}
        for name, port in ports.items():
            began = time.monotonic()
            outcomes[name] = run_in_reactor(port, cases)
            good = sum(outcome.good for outcome in outcomes[name].values())
            clean = sum(outcome.good_close for outcome in outcomes[name].values())
            took = time.monotonic() - began
            print(f"{name:9}{good} of {len(cases)} cases pass, {clean} closed properly; {took:.0f} s", flush=True)
        for name in options.modes:
            for case in worse(outcomes["direct"], outcomes[name]):
                failed += 1
                print(f"{name} {case}: directly {outcomes['direct'][case]}, through Balance {outcomes[name][case]}")
        if options.verbose:
            for case, _ in cases:
                print(case, *(f"{name}: {each[case].behavior}/{each[case].close}" for name, each in outcomes.items()))
    return 1 if failed else 0


def run_in_reactor(port: int, cases: list[tuple[str, type[Any]]]) -> dict[str, Outcome]:
    """In a process of its own, as a reactor runs once; the outcome comes back through a pipe."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(port, cases, theirs))
    process.start()
    theirs.close()
    outcomes: dict[str, Outcome] = ours.recv()
    process.join()
    return outcomes


def _run(port: int, cases: list[tuple[str, type[Any]]], pipe: Any) -> None:
    from twisted.internet import reactor

    from test.autobahn.client import run

    running: Any = reactor

    def report(result: Any) -> None:
        pipe.send(result)
        running.stop()

    running.callWhenRunning(lambda: run(running, port, cases).addBoth(report))
    running.run()


if __name__ == "__main__":
    sys.exit(main())
