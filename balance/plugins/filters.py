"""The filters that come with Balance, found the same way as anybody else's.

Rule of this file: one line for each.
"""

from __future__ import annotations

from balance.filters.fixed_answer import FixedAnswer
from balance.filters.redirect_https import RedirectHttps
from balance.filters.request_id import RequestId
from balance.interfaces import IFilterFactory
from balance.plugins.made import made_by

request_id = made_by(IFilterFactory, "request-id", RequestId)
redirect_https = made_by(IFilterFactory, "redirect-https", RedirectHttps)
fixed_answer = made_by(IFilterFactory, "answer", FixedAnswer)
