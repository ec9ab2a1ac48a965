"""The filters that come with Balance, found the same way as anybody else's.

Rule of this file: one line for each.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from twisted.plugin import IPlugin
from zope.interface import implementer

from balance.filters.fixed_answer import FixedAnswer
from balance.filters.redirect_https import RedirectHttps
from balance.filters.request_id import RequestId
from balance.interfaces import IFilter, IFilterFactory


@implementer(IPlugin, IFilterFactory)
class Builtin:
    """A filter by its name. Its class has ``Options``, and is made with them."""

    def __init__(self, name: str, made: Any) -> None:
        self.names = (name,)
        self.Options: type[BaseModel] = made.Options
        self._made = made

    def build(self, options: Any) -> IFilter:
        return self._made(options)  # type: ignore[no-any-return]


request_id = Builtin("request-id", RequestId)
redirect_https = Builtin("redirect-https", RedirectHttps)
fixed_answer = Builtin("answer", FixedAnswer)
