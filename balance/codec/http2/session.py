"""One HTTP/2 connection without its socket (RFC 9113): bytes in, events out; commands in, bytes out.

Rule of this file: it is the seam between the protocol and those who use it. Whoever implements `Session` knows no
transport and no reactor, and whoever uses it knows no frame.

    server                                             client
    receive(bytes) -> RequestReceived, DataReceived    request(head) -> stream id
    respond(), send_data(), send_trailers()            send_data(), send_trailers()
    take() -> bytes                                    receive(bytes) -> ResponseReceived, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Protocol

from balance.codec.http1.grammar import DEFAULT_LIMITS, HeadLimits
from balance.codec.http2.events import Event
from balance.model import Headers, RequestHead, ResponseHead

#: What a client says first (RFC 9113, section 3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Code(IntEnum):
    """Error codes (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class SessionOptions:
    """Limits of one session. Sizes in bytes, rates in events a second.

    :param max_streams: streams the peer may have open at a time (SETTINGS_MAX_CONCURRENT_STREAMS)
    :param stream_window: flow-control window of each stream: what a peer may send before it is acknowledged
    :param connection_window: of the connection; given back on receipt, as each stream has its own bound
    :param max_frame_size: largest frame payload we accept (SETTINGS_MAX_FRAME_SIZE)
    :param header_table_size: of HPACK's dynamic table, in each direction
    :param header_list_size: uncompressed head, as RFC 9113, section 6.5.2 counts it; more ends the connection, because
        a block that is not decoded to its end leaves the dynamic tables apart
    :param head_limits: what a head may have, as in HTTP/1.1; more is answered 431 or 414
    :param continuations: CONTINUATION frames of one block
    :param reset_burst: resets (the peer's, and ours that it provoked: rapid reset and MadeYouReset) at once
    :param reset_rate: and in the long run, each second
    :param control_burst: PING, SETTINGS, PRIORITY, unknown frames, and WINDOW_UPDATE and DATA frames that move nothing
        or next to nothing, at once
    :param control_rate: and in the long run, each second
    :param settings_timeout: seconds that the peer has to acknowledge our SETTINGS; 0 is no limit
    :param connect: extended CONNECT is offered (RFC 8441)
    """

    __slots__ = (
        "connect",
        "connection_window",
        "continuations",
        "control_burst",
        "control_rate",
        "head_limits",
        "header_list_size",
        "header_table_size",
        "max_frame_size",
        "max_streams",
        "reset_burst",
        "reset_rate",
        "settings_timeout",
        "stream_window",
    )

    def __init__(
        self,
        *,
        max_streams: int = 100,
        stream_window: int = 64 * 1024,
        connection_window: int = 1024 * 1024,
        max_frame_size: int = 16 * 1024,
        header_table_size: int = 4096,
        header_list_size: int = 64 * 1024,
        head_limits: HeadLimits = DEFAULT_LIMITS,
        continuations: int = 16,
        reset_burst: int = 100,
        reset_rate: float = 33.0,
        control_burst: int = 1000,
        control_rate: float = 200.0,
        settings_timeout: float = 10.0,
        connect: bool = False,
    ) -> None:
        self.max_streams = max_streams
        self.stream_window = stream_window
        self.connection_window = connection_window
        self.max_frame_size = max_frame_size
        self.header_table_size = header_table_size
        self.header_list_size = header_list_size
        self.head_limits = head_limits
        self.continuations = continuations
        self.reset_burst = reset_burst
        self.reset_rate = reset_rate
        self.control_burst = control_burst
        self.control_rate = control_rate
        self.settings_timeout = settings_timeout
        self.connect = connect


DEFAULT_OPTIONS: Final = SessionOptions()


class Session(Protocol):
    """One connection. Made by `ServerSession(options)` or `ClientSession(options)` of an implementation.

    Commands on a stream that is over, or after `SessionEnded`, do nothing: its end and the command may have crossed.
    """

    @property
    def open_streams(self) -> int:
        """Streams that are open, the peer's and ours."""

    @property
    def peer_max_streams(self) -> int:
        """Streams that the peer lets us open at a time (client); 100 until SETTINGS came, the least advised."""

    @property
    def peer_connect(self) -> bool:
        """The peer takes extended CONNECT (client; RFC 8441)."""

    @property
    def queued(self) -> int:
        """Bytes of bodies that wait for the peer's windows, of all streams."""

    @property
    def closed(self) -> bool:
        """`SessionEnded` was reported, or both sides said GOAWAY and no stream is left."""

    @property
    def plain_header_bytes(self) -> int:
        """Names and values of all heads, of both directions, for statistics."""

    @property
    def packed_header_bytes(self) -> int:
        """The same after HPACK, as they were on the wire."""

    def start(self) -> float:
        """Put our preface and settings out.

        :returns: seconds until `settings_late` is to be called; 0 is never
        """

    def settings_late(self) -> Sequence[Event]:
        """The time is over in which our settings had to be acknowledged (RFC 9113, section 6.5.3).

        :returns: nothing if they were, and otherwise that the session has ended
        """

    def receive(self, data: bytes, now: float) -> Sequence[Event]:
        """Bytes of the peer.

        :param now: seconds, on a clock that only goes forward: the defences have budgets over time
        """

    def take(self) -> bytes:
        """All that is to be sent, once."""

    # --- server ---------------------------------------------------------------------------------------------

    def respond(self, stream_id: int, head: ResponseHead, ended: bool) -> None:
        """Send the head of the final response."""

    def inform(self, stream_id: int, head: ResponseHead) -> None:
        """Send the head of a 1xx response."""

    # --- client ---------------------------------------------------------------------------------------------

    def request(self, head: RequestHead, scheme: bytes, authority: bytes, ended: bool) -> int:
        """Open a stream with a request head.

        :param ended: the request has no body
        :returns: the stream's id, or 0 when none can be opened: `peer_max_streams` is reached, GOAWAY was said or
            heard, the ids are used up
        """

    # --- both -----------------------------------------------------------------------------------------------

    def send_data(self, stream_id: int, data: bytes, ended: bool) -> int:
        """Send some of a body. What the peer's windows do not take waits here, and goes out in turn with others'.

        :returns: bytes of this stream that wait now. `StreamWritable` is reported when none does any more
        """

    def send_trailers(self, stream_id: int, trailers: Headers | None) -> None:
        """End the body, after all that waits; without trailers it is an empty END_STREAM."""

    def waiting(self, stream_id: int) -> int:
        """Bytes of the stream that wait for the peer's windows."""

    def reset(self, stream_id: int, code: int) -> None:
        """End the stream before its end. What waits for it is dropped, and no event of it follows."""

    def acknowledge(self, stream_id: int, size: int) -> None:
        """That much of a stream's data was passed on: its window opens again."""

    def ping(self) -> None:
        """Ask for a sign of life: `PingAcknowledged`."""

    def go_away(self, code: int = Code.NO_ERROR) -> None:
        """Take no new streams; those that are open go on to their end (RFC 9113, section 6.8).

        A server says it twice, as that section advises: the first names the highest id there is, so that no request
        under way is lost; the second, when `go_away` is called again, the last one it accepted.
        """
