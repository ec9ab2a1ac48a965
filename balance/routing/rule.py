"""One routing rule: conditions, and what they lead to.

Rule of this file: a rule looks at the request head and says yes or no, and, when somebody asks, why not. It does not
know what its target is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Generic, TypeVar

from balance.model import RequestHead
from balance.routing.path import routing_path

T = TypeVar("T")


class Rule(Generic[T]):
    """All conditions must hold; an absent one always does.

    :param host: lower-case A-labels: ``a.example``, ``*.example`` (any name below, not ``example`` itself), or empty
    :param path_prefix: matches whole segments: ``/v1`` and ``/v1/`` both match ``/v1``, ``/v1/`` and ``/v1/x``, never
        ``/v10``. (The trailing slash of the dialect means just that boundary.)
    :param headers: each name (any case) must occur with exactly that value
    :param methods: any of these; none for all
    :param client_subject: of the client's verified certificate, exactly
    :param client_fingerprint: its SHA-256
    :param client_verified: whether the client has one; None for either
    :param priority: higher ones are tried first
    :param order: place in the configuration
    """

    __slots__ = (
        "_directory",
        "_exact",
        "_fields",
        "always",
        "client",
        "headers",
        "host",
        "methods",
        "name",
        "order",
        "path_prefix",
        "priority",
        "target",
    )

    def __init__(
        self,
        *,
        name: str,
        target: T,
        host: str = "",
        path_prefix: str = "",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        methods: Iterable[str] = (),
        client_subject: str = "",
        client_fingerprint: str = "",
        client_verified: bool | None = None,
        priority: int = 0,
        order: int = 0,
    ) -> None:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self.name = name
        self.target = target
        self.host = host.encode("ascii").lower()
        self.path_prefix = path_prefix.encode("utf-8")
        self.headers = tuple((key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in pairs)
        self.client = _client_facts(client_subject, client_fingerprint, client_verified)
        self._fields = frozenset(name + b":" + value for name, value in self.headers) | self.client
        self.methods = frozenset(method.encode("ascii") for method in methods)
        self.priority = priority
        self.order = order
        bare = self.path_prefix.rstrip(b"/")
        self._exact = bare
        self._directory = bare + b"/"
        #: Nothing but the host is asked for: whoever has checked that need not call `matches`.
        self.always = not (bare or self._fields or self.methods)

    @property
    def specificity(self) -> tuple[int, int, int, int]:
        """Exact host before wildcard before none; longer names, longer prefixes, more fields (and facts of clients)."""
        wildcard = self.host.startswith(b"*.")
        kind = 0 if not self.host else len(self.host) if wildcard else 1000 + len(self.host)
        return kind, len(self._exact), len(self._fields), bool(self.methods)

    def matches(self, head: RequestHead, path: bytes, fields: Set[bytes]) -> bool:
        """Whether everything but the host holds.

        :param path: `routing_path` of the request
        :param fields: `fields_of` the request, for the names in ``headers`` at least, and the facts of the client
        """
        if self._fields and not self._fields <= fields:
            return False
        if self.methods and head.method not in self.methods:
            return False
        return not self._exact or path == self._exact or path.startswith(self._directory)

    def explain(self, head: RequestHead, facts: Set[bytes] = frozenset()) -> str:
        """Why the rule does not match, for people; empty when it does.

        :param facts: of the client: `balance.codec.forwarding.Forwarding.facts`
        """
        if self.host and not host_matches(self.host, host_of(head.host)):
            return f"host {_text(host_of(head.host))} is not {_text(self.host)}"
        if self.methods and head.method not in self.methods:
            return f"method {_text(head.method)} is not one of {', '.join(sorted(map(_text, self.methods)))}"
        path = routing_path(head.path)
        if self._exact and path != self._exact and not path.startswith(self._directory):
            return f"path {_text(path)} is not below {_text(self.path_prefix)}"
        for name, value in self.headers:
            found = head.headers.get_all(name)
            if value not in found:
                return f"header {_text(name)} is {', '.join(map(_text, found)) or 'absent'}, not {_text(value)}"
        for fact in sorted(self.client - facts):
            name, _, value = fact[1:].partition(b":")
            return f"{_text(name).replace('-', '_')} is not {_text(value)}"
        return ""

    def __repr__(self) -> str:
        return f"<Rule {self.name}>"


def _client_facts(subject: str, fingerprint: str, verified: bool | None) -> frozenset[bytes]:
    """As pseudo-fields, with names that no field can have, so that rules compare them as they compare fields."""
    facts = [
        f":client-subject:{subject}" if subject else "",
        f":client-fingerprint:{fingerprint}" if fingerprint else "",
        "" if verified is None else f":client-verified:{str(verified).lower()}",
    ]
    return frozenset(fact.encode("ascii") for fact in facts if fact)


def fields_of(head: RequestHead, names: Iterable[bytes]) -> Set[bytes]:
    """The fields of these (lower-case) names, as ``name:value``: what many rules are compared with at once."""
    headers = head.headers
    return {name + b":" + value for name in names if name in headers.names for value in headers.get_all(name)}


def host_of(authority: bytes) -> bytes:
    """The host of an authority: lower case, without port and trailing dot. IP literals keep their brackets."""
    if authority.startswith(b"["):
        return authority.partition(b"]")[0].lower() + b"]"
    return authority.partition(b":")[0].lower().removesuffix(b".")


def host_matches(pattern: bytes, host: bytes) -> bool:
    """Whether a host (`host_of`) fits a rule's pattern."""
    if pattern.startswith(b"*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern == host


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace")
