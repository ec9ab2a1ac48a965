"""One TLS connection, in memory: bytes of the network in, bytes of the application out, and the other way round.

Rule of this file: OpenSSL does the cryptography (the standard library's `ssl`), and nothing here knows a socket. All it
wants to send is put out at once, so that "OpenSSL wants to write" is no state anybody has to think of: handshakes, key
updates, alerts and refused renegotiations come out with whatever comes out next.
"""

from __future__ import annotations

import re
import ssl
from typing import Final

#: The most plain text in a record (RFC 8446, section 5.1): what one `read` of OpenSSL returns at most.
RECORD: Final = 16384
#: Bytes given to OpenSSL's buffers at a time. They never shrink, so this bounds what an idle connection keeps.
_FEED: Final = RECORD + 1024

_OPENSSL_TEXT: Final = re.compile(r"\] ([a-z0-9 ]+) \(_ssl")


class TlsSession:
    """
    :param context: certificates, versions, ciphers
    :param server_side: we are the server
    :param server_name: client: the name to send and, where the context asks for it, to verify
    :param resume: client: an earlier session of the same context to take up again
    """

    __slots__ = ("_feed", "_incoming", "_read", "_take", "_write", "closed", "ended", "outgoing", "ssl")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        resume: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        #: Where OpenSSL puts what it has to say; ``pending`` tells whether `take` is worth a call.
        self.outgoing = ssl.MemoryBIO()
        self.ssl = context.wrap_bio(
            self._incoming, self.outgoing, server_side=server_side, server_hostname=server_name, session=resume
        )
        self._feed, self._take = self._incoming.write, self.outgoing.read
        self._read, self._write = self.ssl.read, self.ssl.write
        #: The peer has said that it sends no more (close_notify).
        self.ended = False
        #: We have.
        self.closed = False

    def handshake(self, data: bytes) -> bool:
        """Go on with the handshake; whether it is finished. Look at `take` in any case.

        :raises ssl.SSLError: it failed; `take` may have an alert for the peer
        """
        if data:
            self._feed(data)
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes) -> bytes:
        """What the peer says, as far as it is complete. Sets `ended` where it says that this was all.

        :raises ssl.SSLError: it is not TLS, was tampered with, or breaks the protocol
        """
        if len(data) > _FEED:
            view = memoryview(data)
            return b"".join([self._more(view[start : start + _FEED]) for start in range(0, len(data), _FEED)])
        if data:
            self._feed(data)
        try:
            plain = self._read(RECORD)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLZeroReturnError:
            plain = b""
        if not plain:
            self.ended = True
        elif self._incoming.pending:
            return plain + self._more(b"")
        return plain

    def _more(self, data: bytes | memoryview) -> bytes:
        """Every record that is complete."""
        self._feed(data)
        parts: list[bytes] = []
        read = self._read
        try:
            while plain := read(RECORD):
                parts.append(plain)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(parts)

    def encrypt(self, data: bytes) -> bytes:
        """The records for the peer. After `close` there are none.

        :raises ssl.SSLError: the connection is broken
        """
        if self.closed:
            return b""
        if len(data) <= RECORD:
            self._write(data)
            return self._take()
        view, records = memoryview(data), []
        for start in range(0, len(data), RECORD):
            self._write(view[start : start + RECORD])
            records.append(self._take())
        return b"".join(records)

    def take(self) -> bytes:
        """What OpenSSL has to say to the peer by itself; mostly nothing."""
        return self._take()

    def close(self) -> bytes:
        """Say that we send no more (close_notify), once: what that is in bytes."""
        if self.closed:
            return b""
        self.closed = True
        try:
            self.ssl.unwrap()
        except ssl.SSLError:
            pass  # it would like to hear the peer's close_notify, too; or the connection is broken already
        return self._take()


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's own name of what went wrong: one of a fixed set."""
    text = error.reason or ""
    if not text and (match := _OPENSSL_TEXT.search(str(error))) is not None:
        text = match[1]  # younger alerts have no name in Python
    return (text or "unknown").lower().replace(" ", "_")
