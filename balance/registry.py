"""From names in the configuration to what plugins make.

Rule of this file: a plugin is checked when the configuration is loaded, and everything wrong with it is one
`PluginError` that says which plugin, from where, and what it did. One broken plugin takes down nobody who does not ask
for it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from twisted.plugin import getPlugins
from zope.interface import Invalid
from zope.interface.verify import verifyObject

import balance.plugins
from balance.errors import BalanceError
from balance.interfaces import IBalancer, IBalancerFactory


class PluginError(BalanceError):
    """A plugin is missing, broken, or one of two that go by the same name."""


def balancer_factory(name: str, package: ModuleType = balance.plugins) -> IBalancerFactory:
    """The factory of a balancing algorithm.

    :param name: as in `load_balancer.algorithm`
    :param package: where plugins are looked for, once in a process
    :raises PluginError: there is none (the message names what there is, and what could not be loaded), there is more
        than one, or it does not do what `IBalancerFactory` says
    """
    found = _factories(package).get(name)
    if found is None:
        raise PluginError(_missing(name, package))
    if len(found) > 1:
        origins = " and ".join(_origin(factory) for factory in found)
        raise PluginError(f"more than one plugin offers the balancing algorithm {name!r}: {origins}")
    _verify(IBalancerFactory, found[0], f"balancing algorithm {name!r} ({_origin(found[0])})")
    return found[0]


def balancer_names(package: ModuleType = balance.plugins) -> list[str]:
    """Every name that `balancer_factory` knows, in alphabetical order."""
    return sorted(_factories(package))


def build_balancer(name: str, options: Mapping[str, Any], package: ModuleType = balance.plugins) -> IBalancer:
    """Make the balancer of one pool.

    :param options: see `IBalancerFactory.build`
    :raises PluginError: no such algorithm, or its plugin failed, or what it made is no `IBalancer`
    """
    factory = balancer_factory(name, package)
    what = f"balancing algorithm {name!r} ({_origin(factory)})"
    try:
        balancer = factory.build(options)
    except Exception as error:
        raise PluginError(f"{what} could not be built: {type(error).__name__}: {error}") from error
    _verify(IBalancer, balancer, what)
    return balancer


def broken_plugins(package: ModuleType = balance.plugins) -> dict[str, Exception]:
    """Plugin modules that cannot be imported, and why. Twisted only logs these."""
    broken: dict[str, Exception] = {}
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        try:
            import_module(module.name)
        except Exception as error:
            broken[module.name] = error
    return broken


@cache
def _factories(package: ModuleType) -> Mapping[str, list[IBalancerFactory]]:
    found: dict[str, list[IBalancerFactory]] = {}
    for factory in getPlugins(IBalancerFactory, package):
        # One without names cannot be asked for, so it is in nobody's way.
        names = getattr(factory, "names", ())
        for name in (names,) if isinstance(names, str) else names:
            found.setdefault(name, []).append(factory)
    return found


def _missing(name: str, package: ModuleType) -> str:
    names = balancer_names(package)
    message = f"no balancing algorithm {name!r} is installed; there are: {', '.join(names)}"
    close = get_close_matches(name, names, 1)
    if close:
        message += f"; did you mean {close[0]!r}?"
    for module, error in broken_plugins(package).items():
        message += f"\nplugin module {module} could not be loaded: {type(error).__name__}: {error}"
    return message


def _verify(interface: Any, candidate: object, what: str) -> None:
    try:
        verifyObject(interface, candidate)
    except Invalid as error:
        raise PluginError(f"{what}: {error}") from error


def _origin(plugin: object) -> str:
    """The class a plugin is made from, as people can find it."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    return f"{cls.__module__}.{cls.__qualname__}"
