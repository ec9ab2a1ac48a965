"""The places of a file that name plugins.

Rule of this file: it works on the raw values, as `balance.config.checks` does; what has another shape than expected is
left to the schema. What a plugin is, and what options it has, only others know (`Plugins`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from balance.config.document import Document, Path
from balance.config.errors import Problem
from balance.config.section import Plugins

#: Key of a route to kind of plugin; each holds a list.
_OF_ROUTE: Final = (("filters", "filter"), ("match", "matcher"))


def place_plugins(document: Document, data: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Note with every plugin of the mapping at ``path`` where it stands. Changes ``data``."""
    for holder, key, where, kind in _named(data, path):
        given = holder[key]
        if isinstance(given, str):
            holder[key] = {"use": given, "place": document.place(where)}
        elif isinstance(given, dict):
            if "place" in given:
                allowed = "use, options, name, tls" if kind == "discovery" else "use, options"
                yield document.problem((*where, "place"), f"unknown key; allowed here: {allowed}", at_key=True)
            given["place"] = document.place(where)


def check_plugins(document: Document, data: dict[str, Any], path: Path, plugins: Plugins) -> Iterator[Problem]:
    """Whether every plugin of the mapping at ``path`` is there, does what it has to, and understands its options."""
    for holder, key, where, kind in _named(data, path):
        given = holder[key]
        use, options = (given.get("use"), given.get("options")) if isinstance(given, dict) else (None, None)
        if isinstance(use, str) and use and (options is None or isinstance(options, dict)):
            for below, message in plugins.problems(kind, use, options):
                yield document.problem((*where, *below), message, at_key=message.startswith("unknown key"))
    for balancer, where in _balancers(data, path):
        algorithm, options = balancer.get("algorithm"), balancer.get("options")
        if isinstance(algorithm, str) and (":" in algorithm or options is not None):
            if options is not None and not isinstance(options, dict):
                continue
            for below, message in plugins.problems("balancer", algorithm, options):
                below = ("algorithm", *below[1:]) if below[:1] == ("use",) else below
                yield document.problem((*where, *below), message, at_key=message.startswith("unknown key"))


def _named(data: dict[str, Any], path: Path) -> Iterator[tuple[Any, Any, Path, str]]:
    """Every plugin: what holds it and by which key, its place, its kind."""
    yield from _listed(data, "discovery", path, "discovery")
    yield from _listed(data, "statistics", path, "sink")
    health = data.get("health_check")
    if isinstance(health, dict) and health.get("rule") is not None:
        yield health, "rule", (*path, "health_check", "rule"), "health rule"
    http = data.get("http")
    if not isinstance(http, dict):
        return
    here: Path = (*path, "http")
    yield from _listed(http, "filters", here, "filter")
    yield from _websocket(http, here)
    routes = http.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(route, dict):
            for key, kind in _OF_ROUTE:
                yield from _listed(route, key, (*here, "routes", index), kind)
            if route.get("resource") is not None:
                yield route, "resource", (*here, "routes", index, "resource"), "resource"
            yield from _websocket(route, (*here, "routes", index))


def _websocket(section: dict[str, Any], path: Path) -> Iterator[tuple[Any, Any, Path, str]]:
    given = section.get("websocket")
    if isinstance(given, dict):
        yield from _listed(given, "filters", (*path, "websocket"), "websocket_filter")


def _listed(section: dict[str, Any], key: str, path: Path, kind: str) -> Iterator[tuple[Any, Any, Path, str]]:
    entries = section.get(key)
    for index in range(len(entries) if isinstance(entries, list) else 0):
        yield entries, index, (*path, key, index), kind


def _balancers(data: dict[str, Any], path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    http = data.get("http")
    lists: list[tuple[Any, Path]] = [(data.get("routes"), (*path, "routes"))]
    if isinstance(http, dict):
        lists.append((http.get("routes"), (*path, "http", "routes")))
    sections: list[tuple[Any, Path]] = [(data, path)]
    sections += [
        (each, (*where, i)) for given, where in lists if isinstance(given, list) for i, each in enumerate(given)
    ]
    for section, where in sections:
        balancer = section.get("load_balancer") if isinstance(section, dict) else None
        if isinstance(balancer, dict):
            yield balancer, (*where, "load_balancer")
