"""Names for the configuration: twisted.plugin finds what stands here. Optional; dotted paths work without it."""

from twisted.plugin import IPlugin
from zope.interface import implementer

from acme_balance.auth import RequireToken
from acme_balance.policies import StickyByTenant
from acme_balance.rewrite import ReplaceText
from balance.interfaces import IBalancerFactory, IFilterFactory


@implementer(IPlugin, IFilterFactory)
class FilterFactory:
    def __init__(self, name, made):
        self.names = (name,)
        self.Options = made.Options
        self.build = made


@implementer(IPlugin, IBalancerFactory)
class TenantFactory:
    names = ("acme-tenant",)
    needs_key = True
    Options = StickyByTenant.Options

    def build(self, options):
        return StickyByTenant(options["options"])


token = FilterFactory("acme-token", RequireToken)
replace = FilterFactory("acme-replace", ReplaceText)
tenant = TenantFactory()
