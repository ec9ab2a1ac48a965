"""What is public, one line for each name: ``python -m test.public_api`` prints it, `public_api.txt` has it as of the last
release. See doc/extending.md, "What stays, and what may change".
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydantic import BaseModel
from zope.interface import Attribute
from zope.interface.interface import InterfaceClass, Method

#: Modules all of whose public names are promised.
MODULES = ("balance.interfaces", "balance.filters", "balance.testing", "balance.model", "balance.errors")
#: Names of other modules.
NAMES = (
    *(f"balance.config.{name}" for name in ("load", "loads", "made", "Config", "Listener", "RouteConfig", "Http")),
    *(f"balance.config.{name}" for name in ("LoadBalancer", "BackendConfig", "PluginConfig", "ConfigError", "Problem")),
    *(
        f"balance.config.values.{name}"
        for name in ("Duration", "Size", "Token", "FieldValue", "EditedName", "PathPrefix")
    ),
    "balance.service.make_service",
    "balance.http.resource.ReverseProxyResource",
)


def surface() -> dict[str, str]:
    """Name to what is promised about it, in the order of names."""
    found: dict[str, str] = {}
    for name in MODULES:
        module = import_module(name)
        listed = getattr(module, "__all__", None) or [
            each for each, value in vars(module).items() if getattr(value, "__module__", name) == name
        ]
        for each in listed:
            if not each.startswith("_"):
                found.update(_entries(f"{name}.{each}", getattr(module, each)))
    for name in NAMES:
        module_name, _, each = name.rpartition(".")
        found.update(_entries(name, getattr(import_module(module_name), each)))
    return dict(sorted(found.items()))


def lines() -> list[str]:
    """`surface`, as it is recorded."""
    return [f"{name}{what}" for name, what in surface().items()]


def _entries(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if inspect.ismodule(value):
        return
    if isinstance(value, InterfaceClass):
        yield name, f" interface({', '.join(base.__name__ for base in value.__bases__)})"
        for each in value:
            if value[each].interface is value:
                yield from _described(f"{name}.{each}", value[each])
    elif isinstance(value, type):
        yield from _class(name, value)
    elif callable(value) and hasattr(value, "__name__"):
        yield name, str(inspect.signature(value))
    else:
        yield name, f" = {type(value).__name__}"


def _described(name: str, member: Any) -> Iterator[tuple[str, str]]:
    if isinstance(member, Method):
        yield name, member.getSignatureString()
    elif isinstance(member, Attribute):
        yield name, " attribute"


def _class(name: str, cls: type) -> Iterator[tuple[str, str]]:
    if issubclass(cls, BaseModel):
        yield name, " section"
        for each, field in cls.model_fields.items():
            if not field.exclude:
                yield f"{name}.{each}", f": {'required' if field.is_required() else 'optional'}"
        return
    try:
        made = str(inspect.signature(cls)) if "__init__" in vars(cls) or "__new__" in vars(cls) else "(...)"
    except ValueError:
        made = "(...)"
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield name, made + (f" of {bases}" if bases else "")
    for each, member in sorted(vars(cls).items()):
        if each.startswith("_"):
            continue
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(plain):
            yield f"{name}.{each}", str(inspect.signature(plain))
        elif isinstance(plain, property) or inspect.ismemberdescriptor(plain):
            yield f"{name}.{each}", " attribute"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
