"""Two configurations under the same requests: what changes.

Rule of this file: request by request, by names: a route or backend is the same one if it is called the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from balance.simulate.record import NONE, Record


def compare(before: Record, after: Record) -> dict[str, Any]:
    """
    :param before: and ``after``: of the same traffic
    """
    size = min(before.size, after.size)
    columns = (before.kind, before.route, before.backend, after.route, after.backend)
    ways = Counter(zip(*(column[:size] for column in columns), strict=True))
    classes = []
    for kind, name in enumerate(before.kinds):
        routes: Counter[tuple[str, str]] = Counter()
        total = moved_route = moved_backend = 0
        for (of, route, backend, other_route, other_backend), number in ways.items():
            if of != kind:
                continue
            total += number
            pair = (_name(before.routes, route), _name(after.routes, other_route))
            if pair[0] != pair[1]:
                moved_route += number
                routes[pair] += number
            if _name(before.backends, backend) != _name(after.backends, other_backend):
                moved_backend += number
        row: dict[str, Any] = {"name": name, "requests": total, "other_route": moved_route}
        row["other_backend"] = moved_backend
        row["moves"] = [{"from": a, "to": b, "requests": number} for (a, b), number in routes.most_common()]
        classes.append(row)
    return {"classes": classes, "keys": _keys(before, after)}


def _name(names: list[str], index: int) -> str:
    return names[index] if index != NONE else "(none)"


def _keys(before: Record, after: Record) -> list[dict[str, Any]]:
    """Of routes that hash: how many keys have another home."""
    found = []
    for number, route in enumerate(before.routes):
        if route not in after.routes:
            continue
        old, new = before.keys[number], after.keys[after.routes.index(route)]
        common = old.keys() & new.keys()
        if not common:
            continue
        moved = sum(before.backends[old[key]] != after.backends[new[key]] for key in common)
        found.append({"route": route, "keys": len(common), "moved": moved, "share": round(moved / len(common), 4)})
    return found
