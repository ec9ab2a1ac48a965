"""The testing kit: a whole Balance in memory, for tests of configurations and plugins. See doc/testing.md.

    app = Application("backends: [{name: a, address: '10.0.0.1:80'}]")
    call = app.get("http://shop.example/cart", headers={"X-Tenant": "t1"}, client="198.51.100.7")
    assert (call.status, call.backend) == (200, "a")
    assert call.upstream.headers["X-Forwarded-For"] == "198.51.100.7"

Rule of this package: only what would be a socket or a clock is replaced. Works with any test runner.
"""

from balance.testing.application import Application
from balance.testing.backend import FakeBackend
from balance.testing.behaviour import Behaviour, Blackhole, Close, Raw, Refuse, Reply, Reset, Silence, Truncate
from balance.testing.client import Call, Client
from balance.testing.memory import MemoryDial, MemoryDialer, MemoryTransport, Peer
from balance.testing.messages import Fields, Received, Response
from balance.testing.world import World

__all__ = [
    "Application",
    "Behaviour",
    "Blackhole",
    "Call",
    "Client",
    "Close",
    "FakeBackend",
    "Fields",
    "MemoryDial",
    "MemoryDialer",
    "MemoryTransport",
    "Peer",
    "Raw",
    "Received",
    "Refuse",
    "Reply",
    "Reset",
    "Response",
    "Silence",
    "Truncate",
    "World",
]
