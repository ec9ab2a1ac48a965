"""What our own tests share with everybody's: the testing kit (`balance.testing`, doc/testing.md)."""

from __future__ import annotations

from twisted.internet.task import Clock

from balance.testing.memory import MemoryDial, MemoryDialer, MemoryTransport, Peer
from balance.testing.world import World

__all__ = ["Clock", "MemoryDial", "MemoryDialer", "MemoryTransport", "Peer", "World"]
