"""Looking into a configuration that nothing has checked yet.

Rule of this file: what is not of the kind that is looked for counts as not there; the schema says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def get(value: Any, key: str) -> Any:
    """What a mapping has there; None for nothing."""
    return value.get(key) if isinstance(value, dict) else None


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    """The mappings in a list."""
    return [item for item in items(value) if isinstance(item, dict)]


def numbered(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The mappings in a list, and where they stand in it."""
    return ((index, item) for index, item in enumerate(items(value)) if isinstance(item, dict))
