"""How a filter is written as a class, or as a function of one phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from zope.interface import implementer

from balance.interfaces import IFilter

F = TypeVar("F", bound=Callable[..., Any])

#: The phases, in the order of an exchange. Each is a method of `IFilter`.
PHASES: Final = (
    "request_head",
    "choose_backends",
    "upstream_request",
    "request_body",
    "request_trailers",
    "response_head",
    "response_body",
    "response_trailers",
    "error",
    "log",
)


class PassBody:
    """The type of `PASS_BODY`."""

    def __repr__(self) -> str:
        return "PASS_BODY"


#: Returned by `response_head`: this filter does not want to see the body of this response.
PASS_BODY: Final = PassBody()


@implementer(IFilter)
class Filter:
    """A base class, for those who like one. It has no phase: define those you need.

    :cvar keeps_length: `request_body` and `response_body` return as many bytes as they are given, so that
        Content-Length stays true. (It is checked.) Without this, a body that is filtered is sent without a length.
    """

    keeps_length = False


def phase(name: str) -> Callable[[F], F]:
    """Say which phase a plain function is for, if it is not `request_head`.

    :raises ValueError: there is no such phase
    """
    if name not in PHASES:
        raise ValueError(f"{name!r} is no phase; there are: {', '.join(PHASES)}")

    def mark(function: F) -> F:
        function.balance_phase = name  # type: ignore[attr-defined]
        return function

    return mark


class _Function:
    """A plain function, as a filter of one phase."""

    def __init__(self, function: Callable[..., Any]) -> None:
        setattr(self, getattr(function, "balance_phase", "request_head"), function)


def as_filter(given: Any) -> Any:
    """Filters as they are; a plain function as a filter of its phase (see `phase`)."""
    if any(getattr(given, name, None) is not None for name in PHASES):
        return given
    return _Function(given) if callable(given) else given
