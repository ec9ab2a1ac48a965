"""`h2` as a toolbox: frames, HPACK, settings, windows and stream states are its own; what a head means is not.

Rule of this file: the one place that reaches into `h2`, and each reach says why. `h2` ends the connection for a head
that breaks a rule; here that is a matter of the stream (RFC 9113, section 8.1.1), and of `balance.codec.http2.heads`.
So a header block leaves `h2` decoded, and comes back as a state transition once it was found good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection
from h2.events import Event as H2Event
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hyperframe.frame import Frame, SettingsFrame

from balance.codec.http2.defences import ConnectionFault, oversized_head
from balance.codec.http2.heads import Field
from balance.codec.http2.session import Code, SessionOptions

#: Fields whose values are never to be guessed from the size of a block (RFC 7541, section 7.1.3): on a connection to a
#: backend, requests of clients that do not trust each other share one table.
SENSITIVE = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

DEFAULT_WINDOW = 65535


class HeaderBlock(NamedTuple):
    """A header block that was decoded, of whatever kind."""

    stream_id: int
    fields: Sequence[Field]
    ended: bool


class _Packer(Encoder):
    """Counts, and keeps secrets out of the dynamic table."""

    plain = packed = 0

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        fields = [NeverIndexedHeaderTuple(*field) if field[0] in SENSITIVE else field for field in headers]
        block = super().encode(fields, huffman)
        self.plain += sum(len(name) + len(value) for name, value in fields)
        self.packed += len(block)
        return block


class _Unpacker(Decoder):
    """Counts, and tells a bomb from a broken block. `h2` calls either a protocol error."""

    plain = packed = 0

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:
        try:
            fields = list(super().decode(data, raw))
        except OversizedHeaderListError:
            raise oversized_head() from None
        except (HPACKError, IndexError, ValueError) as error:  # the latter two from some releases of hpack
            reason = f"a header block that cannot be decoded: {error}"
            raise ConnectionFault(Code.COMPRESSION_ERROR, reason) from None
        self.plain += sum(len(name) + len(value) for name, value in fields)
        self.packed += len(data)
        return fields


class Connection(H2Connection):
    """`H2Connection`, with settings that hold when RFC 9113 says so, and heads that are judged elsewhere."""

    #: `h2` remembers how each closed stream came to its end: 65,536 of them. The session knows what it has to.
    MAX_CLOSED_STREAMS = 1

    encoder: _Packer
    decoder: _Unpacker

    def __init__(self, options: SessionOptions, *, client: bool) -> None:
        super().__init__(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self._announced = _settings(options, client)
        # What is wider than the default holds at once; what is narrower, once the peer has acknowledged it (6.5.3).
        self.local_settings = Settings(client, {code: _wider(code, value) for code, value in self._announced.items()})
        for code, value in self._announced.items():
            if value != self.local_settings[code]:
                self.local_settings[code] = value
        self.max_inbound_frame_size = options.max_frame_size
        self.encoder = _Packer()
        self.decoder = _Unpacker(options.header_list_size)
        self.decoder.max_allowed_table_size = self.local_settings.header_table_size

    def announcement(self) -> bytes:
        """Our SETTINGS. `h2` would write the current values, not those that are to be acknowledged."""
        frame = SettingsFrame(0)
        frame.settings = {int(code): value for code, value in self._announced.items()}
        return frame.serialize()

    def feed(self, raw: bytes) -> list[H2Event]:
        """Read one whole frame other than those of heads. `receive_data` would do the same, and format each frame for a
        log that nobody keeps.

        :raises ProtocolError: of `h2`
        """
        view = memoryview(raw)
        frame, _ = Frame.parse_frame_header(view[:9])
        frame.parse_body(view[9:])
        events: list[H2Event]
        frames, events = self._frame_dispatch_table[frame.__class__](frame)
        self._prepare_for_sending(frames)
        return events

    # --- heads ------------------------------------------------------------------------------------------------

    def unpack(self, stream_id: int, block: bytes, ended: bool) -> HeaderBlock:
        """Decode a header block. No state changes yet, except of the table."""
        return HeaderBlock(stream_id, self.decoder.decode(block, raw=True), ended)

    def accept_head(self, stream_id: int, *, final: bool) -> None:
        """A head or trailers were found good, as far as states go."""
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        stream = self._get_or_create_stream(stream_id, AllowedStreamIDs(not self.config.client_side))
        head = StreamInputs.RECV_HEADERS if final else StreamInputs.RECV_INFORMATIONAL_HEADERS
        stream.state_machine.process_input(head)

    def accept_end(self, stream_id: int) -> None:
        """END_STREAM came with a head or with trailers."""
        self.streams[stream_id].state_machine.process_input(StreamInputs.RECV_END_STREAM)

    # --- windows ----------------------------------------------------------------------------------------------

    def consume(self, size: int) -> None:
        """DATA that belongs to no stream any more counts for the connection all the same (section 6.9)."""
        self._inbound_flow_control_window_manager.window_consumed(size)

    def stream_room(self, stream_id: int) -> int:
        return self.streams[stream_id].outbound_flow_control_window

    def inbound_room(self, stream_id: int) -> int:
        return self.streams[stream_id].inbound_flow_control_window

    def forget(self, stream_id: int) -> None:
        """The stream is over. `h2` would find out when it next counts its streams."""
        self.streams.pop(stream_id, None)


def _settings(options: SessionOptions, client: bool) -> dict[SettingCodes, int]:
    settings = {
        SettingCodes.HEADER_TABLE_SIZE: options.header_table_size,
        SettingCodes.INITIAL_WINDOW_SIZE: options.stream_window,
        SettingCodes.MAX_FRAME_SIZE: options.max_frame_size,
        SettingCodes.MAX_HEADER_LIST_SIZE: options.header_list_size,
    }
    if client:
        settings[SettingCodes.ENABLE_PUSH] = 0
    else:
        settings[SettingCodes.MAX_CONCURRENT_STREAMS] = options.max_streams
        if options.connect:
            settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
    return settings


def _wider(code: SettingCodes, value: int) -> int:
    if code is SettingCodes.INITIAL_WINDOW_SIZE:
        return max(value, DEFAULT_WINDOW)
    if code is SettingCodes.HEADER_TABLE_SIZE:
        return max(value, 4096)
    return value
