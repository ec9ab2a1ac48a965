"""What an attempt says about the health of its backend.

Rule of this file: yes or no, from what the client was told and what went wrong. What follows of it is
`balance.resilience.outlier`'s.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from zope.interface import implementer

from balance.config.values import found
from balance.errors import ExchangeError, Source, StaleConnection
from balance.interfaces import IHealthRule


@implementer(IHealthRule)
class BackendErrors:
    """What a backend does wrong is a failure, every response a success. This is the rule where none is configured."""

    def is_failure(self, status: int, error: ExchangeError | None) -> bool:
        return error is not None and error.source is Source.BACKEND and not isinstance(error, StaleConnection)


DEFAULT: Final = BackendErrors()


def _statuses(value: Any) -> tuple[range, ...]:
    ranges = []
    for each in value if isinstance(value, list | tuple) else ():
        match = re.fullmatch(r"([1-5]\d\d)(?:-([1-5]\d\d))?", str(each))
        if match is None:
            raise ValueError(f"{found(each)}; a status is needed, such as 503, or a range: '500-504'")
        ranges.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not ranges:
        raise ValueError(f"{found(value)}; a list of statuses is needed")
    return tuple(ranges)


@implementer(IHealthRule)
class Statuses:
    """Some statuses of responses are failures, too (HAProxy: ``observe layer7``)."""

    class Options(BaseModel):
        """What the configuration may say."""

        model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

        statuses: Annotated[tuple[range, ...], BeforeValidator(_statuses)] = Field(
            default=(range(500, 501), range(502, 505)),
            description="Those that are failures.",
        )

    def __init__(self, options: Options) -> None:
        self._failures = frozenset(status for each in options.statuses for status in each)

    def is_failure(self, status: int, error: ExchangeError | None) -> bool:
        return DEFAULT.is_failure(status, error) or (error is None and status in self._failures)
