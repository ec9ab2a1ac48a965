"""What a trusted proxy says before the first byte of its client: the PROXY protocol, received.

Rule of this file: it reads one header, within its own time limit, and hands the connection over; it knows nothing of
what the connection then carries. Whoever is not trusted never gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.proxy_protocol import ProxyHeader, parse_proxy_header
from balance.errors import BadProxyHeader, ClientGone, ClientTimeout, ExchangeError
from balance.net.deadlines import Deadlines, Timed

if TYPE_CHECKING:
    from balance.net.transport import EagerConnection


@implementer(IProtocol)
class ProxyPreface(Timed):
    """The protocol of a connection until its PROXY header is complete.

    :param timeout: seconds for the whole header
    :param accepted: makes the protocol that takes over
    :param refused: told what was wrong, before the connection is cut; and that it was given up
    """

    __slots__ = ("_accepted", "_buffer", "_deadlines", "_refused", "_timeout", "transport")

    def __init__(
        self,
        deadlines: Deadlines,
        timeout: float,
        accepted: Callable[[ProxyHeader], Any],
        refused: Callable[[ExchangeError], None],
    ) -> None:
        super().__init__()
        self._deadlines = deadlines
        self._timeout = timeout
        self._accepted = accepted
        self._refused = refused
        self._buffer = b""
        self.transport: EagerConnection | None = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._deadlines.arm(self, self._timeout)

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        transport = self.transport
        if transport is None:
            return
        self._buffer += data
        try:
            parsed = parse_proxy_header(self._buffer)
        except BadProxyHeader as error:
            self._refuse(error)
            return
        if parsed is None:
            return
        header, length = parsed
        self._deadlines.forget(self)
        self.transport = None
        protocol = self._accepted(header)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if len(self._buffer) > length:
            protocol.dataReceived(self._buffer[length:])

    def connectionLost(self, reason: Failure) -> None:
        if self.transport is not None:
            self.transport = None
            self._deadlines.forget(self)
            self._refused(ClientGone())

    def timed_out(self) -> None:
        self._refuse(ClientTimeout("no PROXY header in time"))

    def _refuse(self, error: ExchangeError) -> None:
        transport, self.transport = self.transport, None
        self._deadlines.forget(self)
        self._refused(error)
        if transport is not None:
            transport.abortConnection()
