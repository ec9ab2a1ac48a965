"""What no key can check by itself.

Rule of this file: it works on the raw values, which may be wrong in any way: whatever has another shape than expected
is left to the schema, which complains about it anyway. So all mistakes of a file come out in one go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from balance.config import untyped
from balance.config.document import Document, Path
from balance.config.errors import Problem
from balance.config.plugins import place_plugins
from balance.config.unbuilt import not_built
from balance.config.values import found, suggestion


def prepare(document: Document, data: dict[str, Any] | None = None, path: Path = ()) -> list[Problem]:
    """Refuse what is not built, drop what is switched off, and make demo backends. Changes ``data``.

    :param data: one of the document's listeners, at ``path``; the whole document by default
    """
    data = document.data if data is None else data
    problems = list(_renamed(document, data, path))
    problems += not_built(document, data, path)
    problems += place_plugins(document, data, path)
    _demo_backends(data)
    return problems


def check(document: Document, data: dict[str, Any] | None = None, path: Path = ()) -> Iterator[Problem]:
    """Names: used once, and known where they are referred to.

    :param data: one of the document's listeners, at ``path``; the whole document by default
    """
    own = document.data if data is None else data
    whole = {**document.data, **own}  # a listener has what the top of the file has
    names = [backend.get("name") for backend in untyped.mappings(own.get("backends"))]
    yield from _duplicates(document, (*path, "backends"), names)
    all_names = [backend.get("name") for backend in untyped.mappings(whole.get("backends"))]
    all_names += [each.get("name") for each in untyped.mappings(whole.get("discovery"))]
    known = list(dict.fromkeys(name for name in all_names if isinstance(name, str)))
    for index, each in enumerate(untyped.items(own.get("discovery"))):
        name = untyped.get(each, "name")
        if isinstance(name, str) and all_names.count(name) > 1:
            where: Path = (*path, "discovery", index, "name")
            yield document.problem(where, f"{found(name)}; a backend or another discovery has this name")
    if (
        not whole.get("backends")
        and not whole.get("discovery")
        and not own.get("listeners")
        and not _serves_itself(whole)
    ):
        yield document.problem(path, "there are no backends; give some under 'backends' (or 'demo_backends' for a try)")
    names_found = [each.get("name") for each in untyped.mappings(whole.get("discovery"))]
    of_http = untyped.items(untyped.mapping(own.get("http")).get("routes"))
    yield from _routes(document, of_http, (*path, "http", "routes"), known, names_found)
    yield from _routes(document, untyped.items(own.get("routes")), (*path, "routes"), known, names_found)
    yield from _metrics(document)


def _serves_itself(listener: dict[str, Any]) -> bool:
    """Every route has a resource of its own."""
    routes = untyped.items(untyped.mapping(listener.get("http")).get("routes"))
    return bool(routes) and all(untyped.get(route, "resource") is not None for route in routes)


def _routes(
    document: Document, routes: list[Any], path: Path, known: list[str], found_names: Collection[Any]
) -> Iterator[Problem]:
    yield from _duplicates(document, path, [untyped.get(route, "name") for route in routes])
    for index, route in enumerate(routes):
        if isinstance(route, dict) and "backends" not in route and route.get("resource") is None:
            yield document.problem((*path, index, "backends"), "this key is missing")
        elif untyped.get(route, "resource") is not None and "backends" in route:
            message = "a route has either backends or a resource"
            yield document.problem((*path, index, "resource"), message, at_key=True)
        given: set[str] = set()
        for place, name in enumerate(untyped.items(untyped.get(route, "backends"))):
            here: Path = (*path, index, "backends", place)
            if not isinstance(name, str):
                continue
            if name not in known:
                names = ", ".join(each if each.isprintable() else repr(each) for each in known)
                allowed = f"backends are {names}" if known else "there are no backends"
                yield document.problem(here, f"no backend is called {name!r}; {allowed}{suggestion(name, known)}")
            elif name in given:
                yield document.problem(here, f"backend {name!r} is given twice")
            given.add(name)
            if name in found_names and untyped.get(route, "tls") is not None:
                message = "'tls' of what a discovery finds is said with the discovery"
                yield document.problem((*path, index, "tls"), message, at_key=True)


def _metrics(document: Document) -> Iterator[Problem]:
    metrics = document.data.get("metrics")
    path = metrics.get("path") if isinstance(metrics, dict) else None
    if path in ("/status", "/explain"):
        yield document.problem(("metrics", "path"), f"found {path!r}; that is taken already: take another path")


def _renamed(document: Document, data: dict[str, Any], path: Path) -> Iterator[Problem]:
    if "nodes" in data:
        if "backends" in data:
            message = "this is the older name of 'backends'; give one of them"
            yield document.problem((*path, "nodes"), message, at_key=True)
            del data["nodes"]
        else:
            document.rename("nodes", "backends", path)
            data["backends"] = data.pop("nodes")


def _demo_backends(data: dict[str, Any]) -> None:
    ports = [
        port
        for port in untyped.items(data.get("demo_backends"))
        if isinstance(port, int) and not isinstance(port, bool)
    ]
    if ports and isinstance(data.get("backends", []), list):
        made = [{"name": f"demo-{port}", "address": f"127.0.0.1:{port}"} for port in ports if 1 <= port <= 65535]
        data["backends"] = [*data.get("backends", []), *made]


def _duplicates(document: Document, path: Path, names: list[Any]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            continue
        if name in seen:
            yield document.problem(
                (*path, index, "name"), f"{found(name)}; the name is taken already, by {path[-1]}[{seen[name]}]"
            )
        else:
            seen[name] = index
