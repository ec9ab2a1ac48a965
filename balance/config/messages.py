"""What pydantic objects to, in our words: what was found, what is allowed, what was perhaps meant."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from balance.config.values import found, suggestion

_NEEDED: Final = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text (put it in quotes)",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def message(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One sentence for one of pydantic's errors."""
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "this key is missing"
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        allowed = fields_at(model, error["loc"][:-1])
        return f"unknown key; allowed here: {', '.join(allowed)}{suggestion(key, allowed)}"
    if kind == "literal_error":
        allowed = literals_at(model, error["loc"])
        return f"{found(value)}; allowed: {', '.join(allowed)}{suggestion(value, allowed)}"
    if kind in _NEEDED:
        return f"{found(value)}; needed: {_NEEDED[kind]}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{found(value)}; it must be {words} {context[name]:g}"
    if kind in ("too_short", "string_too_short"):
        return f"{found(value)}; it must not be empty"
    return f"{found(value)}; {error['msg'][:1].lower()}{error['msg'][1:]}"


def fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys of the section at a location."""
    section = _annotation_at(model, location)
    if isinstance(section, type) and issubclass(section, BaseModel):
        return [name for name, field in section.model_fields.items() if not field.exclude]
    return []


def literals_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The values that a location allows."""
    return [str(value) for value in typing.get_args(_annotation_at(model, location))]


def _annotation_at(model: Any, location: tuple[str | int, ...]) -> Any:
    current: Any = model
    for part in location:
        current = unwrapped(current)
        if isinstance(part, int):
            current = typing.get_args(current)[0]
        elif isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[part].annotation
        elif typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
        else:
            return None
    return unwrapped(current)


def unwrapped(annotation: Any) -> Any:
    """A type without ``Annotated`` and ``| None``."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(arg for arg in typing.get_args(annotation) if arg is not type(None))
        else:
            return annotation
