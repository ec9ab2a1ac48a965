"""TCP transports that read and write without a detour.

Rule of this file: `EagerConnection` is Twisted's `tcp.Connection` with a short way for the usual case (nothing queued)
and Twisted's own way for every other. It stays a full ITransport; nothing here knows what the bytes mean.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from errno import EAGAIN, EINTR, EWOULDBLOCK
from typing import Any, Final

from twisted.internet import main, tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol, IReactorFDSet
from twisted.python import log
from twisted.python.failure import Failure

#: Bytes asked of the kernel at once. More costs a larger allocation for every small message.
READ_SIZE: Final = 64 * 1024
#: What a connection that fills those is given instead: half the system calls of a bulk transfer.
BULK_READ_SIZE: Final = 256 * 1024

TRY_LATER: Final = (EAGAIN, EWOULDBLOCK, EINTR)

#: One object of each for all connections, as the reactor has it.
_DONE: Final = Failure(main.CONNECTION_DONE)
_LOST: Final = Failure(main.CONNECTION_LOST)

#: What is written within a step is put together up to that many bytes.
_HELD_MAX: Final = 16 * 1024


class Outbox:
    """The connections of a reactor that have something to send at the end of a step of its turn.

    ``open`` while there is such an end to come.
    """

    __slots__ = ("open", "waiting")

    def __init__(self) -> None:
        self.open = False
        self.waiting: list[EagerConnection] = []

    def send(self) -> None:
        """The step is over. Whoever writes because of this, writes at once."""
        self.open = False
        waiting, self.waiting = self.waiting, []
        for connection in waiting:
            try:
                connection.flush()
            except BaseException:  # of a producer that is to pause: it cannot be helped, the others can
                log.err()
                connection.abortConnection()


#: For reactors that have no steps.
_NO_OUTBOX: Final = Outbox()


class EagerConnection(tcp.Connection):
    """A connected stream socket. ``write`` sends when nothing is queued before it: at once, or, where the reactor can
    tell (`LeanEPollReactor`), at the end of the step that is under way.
    """

    #: It is in the poller's hands: neither paused nor at its end.
    reading = False
    #: Only its `doRead` may read it: it is spliced, or there is a ration of what it does.
    by_itself = False

    #: Closing the only descriptor of a socket ends it; no shutdown() needs to go before.
    _shouldShutdown = False
    read_size = READ_SIZE
    #: Written in this step.
    _held = b""
    #: Read before it was paused in the same step.
    _kept = b""
    #: A write has failed. The kernel tells that once only; after that, reading finds what looks like a good end.
    broken = False

    def __init__(self, sock: socket.socket, protocol: IProtocol, reactor: IReactorFDSet) -> None:
        # All that tcp.Connection's and FileDescriptor's do, but one system call where the socket does not block anyway.
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        self.reactor = reactor
        self._tempDataBuffer = []
        self._tempDataLen = 0
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self._outbox: Outbox = getattr(reactor, "outbox", _NO_OUTBOX)

    @property
    def pending(self) -> int:
        """Bytes that were written and that the kernel does not take yet. Who asks wants to know, so it is tried."""
        if self._held:
            self.flush()
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def unacknowledged(self) -> int:
        """Bytes that the kernel has taken and the peer's has not (SIOCOUTQ); 0 where that cannot be told."""
        try:
            return int.from_bytes(fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    @property
    def spliceable(self) -> bool:
        """Whether what is on the wire is what is meant: not so with TLS."""
        return type(self.socket) is socket.socket

    def doRead(self) -> ConnectionLost | ConnectionDone | None:  # type: ignore[override]
        try:
            data = self.socket.recv(self.read_size)
        except OSError as error:
            return None if error.args[0] in TRY_LATER else main.CONNECTION_LOST
        return self.received(data)

    def received(self, data: bytes) -> ConnectionLost | ConnectionDone | None:
        """Read from the socket: bytes, or none for the end."""
        if not data:
            return main.CONNECTION_DONE
        if len(data) == READ_SIZE:
            self.read_size = BULK_READ_SIZE
        self.protocol.dataReceived(data)
        return None

    def keep(self, data: bytes) -> None:
        """Read, and not wanted any more, or not for now. An end will be read again."""
        if self.connected and not self.disconnecting and not self._aborting:
            self._kept = data

    def kept(self) -> bytes:
        """What was kept, if it is wanted now. Then it is kept no longer."""
        if not self.reading:
            return b""
        data, self._kept = self._kept, b""
        return data

    def startReading(self) -> None:
        self.reading = True
        if self._kept:  # nothing is read before that is delivered
            self.reactor.callLater(0, self.reactor.deliver_kept, self)  # type: ignore[attr-defined]
        else:
            self.reactor.addReader(self)

    def stopReading(self) -> None:
        self.reading = False
        self.reactor.removeReader(self)

    def write(self, data: bytes) -> None:
        if self._tempDataLen or self.dataBuffer or not self.connected or self._writeDisconnected:
            tcp.Connection.write(self, data)
            return
        outbox = self._outbox
        if self._held:
            data = self._held + data
            self._held = data
            if outbox.open and len(data) <= _HELD_MAX:
                return
        else:
            self._held = data
            if outbox.open and len(data) <= _HELD_MAX and not self.disconnecting:
                outbox.waiting.append(self)
                return
        self.flush()

    def flush(self) -> None:
        """Send what was written in this step."""
        data = self._held
        self._held = b""
        if not data or not self.connected:
            return
        try:
            sent = self.socket.send(data)
        except OSError as error:
            sent = 0
            if error.args[0] not in TRY_LATER:
                self.broken = True  # doWrite meets it again, in a place where it can be reported
        if sent != len(data):
            self._queue_rest(data, sent)

    def _queue_rest(self, data: bytes, sent: int) -> None:
        """The kernel took less than all. From here on it is Twisted's way, until the queue is empty again."""
        self.dataBuffer = data
        self.offset = sent
        self._maybePauseProducer()
        self.startWriting()

    def readConnectionLost(self, reason: Failure) -> None:
        """The poller saw a hang-up without anything to read, and did not look whether there is an error."""
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.connectionLost(_LOST)
            return
        try:
            self.input_ended()
        except Exception:
            log.err()
            self.connectionLost(Failure())

    def input_ended(self) -> None:
        """The peer sends no more: what looks like a good end is a reset where a write has met one already."""
        if self.broken:
            self.connectionLost(_LOST)
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
            if self.connected:
                self.stopReading()
        else:
            self.connectionLost(_DONE)

    def connectionLost(self, reason: Failure) -> None:
        """As Twisted's, in one piece. What was written in this step goes out before, as far as the kernel takes it."""
        if self.disconnected:
            return
        producer, self.producer = self.producer, None
        if self._held:
            self.flush()
        self.disconnected = 1
        self.connected = 0
        if producer is not None:
            producer.stopProducing()
        self.stopReading()
        self.stopWriting()
        protocol = self.protocol
        self._closeSocket(not isinstance(reason.value, ConnectionAborted))
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)

    def finish(self) -> None:
        """`loseConnection`, at once where nothing is queued: the protocol may be told before this returns."""
        if self.producer is not None or self.pending or self.disconnecting or self._aborting or not self.connected:
            self.loseConnection()
        else:
            self.connectionLost(_DONE)

    def loseConnection(self) -> None:
        """Close it when all is sent: in the next turn, where that is so already."""
        if self.producer is not None or self.pending or self._writeDisconnected or self.disconnecting:
            tcp.Connection.loseConnection(self)
            return
        if not self.connected:
            return
        self.disconnecting = 1
        self.stopReading()
        self.reactor.callLater(0, self._close_if_sent)  # type: ignore[attr-defined]

    def _close_if_sent(self) -> None:
        """What was written since is sent first."""
        if self.connected and not self._aborting and not self.pending:
            self.connectionLost(_DONE)

    def half_close(self) -> None:
        """`loseWriteConnection`, at once where nothing is queued."""
        if self.pending or not self.connected or self._writeDisconnected or self.disconnecting:
            self.loseWriteConnection()
            return
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone; the next read says so
        self._writeDisconnected = True

    def loseWriteConnection(self) -> None:
        self.flush()
        tcp.Connection.loseWriteConnection(self)

    def abortConnection(self) -> None:
        """What was written before is sent before, as far as the kernel takes it."""
        self.flush()
        tcp.Connection.abortConnection(self)

    def _isSendBufferFull(self) -> bool:
        return self.pending > self.bufferSize

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))


