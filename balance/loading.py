"""From the name of a plugin to what it makes.

Rule of this file: everything that can be wrong with a plugin is one `PluginError` with one cause: not there, cannot be
imported, does not do what its interface says, does not understand its options, cannot be built. Nothing is skipped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import FunctionType
from typing import Any

from pydantic import BaseModel, ValidationError
from twisted.web.resource import IResource
from zope.interface import Interface, Invalid
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyClass, verifyObject

from balance import interfaces
from balance.config.messages import message
from balance.errors import BalanceError
from balance.filters.base import PHASES, as_filter


class PluginError(BalanceError):
    """A plugin is missing, broken, or one of two that go by the same name."""


@dataclass(frozen=True)
class Kind:
    """What plugins can be.

    :param what: as people call it
    :param factory: interface of what the configuration names
    :param product: interface of what that makes
    :param function: the method a plain function may stand for
    """

    name: str
    what: str
    factory: Any
    product: Any
    function: str = ""


#: Every kind of plugin, by its name.
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("balancer", "balancing algorithm", interfaces.IBalancerFactory, interfaces.IBalancer),
        Kind("filter", "filter", interfaces.IFilterFactory, interfaces.IFilter),
        Kind("discovery", "discovery", interfaces.IDiscoveryFactory, interfaces.IDiscovery),
        Kind("health rule", "health rule", interfaces.IHealthRuleFactory, interfaces.IHealthRule, "is_failure"),
        Kind("sink", "statistics sink", interfaces.IStatisticsSinkFactory, interfaces.IStatisticsSink),
        Kind("resource", "resource", interfaces.IResourceFactory, IResource),
        Kind("matcher", "route matcher", interfaces.IRouteMatcherFactory, interfaces.IRouteMatcher, "matches"),
        Kind(
            "websocket_filter",
            "WebSocket filter",
            interfaces.IWebSocketFilterFactory,
            interfaces.IWebSocketFilter,
        ),
    )
}

#: Modules that plugins came from, and the name under which the configuration asked for them (see `balance.watchdog`).
LOADED: dict[str, str] = {}


@dataclass(frozen=True)
class Plugin:
    """What a name in the configuration stands for.

    :param use: that name
    :param origin: where it comes from, as people can find it
    :param options: schema of its options; None: it takes none
    :param make: builds what the plugin makes, from an instance of ``options``
    :param source: the factory, class, function or object itself
    """

    kind: Kind
    use: str
    origin: str
    options: type[BaseModel] | None
    make: Callable[[Any], Any]
    source: Any

    def __str__(self) -> str:
        return f"{self.kind.what} {self.use!r} ({self.origin})"

    def read(self, given: Mapping[str, Any]) -> Any:
        """The options, checked.

        :raises PluginError: they are wrong; the message has all that is
        """
        problems = [f"{'.'.join(map(str, path))}: {text}" for path, text in self.problems(given)]
        if problems:
            raise PluginError(f"{self}: {'; '.join(problems)}")
        return None if self.options is None else self.options.model_validate(_lists(given), context={})

    def problems(self, given: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with options: where below them, and a sentence."""
        if self.options is None:
            if given:
                yield (), f"{self} takes no options"
            return
        try:
            self.options.model_validate(_lists(given), context={})
        except ValidationError as error:
            for each in error.errors():
                yield each["loc"], _sentence(each, self.options)
        except Exception as error:
            yield (), f"{self}: its schema failed: {type(error).__name__}: {error}"

    def build(self, given: Mapping[str, Any]) -> Any:
        """Make it.

        :raises PluginError: the options are wrong, it cannot be made, or it does not do what its interface says
        """
        options = self.read(given)
        try:
            made = self.make(options)
        except Exception as error:
            raise PluginError(f"{self} could not be built: {type(error).__name__}: {error}") from error
        verify_product(self.kind, made, str(self))
        _remember(made, self.use)
        return as_filter(made) if self.kind.name == "filter" else made


def of_factory(kind: Kind, use: str, factory: Any) -> Plugin:
    """A plugin from its factory.

    :raises PluginError: the factory does not do what its interface says
    """
    origin = origin_of(factory)
    verify(kind.factory, factory, f"{kind.what} {use!r} ({origin})")
    _remember(factory, use)
    return Plugin(kind, use, origin, _schema(factory, use), factory.build, factory)


def of_path(kind: Kind, use: str) -> Plugin:
    """A plugin from the dotted path of a factory, a class, a function or an object.

    :param use: ``package.module:name``
    :raises PluginError: there is no such thing, or it does not do what its interface says
    """
    found = _import(kind, use)
    what = f"{kind.what} {use!r}"
    if kind.factory.providedBy(found):
        return of_factory(kind, use, found)
    if isinstance(found, type):
        if kind.factory.implementedBy(found):
            try:
                return of_factory(kind, use, found())
            except TypeError as error:
                raise PluginError(f"{what}: the factory cannot be made without arguments: {error}") from error
        _verify_class(kind, found, what)
        schema = _schema(found, use)
        _remember(found, use)
        return Plugin(kind, use, origin_of(found), schema, found if schema else lambda _: found(), found)
    product = _Function(kind.function, found) if kind.function and isinstance(found, FunctionType) else found
    verify_product(kind, product, what)
    _remember(found, use)
    return Plugin(kind, use, origin_of(found), None, lambda _: product, found)


