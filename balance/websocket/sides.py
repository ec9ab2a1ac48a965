"""The two connections of messages mode.

Rule of this file: bytes come in and go to an endpoint, what the endpoint says goes out; what follows from it is decided
in `balance.websocket.messages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from balance.net.deadlines import Timed
from balance.net.relay import Side

if TYPE_CHECKING:
    from balance.net.deadlines import Deadlines
    from balance.websocket.endpoint import Endpoint
    from balance.websocket.messages import MessageTunnel

#: Bytes worked on before we look whether the other side still takes what comes of them: decompression makes much of
#: little.
_SLICE: Final = 16 * 1024


class MessageSide(Side):
    """An `EndpointOwner`, between a transport and an endpoint. ``deaf``: nothing it says is of interest any more."""

    __slots__ = ("_end_due", "_input", "_working", "deaf", "endpoint", "messages", "pinger")

    relay: MessageTunnel
    endpoint: Endpoint

    def __init__(self) -> None:
        super().__init__()
        self.messages = 0
        self.deaf = False
        self.pinger: Pinger | None = None
        #: What has come and was not worked on.
        self._input = b""
        self._working = False
        #: Its end has come, behind that.
        self._end_due = False

    def count_sent(self, size: int) -> None:
        """That many bytes were sent to this side."""
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        self.count(len(data))
        if self.pinger is not None:
            self.pinger.heard()
        if not self.deaf:
            self._input = self._input + data if self._input else data
            self.work()

    def work(self) -> None:
        """Give the endpoint what has come, as long as the other side takes what comes of it."""
        if self._working or not self._input:
            return
        self._working = True
        data, self._input = self._input, b""
        at, size = 0, len(data)
        try:
            while at < size and not self.paused and not self.deaf:
                self.endpoint.feed(data if size <= _SLICE else data[at : at + _SLICE])
                at += _SLICE
        finally:
            self._working = False
        if self.deaf:
            at = size
        self._input = data[at:]
        if self._end_due and not self._input:
            self._end_due = False
            self.relay.side_ended(self)

    def readConnectionLost(self) -> None:
        self.ended = True
        if self._input and not self.deaf:
            self._end_due = True
        else:
            self.relay.side_ended(self)

    def write(self, data: bytes) -> None:
        """What the endpoint has to say."""
        transport: Any = self.transport
        if transport is not None:
            self.count_sent(len(data))
            transport.write(data)

    def resumeProducing(self) -> None:
        """It takes more: the other side may go on with what waits there."""
        super().resumeProducing()
        other = self.other
        if isinstance(other, MessageSide):
            other.work()

    def listen(self) -> None:
        """Read it again, whatever the other side takes."""
        if self.paused:
            self.paused = False
            transport: Any = self.transport
            if transport is not None and not self.ended:
                transport.startReading()
            self.work()

    # --- EndpointOwner ----------------------------------------------------------------------------------------

    def message(self, payload: bytes, binary: bool) -> None:
        self.messages += 1
        self.relay.message(self, payload, binary)

    def progress(self) -> None:
        self.relay.progress()

    def pong(self) -> None:
        """`dataReceived` has told the pinger already."""

    def close_received(self, code: int | None, reason: bytes) -> None:
        self.deaf = True
        self.relay.close_received(self, code, reason)

    def violated(self, code: int, reason: str) -> None:
        self.deaf = True
        self.relay.violated(self, code, reason)


class MessageClient(MessageSide):
    """The client's side."""

    __slots__ = ()

    def count(self, size: int) -> None:
        relay = self.relay
        relay.counters.bytes_in += size
        relay.bytes_in += size

    def count_sent(self, size: int) -> None:
        relay = self.relay
        relay.counters.bytes_out += size
        relay.bytes_out += size


class MessageBackend(MessageSide):
    """The backend's side."""

    __slots__ = ()

    def count(self, size: int) -> None:
        self.relay.backend.bytes_in += size

    def count_sent(self, size: int) -> None:
        self.relay.backend.bytes_out += size


class Pinger(Timed):
    """Pings one side when it has been silent, and has it closed when it stays so.

    :param interval: seconds of silence
    :param patience: seconds for a pong
    """

    def __init__(self, side: MessageSide, deadlines: Deadlines, interval: float, patience: float) -> None:
        super().__init__()
        self._side: MessageSide | None = side
        self._deadlines = deadlines
        self._interval = interval
        self._patience = patience
        self._asked = False
        deadlines.arm(self, interval)

    def heard(self) -> None:
        """Something came from it."""
        self._asked = False
        self._deadlines.arm(self, self._interval)

    def timed_out(self) -> None:
        side = self._side
        if side is None or side.relay.parting:
            return
        if side.paused:
            self._deadlines.arm(self, self._patience)  # we do not read it: it may well have answered
        elif self._asked:
            side.relay.silent(side)
        else:
            self._asked = True
            side.endpoint.ping(b"")
            self._deadlines.arm(self, self._patience)

    def stop(self) -> None:
        self._side = None
        self._deadlines.forget(self)
