"""What no key can check by itself, and what is not built yet.

Rule of this file: it works on the raw values, which may be wrong in any way: whatever has another shape than expected
is left to the schema, which complains about it anyway. So all mistakes of a file come out in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from balance.config.document import Document, Path
from balance.config.errors import Problem
from balance.config.values import found, suggestion

_LATER: Final = "is not built yet"
#: Keys of the dialect, and of its extensions, that are known and not built.
_LATER_KEYS: Final = {
    (): ("listeners",),
    ("http",): ("http2_session",),
    ("backends", 0): ("tls", "protocol", "send_proxy"),
    ("http", "routes", 0): ("websocket", "tls", "sni", "alpn", "filters", "retries", "timeouts"),
}
_ACTIVE_PROBES: Final = ("interval", "timeout", "unhealthy_threshold", "healthy_threshold", "type", "path")


def prepare(document: Document) -> list[Problem]:
    """Refuse what is not built, drop what is switched off, and make demo backends. Changes ``document.data``."""
    problems = list(_renamed(document))
    problems += _not_built(document)
    _demo_backends(document.data)
    return problems


def check(document: Document) -> Iterator[Problem]:
    """Names: used once, and known where they are referred to."""
    data = document.data
    backends = _items(data.get("backends"))
    names = [backend.get("name") for backend in backends]
    yield from _duplicates(document, ("backends",), names)
    known = list(dict.fromkeys(name for name in names if isinstance(name, str)))
    if not data.get("backends"):
        yield document.problem((), "there are no backends; give some under 'backends' (or 'demo_backends' for a try)")
    routes = _list(_mapping(data.get("http")).get("routes"))
    yield from _duplicates(document, ("http", "routes"), [_get(route, "name") for route in routes])
    for index, route in enumerate(routes):
        for place, name in enumerate(_list(_get(route, "backends"))):
            path: Path = ("http", "routes", index, "backends", place)
            if isinstance(name, str) and name not in known:
                allowed = f"backends are {', '.join(known)}" if known else "there are no backends"
                yield document.problem(path, f"no backend is called {name!r}; {allowed}{suggestion(name, known)}")
            elif name in _list(_get(route, "backends"))[:place]:
                yield document.problem(path, f"backend {name!r} is given twice")
    metrics = data.get("metrics")
    if isinstance(metrics, dict) and metrics.get("path") == "/status":
        yield document.problem(("metrics", "path"), "found '/status'; that is where JSON is served: take another path")


def notices(document: Document) -> tuple[str, ...]:
    """What was asked for expressly, loads, and has no effect yet."""
    asked = _mapping(document.data.get("http"))
    found_notices = []
    if asked.get("enable_http2") is True:
        found_notices.append(f"http.enable_http2: HTTP/2 {_LATER}; listeners and backends speak HTTP/1.1")
    if asked.get("enable_websocket") is True:
        found_notices.append(f"http.enable_websocket: WebSocket {_LATER}; upgrades are not passed on")
    return tuple(found_notices)


def _renamed(document: Document) -> Iterator[Problem]:
    if "nodes" in document.data:
        if "backends" in document.data:
            yield document.problem(("nodes",), "this is the older name of 'backends'; give one of them", at_key=True)
            del document.data["nodes"]
        else:
            document.rename("nodes", "backends")


def _not_built(document: Document) -> Iterator[Problem]:
    data = document.data
    if data.get("mode") == "tcp":
        yield document.problem(("mode",), f"mode tcp {_LATER}")
        data["mode"] = "http"
    tls = data.get("tls")
    if isinstance(tls, dict):
        if tls.get("enabled") is True:
            yield document.problem(("tls",), f"TLS {_LATER}", at_key=True)
        del data["tls"]
    yield from _security(document)
    yield from _probes(document)
    yield from _later_keys(document)


def _security(document: Document) -> Iterator[Problem]:
    security = document.data.get("security")
    if not isinstance(security, dict):
        return
    rate_limit = security.pop("rate_limit", None)
    if isinstance(rate_limit, dict) and rate_limit.get("enabled") is True:
        yield document.problem(("security", "rate_limit"), f"rate limiting {_LATER}", at_key=True)
    blocklist = security.pop("ip_blocklist", None)
    if isinstance(blocklist, dict) and (blocklist.get("blocked_ips") or blocklist.get("blocked_cidrs")):
        yield document.problem(("security", "ip_blocklist"), f"the IP blocklist {_LATER}", at_key=True)
    for key in security:
        yield document.problem(("security", key), "unknown key; allowed here: rate_limit, ip_blocklist", at_key=True)
    del document.data["security"]


def _probes(document: Document) -> Iterator[Problem]:
    health = document.data.get("health_check")
    if not isinstance(health, dict):
        return
    if health.pop("enabled", False) is True:
        message = "active probes are not built yet; passive checks are (enable_passive_checks)"
        yield document.problem(("health_check", "enabled"), message)
    for key in _ACTIVE_PROBES:  # of use to active probes only, which are off
        health.pop(key, None)


def _later_keys(document: Document) -> Iterator[Problem]:
    data = document.data
    http = _mapping(data.get("http"))
    places: list[tuple[Path, Any, tuple[str, ...]]] = [
        ((), data, _LATER_KEYS[()]),
        (("http",), http, _LATER_KEYS["http",]),
    ]
    for index, backend in enumerate(_list(data.get("backends"))):
        places.append((("backends", index), backend, _LATER_KEYS["backends", 0]))
    for index, route in enumerate(_list(http.get("routes"))):
        places.append((("http", "routes", index), route, _LATER_KEYS["http", "routes", 0]))
    for path, section, keys in places:
        for key in keys:
            if isinstance(section, dict) and key in section:
                yield document.problem((*path, key), f"this key {_LATER}", at_key=True)
                del section[key]


def _demo_backends(data: dict[str, Any]) -> None:
    ports = [port for port in _list(data.get("demo_backends")) if isinstance(port, int) and not isinstance(port, bool)]
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


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
