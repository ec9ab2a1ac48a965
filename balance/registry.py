"""Plugins by name: what is installed, found through twisted.plugin in `balance.plugins`.

Rule of this file: it finds; `balance.loading` says what is found, and what is wrong with it. One broken plugin takes
down nobody who does not ask for it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from twisted.plugin import getPlugins

import balance.plugins
from balance.config import PluginConfig
from balance.interfaces import IBalancer, IBalancerFactory
from balance.loading import KINDS, Kind, Plugin, PluginError, of_factory, of_path, origin_of, verify_product

__all__ = [
    "INSTALLED",
    "Installed",
    "PluginError",
    "balancer_factory",
    "balancer_names",
    "broken_plugins",
    "build",
    "build_balancer",
    "find",
    "plugin_names",
]


def find(kind: str, use: str, package: ModuleType = balance.plugins) -> Plugin:
    """A plugin by its name, or by its dotted path (``package.module:name``).

    :param kind: one of `balance.loading.KINDS`
    :param package: where names are looked for, once in a process
    :raises PluginError: there is none (the message names what there is, and what could not be loaded), there is more
        than one, or it does not do what its interface says
    """
    known = KINDS[kind]
    if ":" in use:
        return of_path(known, use)
    found = _factories(kind, package).get(use)
    if found is None:
        raise PluginError(_missing(known, use, package))
    if len(found) > 1:
        origins = " and ".join(origin_of(factory) for factory in found)
        raise PluginError(f"more than one plugin offers the {known.what} {use!r}: {origins}")
    return of_factory(known, use, found[0])


def build(kind: str, config: PluginConfig, package: ModuleType = balance.plugins) -> Any:
    """Make what a plugin of the configuration makes.

    :raises PluginError: it is missing or broken, or its options are wrong; with the place in the file
    """
    try:
        return find(kind, config.use, package).build(config.options)
    except PluginError as error:
        raise PluginError(f"{config.place}: {error}" if config.place else str(error)) from error


def plugin_names(kind: str, package: ModuleType = balance.plugins) -> list[str]:
    """Every name that `find` knows, in alphabetical order."""
    return sorted(_factories(kind, package))


def broken_plugins(package: ModuleType = balance.plugins) -> dict[str, Exception]:
    """Plugin modules that cannot be imported, and why. Twisted only logs these."""
    broken: dict[str, Exception] = {}
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        try:
            import_module(module.name)
        except Exception as error:
            broken[module.name] = error
    return broken


class Installed:
    """What is installed, for whoever checks a configuration (`balance.config.Plugins`)."""

    def __init__(self, package: ModuleType = balance.plugins) -> None:
        self._package = package

    def problems(
        self, kind: str, use: str, options: Mapping[str, Any] | None
    ) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if kind == "balancer" and ":" not in use and use not in _factories(kind, self._package):
            return  # the schema has said so
        try:
            plugin = find(kind, use, self._package)
        except PluginError as error:
            yield ("use",), str(error)
            return
        for path, text in plugin.problems(options or {}):
            yield ("options", *path), text


#: The plugins of this Python environment.
INSTALLED = Installed()


# --- balancing algorithms, whose options come from several keys -----------------------------------------------------


def balancer_factory(name: str, package: ModuleType = balance.plugins) -> Any:
    """The factory of a balancing algorithm: has ``names``, ``needs_key`` and ``build``, as `IBalancerFactory` says.

    :param name: as in `load_balancer.algorithm`
    :raises PluginError: see `find`
    """
    plugin = find("balancer", name, package)
    return plugin.source if IBalancerFactory.providedBy(plugin.source) else _ClassFactory(plugin)


class _ClassFactory:
    """A factory for a balancer that is named by the path of its class."""

    def __init__(self, plugin: Plugin) -> None:
        self.names = (plugin.use,)
        self.needs_key = bool(getattr(plugin.source, "needs_key", False))
        self._plugin = plugin

    def build(self, options: Mapping[str, Any]) -> Any:
        return self._plugin.make(options.get("options"))


def balancer_names(package: ModuleType = balance.plugins) -> list[str]:
    """Every name that `balancer_factory` knows, in alphabetical order."""
    return plugin_names("balancer", package)


def build_balancer(
    name: str, options: Mapping[str, Any], package: ModuleType = balance.plugins, own: Mapping[str, Any] | None = None
) -> IBalancer:
    """Make the balancer of one pool.

    :param options: see `IBalancerFactory.build`
    :param own: what `load_balancer.options` says
    :raises PluginError: no such algorithm, or its plugin failed, or what it made is no `IBalancer`
    """
    plugin = find("balancer", name, package)
    read = plugin.read(own or {})
    factory = balancer_factory(name, package)
    try:
        balancer = factory.build({**options, "options": read})
    except Exception as error:
        raise PluginError(f"{plugin} could not be built: {type(error).__name__}: {error}") from error
    verify_product(KINDS["balancer"], balancer, str(plugin))
    return balancer  # type: ignore[no-any-return]


# --- inside ---------------------------------------------------------------------------------------------------


@cache
def _factories(kind: str, package: ModuleType) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for factory in getPlugins(KINDS[kind].factory, package):
        # One without names cannot be asked for, so it is in nobody's way.
        names = getattr(factory, "names", ())
        for name in (names,) if isinstance(names, str) else names:
            found.setdefault(name, []).append(factory)
    return found


def _missing(kind: Kind, name: str, package: ModuleType) -> str:
    names = plugin_names(kind.name, package)
    message = f"no {kind.what} {name!r} is installed; there are: {', '.join(names)}"
    close = get_close_matches(name, names, 1)
    if close:
        message += f"; did you mean {close[0]!r}?"
    for module, error in broken_plugins(package).items():
        message += f"\nplugin module {module} could not be loaded: {type(error).__name__}: {error}"
    return message
