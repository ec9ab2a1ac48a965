"""A factory for a class that has ``Options`` and is made with them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from twisted.plugin import IPlugin
from zope.interface import directlyProvides


class Made:
    """By its name. Which kind of factory it is, says `made_by`."""

    def __init__(self, name: str, made: Any) -> None:
        self.names = (name,)
        self.Options: type[BaseModel] = made.Options
        self._made = made

    def build(self, options: Any) -> Any:
        return self._made(options)

    def __repr__(self) -> str:
        return f"<{self._made.__name__} {self.names[0]}>"


def made_by(factory: Any, name: str, made: Any) -> Made:
    """
    :param factory: the interface that the factory provides
    """
    plugin = Made(name, made)
    directlyProvides(plugin, IPlugin, factory)
    return plugin
