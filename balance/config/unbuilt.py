"""What the dialect knows and Balance has not built yet.

Rule of this file: what is asked for and not built is refused. What is switched off is dropped, but only if it is
written well: nobody may believe to be protected by a block with a slip in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from balance.config import untyped
from balance.config.document import Document, Path
from balance.config.errors import Problem
from balance.config.values import duration, found, suggestion

LATER: Final = "is not built yet"

# Kinds of values: one of the names below, {key: kind} for a mapping, [kind] for a list.
_BOOL: Final = "true or false"
_TEXT: Final = "text (put it in quotes)"
_WHOLE: Final = "a whole number"
_NUMBER: Final = "a number"
_SCALAR: Final = "text or a number"
_DURATION: Final = "text, a duration such as 10s"
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    _BOOL: (bool,),
    _TEXT: (str,),
    _DURATION: (str,),
    _WHOLE: (int,),
    _NUMBER: (int, float),
    _SCALAR: (str, int, float),
}
_RATE_LIMIT: Final[Mapping[str, Any]] = {
    "enabled": _BOOL,
    "type": _TEXT,
    "requests_per_second": _NUMBER,
    "burst_size": _NUMBER,
    "window_size": _SCALAR,
    "max_requests": _NUMBER,
}
_BLOCKED: Final = ("blocked_ips", "blocked_cidrs")
_SECURITY: Final[Mapping[str, Any]] = {
    "rate_limit": _RATE_LIMIT,
    "ip_blocklist": {key: [_TEXT] for key in _BLOCKED},
}
_PROBES: Final[Mapping[str, Any]] = {
    "enabled": _BOOL,
    "interval": _DURATION,
    "timeout": _DURATION,
    "unhealthy_threshold": _WHOLE,
    "healthy_threshold": _WHOLE,
    "type": _TEXT,
    "path": _TEXT,
}
#: Single keys, refused whatever they say.
_ROUTE: Final = ("retries", "timeouts")


def not_built(document: Document, data: dict[str, Any], path: Path) -> Iterator[Problem]:
    """What is asked for, or written badly, in the mapping at ``path``. Takes all of it out of ``data``."""
    security: Path = (*path, "security")
    if "security" in data:
        yield from _slips(document, security, data["security"], _SECURITY)
    limit, blocked = (untyped.get(data.get("security"), key) for key in _SECURITY)
    if untyped.get(limit, "enabled") is True:
        yield document.problem((*security, "rate_limit"), f"rate limiting {LATER}", at_key=True)
    if any(untyped.get(blocked, key) for key in _BLOCKED):
        yield document.problem((*security, "ip_blocklist"), f"the IP blocklist {LATER}", at_key=True)
    health = data.get("health_check")
    if isinstance(health, dict):
        probes = {key: health.pop(key) for key in _PROBES if key in health}
        place: Path = (*path, "health_check")
        yield from _slips(document, place, probes, _PROBES)
        if probes.get("enabled") is True:
            yield document.problem((*place, "enabled"), f"an active health check {LATER}")
    data.pop("security", None)
    yield from _single_keys(document, data, path)


def _slips(document: Document, path: Path, value: Any, kind: Any) -> Iterator[Problem]:
    """What is not written as it must be."""
    if isinstance(kind, Mapping):
        if not isinstance(value, dict):
            yield document.problem(path, f"{found(value)}; needed: a mapping")
            return
        for key, each in value.items():
            if key not in kind:
                message = f"unknown key; allowed here: {', '.join(kind)}{suggestion(key, list(kind))}"
                yield document.problem((*path, key), message, at_key=True)
            elif each is not None or key not in _BLOCKED:
                yield from _slips(document, (*path, key), each, kind[key])
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield document.problem(path, f"{found(value)}; needed: a list")
            return
        for index, each in enumerate(value):
            yield from _slips(document, (*path, index), each, kind[0])
    elif type(value) not in _TYPES[kind]:
        yield document.problem(path, f"{found(value)}; needed: {kind}")
    elif kind == _DURATION:
        try:
            duration(value)
        except ValueError as error:
            yield document.problem(path, str(error))


def _single_keys(document: Document, data: dict[str, Any], path: Path) -> Iterator[Problem]:
    for index, route in untyped.numbered(untyped.get(data.get("http"), "routes")):
        for key in _ROUTE:
            if key in route:
                yield document.problem((*path, "http", "routes", index, key), f"this key {LATER}", at_key=True)
                del route[key]
