"""What our own tests share with everybody's: the testing kit (`balance.testing`, doc/testing.md)."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

from twisted.internet.task import Clock

from balance.testing.memory import MemoryDial, MemoryDialer, MemoryTransport, Peer
from balance.testing.world import World

__all__ = ["Clock", "MemoryDial", "MemoryDialer", "MemoryTransport", "Peer", "World", "no_descriptors"]


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """The real thing: this process may open nothing more, until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
