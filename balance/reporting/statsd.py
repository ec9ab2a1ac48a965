"""``statsd``: statistics, sent every few seconds over UDP.

Rule of this file: what only goes up is sent as what was added since the last time, everything else as it is. A server
that does not listen costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from balance.config.values import BackendAddress, Duration
from balance.interfaces import IStatisticsSink

#: Bytes of a datagram that no network cuts.
_PACKET: Final = 1400
_COUNTERS: Final = frozenset(
    (
        "requests",
        "connections_accepted",
        "connections_paused",
        "bytes_in",
        "bytes_out",
        "retries",
        "failures",
        "ejections",
        "opened",
        "reused",
    )
)
_GAUGES: Final = frozenset(
    ("active_requests", "connections_open", "connections_limit", "active", "queued", "open", "idle", "weight")
)


@implementer(IStatisticsSink)
class Statsd:
    """Sends counters (``c``) and gauges (``g``), as ``PREFIX.listeners.NAME.requests:12|c``."""

    log = Logger()

    class Options(BaseModel):
        """What the configuration may say."""

        model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

        address: BackendAddress = Field(description="Where it listens: IP address and port.")
        interval: Duration = Field(default=10.0, ge=0.1, description="Between two reports.")
        prefix: str = Field(default="balance", pattern=r"^[\w.-]+$", description="In front of every name.")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._before: dict[str, int] = {}
        self._snapshot: Callable[[], Mapping[str, Any]] | None = None
        self._port: Any = None
        self._loop = LoopingCall(self._report)

    def start(self, snapshot: Callable[[], Mapping[str, Any]], reactor: Any) -> None:
        self._snapshot = snapshot
        self._port = reactor.listenUDP(0, DatagramProtocol())
        self._loop.clock = reactor
        self._loop.start(self._options.interval, now=False).addErrback(
            lambda failure: self.log.failure("statsd: no more reports", failure)
        )

    def stop(self) -> Any:
        if self._loop.running:
            self._loop.stop()
            self._report()
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    def _report(self) -> None:
        assert self._snapshot is not None
        address = self._options.address
        packet = b""
        for line in self.lines(self._snapshot()):
            if packet and len(packet) + len(line) >= _PACKET:
                self._port.write(packet, (address.host, address.port))
                packet = b""
            packet += (b"\n" if packet else b"") + line
        if packet:
            self._port.write(packet, (address.host, address.port))

    def lines(self, snapshot: Mapping[str, Any]) -> Iterator[bytes]:
        """What has to be told of a snapshot, one value a line."""
        for group in ("listeners", "pools", "backends"):
            for each in snapshot[group]:
                name = "".join(c if c.isalnum() or c in "-_" else "_" for c in each["name"])
                yield from self._values(f"{self._options.prefix}.{group}.{name}", each)

    def _values(self, prefix: str, values: Mapping[str, Any]) -> Iterator[bytes]:
        for key, value in values.items():
            name = f"{prefix}.{key}"
            if isinstance(value, Mapping) and key == "connections":
                yield from self._values(name, value)
            elif key in _COUNTERS:
                added = value - self._before.get(name, 0)
                self._before[name] = value
                if added:
                    yield f"{name}:{added}|c".encode()
            elif key in _GAUGES:
                yield f"{name}:{value}|g".encode()
