"""One stream of a lean session.

Rule of this file: state only. What waits to be sent is in the outbox; the rules are in `lean_session`.
"""

from __future__ import annotations

from typing import Final

#: ``expected`` of a body without Content-Length.
UNKNOWN: Final = -1


class Stream:
    """State of a stream (RFC 9113, section 5.1), by direction: each side is open until it said END_STREAM."""

    __slots__ = (
        "answered",
        "consumed",
        "ending",
        "expected",
        "id",
        "local_open",
        "method",
        "receive_window",
        "refused",
        "remote_open",
        "send_window",
        "tunnel",
    )

    def __init__(self, stream_id: int, method: bytes, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.method = method
        #: The peer may send more.
        self.remote_open = True
        #: Our END_STREAM has not gone out.
        self.local_open = True
        #: Our END_STREAM is decided, and may wait in the outbox.
        self.ending = False
        #: The head of the final response has passed.
        self.answered = False
        #: Extended CONNECT was accepted: no head follows (RFC 9113, section 8.5).
        self.tunnel = False
        #: The request was refused: its body is thrown away.
        self.refused = False
        #: What the peer lets us send. It may be negative (RFC 9113, section 6.9.2).
        self.send_window = send_window
        #: What we let the peer send.
        self.receive_window = receive_window
        #: Acknowledged, and not yet given back.
        self.consumed = 0
        #: Bytes of the body that Content-Length still promises.
        self.expected = UNKNOWN
