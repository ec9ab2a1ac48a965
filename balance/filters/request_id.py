"""``request-id``: a name for every request, in every log."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from balance.config.values import EditedName
from balance.filters.base import Filter
from balance.filters.context import Context
from balance.model import ResponseHead

_LONGEST: Final = 128


class RequestId(Filter):
    """Gives each request an id: 32 hexadecimal digits, random. Backend and client are told."""

    class Options(BaseModel):
        """What the configuration may say."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        header: EditedName = Field(default="X-Request-Id", description="Field that carries it.")
        keep: bool = Field(default=False, description="Keep the id that a client sends, if it is not too long.")
        response: bool = Field(default=True, description="Tell the client, too.")

    def __init__(self, options: Options, random: Callable[[int], bytes] = os.urandom) -> None:
        self._name = options.header.encode("latin-1")
        self._lower = self._name.lower()
        self._keep = options.keep
        self._random = random
        if not options.response:
            self.response_head = None  # type: ignore[assignment, method-assign]

    def request_head(self, context: Context) -> None:
        headers = context.request.headers
        known = headers.get_all(self._lower) if self._lower in headers.names else []
        if not (self._keep and len(known) == 1 and 0 < len(known[0]) <= _LONGEST):
            headers.set(self._name, self._random(16).hex().encode("ascii"))

    def response_head(self, context: Context, response: ResponseHead) -> None:
        known = context.request.headers.get(self._lower)
        if known is not None:
            response.headers.set(self._name, known)
