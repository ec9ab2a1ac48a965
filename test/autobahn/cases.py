"""The case classes of `autobahntestsuite`, in Python 3.

They are Python 2, where a byte string is text. So here their literals stay text, one character a byte (Latin-1), and
what they import is replaced where that makes a difference. Nothing of a case is changed but its syntax.
"""

from __future__ import annotations

import binascii
import builtins
import hashlib
import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from autobahn.websocket import compress, utf8validator


class Octets(str):
    """A byte string of Python 2."""

    __slots__ = ()

    def decode(self, encoding: str = "ascii", errors: str = "strict") -> str:
        return self.encode("latin-1").decode(encoding, errors)


def octets(data: Any) -> bytes:
    """What such a string has in it."""
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)


def available() -> bool:
    return importlib.util.find_spec("autobahntestsuite") is not None


@cache
def load() -> dict[str, type[Any]]:
    """Every case, by its number (``"7.1.1"``), in the suite's order."""
    loader = _Loader()
    classes = loader.module("__init__").Cases
    return {each.__name__.removeprefix("Case").replace("_", "."): each for each in classes}


class _Loader:
    """Reads modules of the suite's package `case`, and gives them what they import."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("autobahntestsuite")
        assert spec is not None
        assert spec.submodule_search_locations
        self._root = Path(spec.submodule_search_locations[0])
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "xrange": range, "unichr": chr, "__import__": self._import}

    def module(self, name: str) -> Any:
        if name not in self._modules:
            text = (self._root / "case" / f"{name}.py").read_text(encoding="latin-1")
            text = re.sub(r"^(\s*)print (.*)$", r"\1print(\2)", text, flags=re.M)
            text = re.sub(r"\(object, Case,?\s*\)", "(Case,)", text)
            text = text.replace("len(self.payload) / ", "len(self.payload) // ")
            module = self._modules[name] = ModuleType(f"autobahntestsuite.case.{name}")
            vars(module)["__builtins__"] = self._builtins
            exec(compile(text, name, "exec"), vars(module))
            if name == "case":
                vars(module)["Case"].compare = lambda case, one, other: _plain(one) == _plain(other)
        return self._modules[name]

    def _import(self, name: str, *arguments: Any) -> Any:
        if name.startswith("case"):
            return self.module(name)
        replaced = {
            "binascii": _BINASCII,
            "hashlib": _HASHLIB,
            "pkg_resources": SimpleNamespace(resource_filename=lambda _, path: str(self._root / path)),
            "zope.interface": SimpleNamespace(implements=lambda *interfaces: None),
            "autobahn.websocket.compress": _COMPRESS,
            "autobahn.websocket.utf8validator": SimpleNamespace(Utf8Validator=_Validator),
        }
        if name in replaced:
            return replaced[name]
        return builtins.__import__(name, *arguments)


def _plain(events: Any) -> Any:
    """Events as cases compare them: types of strings do not matter."""
    if isinstance(events, list | tuple):
        return [_plain(each) for each in events]
    return str(events) if isinstance(events, str) else events


class _Validator(utf8validator.Utf8Validator):
    def validate(self, data: Any) -> Any:
        return super().validate(octets(data))


class _Digest:
    def __init__(self) -> None:
        self._sha1 = hashlib.sha1()

    def update(self, data: Any) -> None:
        self._sha1.update(octets(data))

    def digest(self) -> bytes:
        return self._sha1.digest()


_BINASCII = SimpleNamespace(
    b2a_hex=lambda data: binascii.b2a_hex(octets(data)).decode(),
    hexlify=lambda data: binascii.b2a_hex(octets(data)).decode(),
)
_HASHLIB = SimpleNamespace(sha1=_Digest)


def _snake(make: Callable[..., Any]) -> Callable[..., Any]:
    """Parameters were written in camel case then."""

    def made(*arguments: Any, **named: Any) -> Any:
        return make(*arguments, **{re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in named.items()})

    return made


class _Offer(compress.PerMessageDeflateOffer):  # type: ignore[misc]
    __init__ = _snake(compress.PerMessageDeflateOffer.__init__)  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        snake = re.sub("([A-Z])", r"_\1", name).lower()
        if snake == name:
            raise AttributeError(name)
        return getattr(self, snake)


_COMPRESS = SimpleNamespace(
    PerMessageDeflateOffer=_Offer,
    PerMessageDeflateOfferAccept=_snake(compress.PerMessageDeflateOfferAccept),
    PerMessageDeflateResponse=compress.PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept=_snake(compress.PerMessageDeflateResponseAccept),
)
