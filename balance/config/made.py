"""A configuration that was made in Python, not read from a file.

Rule of this file: the same keys, the same checks, the same messages; what has no line and column is named by its key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from balance.config.backends import ALGORITHMS, BackendConfig
from balance.config.checks import check
from balance.config.document import Document
from balance.config.errors import ConfigError
from balance.config.listeners import check_listeners, inherited, listeners_of
from balance.config.load import checked, loads
from balance.config.plugins import check_plugins
from balance.config.schema import Config
from balance.config.section import Plugins, Section
from balance.model import Address

SOURCE = "<python>"


def made(
    config: str | Mapping[str, Any] | Config,
    *,
    algorithms: Collection[str] = ALGORITHMS,
    plugins: Plugins | None = None,
) -> Config:
    """Check a configuration, and complete what listeners take from the top.

    :param config: YAML text; a mapping as YAML would give it (durations are text there: ``"30s"``); or a `Config` of
        sections made in Python (durations are seconds there), which need not be complete
    :param algorithms: names that `load_balancer.algorithm` may have
    :param plugins: those that it may ask for; None: they are not looked at
    :raises ConfigError: something in it is wrong: all of it is reported
    """
    if isinstance(config, Config):
        return _complete(config, plugins)
    if isinstance(config, str):
        return loads(config, algorithms=algorithms, plugins=plugins)
    return checked(_Mapping(config), algorithms, plugins)


class _Mapping(Document):
    """What a mapping says, without places."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._given = data
        super().__init__("", SOURCE)

    def _read(self, text: str) -> dict[str, Any]:
        data = _plain(self._given)
        assert isinstance(data, dict)
        return data


def _complete(config: Config, plugins: Plugins | None) -> Config:
    """Names are checked here: of each value, its section has made sure. One that is complete stays as it is."""
    known = {backend.name for backend in config.backends}
    demos = tuple(
        BackendConfig(name=f"demo-{port}", address=Address("127.0.0.1", port))
        for port in config.demo_backends
        if f"demo-{port}" not in known
    )
    config = config.model_copy(update={"backends": (*config.backends, *demos)}) if demos else config
    document = _Mapping(_written(config))
    problems = list(check(document))
    for path, listener in listeners_of(document):
        problems += check(document, listener, path)
    problems += check_listeners(document)
    if plugins is not None:
        for path, data in (((), document.data), *listeners_of(document)):
            problems += check_plugins(document, data, path, plugins)
    if problems:
        raise ConfigError(SOURCE, problems)
    return inherited(config)


def _written(config: Config) -> dict[str, Any]:
    """The mapping it would be in a file: only what was said, and not what listeners took from the top."""
    data = _said(config)
    data["listeners"] = [
        {key: value for key, value in _said(listener).items() if value is not getattr(config, key, None)}
        for listener in config.listeners
    ]
    return data


def _said(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in type(section).model_fields if name in section.model_fields_set}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        value = _said(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, Address):
        return [_plain(each) for each in value]
    return deepcopy(value)
