"""Reports for people: plain tables, aligned.

Rule of this file: one table for each question; what did not happen is one line or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Report = dict[str, Any]


def tables(report: Report) -> str:
    """A report."""
    return "\n".join(_lines(report)).rstrip()


def comparison(names: tuple[str, str], before: Report, after: Report, changes: dict[str, Any]) -> str:
    """Two reports side by side, and what changes from one to the other."""
    lines = [f"A {names[0]}", f"B {names[1]}", ""]
    lines += table(["", "A", "B"], _figures(before, after))
    lines += ["", "requests that go elsewhere"]
    lines += table(
        ["class", "requests", "other route", "other backend"],
        [
            [
                each["name"],
                str(each["requests"]),
                _part(each["other_route"], each["requests"]),
                _part(each["other_backend"], each["requests"]),
            ]
            for each in changes["classes"]
        ],
    )
    moves = [(each["name"], move) for each in changes["classes"] for move in each["moves"]]
    if moves:
        lines += ["", "from one route to another"]
        rows = [[name, move["from"], move["to"], str(move["requests"])] for name, move in moves]
        lines += table(["class", "A", "B", "requests"], rows)
    if changes["keys"]:
        lines += ["", "hash keys with another home"]
        rows = [[each["route"], str(each["keys"]), _part(each["moved"], each["keys"])] for each in changes["keys"]]
        lines += table(["route", "keys", "moved"], rows)
    lines += ["", "attempts by backend"]
    lines += table(["backend", "A", "B"], _by_backend(before, after))
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns under each other: text to the left, numbers to the right."""
    cells = [list(head), *(list(row) for row in rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:]) and len(column) > 1 for column in columns]
    lines = []
    for row in cells:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return lines


def _is_number(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell == "-"


def _lines(report: Report) -> Iterator[str]:
    seconds = report["seconds"]
    yield f"{report['requests']} requests in {seconds:.1f} s of simulated time"
    answers = report["answers"]
    yield "  answers: " + ", ".join(f"{name} {number}" for name, number in answers["status"].items())
    if answers["errors"]:
        yield "  errors: " + ", ".join(f"{name} {number}" for name, number in answers["errors"].items())
    if answers["unfinished"]:
        yield f"  never answered: {answers['unfinished']}"
    yield ""
    yield "classes of requests"
    yield from table(["class", "requests", "route", "errors", "p50", "p90", "p99", "max"], _classes(report))
    yield ""
    yield "where they went (busiest backend / mean)"
    yield from table(["route", "requests", "max/mean", "keys", "backends"], _pools(report))
    yield ""
    yield "backends"
    yield from table(
        ["backend", "attempts", "share", "failures", "ejections", "at a time", "busy", "connections"], _backends(report)
    )
    yield ""
    yield from _remarks(report)


def _classes(report: Report) -> Iterator[list[str]]:
    for each in report["classes"]:
        routes = ", ".join(
            name if len(each["routes"]) == 1 else f"{name} {number}" for name, number in each["routes"].items()
        )
        errors = str(sum(each["errors"].values()))
        yield [each["name"], str(each["requests"]), routes or "-", errors, *_times(each["latency"])]


def _times(latency: dict[str, float]) -> list[str]:
    return [duration(latency[name]) if latency else "-" for name in ("p50", "p90", "p99", "max")]


def _pools(report: Report) -> Iterator[list[str]]:
    for pool in report["pools"]:
        spread = "-" if pool["max_over_mean"] is None else f"{pool['max_over_mean']:.2f}"
        backends = ", ".join(f"{name} {number}" for name, number in pool["backends"].items())
        yield [pool["route"], str(pool["requests"]), spread, str(pool["keys"] or "-"), backends]


def _backends(report: Report) -> Iterator[list[str]]:
    for each in report["backends"]:
        counts = [each[name] for name in ("failures", "ejections", "peak")]
        share = f"{each['share']:.1%}"
        busy = f"{each['busy']:.1f}"
        yield [each["name"], str(each["attempts"]), share, *map(str, counts), busy, str(each["connections"])]


def _remarks(report: Report) -> Iterator[str]:
    attempts, queue = report["attempts"], report["queue"]
    if attempts["requests"]:
        each = f"{attempts['amplification']:.3f} each"
        yield f"{attempts['attempts']} attempts for {attempts['requests']} requests ({each})"
        yield f"  tried again {attempts['repeated']}, refused by the retry budget {attempts['refused_by_budget']}"
    if queue["waited"] or queue["refused_full"]:
        wait = ", ".join(f"{name} {duration(value)}" for name, value in queue["wait"].items())
        waited = f"{queue['waited']} waited in a queue ({wait})" if wait else "nobody waited in a queue"
        yield f"{waited}; {queue['refused_full']} found it full, {queue['timed_out']} waited too long"
    if report["health"]:
        yield ""
        yield "passive health"
        rows = [[f"{each['at']:.2f}s", each["backend"], each["state"]] for each in report["health"]]
        yield from table(["at", "backend", "is now"], rows)


def _figures(before: Report, after: Report) -> Iterator[list[str]]:
    def row(name: str, value: Any) -> list[str]:
        return [name, value(before), value(after)]

    yield row("requests", lambda report: str(report["requests"]))
    yield row("errors", lambda report: str(sum(report["answers"]["errors"].values())))
    for name in ("p50", "p90", "p99", "max"):
        yield row(name, lambda report, name=name: duration(report["latency"][name]) if report["latency"] else "-")
    yield row("attempts a request", lambda report: f"{report['attempts']['amplification'] or 0:.3f}")
    yield row("waited in a queue", lambda report: str(report["queue"]["waited"]))
    yield row("found the queue full", lambda report: str(report["queue"]["refused_full"]))
    yield row("ejections", lambda report: str(sum(each["ejections"] for each in report["backends"])))


def _by_backend(before: Report, after: Report) -> Iterator[list[str]]:
    old, new = ({each["name"]: each["attempts"] for each in report["backends"]} for report in (before, after))
    for name in dict.fromkeys([*old, *new]):
        yield [name, str(old.get(name, "-")), str(new.get(name, "-"))]


def _part(number: int, total: int) -> str:
    return f"{number} ({number / total:.1%})" if total else "0"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g}ms"
    return f"{seconds:.3g}s"
