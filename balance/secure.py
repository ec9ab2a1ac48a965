"""What the `tls` sections of a configuration turn into.

Rule of this file: like `balance.assembly`, which uses it, it makes objects once, at the start; and it alone says which
protocols are offered.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from balance.codec.forwarding import CertificateFields
from balance.errors import BalanceError
from balance.net.tls_client import BackendTls
from balance.net.tls_contexts import describe
from balance.net.tls_server import TlsTermination

if TYPE_CHECKING:
    from balance.config import Listener
    from balance.config.tls import BackendTlsConfig, ClientHeaders
    from balance.model import Address
    from balance.net.deadlines import Deadlines
    from balance.pool.backend import Backend

T = TypeVar("T")


class TlsError(BalanceError):
    """Certificates that could be read when the configuration was, and cannot be used now."""


def offered_protocols(listener: Listener) -> tuple[str, ...]:
    """What a listener offers in ALPN, the preferred protocol first; empty for nothing at all."""
    configured = listener.tls.alpn_protocols
    if listener.mode == "tcp":
        return configured
    http2 = listener.http.enable_http2
    if configured:
        return tuple(protocol for protocol in configured if http2 or protocol != "h2")
    # The same channel speaks HTTP/1.0, which old clients (and `curl -0`) offer as the only one.
    return (*(["h2"] if http2 else []), "http/1.1", "http/1.0")


def termination(listener: Listener, deadlines: Deadlines) -> TlsTermination | None:
    """TLS on a listener; None where it speaks clear text.

    :raises TlsError:
    """
    if not listener.tls.enabled:
        return None
    return _made(
        f"listener {listener.label}",
        lambda: TlsTermination(
            listener.label,
            listener.tls,
            deadlines,
            offered_protocols(listener),
            answers_plain=listener.mode == "http",
        ),
    )


def backend_tls(
    name: str, address: Address, config: BackendTlsConfig | None, protocols: Sequence[str] = ()
) -> BackendTls | None:
    """TLS with a backend; None where it is spoken to in clear text.

    :param protocols: to offer in ALPN
    :raises TlsError:
    """
    if config is None or not config.enabled:
        return None
    return _made(f"backend {name}", lambda: BackendTls(config, address, protocols))


class Watchlist:
    """What looks at its certificates now and then: a listener's, and its backends' for as long as there are such."""

    def __init__(self) -> None:
        self._of: dict[Backend | None, list[TlsTermination | BackendTls]] = {}

    def add(self, tls: TlsTermination | BackendTls | None, backend: Backend | None = None) -> None:
        """
        :param tls: None where clear text is spoken
        :param backend: whom it is for; None for the listener itself
        """
        if tls is not None:
            self._of.setdefault(backend, []).append(tls)

    def forget(self, backend: Backend) -> None:
        """It is gone."""
        self._of.pop(backend, None)

    def __iter__(self) -> Iterator[TlsTermination | BackendTls]:
        return chain.from_iterable(self._of.values())

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))


def _made(where: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except (OSError, ValueError, ssl.SSLError) as error:
        raise TlsError(f"{where}: {describe(error)}") from None


def certificate_fields(listener: Listener) -> CertificateFields | None:
    """What backends of a listener are told about clients' certificates."""
    if not listener.tls.enabled or listener.tls.client_auth == "none":
        return None
    return _fields(listener.tls.client_headers)


def private_fields(listeners: Iterable[Listener]) -> frozenset[bytes]:
    """The names that any listener vouches for: no client of any of them may send them, as backends cannot tell through
    which one a request came.
    """
    made = [certificate_fields(listener) for listener in listeners]
    return frozenset(name for fields in made if fields is not None for name in fields.names)


def _fields(headers: ClientHeaders) -> CertificateFields:
    return CertificateFields(headers.subject, headers.fingerprint, headers.verified)
