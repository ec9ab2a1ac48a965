"""TLS to backends: whom to trust, which name to ask for, and sessions taken up again.

Rule of this file: one object for each backend and setting, so that a connection made under one setting is never used
under another.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from balance.net.tls_contexts import Watched, client_context
from balance.net.tls_session import TlsSession

if TYPE_CHECKING:
    from balance.config.tls import BackendTlsConfig
    from balance.model import Address


class BackendTls:
    """How one backend is spoken to in TLS.

    The name that is sent (SNI) and verified is ``server_name`` of the configuration, or the host of the backend's
    address. For an IP address no name is sent (RFC 6066, section 3), and the certificate has to name that address.

    :param protocols: to offer in ALPN, the preferred one first; empty for none
    :raises OSError: a file cannot be read
    :raises ValueError: or used
    """

    log = Logger()

    def __init__(self, config: BackendTlsConfig, address: Address, protocols: Sequence[str] = ()) -> None:
        self.protocols = tuple(protocols)
        self._address = address
        self._name = config.server_name or _name_of(address)
        self._watched = Watched(config.files, lambda: client_context(config, self.protocols))
        #: The latest connection: its session is the one to take up again (in TLS 1.3, it comes after the handshake).
        self._latest: ssl.SSLObject | None = None

    def session(self) -> TlsSession:
        """A new connection's TLS, not begun yet."""
        context = self._watched.value
        latest = self._latest
        resume = None
        if latest is not None and latest.context is context:
            resume = latest.session
        return TlsSession(context, server_side=False, server_name=self._name or None, resume=resume)

    def established(self, session: TlsSession) -> None:
        """A handshake has succeeded."""
        self._latest = session.ssl

    def refresh(self) -> None:
        """Take up certificates that have changed on the disk."""
        if not self._watched.refresh():
            return
        self._latest = None
        if self._watched.problem:
            self.log.error(
                "backend {address}: the certificates for it changed and cannot be used; the old ones stay: {problem}",
                address=str(self._address),
                problem=self._watched.problem,
            )
        else:
            self.log.info("backend {address}: the certificates for it have changed", address=str(self._address))


def _name_of(address: Address) -> str:
    """The host to verify; a scope (fe80::1%eth0) is ours alone, and no certificate knows it."""
    host = address.host.partition("%")[0]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".")
