"""A WebSocket connection whose messages are relayed: Balance is its client's server, and its backend's client.

Rule of this file: whatever comes in is complete and valid before any of it goes out. A side that takes no more stops
the other from being read, and from being worked on: what was read already waits as it came.

    open --Close from one side--> that side is answered, the other told the same; both are given time to finish
    open --one side lost, or against the rules--> the other is told
    any  --both connections gone--> over
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from balance.codec.websocket import ABNORMAL, GOING_AWAY, INTERNAL_ERROR, NO_CODE
from balance.errors import (
    BackendViolation,
    ClientGone,
    ClientTimeout,
    ClientViolation,
    ClosedByFilter,
    ExchangeError,
    IdleTimeout,
    Stopping,
    TunnelLost,
    WebSocketFilterFailed,
)
from balance.net.relay import Relay, RelayOwner, RelayTimes, Side
from balance.websocket.filters import Connection, Filters, as_data, as_payload
from balance.websocket.sides import MessageBackend, MessageClient, MessageSide, Pinger

if TYPE_CHECKING:
    from balance.net.deadlines import Deadlines
    from balance.observe.counters import ListenerCounters
    from balance.pool.backend import Backend
    from balance.websocket.endpoint import Endpoints


class MessageTunnel(Relay):
    """
    :param close_timeout: seconds for a side to answer a Close frame, and to close its connection after that
    """

    __slots__ = (
        "_fault",
        "_filters",
        "_leaving",
        "backend_over",
        "client_over",
        "close_code",
        "close_timeout",
        "parting",
    )

    log = Logger()

    client_side: MessageClient
    backend_side: MessageBackend

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
            MessageClient(),
            MessageBackend(),
            backend=backend,
            counters=counters,
            deadlines=deadlines,
            times=times,
        )
        self.close_timeout = close_timeout
        self.client_over = client_over
        self.backend_over = backend_over
        self._filters: Filters | None = None
        #: Close code of the first Close frame, whoever sent it; 0 until then.
        self.close_code = 0
        self._fault: ExchangeError | None = None
        #: A Close frame was sent, to one side at least; the rest is a matter of `close_timeout`.
        self.parting = False
        #: Both connections are on their way to be closed.
        self._leaving = False

    def attach(self, endpoints: Endpoints, client_extension: Any, backend_extension: Any) -> None:
        """Make the two ends."""
        client, backend = self.client_side, self.backend_side
        client.endpoint = endpoints.server(client, client.write, client_extension)
        backend.endpoint = endpoints.client(backend, backend.write, backend_extension)

    def ping(self, client: float, backend: float, patience: float) -> None:
        """Ask sides that are silent for so many seconds whether they are there; 0: never."""
        if client:
            self.client_side.pinger = Pinger(self.client_side, self.deadlines, client, patience)
        if backend:
            self.backend_side.pinger = Pinger(self.backend_side, self.deadlines, backend, patience)

    def filter(self, filters: Sequence[Any], request: Any, client_ip: str, route: str) -> None:
        """Let these see every message."""
        self._filters = Filters(filters, Connection(self, request, client_ip, route))
        self._guarded(self._filters.opened)

    @property
    def messages(self) -> tuple[int, int]:
        return self.client_side.messages, self.backend_side.messages

    # --- messages ---------------------------------------------------------------------------------------------

    def progress(self) -> None:
        """Part of a message has come: this, and no ping, is what keeps a connection from being idle."""
        self.deadlines.arm(self, self.limit)

    def message(self, side: MessageSide, payload: bytes, binary: bool) -> None:
        self.deadlines.arm(self, self.limit)
        filters = self._filters
        if filters is None:
            self._other(side).endpoint.send(payload, binary)
            return
        from_client = side is self.client_side
        data = self._guarded(lambda: filters.passed(as_data(payload, binary), from_client=from_client))
        if data is not None:
            self.answer(data, to_client=not from_client)

    def answer(self, data: str | bytes, *, to_client: bool) -> None:
        """Send a message to one side; dropped if that is closed."""
        if not self._over:
            side = self.client_side if to_client else self.backend_side
            side.endpoint.send(*as_payload(data))

    def close(self, code: int, reason: str) -> None:
        """A filter wants it closed."""
        if not self.parting and not self._over:
            self.backend_side.endpoint.close(code, reason.encode()[:123])
            self.part(code, ClosedByFilter(), reason)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """A filter that fails costs its connection, and no more."""
        try:
            return call()
        except Exception:
            self.log.failure("a WebSocket filter failed")
            self.part(INTERNAL_ERROR, WebSocketFilterFailed(), "")
            return None

    def _other(self, side: MessageSide) -> MessageSide:
        return self.backend_side if side is self.client_side else self.client_side

    # --- Close frames -----------------------------------------------------------------------------------------

    def close_received(self, side: MessageSide, code: int | None, reason: bytes) -> None:
        """One side's goodbye, or its answer to ours: the other hears it, unless it has said or heard one."""
        self.close_code = self.close_code or (NO_CODE if code is None else code)
        self._other(side).endpoint.close(code, reason)
        self._parted(side)

    def violated(self, side: MessageSide, code: int, reason: str) -> None:
        """A side broke the rules, and knows it. The other one is not to blame."""
        self.close_code = self.close_code or code
        detail = f"{code}: {reason}"
        client = side is self.client_side
        self._fault = self._fault or (ClientViolation(detail) if client else BackendViolation(detail))
        self._tell_other(side, "violation")
        self._parted(side)

    def silent(self, side: MessageSide) -> None:
        """A side does not answer pings."""
        client = side is self.client_side
        self._fault = self._fault or (ClientTimeout("no pong") if client else TunnelLost("no pong from the backend"))
        side.deaf = True
        self._tell_other(side, "lost")
        transport: Any = side.transport
        if transport is not None:
            transport.abortConnection()

    def _tell_other(self, side: MessageSide, what: str) -> None:
        """A side is of no use any more."""
        if side is self.client_side:
            self.close_code = self.close_code or ABNORMAL
            self.backend_side.endpoint.close(GOING_AWAY, b"client " + what.encode())
        else:
            self.close_code = self.close_code or INTERNAL_ERROR
            self.client_side.endpoint.close(INTERNAL_ERROR, b"backend " + what.encode())
        self.parting = True
        self._wait(self.close_timeout)
        self._other(side).listen()

    def _parted(self, side: MessageSide) -> None:
        """All is said to that side and by it. A server is the one to close (RFC 6455, section 7.1.1): we are our
        client's; a backend gets the time to do it, as long as the client is there.
        """
        self.parting = True
        self._wait(self.close_timeout)
        side.listen()
        transport: Any = side.transport
        if transport is None:
            return
        if side.ended or (side is self.backend_side and self.client_side.transport is None):
            transport.unregisterProducer()
            transport.loseConnection()
        elif side is self.client_side:
            transport.half_close()

    def part(self, code: int, error: ExchangeError, reason: str) -> None:
        if self.parting or self._over:
            return
        self._fault = self._fault or error
        self.close_code = self.close_code or code
        self.client_side.endpoint.close(code, reason.encode()[:123])
        self.parting = True
        self._wait(self.close_timeout)

    def kill(self) -> None:
        self.part(GOING_AWAY, Stopping(), "stopping")
        self._close()

    # --- ends -------------------------------------------------------------------------------------------------

    def side_ended(self, side: Side) -> None:
        assert isinstance(side, MessageSide)
        if not side.deaf:
            self._lost(side)
        if side.other.transport is None or side.other.ended:
            self._close()
            return
        transport: Any = side.transport
        if transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()

    def side_lost(self, side: Side, clean: bool) -> None:
        assert isinstance(side, MessageSide)
        (self.client_over if side is self.client_side else self.backend_over)()
        if side.pinger is not None:
            side.pinger.stop()
        other = self._other(side)
        if not side.deaf:
            self._lost(side)
        transport: Any = other.transport
        if transport is None:
            self._end()
        elif self._leaving or (side is self.client_side and other.deaf):
            transport.unregisterProducer()
            transport.loseConnection()

    def _lost(self, side: MessageSide) -> None:
        """A side ended without a Close frame."""
        side.deaf = True
        if not self.close_code:
            self._fault = self._fault or (ClientGone() if side is self.client_side else TunnelLost())
        self._tell_other(side, "lost")

    def _end(self) -> None:
        filters, self._filters = self._filters, None
        if filters is not None:
            try:
                filters.closed(self.close_code or ABNORMAL)
            except Exception:
                self.log.failure("a WebSocket filter failed")
        client, backend = self.client_side, self.backend_side
        self._finish(self._fault)
        self.deadlines.forget(self)
        del client.endpoint, backend.endpoint  # no cycle is left: memory is free at once
        del client.other, client.relay, backend.other, backend.relay

    def _close(self) -> None:
        """No more waiting."""
        self._leaving = True
        self.backend_side.endpoint.close(GOING_AWAY, b"")
        self.client_side.deaf = self.backend_side.deaf = True
        self._wait(self.close_timeout)
        super()._close()

    def abort(self, error: ExchangeError) -> None:
        self._leaving = True
        self._fault = self._fault or error
        self.close_code = self.close_code or ABNORMAL
        self.client_side.deaf = self.backend_side.deaf = True
        for side in (self.client_side, self.backend_side):
            transport: Any = side.transport
            if transport is not None:
                transport.abortConnection()

    # --- time -------------------------------------------------------------------------------------------------

    def _wait(self, limit: float) -> None:
        self.limit = limit
        self._waiting_seen = self._waiting()
        self.deadlines.arm(self, limit)

    def paced(self) -> None:
        super().paced()
        if self.parting or self._leaving:
            self._wait(self.close_timeout)

    def _expire(self) -> None:
        if self.parting or self._leaving:
            self._close()
        else:
            self.part(GOING_AWAY, IdleTimeout(), "idle timeout")
