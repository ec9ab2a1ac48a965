"""TLS handshakes: the protocol of a connection until it is secure.

Rule of this file: it takes the connection from its first byte to the end of the handshake, and then hands it on, or
says why not. Who serves which certificate is decided in `balance.net.tls_server`, whom to trust in
`balance.net.tls_client`; time limits of connections that we opened are their dial's.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.codec.certificates import PeerCertificate
from balance.codec.client_hello import ClientHello, HelloReader
from balance.errors import BackendError, BadClientHello, TlsAlertReceived, TlsCertificateError, TlsProtocolError
from balance.net.deadlines import Timed
from balance.net.tls_session import TlsSession, reason_of

if TYPE_CHECKING:
    from balance.net.tls_server import TlsTermination
    from balance.net.tls_transport import TlsConnection

#: How a request in clear text begins.
_PLAIN_HTTP: Final = re.compile(rb"[A-Z]{3,16} ")
_NOT_PLAIN: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 58\r\n"
    b"Connection: close\r\n\r\nThis port speaks TLS; the request was sent in clear text.\n"
)
#: Alerts of ours that need no session (RFC 8446, section 6.2).
_DECODE_ERROR: Final = 50
_NO_APPLICATION_PROTOCOL: Final = 120
#: Seconds for a client to take our last word.
_LAST_WORD: Final = 2.0


@implementer(IProtocol)
class ServerHandshake(Timed):
    """A client's handshake with us.

    :param established: makes the protocol that takes over, once the connection is secure
    :param refused: told what went wrong, in place of it
    """

    __slots__ = ("_buffer", "_established", "_over", "_owner", "_reader", "_refused", "_session", "hello", "transport")

    def __init__(
        self,
        owner: TlsTermination,
        established: Callable[[TlsConnection, ClientHello], Any],
        refused: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._refused = refused
        self._owner = owner
        self._established = established
        self._buffer = b""
        self._reader = HelloReader()
        self._session: TlsSession | None = None
        self._over = False
        self.hello = ClientHello("", ())
        self.transport: TlsConnection | None = None

    def makeConnection(self, transport: object) -> None:
        self.transport = cast("TlsConnection", transport)
        self.transport.ration = self._owner.first_steps
        self._owner.begun(self)

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return  # it goes on talking after our alert
        self._owner.heard(self)
        if self._session is not None:
            self._step(self._session, data)
            return
        data = self._buffer = self._buffer + data
        if data[0] != 22:
            self._refuse_plain(data)
            return
        try:
            hello = self._reader.read(data)
        except BadClientHello as error:
            self._refuse("bad_client_hello", error.detail, _alert(_DECODE_ERROR))
            return
        if hello is not None:
            self._buffer = b""
            self._answer(hello, data)

    def _answer(self, hello: ClientHello, data: bytes) -> None:
        owner = self._owner
        if hello.alpn and owner.protocols and owner.protocols.isdisjoint(hello.alpn):
            offered = b", ".join(hello.alpn).decode("ascii", "backslashreplace")
            self._refuse("no_application_protocol", f"ALPN offers only {offered}", _alert(_NO_APPLICATION_PROTOCOL))
            return
        self.hello = hello
        assert self.transport is not None
        self.transport.ration = owner.further_steps
        session = self._session = TlsSession(owner.certificates.choose(hello.server_name), server_side=True)
        self._step(session, data)

    def _step(self, session: TlsSession, data: bytes) -> None:
        transport = self.transport
        assert transport is not None
        try:
            done = session.handshake(data)
        except ssl.SSLError as error:
            self._refuse(reason_of(error), str(error), session.take())
            return
        out = session.take()
        if out:
            transport.write(out)
        if done:
            self._finish(transport, session)

    def _finish(self, transport: TlsConnection, session: TlsSession) -> None:
        if self._owner.asks_certificate:
            der = session.ssl.getpeercert(binary_form=True)
            try:
                transport.certificate = PeerCertificate.of(der) if der is not None else None
            except ValueError as error:  # OpenSSL reads more than we do
                self._refuse("bad_client_certificate", str(error), session.close())
                return
        self._over = True
        self.transport = None
        transport.server_name = self.hello.server_name
        self._owner.succeeded(self, resumed=bool(session.ssl.session_reused))
        transport.secure(session)
        protocol = transport.protocol = self._established(transport, self.hello)
        protocol.makeConnection(transport)

    # --- it does not come to that -----------------------------------------------------------------------------

    def _refuse_plain(self, data: bytes) -> None:
        """A browser that was sent here with http:// shows an answer; everybody else is just closed."""
        asked = self._owner.answers_plain and _PLAIN_HTTP.match(data)
        self._refuse("plain_http" if asked else "not_tls", "this is not TLS", _NOT_PLAIN if asked else b"")

    def _refuse(self, reason: str, detail: str, last_word: bytes) -> None:
        """Say why, as far as TLS has words for it, and close; the time for that is bounded, too."""
        transport = self.transport
        assert transport is not None
        self._over = True
        self._buffer = b""
        self._failed(reason, detail)
        self._owner.deadlines.arm(self, _LAST_WORD)
        if last_word:
            transport.write(last_word)
            transport.loseWriteConnection()  # and read on: a reset would destroy it on its way
        else:
            transport.abortConnection()

    def _failed(self, reason: str, detail: str) -> None:
        self._owner.failed(self, reason)
        self._refused(f"{reason}: {detail}")

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        self._session = None
        if not self._over:
            self._over = True
            self._failed("closed", "the client closed the connection")
        self._owner.deadlines.forget(self)

    def timed_out(self) -> None:
        if not self._over:
            self._over = True
            self._failed("timeout", "not finished in time")
        self.abort()

    def make_room(self) -> None:
        """Others are more likely to come to an end."""
        self._refuse("too_many_handshakes", "silent while too many others came", b"")

    def abort(self) -> None:
        """Nobody waits for it any longer."""
        if self.transport is not None:
            self.transport.abortConnection()


