"""Opening connections to backends.

Rule of this file: one dial, one outcome, reported later and once: connected, failed, or, after `cancel`, nothing. A
name is resolved for a while at a time, and all its addresses are tried in turn, within one time limit.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from errno import EADDRNOTAVAIL, EINPROGRESS, EISCONN, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from balance.errors import BackendError, ConnectRefused, ConnectTimeout, DnsFailure, ExchangeError, OutOfResources
from balance.model import Address
from balance.net.connecting import Connecting
from balance.net.deadlines import Deadlines, Timed
from balance.net.tls_handshake import ClientHandshake
from balance.net.tls_transport import TlsClient, TlsConnection
from balance.net.transport import EagerClient

if TYPE_CHECKING:
    from balance.net.tls_client import BackendTls
    from balance.net.tls_session import TlsSession

#: Seconds a resolved name is believed. The system's resolver does not tell for how long it may be.
RESOLVED_FOR: Final = 10.0
_NAMES_MAX: Final = 1024

#: What is our machine's or our own lack, and no backend's fault.
_OURS: Final = (EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL)

#: Where the system can make it so, a socket is not blocking from the beginning: a system call less.
_STREAM: Final = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)

P = TypeVar("P")
#: Address family and what `socket.connect` takes.
Target = tuple[int, Any]


class Dialer:
    """Opens connections.

    :param reactor: IReactorCore, IReactorTime, IReactorThreads, IReactorFDSet
    :param resolve: blocking; host and port to the targets to try, in order
    """

    def __init__(
        self,
        reactor: Any,
        deadlines: Deadlines,
        *,
        resolve: Callable[[str, int], Sequence[Target]] | None = None,
        resolved_for: float = RESOLVED_FOR,
    ) -> None:
        self.reactor = reactor
        self.deadlines = deadlines
        self._resolve = resolve or _resolve
        self._resolved_for = resolved_for
        self._known: dict[tuple[str, int], tuple[float, Sequence[Target]]] = {}
        self._waiting: dict[tuple[str, int], list[Dial]] = {}

    def dial(
        self,
        address: Address,
        factory: Callable[[str], P],
        timeout: float,
        connected: Callable[[P], None],
        failed: Callable[[ExchangeError], None],
        *,
        tls: BackendTls | None = None,
        preface: bytes = b"",
    ) -> Dial:
        """Open a connection.

        :param factory: makes the protocol (IProtocol), once the connection is there and secure; it is told which
            protocol was negotiated (ALPN), empty for none and in clear text
        :param timeout: seconds for all of it; 0 for no limit
        :param connected: called with the protocol, after its `makeConnection`
        :param failed: called with `DnsFailure`, `ConnectRefused`, `ConnectTimeout`, `TlsCertificateError`,
            `TlsAlertReceived`, `TlsProtocolError` or `OutOfResources`
        :param tls: speak TLS; None for clear text
        :param preface: sent first of all, in clear text
        """
        dial = Dial(self, address, factory, connected, failed, tls, preface)
        self.deadlines.arm(dial, timeout)
        targets = self._literal(address) or self._remembered(address)
        if targets:
            dial.start(targets)
        else:
            self._look_up(address, dial)
        return dial

    def _literal(self, address: Address) -> Sequence[Target] | None:
        if address.path:
            return [(socket.AF_UNIX, address.path)]
        if isIPAddress(address.host):
            return [(socket.AF_INET, (address.host, address.port))]
        if isIPv6Address(address.host):
            return _resolve(address.host, address.port)  # for the scope; numeric, so it does not block
        return None

    def _remembered(self, address: Address) -> Sequence[Target] | None:
        known = self._known.get((address.host, address.port))
        if known is None or known[0] + self._resolved_for < self.reactor.seconds():
            return None
        return known[1]

    def _look_up(self, address: Address, dial: Dial) -> None:
        """Resolve a name in a thread; one at a time for each name, however many wait for it."""
        key = address.host, address.port
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(dial)
            return
        self._waiting[key] = [dial]
        found: Deferred[Sequence[Target]] = deferToThreadPool(
            self.reactor, self.reactor.getThreadPool(), self._resolve, *key
        )
        found.addBoth(self._looked_up, key)

    def _looked_up(self, result: Sequence[Target] | Failure, key: tuple[str, int]) -> None:
        waiting = self._waiting.pop(key)
        if not isinstance(result, Failure):
            if len(self._known) >= _NAMES_MAX:
                self._known.clear()
            self._known[key] = (self.reactor.seconds(), result)
        for dial in waiting:
            if isinstance(result, Failure):
                dial.unresolved(result)
            else:
                dial.resolved(result)


class Dial(Timed):
    """One attempt to open a connection, over all addresses of a host."""

    __slots__ = (
        "_address",
        "_connected",
        "_dialer",
        "_error",
        "_factory",
        "_failed",
        "_handshake",
        "_over",
        "_preface",
        "_socket",
        "_starting",
        "_targets",
        "_tls",
    )

    def __init__(
        self,
        dialer: Dialer,
        address: Address,
        factory: Callable[[str], Any],
        connected: Callable[[Any], None],
        failed: Callable[[ExchangeError], None],
        tls: BackendTls | None = None,
        preface: bytes = b"",
    ) -> None:
        super().__init__()
        self._dialer = dialer
        self._address = address
        self._factory = factory
        self._connected = connected
        self._failed = failed
        self._tls = tls
        self._preface = preface
        self._handshake: ClientHandshake | None = None
        self._targets: list[Target] = []
        self._socket: Connecting | None = None
        self._error: ExchangeError | None = None
        self._over = False
        self._starting = False

    def cancel(self) -> None:
        """Give up; neither callback is called after this. Does nothing when the dial is over."""
        self._finish()

    def start(self, targets: Sequence[Target]) -> None:
        """What `dial` returns has to be there before its outcome is, even where no address can be tried at all."""
        self._starting = True
        self.resolved(targets)
        self._starting = False

    def resolved(self, targets: Sequence[Target]) -> None:
        """The name's addresses are known."""
        self._targets = list(targets)
        if not self._over:
            self._next()

    def unresolved(self, failure: Failure) -> None:
        self._fail(DnsFailure(f"{self._address}: {failure.getErrorMessage()}"))

    def timed_out(self) -> None:
        what = "TLS handshake not finished" if self._handshake is not None else "not connected"
        self._fail(ConnectTimeout(f"{self._address}: {what} in time"))

    def _next(self) -> None:
        """Try the next address; when none is left, the last refusal stands."""
        while self._targets:
            family, target = self._targets.pop(0)
            try:
                sock = socket.socket(family, _STREAM)
            except OSError as error:
                self._note(error.errno or 0)
                continue
            if sock.gettimeout() != 0:
                sock.setblocking(False)
            number = sock.connect_ex(target)
            if number in (0, EINPROGRESS, EISCONN):
                self._socket = Connecting(sock, self._dialer.reactor, self._outcome)
                return
            sock.close()
            self._note(number)
        refusal = self._error or ConnectRefused(f"{self._address}: no address to connect to")
        if self._starting:
            self._dialer.reactor.callLater(0, self._fail, refusal)
        else:
            self._fail(refusal)

    def _outcome(self, sock: socket.socket, number: int) -> None:
        self._socket = None
        if number:
            sock.close()
            self._note(number)
            self._next()
            return
        if self._tls is not None:
            self._secure(sock, self._tls)
            return
        self._finish()
        protocol = self._factory("")
        transport = EagerClient(sock, protocol, self._dialer.reactor)
        if self._preface:
            transport.write(self._preface)
        protocol.makeConnection(transport)
        self._connected(protocol)

    def _note(self, number: int) -> None:
        """An address did not work. That another one cannot even be tried from here does not excuse a backend that
        refused."""
        if number not in _OURS:
            self._error = ConnectRefused(f"{self._address}: {os.strerror(number)}")
        elif self._error is None:
            self._error = OutOfResources(f"{self._address}: {os.strerror(number)}")

    # --- TLS --------------------------------------------------------------------------------------------------

    def _secure(self, sock: socket.socket, tls: BackendTls) -> None:
        """Connected: now the handshake, on the same time limit."""
        handshake = self._handshake = ClientHandshake(tls.session(), self._preface, self._secured, self._insecure)
        handshake.makeConnection(TlsClient(sock, handshake, self._dialer.reactor))

    def _secured(self, transport: TlsConnection, session: TlsSession) -> None:
        assert self._tls is not None
        self._tls.established(session)
        self._handshake = None
        self._finish()
        protocol = transport.protocol = self._factory(transport.alpn)
        protocol.makeConnection(transport)
        self._connected(protocol)

    def _insecure(self, error: BackendError) -> None:
        """The server is there, so its other addresses are not tried: they would say the same."""
        self._handshake = None
        error.args = (f"{self._address}: {error.detail}",)
        self._fail(error)

    def _fail(self, error: ExchangeError) -> None:
        if not self._over:
            self._finish()
            self._failed(error)

    def _finish(self) -> None:
        self._over = True
        self._dialer.deadlines.forget(self)
        connecting, self._socket = self._socket, None
        if connecting is not None:
            connecting.close()
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.close()


def _resolve(host: str, port: int) -> list[Target]:
    """The system's resolver: hosts file, DNS, and its order of addresses (RFC 6724)."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), target) for family, _, _, _, target in found]
