"""The discoveries that come with Balance."""

from __future__ import annotations

from balance.finding.dns import DnsDiscovery
from balance.interfaces import IDiscoveryFactory
from balance.plugins.made import made_by

dns = made_by(IDiscoveryFactory, "dns", DnsDiscovery)
