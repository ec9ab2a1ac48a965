"""From a file to a `Config`, or to a list of everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from balance.config.backends import ALGORITHMS
from balance.config.checks import check, prepare
from balance.config.document import Document
from balance.config.errors import ConfigError, Problem
from balance.config.listeners import check_listeners, inherited, listeners_of
from balance.config.messages import message
from balance.config.plugins import check_plugins
from balance.config.schema import Config
from balance.config.section import Plugins
from balance.config.tls_files import TlsFiles, absolute_paths


def load(path: str, *, algorithms: Collection[str] = ALGORITHMS, plugins: Plugins | None = None) -> Config:
    """Read a configuration file.

    :param algorithms: names that `load_balancer.algorithm` may have
    :param plugins: those that the file may ask for; None: they are not looked at
    :raises ConfigError: the file cannot be read, or something in it is wrong: all of it is reported
    """
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(path, [Problem(0, 0, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError(path, [Problem(0, 0, "", "cannot be read: this is not UTF-8 text")]) from None
    return loads(text, path, algorithms=algorithms, plugins=plugins, folder=os.path.dirname(path))


def loads(
    text: str,
    source: str = "<text>",
    *,
    algorithms: Collection[str] = ALGORITHMS,
    plugins: Plugins | None = None,
    folder: str = "",
) -> Config:
    """Like `load`, from text. ``source`` stands in messages; paths are relative to ``folder``."""
    return checked(Document(text, source), algorithms, plugins, folder)


def checked(
    document: Document, algorithms: Collection[str], plugins: Plugins | None = None, folder: str = ""
) -> Config:
    """Everything but the reading: what is wrong with a document, or what it means.

    :param folder: what paths in it are relative to
    :raises ConfigError: something in it is wrong
    """
    problems = document.problems
    problems += prepare(document)
    for path, listener in listeners_of(document):
        problems += prepare(document, listener, path)
    problems += check(document)
    for path, listener in listeners_of(document):
        problems += check(document, listener, path)
    problems += check_listeners(document)
    files = TlsFiles(document)
    for path, listener in [((), document.data), *listeners_of(document)]:
        absolute_paths(listener, folder)
        problems += files.check(listener, path)
    if plugins is not None:
        problems += check_plugins(document, document.data, (), plugins)
        for path, listener in listeners_of(document):
            problems += check_plugins(document, listener, path, plugins)
    config = None
    try:
        config = Config.model_validate(_tuples(document.data), context={"algorithms": tuple(algorithms)})
    except ValidationError as error:
        for each in error.errors():
            unknown = each["type"] == "extra_forbidden"
            of_key = each["loc"][-1:] == ("[key]",) and not unknown  # pydantic's way to say that the key is wrong
            location = each["loc"][:-1] if of_key else each["loc"]
            at_key = unknown or of_key
            problems.append(document.problem(location, message({**each, "loc": location}, Config), at_key=at_key))
    if problems or config is None:
        raise ConfigError(document.source, problems)
    return inherited(config.model_copy(update={"notices": tuple(files.notices)}))


def _tuples(value: Any) -> Any:
    """Lists as tuples: a configuration is immutable."""
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(each) for each in value)
    return value
