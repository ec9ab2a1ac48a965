"""A balancing algorithm: each tenant has its backend (rendezvous hashing).

A tenant keeps its backend as long as that is available; when it is not, the tenants of that one backend are spread over
the others, and nobody else moves.
"""

from collections.abc import Sequence
from hashlib import blake2b

from pydantic import BaseModel, ConfigDict
from zope.interface import implementer

from balance.interfaces import IBalancer, ICandidate


@implementer(IBalancer)
class StickyByTenant:
    """Give it a key: ``hash_key: header:X-Tenant``."""

    needs_key = True

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        salt: str = ""

    def __init__(self, options: Options) -> None:
        self._salt = options.salt.encode()[:16]

    def set_members(self, members: Sequence[ICandidate]) -> None:
        """Nothing to prepare: every backend is asked for its score."""

    def pick(self, candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        return max(candidates, key=lambda candidate: self._score(candidate.name, key))

    def _score(self, name: str, key: bytes) -> bytes:
        return blake2b(name.encode() + b"\0" + key, digest_size=8, salt=self._salt).digest()
