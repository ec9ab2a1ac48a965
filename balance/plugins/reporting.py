"""The statistics sinks that come with Balance."""

from __future__ import annotations

from balance.interfaces import IStatisticsSinkFactory
from balance.plugins.made import made_by
from balance.reporting.statsd import Statsd

statsd = made_by(IStatisticsSinkFactory, "statsd", Statsd)
