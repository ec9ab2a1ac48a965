"""The parts of an answer.

Rule of this file: values only, and all of them go to JSON as they are (`Explanation.as_dict`). What does not apply is
empty or None.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """The request ends with an answer of Balance's own.

    :ivar reason: stable code, as in logs and statistics
    """

    status: int
    reason: str
    detail: str


@dataclass(frozen=True)
class RouteTried:
    """One route, in the order they are tried.

    :ivar outcome: ``match``, ``no`` or ``not tried``
    """

    name: str
    priority: int
    conditions: str
    outcome: str
    why: str


@dataclass(frozen=True)
class Affinity:
    """Who remembers clients for this route.

    :ivar bound: the backend the client is bound to; None where there is none
    :ivar known: False where that cannot be found out without an effect
    """

    kind: str
    key: str
    bound: str | None
    known: bool = True


@dataclass(frozen=True)
class Candidate:
    """A backend of the route's pool, as it is now."""

    name: str
    address: str
    weight: int
    active: int
    max_connections: int
    state: str
    available: bool
    why: str


@dataclass(frozen=True)
class Choice:
    """Who gets the request.

    :ivar backend: None when nobody does
    :ivar by: ``affinity``, ``balancer``, ``queue`` (it waits for a place) or empty
    :ivar then: whom it goes to next, should connecting fail, in order
    """

    backend: str | None
    by: str
    why: str
    then: tuple[str, ...] = ()


@dataclass(frozen=True)
class PoolState:
    """The pool behind the route."""

    name: str
    algorithm: str
    hash_key: str
    key: str | None
    queued: int
    max_queue: int


@dataclass(frozen=True)
class FieldChange:
    """A header field that the backend is sent differently from what came. ``what``: ``add``, ``change``, ``remove``."""

    what: str
    name: str
    value: str


@dataclass(frozen=True)
class RetryCase:
    """What follows when an attempt fails in one of these ways (reason codes)."""

    errors: tuple[str, ...]
    then: str


@dataclass(frozen=True)
class Explanation:
    """The whole answer. Everything below the step that refuses a request is empty."""

    request: dict[str, Any]
    listener: dict[str, str]
    client: str = ""
    routes: tuple[RouteTried, ...] = ()
    route: str | None = None
    filters: tuple[str, ...] = ()
    affinity: Affinity | None = None
    pool: PoolState | None = None
    candidates: tuple[Candidate, ...] = ()
    choice: Choice | None = None
    upstream: tuple[str, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    response_edits: tuple[FieldChange, ...] = ()
    timeouts: dict[str, float] | None = None
    retries: tuple[RetryCase, ...] = ()
    refusal: Refusal | None = None

    @property
    def forwarded(self) -> bool:
        """Whether a backend gets the request."""
        return self.choice is not None and self.choice.backend is not None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of_dict(cls, data: dict[str, Any]) -> Explanation:
        """Back from JSON. What is missing or new there is passed over: the other side may be of another version."""
        kinds: dict[str, Any] = {"affinity": Affinity, "pool": PoolState, "choice": Choice, "refusal": Refusal}
        many: dict[str, Any] = {
            "routes": RouteTried,
            "candidates": Candidate,
            "changes": FieldChange,
            "response_edits": FieldChange,
            "retries": RetryCase,
        }
        values: dict[str, Any] = {"request": {}, "listener": {}}
        for field in fields(cls):
            value = data.get(field.name)
            if value is None:
                continue
            if field.name in many:
                value = tuple(_one(many[field.name], each) for each in value)
            elif field.name in kinds:
                value = _one(kinds[field.name], value)
            elif isinstance(value, list):
                value = tuple(value)
            values[field.name] = value
        return cls(**values)


def _one(kind: Any, data: dict[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{key: tuple(each) if isinstance(each, list) else each for key, each in data.items() if key in known})
