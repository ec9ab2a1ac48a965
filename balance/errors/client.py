"""What a client does wrong.

Rule of this file: see `balance.errors`.
"""

from __future__ import annotations

from typing import ClassVar

from balance.errors.base import ExchangeError, Source


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