class _Function:
    """A plain function, as an object of one method."""

    def __init__(self, method: str, function: Callable[..., Any]) -> None:
        setattr(self, method, function)


def _import(kind: Kind, use: str) -> Any:
    what = f"{kind.what} {use!r}"
    path, _, name = use.partition(":")
    if not all(part.isidentifier() for part in (*path.split("."), *name.split("."))):
        raise PluginError(f"{what}: a dotted path is written package.module:name")
    try:
        found: Any = import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing and (path == missing or path.startswith(missing + ".")):
            raise PluginError(f"{what}: there is no module {missing!r}; is its package installed?") from error
        raise PluginError(f"{what}: module {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    except Exception as error:
        raise PluginError(f"{what}: module {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        holder = found
        found = getattr(holder, part, None)
        if found is None:
            names = [each for each in vars(holder) if not each.startswith("_")] if hasattr(holder, "__dict__") else []
            close = get_close_matches(part, names, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise PluginError(f"{what}: {origin_of(holder)} has no {part!r}{meant}")
    return found


def _schema(source: Any, use: str) -> type[BaseModel] | None:
    schema = getattr(source, "Options", None)
    if schema is not None and not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise PluginError(f"{use!r} ({origin_of(source)}): its Options are no pydantic model")
    return schema


# --- does it do what it has to? -------------------------------------------------------------------------------


def verify(interface: Any, candidate: object, what: str) -> None:
    """
    :raises PluginError: an object does not provide an interface; the message says what is missing or different
    """
    try:
        verifyObject(interface, candidate)
    except Invalid as error:
        raise PluginError(f"{what}: {_plainly(error)}") from error


def verify_product(kind: Kind, made: object, what: str) -> None:
    """
    :raises PluginError: it lacks a method, or has one with another signature. It need not declare its interface.
    """
    if kind.name == "filter":
        _verify_filter(as_filter(made), verifyObject, what)
        return
    try:
        verifyObject(kind.product, made, tentative=True)
    except Invalid as error:
        raise PluginError(f"{what}: {_plainly(error)}") from error


def _verify_class(kind: Kind, cls: type, what: str) -> None:
    if kind.name == "filter":
        _verify_filter(cls, verifyClass, what)
        return
    try:
        verifyClass(kind.product, cls, tentative=True)
    except Invalid as error:
        raise PluginError(f"{what}: {_plainly(error)}") from error


def _verify_filter(candidate: Any, verifier: Callable[..., Any], what: str) -> None:
    """A filter has the phases it needs: each one that is there must be callable as the interface says."""
    present = [name for name in PHASES if getattr(candidate, name, None) is not None]
    if not present:
        raise PluginError(f"{what} has none of the phases of a filter: {', '.join(PHASES)}")
    for name in present:
        try:
            verifier(_PHASES[name], candidate, tentative=True)
        except Invalid as error:
            raise PluginError(f"{what}: {_plainly(error)}") from error


def _plainly(error: Invalid) -> str:
    """zope.interface's text, without the names of helpers of ours."""
    return " ".join(str(error).replace("balance.loading.", "").split()).rstrip(".")


#: An interface for each phase. (A copy of its method: an interface makes what it is given its own.)
_PHASES: Mapping[str, Any] = {
    name: InterfaceClass(
        "IFilterPhases", (Interface,), {name: copy(interfaces.IFilterPhases[name])}, "", "balance.interfaces"
    )
    for name in PHASES
}


# --- for people -----------------------------------------------------------------------------------------------


def origin_of(plugin: Any) -> str:
    """Where a plugin comes from, as people can find it."""
    if inspect.ismodule(plugin):
        return f"module {plugin.__name__!r}"
    named = plugin if isinstance(plugin, type | FunctionType) else type(plugin)
    return f"{named.__module__}.{named.__qualname__}"


def _remember(plugin: Any, use: str) -> None:
    named = plugin if isinstance(plugin, type | FunctionType) else type(plugin)
    LOADED.setdefault(named.__module__, use)


def _sentence(error: Mapping[str, Any], schema: type[BaseModel]) -> str:
    try:
        return message(error, schema)
    except Exception:
        return str(error["msg"])


def _lists(value: Any) -> Any:
    """Options as YAML gives them: with dict and list, whatever the configuration keeps them in."""
    if isinstance(value, Mapping):
        return {key: _lists(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(each) for each in value]
    return value
