"""Listening ports whose connections are eager.

Rule of this file: it accepts many at a time, and whatever is unusual about that goes Twisted's way.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from twisted.internet import tcp, unix
from twisted.python import log

from balance.net.transport import EagerConnection, EagerServer, EagerUnixServer, set_nodelay

#: Connections accepted in one turn, before those that are open get theirs.
ACCEPTS: Final = 64


class EagerPort(tcp.Port):
    """A listening port whose connections are eager."""

    transport = EagerServer
    accepts = ACCEPTS

    def startListening(self) -> None:
        tcp.Port.startListening(self)
        set_nodelay(self.socket)  # connections inherit it

    def doRead(self) -> None:
        """Accept what waits. Whatever goes wrong (no descriptors left, a client gone already) goes Twisted's way."""
        listening = self.socket
        for accepted in range(self.accepts):
            try:
                sock, peer = listening.accept()
            except BlockingIOError:
                return
            except OSError:
                self.numberAccepts = self.accepts - accepted  # it goes on where this ends, and no further
                tcp.Port.doRead(self)
                return
            self._connected(sock, peer)
            if self.disconnecting:
                return

    def _connected(self, sock: socket.socket, peer: Any) -> None:
        transport: EagerConnection | None = None
        try:
            protocol = self.factory.buildProtocol(self._buildAddr(peer))  # type: ignore[union-attr]
            if protocol is None:
                sock.close()
                return
            number = self.sessionno
            self.sessionno = number + 1
            transport = self.transport(sock, protocol, peer, self, number, self.reactor)
            protocol.makeConnection(transport)
        except BaseException:
            log.err()
            if transport is None:
                sock.close()
            else:
                transport.abortConnection()  # the poller knows it, and a gate has counted it


class EagerUnixPort(unix.Port):
    """A listening Unix socket whose connections are eager."""

    transport = EagerUnixServer  # type: ignore[assignment]
    accepts = ACCEPTS  # heeded only where there is a gate
