"""Transports that speak TLS: an eager transport with a `TlsSession` between its socket and its protocol.

Rule of this file: the queue, back-pressure and the order of closing are the plain transport's own, over the records
that TLS made; here is only what TLS adds to them. A connection ends cleanly when the peer said so (close_notify); one
that just stops was cut, by whoever, and its protocol is told so (ConnectionLost, not ConnectionDone).
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from twisted.internet import main
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from balance.net.tls_session import reason_of
from balance.net.transport import EagerClient, EagerConnection, EagerServer, EagerUnixServer

if TYPE_CHECKING:
    from balance.codec.certificates import PeerCertificate
    from balance.net.ration import Ration
    from balance.net.tls_session import TlsSession

#: Unsent bytes above which a peer that makes TLS itself answer (key updates, refused renegotiations), and reads none of
#: the answers, is cut.
_ANSWERS_LIMIT: Final = 256 * 1024


class TlsBroken(ConnectionLost):
    """The peer sent an alert, or bytes that are no TLS; the text says which. (In TLS 1.3, a backend that wants another
    certificate of ours says so only here, behind the handshake.)
    """

    def __init__(self, error: ssl.SSLError) -> None:
        super().__init__(f"TLS: {reason_of(error)}")

    def __str__(self) -> str:
        return str(self.args[0])


class TlsConnection(EagerConnection):
    """Plain until its handshake is over (`secure`); its protocol until then is the handshake.

    After it: ``alpn`` is the negotiated protocol, empty for none; ``server_name`` what the client asked for, lower
    case, empty for none; ``certificate`` the client's, verified, or None.
    """

    session: TlsSession | None = None
    by_itself = True
    #: What a read may take from, until the handshake is over.
    ration: Ration | None = None
    alpn: str = ""
    server_name: str = ""
    certificate: PeerCertificate | None = None

    def secure(self, session: TlsSession) -> None:
        """The handshake is over. What came behind it is delivered when the read that brought it returns."""
        self.alpn = session.ssl.selected_alpn_protocol() or ""
        self.session = session
        self.by_itself = False

    # --- in ---------------------------------------------------------------------------------------------------

    def doRead(self) -> ConnectionLost | ConnectionDone | None:  # type: ignore[override]
        if self.session is None and self.ration is not None and not self.ration.take():
            return None
        return EagerConnection.doRead(self)

    def received(self, data: bytes) -> ConnectionLost | ConnectionDone | None:
        session = self.session
        if session is not None:
            return self._decrypt(session, data) if data else main.CONNECTION_LOST
        why = EagerConnection.received(self, data)
        session = self.session
        if why is None and session is not None and self.connected and not self._aborting:
            return self._decrypt(session, b"")
        return why

    def _decrypt(self, session: TlsSession, data: bytes) -> ConnectionLost | ConnectionDone | None:
        try:
            plain = session.decrypt(data)
        except ssl.SSLError as error:
            EagerConnection.write(self, session.take())
            return TlsBroken(error)
        if session.outgoing.pending:
            if self.pending > _ANSWERS_LIMIT:
                return main.CONNECTION_LOST
            EagerConnection.write(self, session.take())
        if plain:
            self.protocol.dataReceived(plain)
        if session.ended and self.connected and not self._aborting and not self.disconnecting:
            return main.CONNECTION_DONE
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        session = self.session
        if session is not None and not session.ended and isinstance(reason.value, ConnectionDone):
            self.connectionLost(Failure(ConnectionLost()))
        else:
            EagerConnection.readConnectionLost(self, reason)

    # --- out --------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        session = self.session
        if session is not None:
            if not self.connected or not data:
                return
            try:
                data = session.encrypt(data)
            except ssl.SSLError:
                self.abortConnection()
                return
        EagerConnection.write(self, data)

    # --- the end ----------------------------------------------------------------------------------------------

    def _say_end(self) -> None:
        """Close_notify, behind everything that was written."""
        if self.session is not None and self.connected:
            EagerConnection.write(self, self.session.close())

    def half_close(self) -> None:
        self._say_end()
        EagerConnection.half_close(self)

    def loseWriteConnection(self) -> None:
        self._say_end()
        EagerConnection.loseWriteConnection(self)

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self._say_end()
        EagerConnection.loseConnection(self)

    def finish(self) -> None:
        if not self.disconnecting:
            self._say_end()
        EagerConnection.finish(self)

    def connectionLost(self, reason: Failure) -> None:
        if (
            self.connected
            and not self.pending
            and not self._writeDisconnected
            and isinstance(reason.value, ConnectionDone)
        ):
            self._say_end()  # the peer has ended first, and hears the same from us
        EagerConnection.connectionLost(self, reason)


class TlsServer(TlsConnection, EagerServer):
    """A connection that was accepted on a TLS listener."""


class TlsUnixServer(TlsConnection, EagerUnixServer):
    """A connection that was accepted on a Unix socket that speaks TLS."""


class TlsClient(TlsConnection, EagerClient):
    """A connection that we opened to a backend that speaks TLS."""
