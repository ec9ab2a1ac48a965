"""doc/configuration.md, made from the schema: ``python -m balance.config.reference``.

Rule of this file: what the document says of a key is what the schema says of it. Only the words around the tables are
here.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterator, Mapping

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from balance import errors
from balance.config import values
from balance.config.messages import unwrapped
from balance.config.schema import Config
from balance.model import Address

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m balance.config.reference`; a test compares. Change balance/config instead. -->

One YAML file says everything. Look at it before it runs:

    balance check --config etc/balance.yaml

(or `twistd balance --config etc/balance.yaml --check`) prints listeners, routes in the order they are tried, and pools, and
exits with 0; or it reports every mistake, each with its place, and exits with 1. Nothing is bound. A start with a file that
has mistakes ends the same way.

    etc/balance.yaml:12:14: load_balancer.algorithm: found 'round-robbin'; allowed: round-robin, ...; did you mean 'round-robin'?

Files in [`etc/examples`](../etc/examples) show one feature each.

## How values are written

| kind | written | meaning |
|---|---|---|
| duration | `30s`, `500ms`, `1m30s`, `1h` | A unit is needed. `0s` is no limit. |
| size | `65536`, `64KiB`, `10MB` | Bytes. |
| address | `host:port`, `[::1]:port`, `unix:/path` | In quotes, because of the colon. |
| network | `10.0.0.0/8`, `2001:db8::1` | A network, or one address. |

Unknown keys, keys given twice and names used twice are mistakes. Configurations of the original Balance, written in Go,
load unchanged; keys of it that are not built yet (active health checks, `security`) are refused, unless
they are switched off.

## Which route is taken

A request is compared with the routes of its host in this order: higher `priority` first; then an exact `host` before a
wildcard before none, longer names first; then longer `path_prefix`, more `headers`, given `methods`; then the order of the
file. `balance check` prints that order. The first match wins. Without routes, every request may go to every backend; with
routes, one that matches none is answered 404.

## Several listeners

`listeners` holds as many as are wanted, each with a `name` and a `listen` of its own. A listener may say whatever a file of
one listener may say; a key that it does not give is taken, whole, from the top of the file. `backends` at the top are shared
by all listeners that have none of their own, and counted once. `metrics`, `access_log` and `demo_backends` belong to the
process and stand at the top.

## Signals

`SIGTERM` and `SIGINT` stop accepting, finish what is under way for up to `timeouts.drain`, and exit with 0. A second one
ends it at once. `SIGUSR1` reopens the access log.
"""

_REASONS = """
## Reasons

Every error has one of these codes: in the log, in `balance_errors_total` and in `/status`. The status is what an HTTP client is
told, if a response can still be sent, with the code in the field `Proxy-Status` (RFC 9209); at layer 4, connections are reset.
HTTP/2's limits have [codes of their own](http2.md#defences).

| reason | status | caused by | meaning |
|---|---|---|---|"""

_TYPES: dict[object, str] = {bool: "true, false", int: "number", float: "number", str: "text"}
_WRITTEN: dict[object, str] = {
    values.timed: "duration",
    values.size: "size",
    values.address: "address",
    values.listen_address: "address",
    values.network: "network",
}


def reference() -> str:
    """The document."""
    return _INTRODUCTION + "".join(_section(model, path) for model, path in _sections(Config, "")) + _reasons()


def _reasons() -> str:
    """The codes of all errors, as their classes say."""
    classes = [
        each
        for module in (errors.base, errors.client, errors.own, errors.backend)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, errors.ExchangeError) and each.__module__ == module.__name__
    ]
    untold = (errors.BackendError, errors.BackendUnfit)  # a base; a word to passive health
    own = {each.reason: each for each in classes if "reason" in vars(each) and each not in untold}
    own["bad_request"] = errors.BadRequest
    lines = [f"| `{each.reason}` | {each.status} | {each.source.value} | {_about(each)} |" for each in own.values()]
    return "\n".join([_REASONS, *lines]) + "\n"


def _about(error: type) -> str:
    if error is errors.ExchangeError:
        return "A mistake of Balance itself; the log has the traceback."
    paragraph = (error.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The file's own keys, then every section below, depth first; each kind once."""
    waiting, seen = [(model, path)], set()
    while waiting:
        current, where = waiting.pop(0)
        if current in seen:
            continue
        seen.add(current)
        yield current, where
        below = []
        for name, field in current.model_fields.items():
            inner, many = _inner(field)
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                below.append((inner, f"{where}.{name}".lstrip(".") + ("[]" if many else "")))
        waiting = below + waiting


def _inner(field: FieldInfo) -> tuple[object, bool]:
    """The type of a field, or of the members of a list."""
    kind = unwrapped(field.annotation)
    if typing.get_origin(kind) is tuple:
        return unwrapped(typing.get_args(kind)[0]), True
    return kind, False


def _section(model: type[BaseModel], path: str) -> str:
    title = f"`{path}`" if path else "The file"
    about = inspect.cleandoc(model.__doc__ or "")
    lines = ["", f"## {title}", "", about, "", "| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [_row(name, field) for name, field in model.model_fields.items() if not field.exclude]
    examples = {name: field.examples[0] for name, field in model.model_fields.items() if field.examples}
    if examples:
        lines += ["", "```yaml", *(f"{name}: {_inline(value)}" for name, value in examples.items()), "```"]
    return "\n".join(lines) + "\n"


def _inline(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _row(name: str, field: FieldInfo) -> str:
    description = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {_type(field)} | {_default(field)} | {description} |"


def _type(field: FieldInfo) -> str:
    inner, many = _inner(field)
    written = _written(field)
    if written:
        text = written
    elif typing.get_origin(inner) is typing.Literal:
        text = ", ".join(f"`{value}`" for value in typing.get_args(inner))
    elif typing.get_origin(inner) in (dict, Mapping) or (isinstance(inner, type) and issubclass(inner, BaseModel)):
        text = "mapping"
    else:
        text = _TYPES.get(inner, "text")
    return f"list of {text}s" if many and not text.startswith("`") else text


def _written(field: FieldInfo) -> str:
    """How values with a reader of their own are written."""
    annotations = [field.annotation, *typing.get_args(field.annotation)]
    metadata = [*field.metadata, *(meta for kind in annotations for meta in getattr(kind, "__metadata__", ()))]
    for meta in metadata:
        written = _WRITTEN.get(getattr(meta, "func", None))
        if written:
            return written
    return ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else "none"
    default = field.default
    if isinstance(default, BaseModel):
        return "see below"
    if default is None or default in ((), "", {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    written = _written(field)
    if written == "duration":
        return f"`{default:g}s`"
    if written == "size" and default:
        return f"`{default // 1024}KiB`"
    if isinstance(default, Address):
        return f'`"{default}"`'
    return f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
