"""YAML to plain values that know where they stood.

Rule of this file: a place (line and column) is kept for every key and value, so that whoever finds a mistake later can
say where. What YAML allows and a configuration never means is a mistake here: keys twice, keys that are no text, tags,
dates, numbers to base 60, cycles, and aliases that unfold into more than anybody writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from balance.config.errors import ConfigError, Problem
from balance.config.values import found

#: Keys and indices from the top of the file.
Path = tuple[str | int, ...]

_MAX_VALUES: Final = 200_000
_MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 40
_YAML: Final = "tag:yaml.org,2002:"
_TEXT: Final = _YAML + "str"
_MERGE: Final = _YAML + "merge"
_NAMES: Final = {_YAML + "int": "a whole number", _YAML + "float": "a number", _YAML + "bool": "true or false"}
_NAMES[_YAML + "null"] = "nothing"
_PLAIN_KEY: Final = re.compile(r"""[^\s.:'"\[\]]+""")


def key_of(path: Path) -> str:
    """``("http", "routes", 0, "host")`` as ``http.routes[0].host``. Odd keys are quoted, and all is on one line."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.isprintable() and part.isascii() and _PLAIN_KEY.fullmatch(part)
            name = part if plain else repr(part)
            name = name if len(name) <= 80 else name[:77] + "..."
            text += f".{name}" if text else name
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
        self._unreadable = False
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

    def place(self, path: Path) -> str:
        """``file:line:column`` of the value at ``path``, for a message that is made later."""
        line, column = self._values.get(path, (0, 0))
        return f"{self.source}:{line}:{column}" if line else f"{self.source}: {key_of(path)}"

    def rename(self, old: str, new: str, prefix: Path = ()) -> None:
        """Let the places of a key of the mapping at ``prefix`` go by another name, too."""
        size = len(prefix) + 1
        for places in (self._values, self._keys):
            for path in [path for path in places if path[:size] == (*prefix, old)]:
                places[(*prefix, new, *path[size:])] = places[path]

    def _read(self, text: str) -> dict[str, Any]:
        loader = None
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
            message = " ".join(" ".join(str(part) for part in (error.context, error.problem) if part).split())
            raise self._no_yaml(*place, message) from None
        except ReaderError as error:
            before = text[: error.position].split("\n")
            message = f"the character U+{ord(text[error.position]):04X} is not allowed"
            raise self._no_yaml(len(before), len(before[-1]) + 1, message) from None
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            # What PyYAML forgets: characters beyond the last one, and nesting without end.
            place = (loader.line + 1, loader.column + 1) if loader else (0, 0)
            message = "it is nested too deep" if isinstance(error, RecursionError) else "this is no character"
            raise self._no_yaml(*place, message) from None
        if self._unreadable:
            raise ConfigError(self.source, self.problems)
        if data is None:
            raise ConfigError(self.source, [Problem(0, 0, "", "the file is empty")])
        if not isinstance(data, dict):
            raise ConfigError(self.source, [Problem(1, 1, "", f"{found(data)}; a mapping of keys is needed")])
        return data

    def _no_yaml(self, line: int, column: int, message: str) -> ConfigError:
        return ConfigError(self.source, [Problem(line, column, "", f"this is not YAML: {message}")])

    def _convert(self, loader: yaml.SafeLoader, node: Node, path: Path) -> Any:
        self._count_up(1, len(path), node)
        self._values[path] = _place(node)
        if isinstance(node, ScalarNode):
            return self._scalar(loader, node, path)
        kind = "map" if isinstance(node, MappingNode) else "seq"
        if node.tag != _YAML + kind:
            return self._refuse(node, path, f"the tag {_shown(node.tag)} has no meaning here")
        if isinstance(node, MappingNode):
            return self._mapping(loader, node, path)
        assert isinstance(node, SequenceNode)
        return [self._convert(loader, item, (*path, index)) for index, item in enumerate(node.value)]

    def _count_up(self, values: int, depth: int, node: Node) -> None:
        self._count += values
        if self._count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, "too many or too deep values (aliases?)", node.start_mark)

    def _refuse(self, node: Node, path: Path, message: str) -> None:
        """There is a value that nobody can use; the rest is read to find more of them."""
        self._unreadable = True
        self.problems.append(Problem(*_place(node), key_of(path), message))

    def _scalar(self, loader: yaml.SafeLoader, node: ScalarNode, path: Path) -> Any:
        """Text, numbers, true, false, nothing. YAML has more, which no configuration means."""
        text, tag, shown = node.value, node.tag, found(node.value)
        if tag == _TEXT:
            if any("\ud800" <= character <= "\udfff" for character in text):
                return self._refuse(node, path, f"{shown}; that has half a character (a surrogate) in it")
            return text
        if tag == _YAML + "timestamp":
            return self._refuse(node, path, f"{shown}, which YAML takes for a date; put it in quotes")
        if tag in (_MERGE, _YAML + "value"):
            return self._refuse(node, path, f"{shown}, which means something else to YAML; put it in quotes")
        if tag not in _NAMES:
            return self._refuse(node, path, f"the tag {_shown(tag)} has no meaning here")
        plain = loader.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if plain != tag and (tag, plain) != (_YAML + "float", _YAML + "int"):
            return self._refuse(node, path, f"{shown}; that is not {_NAMES[tag]}, as its tag {_shown(tag)} says")
        if ":" in text:
            return self._refuse(node, path, f"{shown}, which YAML takes for a number to base 60; put it in quotes")
        if len(text) > _MAX_DIGITS:
            return self._refuse(node, path, f"{shown}; this number is too long; put it in quotes if it is text")
        try:
            value = loader.construct_object(node)
        except ValueError:  # such as 0x_
            return self._refuse(node, path, f"{shown}; that is not {_NAMES[tag]}; put it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            return self._refuse(node, path, f"{shown}; a finite number is needed")
        return value

    def _mapping(self, loader: yaml.SafeLoader, node: MappingNode, path: Path) -> dict[str, Any]:
        pairs: dict[str, tuple[Node, Node]] = {}
        own: set[str] = set()

        def take(key_node: Node, value_node: Node, *, is_own: bool) -> None:
            key = self._key(loader, key_node, path)
            if key is None:
                return
            if is_own and key in own:
                self._twice(key_node, (*path, key))
                return
            if is_own:
                own.add(key)
            pairs[key] = (key_node, value_node)

        self._each_pair(node, path, take, len(path))
        data: dict[str, Any] = {}
        for key, (key_node, value_node) in pairs.items():
            self._keys[(*path, key)] = _place(key_node)
            data[key] = self._convert(loader, value_node, (*path, key))
        return data

    def _each_pair(
        self, node: MappingNode, path: Path, take: Callable[..., None], depth: int, own: bool = True
    ) -> None:
        """Merged pairs (``<<``) first, as what comes later wins."""
        self._count_up(len(node.value), depth, node)
        merges = [(key, value) for key, value in node.value if key.tag == _MERGE]
        for key_node, _ in merges[1:]:
            self._twice(key_node, (*path, "<<"))
        for _, value_node in merges:
            listed = isinstance(value_node, SequenceNode)
            for each in reversed(value_node.value) if listed else [value_node]:
                self._count_up(1, depth, each)
                if isinstance(each, MappingNode) and each.tag == _YAML + "map":
                    self._each_pair(each, path, take, depth + 1, own=False)
                else:
                    self._refuse(each, (*path, "<<"), "a merge key (<<) needs a mapping, or a list of mappings")
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                take(key_node, value_node, is_own=own)

    def _key(self, loader: yaml.SafeLoader, node: Node, path: Path) -> str | None:
        if isinstance(node, ScalarNode):
            if node.tag == _YAML + "value":
                return str(node.value)
            before = len(self.problems)
            key = self._scalar(loader, node, path)
            if isinstance(key, str):
                return key
            if len(self.problems) > before:
                return None
            what = found(key)
        else:
            what = "found a mapping" if isinstance(node, MappingNode) else "found a list"
        self.problems.append(Problem(*_place(node), key_of(path), f"{what} as a key; keys are text"))
        return None

    def _twice(self, node: Node, path: Path) -> None:
        self.problems.append(Problem(*_place(node), key_of(path), "this key is given twice"))


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _shown(tag: str) -> str:
    """A tag as it is written."""
    written = "!!" + tag.removeprefix(_YAML) if tag.startswith(_YAML) else tag
    return written if written.isprintable() and len(written) <= 60 else found(written).removeprefix("found ")
