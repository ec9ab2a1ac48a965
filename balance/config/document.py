"""YAML to plain values that know where they stood.

Rule of this file: a place (line and column) is kept for every key and value, so that whoever finds a mistake later can
say where. What YAML allows and a configuration never means is a mistake here: keys twice, keys that are no text,
cycles, and aliases that unfold into more than anybody writes.
"""

from __future__ import annotations

from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from balance.config.errors import ConfigError, Problem
from balance.config.values import found

#: Keys and indices from the top of the file.
Path = tuple[str | int, ...]

_MAX_VALUES: Final = 200_000
_MAX_DEPTH: Final = 32


def key_of(path: Path) -> str:
    """``("http", "routes", 0, "host")`` as ``http.routes[0].host``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Document:
    """A file, read.

    `data` is made of dict, list and scalars; `problems` what YAML itself or this reader objects to.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._values: dict[Path, tuple[int, int]] = {}
        self._keys: dict[Path, tuple[int, int]] = {}
        self._count = 0
        self.data: dict[str, Any] = self._read(text)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """A mistake at the value of ``path`` (or its key); where there is none, at the nearest thing around it."""
        places = self._keys if at_key else self._values
        near = path
        while near and near not in places:
            near = near[:-1]
            places = self._values
        line, column = places.get(near, (0, 0)) if near else (0, 0)
        return Problem(line, column, key_of(path), message)

    def rename(self, old: str, new: str) -> None:
        """Let a top-level key go by another name, places included."""
        self.data[new] = self.data.pop(old)
        for places in (self._values, self._keys):
            for path in [path for path in places if path[:1] == (old,)]:
                places[new, *path[1:]] = places[path]

    def _read(self, text: str) -> dict[str, Any]:
        try:
            loader = yaml.SafeLoader(text)
            try:
                node = loader.get_single_node()
                data = None if node is None else self._convert(loader, node, ())
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            message = " ".join(str(part) for part in (error.context, error.problem) if part)
            raise ConfigError(self.source, [Problem(*place, "", f"this is not YAML: {message}")]) from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            message = " ".join(str(error).split())
            raise ConfigError(self.source, [Problem(0, 0, "", f"this is not YAML: {message}")]) from None
        if data is None:
            raise ConfigError(self.source, [Problem(0, 0, "", "the file is empty")])
        if not isinstance(data, dict):
            raise ConfigError(self.source, [Problem(1, 1, "", f"{found(data)}; a mapping of keys is needed")])
        return data

    def _convert(self, loader: yaml.SafeLoader, node: Node, path: Path) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, "too many or too deep values (aliases?)", node.start_mark)
        self._values.setdefault(path, _place(node))
        if isinstance(node, MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, SequenceNode):
            return [self._convert(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return loader.construct_object(node)

    def _mapping(self, loader: yaml.SafeLoader, node: MappingNode, path: Path) -> dict[str, Any]:
        own = {id(key) for key, _ in node.value}
        loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                line, column = _place(key_node)
                self.problems.append(Problem(line, column, key_of(path), f"{found(key)} as a key; keys are text"))
                continue
            here = (*path, key)
            if id(key_node) in own:
                if key in seen:
                    line, column = _place(key_node)
                    self.problems.append(Problem(line, column, key_of(here), "this key is given twice"))
                    continue
                seen.add(key)
            self._keys[here] = _place(key_node)
            self._values.pop(here, None)
            data[key] = self._convert(loader, value_node, here)
        return data


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
