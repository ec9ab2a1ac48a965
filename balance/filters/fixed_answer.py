"""``answer``: the same answer to every request, such as a word about maintenance."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from balance.config.values import EditedName, FieldValue
from balance.filters.answer import Answer
from balance.filters.base import Filter
from balance.filters.context import Context


class FixedAnswer(Filter):
    """Answers every request that reaches it; no backend is asked."""

    class Options(BaseModel):
        """What the configuration may say."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        status: int = Field(default=503, ge=200, le=599, description="Status.")
        body: str = Field(default="", description="Body, sent as UTF-8.")
        headers: dict[EditedName, FieldValue] = Field(default_factory=dict, description="Header fields.")

    def __init__(self, options: Options) -> None:
        self._answer = Answer(options.status, options.body, options.headers)

    def request_head(self, context: Context) -> Answer:
        return self._answer
