"""Conditions of routes."""

from pydantic import BaseModel, ConfigDict, Field

from balance.model import RequestHead


def from_inside(request: RequestHead) -> bool:
    """Clients of our own network. X-Real-IP is Balance's word, whatever the client says."""
    return (request.headers.get(b"x-real-ip") or b"").startswith(b"10.")


class OfTenants:
    """Requests of some tenants."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        tenants: list[str] = Field(min_length=1)

    def __init__(self, options: Options) -> None:
        self._tenants = {tenant.encode() for tenant in options.tenants}

    def matches(self, request: RequestHead) -> bool:
        return request.headers.get(b"x-tenant") in self._tenants
