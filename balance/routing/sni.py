"""Routes of layer 4: chosen by what a TLS ClientHello asks for, without ending the TLS.

Rule of this file: like `balance.routing.rule` for requests: it says yes or no, why not, and knows nothing of its
targets.
Names compare as host patterns do everywhere else: `*.example.com` is every name below, not `example.com` itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from balance.codec.client_hello import ClientHello
from balance.routing.rule import host_matches

T = TypeVar("T")


class SniRule(Generic[T]):
    """All conditions must hold; an absent one always does.

    :param sni: lower-case A-labels: ``a.example``, ``*.example``, or empty
    :param alpn: any of these protocol ids among those the client offers; none for all
    :param priority: higher ones are tried first
    :param order: place in the configuration
    """

    __slots__ = ("alpn", "name", "order", "priority", "sni", "target")

    def __init__(
        self, *, name: str, target: T, sni: str = "", alpn: Iterable[str] = (), priority: int = 0, order: int = 0
    ) -> None:
        self.name = name
        self.target = target
        self.sni = sni.encode("ascii").lower()
        self.alpn = frozenset(protocol.encode("ascii") for protocol in alpn)
        self.priority = priority
        self.order = order

    @property
    def asks(self) -> bool:
        """Whether the ClientHello has to be read to decide."""
        return bool(self.sni or self.alpn)

    @property
    def specificity(self) -> tuple[int, int]:
        """Exact name before wildcard before none, longer names first; then with ALPN before without."""
        wildcard = self.sni.startswith(b"*.")
        kind = 0 if not self.sni else len(self.sni) if wildcard else 1000 + len(self.sni)
        return kind, bool(self.alpn)

    def matches(self, hello: ClientHello) -> bool:
        """Whether all conditions hold."""
        if self.sni and not host_matches(self.sni, hello.server_name.encode("ascii")):
            return False
        return not self.alpn or not self.alpn.isdisjoint(hello.alpn)

    def explain(self, hello: ClientHello) -> str:
        """Why the rule does not match, for people; empty when it does."""
        if self.sni and not host_matches(self.sni, hello.server_name.encode("ascii")):
            return f"server name {hello.server_name or '(none)'} is not {self.sni.decode()}"
        if self.alpn and self.alpn.isdisjoint(hello.alpn):
            wanted = ", ".join(sorted(protocol.decode() for protocol in self.alpn))
            offered = ", ".join(protocol.decode("ascii", "backslashreplace") for protocol in hello.alpn)
            return f"ALPN {offered or '(none)'} has none of {wanted}"
        return ""


class SniTable(Generic[T]):
    """Immutable. Order: higher priority; then more specific; then as configured.

    `ordered` is all rules in that order; `asks` whether any of them needs the ClientHello.
    """

    __slots__ = ("asks", "ordered")

    def __init__(self, rules: Iterable[SniRule[T]]) -> None:
        self.ordered: tuple[SniRule[T], ...] = tuple(
            sorted(rules, key=lambda rule: (-rule.priority, [-part for part in rule.specificity], rule.order))
        )
        self.asks = any(rule.asks for rule in self.ordered)

    def match(self, hello: ClientHello | None) -> SniRule[T] | None:
        """The first rule that matches, or None.

        :param hello: may be None only where nothing `asks` for it
        """
        for rule in self.ordered:
            if hello is None or rule.matches(hello):
                return rule
        return None
