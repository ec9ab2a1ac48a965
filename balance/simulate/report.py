"""What a run comes to.

Rule of this file: a report is plain data that goes to JSON as it is; times are in seconds, shares from 0 to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from balance.simulate.record import NONE, Record

#: Latencies that are told.
PERCENTILES = (50, 90, 99)


def report(record: Record) -> dict[str, Any]:
    """Sum up a run."""
    # Few are the ways in which requests go, however many requests there are.
    ways = Counter(
        zip(*(_used(record, name) for name in ("kind", "route", "backend", "status", "reason")), strict=True)
    )
    return {
        "requests": record.size,
        "seconds": round(record.ended_at, 6),
        "answers": _answers(record, ways),
        "latency": latencies(_good(record)),
        "classes": _classes(record, ways),
        "pools": _pools(record, ways),
        "backends": _backends(record),
        "attempts": _attempts(record),
        "queue": _queue(record),
        "health": [{"at": round(at, 3), "backend": name, "state": state} for at, name, state in record.health],
    }


def _used(record: Record, name: str) -> Any:
    return getattr(record, name)[: record.size]


def _good(record: Record) -> list[float]:
    """Latencies of what backends answered."""
    reasons, seconds = _used(record, "reason"), _used(record, "latency")
    return [latency for latency, reason in zip(seconds, reasons, strict=True) if not reason]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles; empty where there is nothing."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    found = {f"p{percent}": ordered[min(last, len(ordered) * percent // 100)] for percent in PERCENTILES}
    return {name: round(value, 6) for name, value in {**found, "max": ordered[-1]}.items()}


Ways = Counter[tuple[int, int, int, int, int]]


def _answers(record: Record, ways: Ways) -> dict[str, Any]:
    status: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for (_, _, _, code, reason), number in ways.items():
        status[f"{code // 100}xx" if code else "none"] += number
        if reason:
            errors[record.reasons[reason]] += number
    return {"status": dict(sorted(status.items())), "errors": dict(errors.most_common()), "unfinished": record.lost}


def _classes(record: Record, ways: Ways) -> list[dict[str, Any]]:
    times: list[list[float]] = [[] for _ in record.kinds]
    rows = zip(_used(record, "kind"), _used(record, "reason"), _used(record, "latency"), strict=True)
    for kind, reason, latency in rows:
        if not reason:
            times[kind].append(latency)
    classes = []
    for kind, name in enumerate(record.kinds):
        routes: Counter[str] = Counter()
        backends: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        for (of, route, backend, _, reason), number in ways.items():
            if of == kind:
                routes[record.routes[route] if route != NONE else "(none)"] += number
                if backend != NONE:
                    backends[record.backends[backend]] += number
                if reason:
                    errors[record.reasons[reason]] += number
        row: dict[str, Any] = {"name": name, "requests": sum(routes.values()), "routes": dict(routes.most_common())}
        row["backends"] = {each: backends[each] for each in record.backends if backends[each]}
        classes.append({**row, "errors": dict(errors.most_common()), "latency": latencies(times[kind])})
    return classes


def _pools(record: Record, ways: Ways) -> list[dict[str, Any]]:
    """How evenly each route's requests were spread over its backends."""
    pools = []
    for number, route in enumerate(record.routes):
        members = dict.fromkeys(record.pools[route], 0)
        for (_, of, backend, _, _), count in ways.items():
            if of == number and backend != NONE:
                members[record.backends[backend]] += count
        total = sum(members.values())
        row = {"route": route, "requests": total, "backends": members}
        row["max_over_mean"] = round(max(members.values()) * len(members) / total, 3) if total else None
        row["keys"] = len(record.keys[number]) or None
        pools.append(row)
    return pools


def _backends(record: Record) -> list[dict[str, Any]]:
    ejections = Counter(name for _, name, state in record.health if state == "ejected")
    total = sum(record.leases.values()) or 1
    return [
        {
            "name": name,
            "attempts": record.leases[name],
            "share": round(record.leases[name] / total, 4),
            "failures": record.failures[name],
            "ejections": ejections[name],
            "peak": record.peak[name],
            "busy": round(record.busy[name] / record.ended_at, 3) if record.ended_at else 0.0,
            "connections": record.opened[name],
        }
        for name in record.backends
    ]


def _attempts(record: Record) -> dict[str, Any]:
    attempts = sum(record.leases.values())
    reached = sum(1 for number in _used(record, "attempts") if number)
    return {
        "requests": reached,
        "attempts": attempts,
        "amplification": round(attempts / reached, 4) if reached else None,
        "repeated": record.retries,
        "refused_by_budget": record.retries_refused,
    }


def _queue(record: Record) -> dict[str, Any]:
    waited = [seconds for seconds, queued in zip(record.waited, record.queued, strict=True) if queued]
    reasons = Counter(_used(record, "reason"))
    named = {record.reasons[reason]: number for reason, number in reasons.items()}
    return {
        "waited": len(waited),
        "wait": latencies(waited),
        "refused_full": named.get("queue_full", 0),
        "timed_out": named.get("queue_timeout", 0),
    }