class EagerServer(EagerConnection, tcp.Server):
    """A connection that was accepted."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[object, ...],
        server: tcp.Port,
        sessionno: int,
        reactor: IReactorFDSet,
    ) -> None:
        # Not tcp.Server's: it makes two strings for logs that are never written.
        EagerConnection.__init__(self, sock, protocol, reactor)
        self.server = server
        self.client = client
        self.sessionno = sessionno
        if len(client) == 4:
            self._addressType = IPv6Address
        self.startReading()
        self.connected = 1

    def __repr__(self) -> str:
        return f"<{type(self.__dict__.get('protocol')).__name__} #{self.sessionno} from {self.client[0]}>"


class EagerClient(EagerConnection):
    """A connection that we opened.

    :param sock: connected
    """

    def __init__(self, sock: socket.socket, protocol: IProtocol, reactor: IReactorFDSet) -> None:
        super().__init__(sock, protocol, reactor)
        if sock.family != socket.AF_UNIX:
            set_nodelay(sock)
        self.startReading()
        self.connected = 1

    def getHost(self) -> IAddress:
        return _address(self.socket.getsockname())

    def getPeer(self) -> IAddress:
        return _address(self.socket.getpeername())


class EagerUnixServer(EagerConnection, tcp.Server):
    """A connection that was accepted on a Unix socket."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: object,
        server: tcp.Port,
        sessionno: int,
        reactor: IReactorFDSet,
    ) -> None:
        EagerConnection.__init__(self, sock, protocol, reactor)
        self.server = server
        self.client = (client,)
        self.sessionno = sessionno
        self.startReading()
        self.connected = 1

    def getHost(self) -> IAddress:
        return _address(self.socket.getsockname())

    def getPeer(self) -> IAddress:
        return UNIXAddress(None)


def set_nodelay(sock: socket.socket) -> None:
    """Messages are written whole: waiting for more (Nagle) only delays them."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # the peer is gone already; the next read says so


def _address(name: Any) -> IAddress:
    if not isinstance(name, tuple):
        return UNIXAddress(name)
    return IPv6Address("TCP", *name) if len(name) == 4 else IPv4Address("TCP", *name)
