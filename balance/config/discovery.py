"""What a configuration may say about backends that are found at run time.

Rule of this file: as in `balance.config.schema`.
"""

from __future__ import annotations

from pydantic import Field

from balance.config.section import PluginConfig
from balance.config.tls import BackendTlsValue


class DiscoveryConfig(PluginConfig):
    """A plugin that adds and removes backends while Balance runs. Routes name it among their `backends`, as if it were
    one: it stands for all that it has found. Requests of a backend that is gone are finished.
    """

    name: str = Field(min_length=1, description="Unique name, also among backends.", examples=["api"])
    tls: BackendTlsValue = Field(default=None, description="Speak TLS with what it finds: `true`, or a mapping.")
