"""From a configuration to what finds backends, and what follows when it has found some.

Rule of this file: like `balance.assembly`, which uses it, it makes objects once, at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from balance.pool.discovered import Group
from balance.registry import build as build_plugin

if TYPE_CHECKING:
    from balance.config import DiscoveryConfig, Listener
    from balance.interfaces import IDiscovery
    from balance.model import Discovered
    from balance.pool.backend import Backend
    from balance.pool.pool import Pool


class Groups:
    """The discoveries of one listener.

    :param backends: those of the configuration, by name
    :param make: a backend, as the configuration wants it: name, address, weight, max_connections
    :param live: everything there is; what is found is added, what is gone is removed
    """

    def __init__(
        self,
        config: Listener,
        backends: Mapping[str, Backend],
        make: Callable[..., Backend],
        live: list[Backend],
    ) -> None:
        self._config = config
        self._backends = backends
        self._make = make
        self._live = live
        self._by_name: dict[str, Group] = {}

    def build(
        self, opened: Callable[[Backend, DiscoveryConfig], None], closed: Callable[[Backend], None]
    ) -> tuple[tuple[Group, IDiscovery], ...]:
        """Make them.

        :param opened: a backend was found, and will be asked for connections
        :param closed: it is gone, and has nothing under way
        :raises PluginError: one is missing or broken
        """
        return tuple(
            (self._group(each, opened, closed), build_plugin("discovery", each)) for each in self._config.discovery
        )

    def _group(self, config: DiscoveryConfig, opened: Callable[..., None], closed: Callable[..., None]) -> Group:
        def make(name: str, found: Discovered) -> Backend:
            return self._make(name, found.address, found.weight, found.max_connections)

        def on_opened(backend: Backend) -> None:
            opened(backend, config)
            self._live.append(backend)

        def on_closed(backend: Backend) -> None:
            self._live.remove(backend)
            closed(backend)

        group = self._by_name[config.name] = Group(config.name, make, on_opened, on_closed)
        return group

    def members(self, names: Sequence[str]) -> list[Backend]:
        """Backends by their names, and by those of groups: all that they have now."""
        found: list[Backend] = []
        for name in names or (*self._backends, *self._by_name):
            found += self._by_name[name].backends if name in self._by_name else (self._backends[name],)
        return found

    def follow(self, names: Sequence[str], pool: Pool, affinity: Any) -> None:
        """Keep a pool up to date, and whoever remembers its backends by name."""
        set_names = getattr(affinity, "set_names", None)

        def changed() -> None:
            members = self.members(names)
            pool.set_members(members)
            if set_names is not None:
                set_names([backend.name for backend in members])

        for name in names or self._by_name:
            if name in self._by_name:
                self._by_name[name].on_change(changed)