@implementer(IProtocol)
class ClientHandshake:
    """Our handshake with a backend.

    :param preface: sent before it, in clear text (a PROXY header)
    :param established: called once, with the secure transport; it sets the transport's next protocol
    :param failed: called once, in place of it; the connection is closed by then
    """

    __slots__ = ("_established", "_failed", "_preface", "_session", "transport")

    def __init__(
        self,
        session: TlsSession,
        preface: bytes,
        established: Callable[[TlsConnection, TlsSession], None],
        failed: Callable[[BackendError], None],
    ) -> None:
        self._session = session
        self._preface = preface
        self._established = established
        self._failed = failed
        self.transport: TlsConnection | None = None

    def makeConnection(self, transport: object) -> None:
        self.transport = cast("TlsConnection", transport)
        self._session.handshake(b"")
        self.transport.write(self._preface + self._session.take())

    def connectionMade(self) -> None:
        """Nothing to do beyond `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        transport, session = self.transport, self._session
        if transport is None:
            return
        try:
            done = session.handshake(data)
        except ssl.SSLError as error:
            self._fail(_backend_error(error), session.take())
            return
        out = session.take()
        if out:
            transport.write(out)
        if done:
            self.transport = None
            transport.secure(session)
            self._established(transport, session)

    def connectionLost(self, reason: Failure) -> None:
        if self.transport is not None:
            self.transport = None
            self._failed(TlsProtocolError("the backend closed the connection during the TLS handshake"))

    def _fail(self, error: BackendError, alert: bytes) -> None:
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.write(alert)
            transport.loseConnection()
        self._failed(error)

    def close(self) -> None:
        """Nobody wants the connection any more."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abortConnection()


def _alert(description: int) -> bytes:
    """A fatal alert in clear text."""
    return bytes((21, 3, 3, 0, 2, 2, description))


def _backend_error(error: ssl.SSLError) -> BackendError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsCertificateError(f"the backend's certificate was refused: {error.verify_message}")
    reason = reason_of(error)
    if "alert" in reason or reason.endswith("unrecognized_name"):
        return TlsAlertReceived(f"the backend refused the TLS handshake: {reason}")
    if reason in ("wrong_version_number", "packet_length_too_long", "http_request"):
        return TlsProtocolError(f"the backend does not answer in TLS: {reason}")
    return TlsProtocolError(f"the TLS handshake failed: {reason}")
