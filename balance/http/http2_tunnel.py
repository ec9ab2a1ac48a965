"""One stream of HTTP/2 in the place of a connection, for what follows a switch of protocols (RFC 8441).

Rule of this file: to the relay it is an `EagerConnection`, to its stream an exchange. END_STREAM stands for FIN, a
reset for RST; the peer's flow-control window is what a socket's buffer is elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from balance.codec.http2.session import Code

if TYPE_CHECKING:
    from balance.http.http2_link import Http2Link, Http2Stream
    from balance.model import Headers


class StreamTransport:
    """
    :param stream: tells this object what it would tell an exchange; not used after `over`
    """

    spliceable = False
    unacknowledged = 0
    broken = False
    bufferSize = 0

    def __init__(self, link: Http2Link[Any], stream: Http2Stream) -> None:
        self.protocol: Any = None
        self.producer: Any = None
        self.connected = True
        self.disconnecting = False
        self._link = link
        self._stream = stream
        self._paused = False
        #: END_STREAM was sent, or was received.
        self._sent_end = False
        self._got_end = False

    # --- what the relay does with it ----------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Bytes that wait for the peer's window, or for the connection they share with others."""
        if not self.connected:
            return 0
        waiting = self._link.session.waiting(self._stream.stream_id)
        return waiting + (1 if self._link.stalled else 0)

    def write(self, data: bytes) -> None:
        if self.connected and not self._sent_end:
            self._sent(self._link.session.send_data(self._stream.stream_id, data, False))

    def half_close(self) -> None:
        """No more from us."""
        if self.connected and not self._sent_end:
            self._sent_end = True
            self._sent(self._link.session.send_data(self._stream.stream_id, b"", True))
            self._over_if_done()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.half_close()
        self._over_if_done()

    finish = loseConnection

    def abortConnection(self) -> None:
        if self.connected:
            self._link.session.reset(self._stream.stream_id, Code.CANCEL)
            self._link.changed()
            self._over(ConnectionAborted())

    def stopReading(self) -> None:
        self._stream.paused = True

    def startReading(self) -> None:
        if self.connected:
            self._link.reopen(self._stream)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        if self.pending:
            self._pause()

    def unregisterProducer(self) -> None:
        self.producer = None

    def _sent(self, waiting: int) -> None:
        link, stream = self._link, self._stream
        if waiting:
            if not stream.blocked:
                link.blocks(stream, waiting)
            self._pause()
        elif link.stalled:
            self._pause()
        link.changed()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            if self.producer is not None:
                self.producer.pauseProducing()

    def _over_if_done(self) -> None:
        """Both have ended, or nobody wants to hear the other's end; all of ours is out."""
        if not self.connected or not self._sent_end or self.pending:
            return
        if self._got_end:
            self._over(ConnectionDone())
        elif self.disconnecting:
            self._link.session.reset(self._stream.stream_id, Code.NO_ERROR)
            self._link.changed()
            self._over(ConnectionDone())

    def _over(self, reason: Exception) -> None:
        self.connected = False
        stream: Any = self._stream
        stream.exchange = None
        self._link.stream_over(stream)
        self._link.deadlines.turn.at_end(lambda: self.protocol.connectionLost(Failure(reason)))

    # --- what the stream tells ----------------------------------------------------------------------------------

    def request_data(self, data: bytes, ended: bool, trailers: Headers | None) -> None:
        """From a client."""
        self.received(data, ended)

    def response_data(self, data: bytes) -> None:
        """From a backend."""
        self.received(data, False)

    def response_end(self, trailers: Headers | None) -> None:
        """From a backend; its stream is over, as far as it is concerned."""
        self.received(b"", True)
        if self.connected:
            self.connected = False
            self._link.deadlines.turn.at_end(lambda: self.protocol.connectionLost(Failure(ConnectionDone())))

    def received(self, data: bytes, ended: bool) -> None:
        if data and self.connected:
            self.protocol.dataReceived(data)
        if ended and self.connected:
            self._got_end = True
            self.protocol.readConnectionLost()
            self._over_if_done()

    def pause_response(self) -> None:
        """The client takes no more."""
        self._pause()

    def resume_response(self) -> None:
        self._resume()

    def pause_request(self) -> None:
        """The backend takes no more."""
        self._pause()

    def resume_request(self) -> None:
        self._resume()

    def _resume(self) -> None:
        if self._paused and not self.pending:
            self._paused = False
            if self.producer is not None:
                self.producer.resumeProducing()
        self._over_if_done()

    def cancel(self) -> None:
        """The client reset it, or its connection is gone."""
        self._lost()

    def reject(self, error: Exception) -> None:
        """The client broke a rule, and its stream was reset for that."""
        self._lost()

    def failed(self, error: Exception) -> None:
        """The backend reset it, or its connection is gone."""
        self._lost()

    def _lost(self) -> None:
        if self.connected:
            self.connected = False
            self._link.deadlines.turn.at_end(lambda: self.protocol.connectionLost(Failure(ConnectionLost())))
