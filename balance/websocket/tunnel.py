"""A WebSocket connection that is relayed byte by byte, as layer 4 does it, with frames followed.

Rule of this file: what the ends say to each other is not changed. Frames are followed for one reason, so that the
client is told when the connection cannot go on (drain, silence, a lost backend), by a Close frame, and never in the
middle of another frame.

    open --part()--> parting: a Close frame to the client as soon as a frame ends; its answer goes to the backend
    open --backend lost--> Close frame and FIN to the client, which has a moment to answer
    any  --both connections gone--> over
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.python.failure import Failure

from balance.codec.websocket import (
    ABNORMAL,
    FRAME_SIZES,
    GOING_AWAY,
    INTERNAL_ERROR,
    FrameFollower,
    close_frame,
)
from balance.errors import ClientGone, ExchangeError, IdleTimeout, Stopping, TunnelLost
from balance.net.relay import BackendSide, ClientSide, Relay, RelayOwner, RelayTimes, Side
from balance.net.splice import WORTHWHILE

if TYPE_CHECKING:
    from balance.net.deadlines import Deadlines
    from balance.observe.counters import ListenerCounters
    from balance.pool.backend import Backend


class Tunnel(Protocol):
    """An open WebSocket connection, relayed in whatever way."""

    bytes_in: int
    bytes_out: int
    close_code: int
    close_timeout: float

    @property
    def messages(self) -> tuple[int, int]:
        """From the client, to the client."""

    def part(self, code: int, error: ExchangeError, reason: str) -> None:
        """Close it in good order, within its time limit for that."""

    def kill(self) -> None:
        """Close it now."""


class FollowedClient(ClientSide):
    """The client's side."""

    __slots__ = ("frames",)

    relay: ByteTunnel

    def __init__(self) -> None:
        super().__init__()
        self.frames = FrameFollower()

    def dataReceived(self, data: bytes) -> None:
        frames = self.frames
        size = len(data)
        if frames.calm and size > 1 and size == FRAME_SIZES[data[1]] and data[0] & 0x88 == 0x80:
            frames.messages += 1  # one small message, whole: by far the most
        else:
            frames.feed(data)
            if frames.close_code:
                self.relay.close_passed(frames.close_code)
        ClientSide.dataReceived(self, data)

    def count(self, size: int) -> None:
        self.frames.skip(size)
        ClientSide.count(self, size)

    @property
    def room(self) -> int:
        return self.frames.left


class FollowedBackend(BackendSide):
    """The backend's side. ``muted``: the client has its Close frame, and nothing may follow that."""

    __slots__ = ("frames", "muted")

    relay: ByteTunnel

    def __init__(self) -> None:
        super().__init__()
        self.frames = FrameFollower()
        self.muted = False

    def dataReceived(self, data: bytes) -> None:
        frames = self.frames
        size = len(data)
        if frames.calm and size > 1 and size == FRAME_SIZES[data[1]] and data[0] & 0x88 == 0x80:
            frames.messages += 1
            BackendSide.dataReceived(self, data)
        elif not self.muted:
            self._follow(data)

    def _follow(self, data: bytes) -> None:
        relay, frames = self.relay, self.frames
        if relay.parting:
            BackendSide.dataReceived(self, data[: frames.feed_to_end(data)])
            relay.tell_if_calm()
            return
        frames.feed(data)
        if frames.close_code:
            relay.close_passed(frames.close_code)
        BackendSide.dataReceived(self, data)

    def mute(self) -> None:
        self.muted = True
        self.frames.calm = False

    def count(self, size: int) -> None:
        self.frames.skip(size)
        BackendSide.count(self, size)

    def drained(self) -> None:
        if self.relay.parting:
            self.relay.tell_if_calm()
        BackendSide.drained(self)

    @property
    def room(self) -> int:
        return 0 if self.relay.parting else self.frames.left

    def connectionLost(self, reason: Failure) -> None:
        if self.splice is not None and self.splice.held:
            self.frames.calm = False  # the end of a frame is lost with it
        BackendSide.connectionLost(self, reason)


