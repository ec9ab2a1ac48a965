"""The one error tree.

Rule of this file: an error knows, on its class, everything that has to be decided about it: the status a client
is told, who is to blame, whether another attempt is safe, the stable reason code of logs and statistics, and the
error type of the ``Proxy-Status`` field (RFC 9209, section 2.3). Nobody else keeps a table of errors.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Source(enum.Enum):
    """Who caused an error. Passive health counts only what a backend caused."""

    CLIENT = "client"
    BACKEND = "backend"
    BALANCE = "balance"


class Retry(enum.Enum):
    """When another attempt is safe (RFC 9110, section 9.2.2; the idea of tying it to the error is pingora's)."""

    NEVER = "never"
    #: Not a byte of the request left us: every method may try again.
    UNSENT = "unsent"
    #: The request went out on a reused connection and not a byte came back: idempotent methods may try again.
    IDEMPOTENT = "idempotent"
    #: The peer says that it has done nothing (RFC 9113, section 8.7): every method may try again, a few times.
    UNPROCESSED = "unprocessed"


class BalanceError(Exception):
    """Root of every error Balance raises on purpose."""


class ExchangeError(BalanceError):
    """Something that ends an attempt, an exchange or a connection."""

    status: ClassVar[int] = 500
    source: ClassVar[Source] = Source.BALANCE
    #: May differ from instance to instance where it depends on how far an attempt had come.
    retry: Retry = Retry.NEVER
    reason: ClassVar[str] = "internal_error"
    proxy_status: ClassVar[str] = "proxy_internal_error"

    def __init__(self, detail: str = "", *, retry: Retry | None = None) -> None:
        super().__init__(detail or (self.__doc__ or "").split("\n")[0])
        if retry is not None:
            self.retry = retry

    @property
    def detail(self) -> str:
        return str(self.args[0])


# --- what a client does wrong -------------------------------------------------------------------------------


class ClientError(ExchangeError):
    """The client is at fault."""

    status = 400
    source = Source.CLIENT
    reason = "bad_request"
    proxy_status = "http_request_error"


class BadRequest(ClientError):
    """The request is malformed or can be read in more than one way."""


class ContentTooLarge(ClientError):
    """The request body is larger than the route allows."""

    status = 413
    reason = "body_too_large"


class UriTooLong(ClientError):
    """The request target is longer than allowed."""

    status = 414
    reason = "uri_too_long"


class ExpectationFailed(ClientError):
    """The request expects something other than 100-continue."""

    status = 417
    reason = "expectation_failed"


class HeadTooLarge(ClientError):
    """The request head has too many bytes or too many fields."""

    status = 431
    reason = "head_too_large"


class ClientTimeout(ClientError):
    """The client did not send its request in time."""

    status = 408
    reason = "client_timeout"


class WindowStalled(ClientTimeout):
    """The client's HTTP/2 flow-control window stayed shut: it did not take its response."""

    reason = "http2_window_stalled"


class BadProxyHeader(ClientError):
    """The connection does not begin with a valid PROXY protocol header, where one has to be."""

    reason = "bad_proxy_header"


class BadClientHello(ClientError):
    """The connection does not begin with a TLS ClientHello that can be read, where routes ask for one."""

    reason = "bad_client_hello"


class TlsHandshakeFailed(ClientError):
    """The TLS handshake with the client failed. (Why, balance_tls_failures_total counts.)"""

    reason = "tls_handshake_failed"


class MethodRefused(ClientError):
    """The method is one a reverse proxy does not serve (CONNECT, TRACE)."""

    status = 405
    reason = "method_refused"
    proxy_status = "http_request_denied"


class RequestDenied(ClientError):
    """The request is well-formed, and the configuration refuses it."""

    status = 403
    reason = "denied"
    proxy_status = "http_request_denied"


class OriginRefused(RequestDenied):
    """A WebSocket handshake from an origin that the route does not allow."""

    reason = "origin_refused"


class SubprotocolRefused(RequestDenied):
    """A WebSocket handshake that offers none of the subprotocols the route allows."""

    reason = "subprotocol_refused"


class ClientViolation(ClientError):
    """The client broke a rule of WebSocket, or a limit on its messages."""

    reason = "websocket_violation"


class UpgradeRefused(ClientError):
    """WebSocket is switched off here; ask again without the upgrade."""

    status = 426
    reason = "upgrade_refused"
    proxy_status = "http_upgrade_failed"
    #: What the Upgrade field of the answer says (RFC 9110, section 15.5.22).
    upgrade: ClassVar[bytes] = b"HTTP/1.1"


class WrongWebSocketVersion(UpgradeRefused):
    """The only version of WebSocket spoken here is 13."""

    reason = "websocket_version"
    upgrade = b"websocket"


class CodingNotImplemented(ClientError):
    """The request has a transfer coding that Balance does not know."""

    status = 501
    reason = "unknown_transfer_coding"


class VersionNotSupported(ClientError):
    """The request has a major version of HTTP that is not spoken here."""

    status = 505
    reason = "version_not_supported"


class ClientGone(ClientError):
    """The client closed its connection before the answer was complete."""

    status = 499  # nginx's number: nobody receives it, the access log shows it
    reason = "client_gone"


# --- what Balance decides -----------------------------------------------------------------------------------


class NoRoute(ExchangeError):
    """No route matches the request."""

    status = 404
    reason = "no_route"
    proxy_status = "destination_not_found"


class NoBackend(ExchangeError):
    """No backend of the route is available."""

    status = 503
    reason = "no_backend"
    proxy_status = "destination_unavailable"


class QueueFull(ExchangeError):
    """Every backend is at max_connections and the queue is full."""

    status = 503
    reason = "queue_full"
    proxy_status = "connection_limit_reached"


class QueueTimeout(ExchangeError):
    """Every backend stayed at max_connections until timeouts.queue ended."""

    status = 503
    reason = "queue_timeout"
    proxy_status = "connection_limit_reached"


class Stopping(ExchangeError):
    """Balance is stopping and the drain time is over."""

    status = 503
    reason = "stopping"
    proxy_status = "proxy_internal_response"


class FilterFailed(ExchangeError):
    """A filter of this server failed."""

    reason = "filter_error"


class FilterTimeout(ExchangeError):
    """A filter of this server did not finish within timeouts.filter."""

    status = 504
    reason = "filter_timeout"


class MatcherFailed(ExchangeError):
    """A route matcher of this server failed."""

    reason = "matcher_error"


class IdleTimeout(ExchangeError):
    """Nothing was sent on either side for timeouts.idle (layer 4) or websocket.idle_timeout."""

    source = Source.CLIENT
    reason = "idle_timeout"
    proxy_status = "connection_timeout"


class OutOfResources(ExchangeError):
    """A connection to a backend could not even be tried: no descriptors, ports or memory are left to this process."""

    status = 503
    retry = Retry.UNSENT
    reason = "out_of_resources"
    proxy_status = "proxy_internal_error"


class WebSocketFilterFailed(ExchangeError):
    """A filter of WebSocket messages raised an exception; its traceback is in the log."""

    reason = "websocket_filter_failed"


class ClosedByFilter(ExchangeError):
    """A filter closed the WebSocket connection."""

    source = Source.CLIENT
    reason = "websocket_filter_closed"


# --- what a backend does wrong ------------------------------------------------------------------------------


class BackendError(ExchangeError):
    """The backend is at fault."""

    status = 502
    source = Source.BACKEND
    reason = "backend_error"
    proxy_status = "destination_unavailable"


class DnsFailure(BackendError):
    """The name of the backend could not be resolved."""

    retry = Retry.UNSENT
    reason = "dns_error"
    proxy_status = "dns_error"


class ConnectRefused(BackendError):
    """The backend could not be connected to."""

    retry = Retry.UNSENT
    reason = "connect_refused"
    proxy_status = "connection_refused"


class ConnectTimeout(BackendError):
    """The backend did not accept a connection within timeouts.connect."""

    status = 504
    retry = Retry.UNSENT
    reason = "connect_timeout"
    proxy_status = "connection_timeout"


class TlsCertificateError(BackendError):
    """The backend's certificate is not trusted, has expired, or is another host's."""

    retry = Retry.UNSENT
    reason = "tls_certificate_error"
    proxy_status = "tls_certificate_error"


class TlsAlertReceived(BackendError):
    """The backend refused the TLS handshake."""

    retry = Retry.UNSENT
    reason = "tls_alert_received"
    proxy_status = "tls_alert_received"


class TlsProtocolError(BackendError):
    """The TLS handshake with the backend failed."""

    retry = Retry.UNSENT
    reason = "tls_protocol_error"
    proxy_status = "tls_protocol_error"


class BackendUnfit(BackendError):
    """The health rule counts the attempt as a failure."""

    reason = "unfit"


class NoVerdict(ExchangeError):
    """The health rule does not count the attempt."""


class BackendReset(BackendError):
    """The backend closed or reset the connection before its response began."""

    reason = "backend_reset"
    proxy_status = "connection_terminated"


class StaleConnection(BackendReset):
    """The backend closed an idle connection just as it was used again.

    Not a byte came back. It is nobody's fault, so passive health does not count it.
    """

    retry = Retry.IDEMPOTENT


class StreamUnprocessed(StaleConnection):
    """The backend refused the stream, or closed its connection before it looked at it (REFUSED_STREAM, GOAWAY)."""

    retry = Retry.UNPROCESSED
    reason = "stream_unprocessed"


class StreamRefused(StreamUnprocessed):
    """The backend refused the stream (REFUSED_STREAM): it has too much to do, so another one is asked first."""


class StreamBroken(BackendReset):
    """The backend reset the stream.

    ``code`` is the one of its RST_STREAM (RFC 9113, section 7).
    """

    reason = "backend_stream_reset"

    def __init__(self, detail: str = "", code: int = 2) -> None:
        super().__init__(detail)
        self.code = code


class BadResponse(BackendError):
    """The response is malformed or can be read in more than one way."""

    reason = "bad_response"
    proxy_status = "http_protocol_error"


class ResponseTooLarge(BadResponse):
    """The response head has too many bytes or too many fields."""

    reason = "response_head_too_large"
    proxy_status = "http_response_header_section_size"


class ResponseTruncated(BackendError):
    """The backend ended in the middle of its response."""

    reason = "response_truncated"
    proxy_status = "http_response_incomplete"


class ResponseTimeout(BackendError):
    """The backend made no progress with its response within timeouts.read."""

    status = 504
    reason = "response_timeout"
    proxy_status = "http_response_timeout"


class BackendWriteTimeout(BackendError):
    """The backend did not take the request within timeouts.write."""

    status = 504
    reason = "backend_write_timeout"
    proxy_status = "connection_write_timeout"


class NotHttp2(BackendError):
    """The backend has to speak HTTP/2 (`protocol: h2` or `h2c`), and did not choose it (ALPN), or does not speak it."""

    retry = Retry.UNSENT
    reason = "no_http2"
    proxy_status = "http_protocol_error"


class NoUpgrade(BackendError):
    """The backend does not take WebSocket over HTTP/2 (RFC 8441)."""

    source = Source.BALANCE  # nothing is wrong with it; another one may take it
    retry = Retry.UNSENT
    reason = "no_upgrade"
    proxy_status = "http_upgrade_failed"


class TunnelLost(BackendError):
    """The backend's connection ended in an open WebSocket tunnel, without a Close frame."""

    reason = "tunnel_lost"
    proxy_status = "connection_terminated"


class BackendViolation(BackendError):
    """The backend broke a rule of WebSocket, or a limit on its messages."""

    reason = "backend_websocket_violation"
    proxy_status = "http_protocol_error"
