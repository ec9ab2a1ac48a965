"""Several listeners in one file: what each inherits, and what only one mode understands.

Rule of this file: inheriting is by whole keys. A listener that says `timeouts` says all of them; what it does not
say is the top's. So what a listener means can be read off two places at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

from balance.config.document import Document, Path
from balance.config.errors import Problem
from balance.config.http2 import check_protocols
from balance.config.limits import Timeouts
from balance.config.schema import Config, Listener

#: Silence that `mode: tcp` allows where nothing is said, in seconds. (The field's usual limit for tunnels.)
TCP_IDLE: Final = 3600.0
_HTTP_ONLY: Final = ("http", "limits", "retries")
L = TypeVar("L", bound=Listener)
_PER_FILE: Final = ("demo_backends", "access_log", "metrics", "listeners", "watchdog", "statistics")


def inherited(config: Config) -> Config:
    """The configuration with every listener complete."""
    listeners = tuple(_timed(_complete(config, listener)) for listener in config.listeners)
    return _timed(config).model_copy(update={"listeners": listeners})


def _complete(config: Config, listener: L) -> L:
    missing = set(Listener.model_fields) - listener.model_fields_set - {"listen"}
    taken = {key: getattr(config, key) for key in missing if key in config.model_fields_set}
    return listener.model_copy(update=taken)


def _timed(listener: L) -> L:
    """Layer 4 waits longer, unless it is told otherwise."""
    timeouts: Timeouts = listener.timeouts
    if listener.mode != "tcp" or "idle" in timeouts.model_fields_set:
        return listener
    return listener.model_copy(update={"timeouts": timeouts.model_copy(update={"idle": TCP_IDLE})})


def listeners_of(document: Document) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every entry of `listeners` that is a mapping, with its place."""
    entries = document.data.get("listeners")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield ("listeners", index), entry


def check_listeners(document: Document) -> Iterator[Problem]:
    """What no listener can check by itself."""
    data = document.data
    listeners = data.get("listeners")
    if not isinstance(listeners, list) or not listeners:
        yield from _check_mode(document, data, (), data)
        return
    if "listen" in data:
        yield document.problem(("listen",), "with 'listeners', each of them has its own", at_key=True)
    names: dict[str, int] = {}
    places: dict[str, int] = {}
    backends = dict.fromkeys(_names(data), "the top of the file")
    for index, listener in enumerate(listeners):
        path: Path = ("listeners", index)
        if not isinstance(listener, dict):
            continue
        if "listen" not in listener:
            yield document.problem(path, "'listen' is missing: every listener has its own address")
        yield from _once(document, (*path, "name"), listener.get("name"), names, index)
        yield from _once(document, (*path, "listen"), listener.get("listen"), places, index)
        for place, name in enumerate(_names(listener)):
            if name in backends:
                where = backends[name]
                message = f"the name {name!r} is taken already, at {where}; backends at the top serve all listeners"
                yield document.problem((*path, "backends", place, "name"), message)
            else:
                backends[name] = f"listeners[{index}]"
        shared = {key: value for key, value in data.items() if key not in _PER_FILE}
        yield from _check_mode(document, listener, path, {**shared, **listener})


def _once(document: Document, path: Path, value: Any, seen: dict[str, int], index: int) -> Iterator[Problem]:
    if isinstance(value, str) and value:
        if value in seen:
            yield document.problem(path, f"found {value!r}; taken already, by listeners[{seen[value]}]")
        seen.setdefault(value, index)


def _names(data: dict[str, Any]) -> list[str]:
    backends = data.get("backends")
    found = backends if isinstance(backends, list) else []
    return [item["name"] for item in found if isinstance(item, dict) and isinstance(item.get("name"), str)]


def _check_mode(document: Document, own: dict[str, Any], path: Path, whole: dict[str, Any]) -> Iterator[Problem]:
    """Keys without a meaning in the mode are mistakes, not decoration."""
    if whole.get("mode") == "tcp":
        for key in _HTTP_ONLY:
            if key in own:
                yield document.problem((*path, key), "this key has no meaning in mode tcp", at_key=True)
        yield from _check_keys(document, own, path)
        if isinstance(own.get("health_check"), dict) and own["health_check"].get("rule") is not None:
            message = "mode tcp sees no responses: this key has no meaning there"
            yield document.problem((*path, "health_check", "rule"), message, at_key=True)
        backends = own.get("backends")
        for index, backend in enumerate(backends if isinstance(backends, list) else []):
            if isinstance(backend, dict) and "protocol" in backend:
                place: Path = (*path, "backends", index, "protocol")
                yield document.problem(place, "this key has no meaning in mode tcp", at_key=True)
        return
    if own.get("routes"):
        yield document.problem((*path, "routes"), "routes of mode http stand under http.routes", at_key=True)
    backends = own.get("backends")
    yield from check_protocols(document, own, path)
    for index, backend in enumerate(backends if isinstance(backends, list) else []):
        if isinstance(backend, dict) and backend.get("send_proxy") is not None:
            message = "mode http sends no PROXY header, as clients share connections; X-Forwarded-For names the client"
            yield document.problem((*path, "backends", index, "send_proxy"), message, at_key=True)


def _check_keys(document: Document, own: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Layer 4 knows nothing of a client but its address."""
    routes = own.get("routes")
    places = [((*path, "load_balancer"), own.get("load_balancer"))]
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(route, dict):
            places.append(((*path, "routes", index, "load_balancer"), route.get("load_balancer")))
    for place, balancer in places:
        key = balancer.get("hash_key", "source-ip") if isinstance(balancer, dict) else "source-ip"
        if isinstance(key, str) and key != "source-ip":
            yield document.problem((*place, "hash_key"), f"found {key!r}; mode tcp only has source-ip")
