"""The health rules that come with Balance, besides the one that holds where none is configured."""

from __future__ import annotations

from balance.interfaces import IHealthRuleFactory
from balance.plugins.made import made_by
from balance.resilience.verdict import Statuses

statuses = made_by(IHealthRuleFactory, "statuses", Statuses)
