"""A configuration to ask, without a server.

Rule of this file: the server's own assembly, with nothing to dial and a clock that stands still.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from balance.assembly import Assembly, assemble_all
from balance.explain.question import BadQuestion
from balance.net.deadlines import Deadlines

if TYPE_CHECKING:
    from balance.config import Config


class _NoNetwork:
    """Nobody dials here."""

    def dial(self, *args: Any) -> Any:
        raise RuntimeError("nothing is connected to")


def offline(config: Config, *, down: Iterable[str] = ()) -> list[Assembly]:
    """What a server of that configuration would have at its start.

    :param down: names of backends that are taken out of service
    :raises BadQuestion: there is no such backend
    :raises PluginError: a plugin that the configuration asks for is missing or broken
    """
    clock = Clock()
    dialer: Any = _NoNetwork()
    built = assemble_all(config, deadlines=Deadlines(clock), dialer=dialer, clock=clock.seconds, rng=random.Random(0))
    backends = {backend.name: backend for assembly in built for backend in assembly.backends}
    for name in down:
        if name not in backends:
            raise BadQuestion(f"there is no backend {name!r}; there are {', '.join(backends)}")
        backends[name].set_enabled(False)
    return built
