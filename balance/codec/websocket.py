"""WebSocket (RFC 6455) as far as a relay has to know it: the handshake, where frames end, and Close frames.

Rule of this file: it follows frames, it does not judge them; the two ends do that, or Autobahn where a route asks for
it. The handshake is checked as strictly as everything that decides where a message ends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from balance.codec.http1.grammar import tokens
from balance.errors import BadRequest, BadResponse, WrongWebSocketVersion
from balance.model import HTTP2, RequestHead, ResponseHead

WEBSOCKET: Final = b"websocket"
KEY: Final = b"sec-websocket-key"
ACCEPT: Final = b"sec-websocket-accept"
EXTENSIONS: Final = b"sec-websocket-extensions"
PROTOCOL: Final = b"sec-websocket-protocol"

# Close codes (RFC 6455, section 7.4.1, and IANA's registry).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
POLICY: Final = 1008
TOO_BIG: Final = 1009
#: Also for a lost backend: 1014 (bad gateway) says more, but clients exist that take it for a violation.
INTERNAL_ERROR: Final = 1011

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE: Final = 8
#: The longest header: opcode, length in 8 bytes, mask.
_HEADER_MAX: Final = 14
#: Second byte of a header to the size of the whole frame; none for those whose length takes more bytes.
FRAME_SIZES: Final = tuple(
    (2 + (byte & 0x7F) + (4 if byte & 0x80 else 0)) if byte & 0x7F < 126 else -1 for byte in range(256)
)


# --- the handshake --------------------------------------------------------------------------------------------


def check_request(head: RequestHead) -> None:
    """Refuse an opening handshake that is not one (RFC 6455, section 4.2.1).

    :raises BadRequest: it has a body, or no key, or one that is none
    :raises WrongWebSocketVersion: not version 13
    """
    if head.length and head.version != HTTP2:
        raise BadRequest("a WebSocket handshake with a body")
    versions = head.headers.get_all(b"sec-websocket-version")
    if versions != [b"13"]:
        raise WrongWebSocketVersion
    if head.version == HTTP2:
        return  # there are no keys (RFC 8441, section 5)
    keys = head.headers.get_all(KEY)
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadRequest("a WebSocket handshake needs one Sec-WebSocket-Key of 16 bytes")


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def new_key(random: bytes) -> bytes:
    """A Sec-WebSocket-Key out of 16 random bytes."""
    return base64.b64encode(random)


def accept_for(key: bytes) -> bytes:
    """What a server answers to a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def check_response(head: ResponseHead, key: bytes) -> None:
    """Refuse a 101 that does not answer our handshake (RFC 6455, section 4.1).

    :param key: the Sec-WebSocket-Key that was sent
    :raises BadResponse: another protocol, or another handshake's answer
    """
    if WEBSOCKET not in tokens(head.upgrade):
        raise BadResponse("101 Switching Protocols, but not to WebSocket")
    if head.headers.get_all(ACCEPT) != [accept_for(key)]:
        raise BadResponse("Sec-WebSocket-Accept does not fit the key")


# --- frames ---------------------------------------------------------------------------------------------------


def close_frame(code: int, reason: str = "", mask: bytes = b"") -> bytes:
    """A Close frame.

    :param reason: at most 123 bytes of UTF-8
    :param mask: four bytes; given by clients only, and by them always
    """
    payload = code.to_bytes(2, "big") + reason.encode()
    if not mask:
        return bytes((0x80 | _CLOSE, len(payload))) + payload
    return bytes((0x80 | _CLOSE, 0x80 | len(payload))) + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))


class FrameFollower:
    """Knows, at every byte of one direction, where in a frame it is.

    It looks at headers and jumps over payloads. ``left`` is what is to come of the frame under way. ``calm`` says that
    the next byte begins a frame; whoever sees a small frame whole may then count it without `feed`.
    """

    __slots__ = ("_close", "_header", "calm", "close_code", "left", "messages")

    def __init__(self) -> None:
        self.left = 0
        self.calm = True
        #: Messages whose last frame has begun.
        self.messages = 0
        #: Of the first Close frame that has passed, or `NO_CODE` if it had none; 0 until then.
        self.close_code = 0
        #: Part of a header.
        self._header = b""
        #: A Close frame on its way, from its mask (if any) on: mask and payload so far.
        self._close: tuple[bytes, bytes] | None = None

    def feed(self, data: bytes) -> None:
        """Go on by ``data``."""
        at, size = 0, len(data)
        while at < size:
            at = self._step(data, at, size)

    def feed_to_end(self, data: bytes) -> int:
        """Go on to where a frame ends; returns how many bytes of ``data`` that is: all of them if none does."""
        at, size = 0, len(data)
        while at < size:
            at = self._step(data, at, size)
            if self.calm:
                break
        return at

    def skip(self, size: int) -> None:
        """Go on by that many bytes of payload, at most ``left``."""
        self.left -= size
        if not self.left:
            self._frame_ended()

    def _step(self, data: bytes, at: int, size: int) -> int:
        """Over the rest of a payload, or over a header."""
        left = self.left
        if left:
            step = min(left, size - at)
            if self._close is not None:
                mask, payload = self._close
                self._close = mask, payload + data[at : at + step]
            self.skip(step)
            return at + step
        known = self._header
        header = known + data[at : at + _HEADER_MAX] if known else data[at : at + _HEADER_MAX]
        length = _header_length(header)
        self.calm = False
        if not length or len(header) < length:
            self._header = header
            return size
        self._header = b""
        self._frame_begun(header[:length])
        return at + length - len(known)

    def _frame_begun(self, header: bytes) -> None:
        first, second = header[0], header[1]
        length = second & 0x7F
        if length == 126:
            length = (header[2] << 8) | header[3]
        elif length == 127:
            length = int.from_bytes(header[2:10], "big")
        self.left = length
        if first & 0x88 == 0x80:
            self.messages += 1
        elif first & 0x0F == _CLOSE and not self.close_code:
            if length < 126:
                self._close = header[-4:] if second & 0x80 else b"", b""
            else:
                self.close_code = NO_CODE  # against the rules, and not to be kept
        if not length:
            self._frame_ended()

    def _frame_ended(self) -> None:
        self.calm = True
        if self._close is not None:
            (mask, payload), self._close = self._close, None
            code = _masked(payload[:2], mask) if mask else payload[:2]
            self.close_code = (int.from_bytes(code, "big") if len(code) == 2 else 0) or NO_CODE


def _header_length(header: bytes) -> int:
    """Size of a frame header, 0 while it cannot be told."""
    if len(header) < 2:
        return 0
    second = header[1]
    length = second & 0x7F
    return 2 + (8 if length == 127 else 2 if length == 126 else 0) + (4 if second & 0x80 else 0)
