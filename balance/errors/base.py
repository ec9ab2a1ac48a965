"""What every error says about itself.

Rule of this file: see `balance.errors`.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Source(enum.Enum):
    """Who caused an error. Passive health counts only what a backend caused."""

    CLIENT = "client"
    BACKEND = "backend"
    BALANCE = "balance"


class Retry(enum.Enum):
    """When another attempt is safe (RFC 9110, section 9.2.2; the idea of tying it to the error is pingora's)."""

    NEVER = "never"
    #: Not a byte of the request left us: every method may try again.
    UNSENT = "unsent"
    #: The request went out on a reused connection and not a byte came back: idempotent methods may try again.
    IDEMPOTENT = "idempotent"
    #: The peer says that it has done nothing (RFC 9113, section 8.7): every method may try again, a few times.
    UNPROCESSED = "unprocessed"


class BalanceError(Exception):
    """Root of every error Balance raises on purpose."""


class ExchangeError(BalanceError):
    """Something that ends an attempt, an exchange or a connection."""

    status: ClassVar[int] = 500
    source: ClassVar[Source] = Source.BALANCE
    #: May differ from instance to instance where it depends on how far an attempt had come.
    retry: Retry = Retry.NEVER
    reason: ClassVar[str] = "internal_error"
    proxy_status: ClassVar[str] = "proxy_internal_error"

    def __init__(self, detail: str = "", *, retry: Retry | None = None) -> None:
        super().__init__(detail or (self.__doc__ or "").split("\n")[0])
        if retry is not None:
            self.retry = retry

    @property
    def detail(self) -> str:
        return str(self.args[0])