class ByteTunnel(Relay):
    """
    :param close_timeout: seconds for a client to answer a Close frame
    :param client_over: called when the client's connection is gone
    :param backend_over: likewise
    """

    __slots__ = (
        "_fault",
        "_leaving",
        "_parting_reason",
        "backend_over",
        "client_over",
        "close_code",
        "close_timeout",
        "parting",
    )

    client_side: FollowedClient
    backend_side: FollowedBackend

    def __init__(
        self,
        owner: RelayOwner,
        *,
        backend: Backend,
        counters: ListenerCounters,
        deadlines: Deadlines,
        times: RelayTimes,
        close_timeout: float,
        client_over: Callable[[], None],
        backend_over: Callable[[], None],
    ) -> None:
        super().__init__(
            owner,
            FollowedClient(),
            FollowedBackend(),
            backend=backend,
            counters=counters,
            deadlines=deadlines,
            times=times,
        )
        self.close_timeout = close_timeout
        self.client_over = client_over
        self.backend_over = backend_over
        #: Close code of the first Close frame, whoever sent it; 0 until then.
        self.close_code = 0
        #: Close code that the client is to be told; 0 while the tunnel is open.
        self.parting = 0
        self._parting_reason = ""
        #: Only the client's end is waited for.
        self._leaving = False
        self._fault: ExchangeError | None = None

    @property
    def messages(self) -> tuple[int, int]:
        return self.client_side.frames.messages, self.backend_side.frames.messages

    def is_bulk(self, side: Side) -> None:
        if side.room >= WORTHWHILE:
            super().is_bulk(side)

    # --- parting ----------------------------------------------------------------------------------------------

    def close_passed(self, code: int) -> None:
        """An end has sent a Close frame: the rest is theirs, in the time that is given to what has half ended."""
        if not self.close_code:
            self.close_code = code
            self.limit = self.times.read

    def part(self, code: int, error: ExchangeError, reason: str) -> None:
        if self.parting or self._leaving or self._over:
            return
        self.parting = code
        self._parting_reason = reason
        self._fault = self._fault or error
        self._wait(self.close_timeout)
        self.tell_if_calm()

    def tell_if_calm(self) -> None:
        """Parting: send the client its Close frame, if this is not the middle of another, and no Close is there yet."""
        side = self.backend_side
        held = side.splice is not None and side.splice.held
        if side.frames.calm and not held and not side.frames.close_code and not side.ended:
            self._tell(self.parting, self._parting_reason)

    def _tell(self, code: int, reason: str) -> None:
        """The client gets a Close frame, and nothing behind it."""
        transport = self.client_side.transport
        self.backend_side.mute()
        self.close_code = self.close_code or code
        if transport is not None:
            frame = close_frame(code, reason)
            self.counters.bytes_out += len(frame)
            self.bytes_out += len(frame)
            transport.write(frame)

    def kill(self) -> None:
        self.part(GOING_AWAY, Stopping(), "stopping")
        self._cut()

    def _cut(self) -> None:
        """No more waiting. The backend learns that this is no accident, if it can still be told."""
        frames, backend = self.client_side.frames, self.backend_side.transport
        if frames.calm and not frames.close_code and not self.client_side.ended and backend is not None:
            backend.write(close_frame(self.parting or GOING_AWAY, "", os.urandom(4)))
        self._close()

    def _close(self) -> None:
        self._leaving = True
        self._wait(self.close_timeout)
        super()._close()

    def _wait(self, limit: float) -> None:
        """For what has to come to its end now."""
        self.limit = limit
        self._waiting_seen = self._waiting()
        self.deadlines.arm(self, limit)

    # --- ends -------------------------------------------------------------------------------------------------

    def side_ended(self, side: Side) -> None:
        if side is self.client_side and not self.client_side.frames.close_code:
            self._fault = self._fault or ClientGone()
        if side.other.transport is None:
            self._close()
        elif side is self.backend_side and not self._said_goodbye() and not self.client_side.ended:
            self._backend_gone()
        else:
            super().side_ended(side)

    def side_lost(self, side: Side, clean: bool) -> None:
        client = self.client_side
        (self.client_over if side is client else self.backend_over)()
        if side is client and not self.close_code:
            self._fault = self._fault or ClientGone()
        if side is not self.backend_side or client.transport is None:
            super().side_lost(side, clean)
        elif not self._leaving:
            self._backend_gone()

    def _said_goodbye(self) -> bool:
        """Somebody did, so that an end without another word is no loss: a server may answer a Close frame that is
        against the rules by closing.
        """
        side = self.backend_side
        return side.muted or bool(side.frames.close_code or self.client_side.frames.close_code)

    def _backend_gone(self) -> None:
        """It will send nothing any more: the client is told, where that is possible, and may answer."""
        side, client = self.backend_side, self.client_side
        if not self._said_goodbye():
            self._fault = self._fault or TunnelLost()
            if not side.frames.calm:
                self.abort(self._fault)
                return
            self._tell(INTERNAL_ERROR, "backend lost")
        if client.ended or client.transport is None:
            self._close()
            return
        self._leaving = True
        gone: Any = side.transport
        if gone is not None:
            gone.unregisterProducer()
            gone.loseConnection()
        transport: Any = client.transport
        transport.unregisterProducer()
        if client.paused:
            client.paused = False
            transport.startReading()
        self._wait(self.close_timeout)
        transport.half_close()

    def abort(self, error: ExchangeError) -> None:
        self._leaving = True
        self._fault = self._fault or error
        super().abort(error)

    def paced(self) -> None:
        super().paced()
        if self.parting or self._leaving:
            self._wait(self.close_timeout)
        elif self.close_code and self.limit == self.times.idle:
            self._wait(self.times.read)

    def _expire(self) -> None:
        if self.parting or self._leaving or self.close_code:
            self._cut()
        else:
            self.part(GOING_AWAY, IdleTimeout(), "idle timeout")

    def _finish(self, error: ExchangeError | None) -> None:
        """Over is when both connections are gone: until then the limits go on. What happens to connections after a
        Close frame is of no interest.
        """
        if not self.close_code:
            self._fault = self._fault or error
        if self.client_side.transport is None and self.backend_side.transport is None:
            self.close_code = self.close_code or ABNORMAL
            super()._finish(self._fault)
