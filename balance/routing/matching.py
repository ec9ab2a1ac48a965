"""Rules with conditions that plugins add.

Rule of this file: a rule without such conditions is a plain `Rule`, and pays nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any, TypeVar

from balance.errors import MatcherFailed
from balance.interfaces import IRouteMatcher
from balance.model import RequestHead
from balance.routing.rule import Rule

T = TypeVar("T")
Report = Callable[[str, Exception], None]


def ignore(what: str, error: Exception) -> None:
    """Nobody wants to know."""


class MatchedRule(Rule[T]):
    """A `Rule` all of whose matchers must agree, too.

    :param matchers: with their names, in the order in which they are asked: only after everything else holds
    :param report: told of each failure: what failed, and with what
    """

    __slots__ = ("_report", "matchers")

    def __init__(
        self, *, matchers: Sequence[tuple[str, IRouteMatcher]], report: Report = ignore, **conditions: Any
    ) -> None:
        super().__init__(**conditions)
        self.matchers = tuple(matchers)
        self._report = report
        self.always = False

    @property
    def specificity(self) -> tuple[int, int, int, int]:
        """One with matchers is tried before one that is like it and has none."""
        host, path, headers, methods = super().specificity
        return host, path, headers, methods + 2 * len(self.matchers)

    def matches(self, head: RequestHead, path: bytes, fields: Set[bytes]) -> bool:
        """
        :raises MatcherFailed: a matcher raised something
        """
        return super().matches(head, path, fields) and not self._disagrees(head)

    def explain(self, head: RequestHead, facts: Set[bytes] = frozenset()) -> str:
        why = super().explain(head, facts)
        if why:
            return why
        name = self._disagrees(head)
        return f"matcher {name} says no" if name else ""

    def _disagrees(self, head: RequestHead) -> str:
        """The first matcher that says no, or nothing."""
        for name, matcher in self.matchers:
            try:
                if not matcher.matches(head):
                    return name
            except Exception as error:
                self._report(f"matcher {name} of route {self.name} failed", error)
                raise MatcherFailed(f"matcher {name}: {type(error).__name__}: {error}") from error
        return ""


def rule_with(matchers: Sequence[tuple[str, IRouteMatcher]], report: Report = ignore) -> Callable[..., Rule[Any]]:
    """What makes a rule with these matchers."""
    if not matchers:
        return Rule
    return lambda **conditions: MatchedRule(matchers=matchers, report=report, **conditions)
