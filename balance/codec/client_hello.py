"""What a TLS client asks for in its first message (RFC 8446, section 4.1.2), read without taking part in the TLS.

Rule of this file: it looks and changes nothing; the bytes go to the backend as they came. A message that a TLS server
could read in another way than we do is refused: nobody may be routed by one name and served by another.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from balance.errors import BadClientHello

#: Bytes looked at before a ClientHello has to be complete, record headers included.
MAX_SIZE: Final = 16 * 1024 + 2048

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_RECORD_MAX: Final = 1 << 14
_HOST_NAME: Final = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")


class ClientHello(NamedTuple):
    """``server_name`` is lower case, without a dot at its end, and empty where none was sent (RFC 6066, section 3);
    ``alpn`` are the protocol ids in the client's order, without GREASE (RFC 7301, section 3.1; RFC 8701).
    """

    server_name: str
    alpn: tuple[bytes, ...]


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Read a ClientHello from the start of a connection; None while more is needed. What follows it is not looked at.

    :raises BadClientHello: as soon as the bytes cannot become one, or are too many
    """
    return HelloReader().read(data)


class HelloReader:
    """Reads a ClientHello that comes in pieces. However many pieces and records there are, each record is read once.

    The handshake message is put together from its records (RFC 8446, section 5.1).
    """

    __slots__ = ("_message", "_need", "_offset")

    def __init__(self) -> None:
        #: What complete records held.
        self._message = b""
        #: Where the first record begins that was not complete.
        self._offset = 0
        #: Size of the message, once its head is known.
        self._need = 0

    def read(self, data: bytes) -> ClientHello | None:
        """As `parse_client_hello`.

        :param data: all that has come, from the start of the connection
        """
        while True:
            start = self._offset + 5
            _check_record_start(data[self._offset : start])
            if len(data) < start:
                break
            size = int.from_bytes(data[start - 2 : start], "big")
            part = data[start : start + size]
            if not self._need:
                self._need = _message_size((self._message + part[:4])[:4])
            if self._need and len(self._message) + len(part) >= self._need:
                return _hello(_Reader((self._message + part)[4 : self._need]))
            if len(part) < size:
                break
            self._message += part
            self._offset = start + size
        if len(data) > MAX_SIZE:
            raise BadClientHello("the ClientHello is too large")
        return None


def _message_size(head: bytes) -> int:
    """Size of the message, its head of four bytes included; 0 while that is not complete."""
    if head and head[0] != _CLIENT_HELLO:
        raise BadClientHello("the first handshake message is not a ClientHello")
    if len(head) < 4:
        return 0
    size = 4 + int.from_bytes(head[1:], "big")
    if size > MAX_SIZE:
        raise BadClientHello("the ClientHello is too large")
    return size


def _check_record_start(head: bytes) -> None:
    """Type, version and length of a record, as far as they are there."""
    if head[:1] not in (b"", b"\x16"):
        raise BadClientHello("this is not TLS")
    if len(head) > 1 and head[1] != 3:
        raise BadClientHello("this is not a version of TLS")
    if len(head) == 5 and not 0 < int.from_bytes(head[3:5], "big") <= _RECORD_MAX:
        raise BadClientHello("a record of an impossible size")


class _Reader:
    """Cuts vectors off the front (RFC 8446, section 3.4)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, size: int) -> bytes:
        part = self.data[self.offset : self.offset + size]
        if len(part) < size:
            raise BadClientHello("the ClientHello is cut off")
        self.offset += size
        return part

    def vector(self, width: int) -> bytes:
        return self.take(int.from_bytes(self.take(width), "big"))

    @property
    def ended(self) -> bool:
        return self.offset == len(self.data)


def _hello(reader: _Reader) -> ClientHello:
    if reader.take(2)[0] != 3:
        raise BadClientHello("this is not a version of TLS")
    reader.take(32)
    if len(reader.vector(1)) > 32:
        raise BadClientHello("a session id of an impossible size")
    ciphers = reader.vector(2)
    if not ciphers or len(ciphers) % 2:
        raise BadClientHello("an impossible list of cipher suites")
    if not reader.vector(1):
        raise BadClientHello("no compression methods")
    if reader.ended:
        return ClientHello("", ())
    extensions = _extensions(_Reader(reader.vector(2)))
    if not reader.ended:
        raise BadClientHello("bytes behind the extensions")
    name = extensions.get(_SERVER_NAME)
    alpn = extensions.get(_ALPN)
    return ClientHello("" if name is None else _server_name(name), () if alpn is None else _protocols(alpn))


def _extensions(reader: _Reader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while not reader.ended:
        kind = int.from_bytes(reader.take(2), "big")
        if kind in found:
            raise BadClientHello("an extension is given twice")  # RFC 8446, section 4.2
        found[kind] = reader.vector(2)
    return found


def _server_name(data: bytes) -> str:
    outer = _Reader(data)
    reader = _Reader(outer.vector(2))
    if reader.take(1) != b"\x00":
        raise BadClientHello("a server name of an unknown kind")
    name = reader.vector(2)
    if not reader.ended or not outer.ended:
        raise BadClientHello("more than one server name")
    name = name.removesuffix(b".")
    if not _HOST_NAME.fullmatch(name):
        raise BadClientHello("the server name is no host name")
    return name.decode("ascii").lower()


def _protocols(data: bytes) -> tuple[bytes, ...]:
    outer = _Reader(data)
    reader = _Reader(outer.vector(2))
    if not outer.ended or reader.ended:
        raise BadClientHello("an impossible list of protocols")
    found = []
    while not reader.ended:
        protocol = reader.vector(1)
        if not protocol:
            raise BadClientHello("an empty protocol id")
        if not _is_grease(protocol):
            found.append(protocol)
    return tuple(found)


def _is_grease(protocol: bytes) -> bool:
    """RFC 8701, section 2: two equal bytes that end in A."""
    return len(protocol) == 2 and protocol[0] == protocol[1] and protocol[0] & 0x0F == 0x0A
