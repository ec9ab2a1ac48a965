"""What a backend does wrong.

Rule of this file: see `balance.errors`.
"""

from __future__ import annotations

from balance.errors.base import ExchangeError, Retry, Source


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
