"""What every section of a configuration has in common, and how plugins are named in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A mapping of the file. Immutable once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class PluginConfig(Section):
    """A plugin and its options. Without options, the name alone will do: `"acme.auth:require_token"`."""

    use: str = Field(
        min_length=1,
        description="Its name, or the dotted path of a class, a function or an object: `package.module:name`.",
        examples=["acme.rewrite:Rewriter"],
    )
    options: Mapping[str, Any] = Field(
        default_factory=dict,
        description="What it understands, says its own documentation.",
        examples=[{"header": "X-Tenant"}],
    )
    #: Where it stands in the file, for messages.
    place: str = Field(default="", exclude=True, repr=False, description="")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @field_validator("options", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("options", mode="after")
    @classmethod
    def _frozen(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return MappingProxyType(dict(value))


class Plugins(Protocol):
    """What plugins there are: `balance.registry.INSTALLED` is one of these."""

    def problems(
        self, kind: str, use: str, options: Mapping[str, Any] | None
    ) -> Iterable[tuple[tuple[str | int, ...], str]]:
        """What is wrong with a plugin, or with its options: where, below the plugin's mapping, and a sentence.

        :param kind: ``filter``, ``matcher``, ``balancer``...
        """
