"""The rules of a listener, in the order they are tried, indexed by host.

Rule of this file: a request is compared with the rules of its own host only. Which those are is worked out once for
each host that is asked for, and remembered for a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final, Generic, TypeVar

from balance.model import RequestHead
from balance.routing.path import routing_path
from balance.routing.rule import Rule, fields_of, host_of

T = TypeVar("T")

_Known = tuple[tuple[Rule[T], ...], tuple[bytes, ...], bool]

_REMEMBERED_HOSTS: Final = 4096
_NO_FIELDS: Final[frozenset[bytes]] = frozenset()


class RuleTable(Generic[T]):
    """Immutable. Order: higher priority; then more specific (`Rule.specificity`); then as configured.

    `ordered` is all rules in that order.
    """

    __slots__ = ("_by_host", "_candidates", "ordered")

    def __init__(self, rules: Iterable[Rule[T]]) -> None:
        self.ordered: tuple[Rule[T], ...] = tuple(
            sorted(rules, key=lambda rule: (-rule.priority, [-part for part in rule.specificity], rule.order))
        )
        self._by_host: dict[bytes, list[tuple[int, Rule[T]]]] = {}
        for place, rule in enumerate(self.ordered):
            self._by_host.setdefault(rule.host, []).append((place, rule))
        #: Authority as it came in a request -> the rules to try. Clients choose the keys, so it is bounded.
        #: Behind them, the names of the fields that any of them asks for, and whether any asks about the client.
        self._candidates: dict[bytes, _Known[T]] = {}

    def match(self, head: RequestHead, facts: Set[bytes] = _NO_FIELDS) -> Rule[T] | None:
        """The first rule that matches, or None.

        :param facts: of the client: `balance.codec.forwarding.Forwarding.facts`
        :raises BadRequest: the path cannot be understood (`routing_path`)
        """
        known = self._candidates.get(head.host)
        candidates, names, asks = known if known is not None else self._learn(head.host)
        path: bytes | None = None
        fields: Set[bytes] = _NO_FIELDS
        for rule in candidates:
            if rule.always:
                return rule
            if path is None:
                path = routing_path(head.path)
                if names:
                    fields = fields_of(head, names)
                if asks:
                    fields = fields | facts
            if rule.matches(head, path, fields):
                return rule
        return None

    def candidates(self, authority: bytes) -> tuple[Rule[T], ...]:
        """The rules whose host fits, in order: those of the host itself, of wildcards above it, and of no host."""
        host = host_of(authority)
        found = list(self._by_host.get(b"", ()))
        if host and not host.startswith(b"*"):
            found += self._by_host.get(host, ())
        dot = host.find(b".")
        while dot >= 0:
            found += self._by_host.get(b"*" + host[dot:], ())
            dot = host.find(b".", dot + 1)
        return tuple(rule for _, rule in sorted(found, key=lambda entry: entry[0]))

    def _learn(self, authority: bytes) -> _Known[T]:
        if len(self._candidates) >= _REMEMBERED_HOSTS:
            self._candidates.clear()
        candidates = self.candidates(authority)
        names = tuple({name for rule in candidates for name, _ in rule.headers})
        found = self._candidates[authority] = candidates, names, any(rule.client for rule in candidates)
        return found
