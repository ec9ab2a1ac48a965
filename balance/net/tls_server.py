"""TLS on a listener: who is served which certificate, and what is counted.

Rule of this file: one object for each listener holds the certificates in use; a reload swaps them between two
handshakes, and connections that are there do not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from balance.net.ration import Ration
from balance.net.tls_contexts import Certificates, LoadedCertificate, Watched, load_certificates
from balance.net.tls_handshake import ServerHandshake
from balance.observe.counters import TlsCounters

if TYPE_CHECKING:
    from balance.codec.client_hello import ClientHello
    from balance.config.tls import TlsConfig
    from balance.net.deadlines import Deadlines
    from balance.net.tls_transport import TlsConnection


class TlsTermination:
    """
    :param name: the listener's, for logs
    :param protocols: offered in ALPN, the preferred one first; a client that offers others only is refused. Empty: none
    :param answers_plain: a request in clear text is answered 400, in clear text
    :raises OSError: a certificate or key cannot be read
    :raises ValueError: or used (`balance.codec.certificates.BadCertificate`, `ssl.SSLError`)
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        config: TlsConfig,
        deadlines: Deadlines,
        protocols: Sequence[str],
        *,
        answers_plain: bool = False,
    ) -> None:
        self.name = name
        self.deadlines = deadlines
        self.protocols = frozenset(protocol.encode("ascii") for protocol in protocols)
        self.answers_plain = answers_plain
        self.asks_certificate = config.client_auth != "none"
        self.counters = TlsCounters()
        #: What turns of the reactor have for handshakes: for ClientHellos, and, so that what is begun is finished, for
        #: what follows on them.
        self.first_steps = Ration(deadlines.turn, config.handshakes_per_turn)
        self.further_steps = Ration(deadlines.turn, config.handshakes_per_turn)
        self._timeout = config.handshake_timeout
        self._limit = config.max_handshakes
        self._watched = Watched(config.files, lambda: load_certificates(config, protocols))
        #: Under way. Whose client has been silent longest is first.
        self._handshakes: dict[ServerHandshake, None] = {}

    @property
    def certificates(self) -> Certificates:
        """Those in use."""
        return self._watched.value

    @property
    def served(self) -> tuple[LoadedCertificate, ...]:
        """The certificates in use, the default first."""
        return self._watched.value.served

    @property
    def problem(self) -> str:
        """Why the files as they are now are not used; empty where they are."""
        return self._watched.problem

    def handshake(
        self, established: Callable[[TlsConnection, ClientHello], Any], refused: Callable[[str], None]
    ) -> ServerHandshake:
        """The protocol for a new connection.

        :param established: makes the protocol that takes over
        :param refused: told what went wrong, in place of it
        """
        return ServerHandshake(self, established, refused)

    def begun(self, handshake: ServerHandshake) -> None:
        handshakes = self._handshakes
        handshakes[handshake] = None
        self.deadlines.arm(handshake, self._timeout)
        if len(handshakes) > self._limit > 0:
            next(iter(handshakes)).make_room()

    def heard(self, handshake: ServerHandshake) -> None:
        """Its client has said something."""
        handshakes = self._handshakes
        del handshakes[handshake]
        handshakes[handshake] = None

    def succeeded(self, handshake: ServerHandshake, *, resumed: bool) -> None:
        del self._handshakes[handshake]
        self.deadlines.forget(handshake)
        self.counters.handshakes += 1
        if resumed:
            self.counters.resumed += 1

    def failed(self, handshake: ServerHandshake, reason: str) -> None:
        del self._handshakes[handshake]
        self.counters.count_failure(reason)

    def abandon(self) -> None:
        """Cut the handshakes under way: nothing was asked for on these connections yet."""
        for handshake in self._handshakes.copy():
            handshake.abort()

    def refresh(self) -> None:
        """Take up certificates that have changed on the disk."""
        if not self._watched.refresh():
            return
        self.counters.reloads = self._watched.reloads
        self.counters.reload_failures = self._watched.failures
        if self.problem:
            self.log.error(
                "listener {name}: the certificates changed and cannot be used; the old ones stay: {problem}",
                name=self.name,
                problem=self.problem,
            )
        else:
            self.log.info("listener {name}: the certificates have changed; new connections get them", name=self.name)
