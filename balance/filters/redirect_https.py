"""``redirect-https``: requests that came unencrypted are sent to the same place over TLS."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from balance.config.values import PathPrefix
from balance.filters.answer import Answer
from balance.filters.base import Filter
from balance.filters.context import Context
from balance.routing.path import routing_path


class RedirectHttps(Filter):
    """Answers a request that came over plain HTTP with a redirect. What a trusted proxy says of the scheme counts."""

    class Options(BaseModel):
        """What the configuration may say."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        status: Literal[301, 302, 307, 308] = Field(default=308, description="Status of the redirect.")
        port: int = Field(default=443, ge=1, le=65535, description="Port of the encrypted listener.")
        except_paths: tuple[PathPrefix, ...] = Field(
            default=("/.well-known/acme-challenge/",), description="Paths that stay unencrypted, with all below."
        )

    def __init__(self, options: Options) -> None:
        self._status = options.status
        self._port = "" if options.port == 443 else f":{options.port}"
        self._spared = tuple(path.encode("ascii").rstrip(b"/") for path in options.except_paths)

    def request_head(self, context: Context) -> Answer | None:
        request = context.request
        if request.headers.get(b"x-forwarded-proto") != b"http" or self._is_spared(request.path):
            return None
        host = _without_port(request.host.decode("ascii"))
        if not host:
            return Answer(400, "a Host field is needed\n")
        return Answer(self._status, "", {"Location": f"https://{host}{self._port}{request.target.decode('ascii')}"})

    def _is_spared(self, path: bytes) -> bool:
        path = routing_path(path)
        return any(path == spared or path.startswith(spared + b"/") for spared in self._spared)


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]
