"""``balance plugins``: what is installed, and from where."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from twisted.plugin import getPlugins

import balance.plugins
from balance.loading import KINDS
from balance.registry import broken_plugins

#: Interfaces of plugins and what they are called.
_KINDS = tuple((kind.factory, kind.name) for kind in KINDS.values())


def plugins(*, as_json: bool = False) -> int:
    """Print every plugin; 1 when one is broken."""
    rows = list(installed())
    broken = [
        {"module": module, "distribution": _distribution(module, None), "error": f"{type(error).__name__}: {error}"}
        for module, error in sorted(broken_plugins().items())
    ]
    if as_json:
        sys.stdout.write(json.dumps({"plugins": rows, "broken": broken}, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(rows, broken)) + "\n")
    return 1 if broken else 0


def installed() -> Iterator[dict[str, Any]]:
    """Every plugin that could be loaded, in the order of kinds and names."""
    for interface, kind in _KINDS:
        found = []
        for plugin in getPlugins(interface, balance.plugins):
            cls = plugin if isinstance(plugin, type) else type(plugin)
            names = getattr(plugin, "names", ())
            row = {"kind": kind, "module": f"{cls.__module__}.{cls.__qualname__}"}
            row["distribution"] = _distribution(cls.__module__, sys.modules.get(cls.__module__))
            found += [{"name": name, **row} for name in ((names,) if isinstance(names, str) else names)]
        yield from sorted(found, key=lambda row: row["name"])


def _lines(rows: Iterable[dict[str, Any]], broken: Iterable[dict[str, Any]]) -> Iterator[str]:
    columns = ("name", "kind", "module", "distribution")
    cells = [list(columns), *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for each in broken:
        yield ""
        yield f"broken: {each['module']} ({each['distribution']})"
        yield f"  {each['error']}"


def _distribution(module: str, loaded: Any) -> str:
    """Name and version of the distribution that a module came with; empty for one that came with none."""
    path = getattr(loaded, "__file__", None) or _source(module)
    owner = _owners().get(str(path)) if path else None
    if owner is None:
        names = metadata.packages_distributions().get(module.partition(".")[0], [])
        owner = names[0] if len(set(names)) == 1 or (names and module.startswith("balance.")) else None
    if owner is None:
        return ""
    return f"{owner} {metadata.version(owner)}"


def _source(module: str) -> str | None:
    """The file of a plugin module that cannot be imported."""
    name = module.rpartition(".")[2]
    for directory in balance.plugins.__path__:
        for path in (Path(directory) / f"{name}.py", Path(directory) / name / "__init__.py"):
            if path.exists():
                return str(path)
    return None


@cache
def _owners() -> dict[str, str]:
    """Files below ``balance/plugins`` to the distributions that installed them."""
    owners = {}
    for distribution in metadata.distributions():
        for file in distribution.files or ():
            if file.parts[:2] == ("balance", "plugins"):
                owners[str(distribution.locate_file(file))] = distribution.metadata["Name"]
    return owners
