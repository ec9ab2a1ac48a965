"""From certificates in files to OpenSSL's contexts, and which of them a client gets.

Rule of this file: everything is built completely before anything of it is used, so a file that is missing, half written
or does not fit its key never takes the place of one that works.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from balance.codec.certificates import BadCertificate, CertificateFacts, read_certificate

if TYPE_CHECKING:
    from balance.config.tls import BackendTlsConfig, TlsConfig

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

T = TypeVar("T")


class LoadedCertificate(NamedTuple):
    """A certificate as it is served: its files, the names it is served for, and what it says."""

    cert_file: str
    key_file: str
    domains: tuple[str, ...]
    facts: CertificateFacts


class Certificates:
    """What a listener serves. Immutable; a reload makes another one.

    :param served: in the order of the configuration; the first is served to whoever asks for none of the names
    :param make_context: makes the context that serves certificates (of different kinds of keys)
    """

    def __init__(
        self,
        served: Sequence[LoadedCertificate],
        make_context: Callable[[Sequence[LoadedCertificate]], ssl.SSLContext],
    ) -> None:
        self.served = tuple(served)
        contexts: dict[tuple[LoadedCertificate, ...], ssl.SSLContext] = {}
        self._by_name: dict[str, ssl.SSLContext] = {}
        for name, group in _groups(served).items():
            if group not in contexts:
                contexts[group] = make_context(group)
            self._by_name[name] = contexts[group]
        first = served[0]
        self._default = next((contexts[group] for group in contexts if group[0] is first), None) or make_context(
            [first]
        )

    def choose(self, server_name: str) -> ssl.SSLContext:
        """The context for a server name (lower case): the name's own, or its longest wildcard's, or the default."""
        context = self._by_name.get(server_name)
        if context is not None:
            return context
        dot = server_name.find(".")
        while dot >= 0:
            context = self._by_name.get("*" + server_name[dot:])
            if context is not None:
                return context
            dot = server_name.find(".", dot + 1)
        return self._default


def _groups(served: Iterable[LoadedCertificate]) -> dict[str, tuple[LoadedCertificate, ...]]:
    """For each name, its certificates: one for each kind of key, so that a client gets the one it can verify."""
    found: dict[str, tuple[LoadedCertificate, ...]] = {}
    for each in served:
        for name in each.domains:
            others = found.get(name, ())
            if all(each.facts.kind != other.facts.kind for other in others):
                found[name] = (*others, each)
    return found


def load_certificates(config: TlsConfig, protocols: Sequence[str]) -> Certificates:
    """Read everything a listener serves.

    :param protocols: to offer in ALPN
    :raises OSError: a file cannot be read
    :raises BadCertificate: or used
    :raises ssl.SSLError: or OpenSSL does not like it
    """
    served = []
    for each in config.served:
        facts = read_certificate(Path(each.cert_file).read_bytes(), Path(each.key).read_bytes())
        served.append(LoadedCertificate(each.cert_file, each.key, each.domains or facts.names, facts))
    default = next((index for index, each in enumerate(config.served) if each.default), 0)
    served.insert(0, served.pop(default))

    def make(group: Sequence[LoadedCertificate]) -> ssl.SSLContext:
        context = _server_context(config, protocols)
        for one in group:
            context.load_cert_chain(one.cert_file, one.key_file, _no_password)
        return context

    return Certificates(served, make)


def _server_context(config: TlsConfig, protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_versions(context, config.min_version, config.max_version)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if config.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _set_ciphers(context, config.cipher_suites)
    if config.session_tickets_disabled:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if config.client_auth != "none":
        context.load_verify_locations(config.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if config.client_auth == "require" else ssl.CERT_OPTIONAL
    return context


def client_context(config: BackendTlsConfig, protocols: Sequence[str]) -> ssl.SSLContext:
    """The context for connections to a backend.

    :raises OSError: a file cannot be read
    :raises ssl.SSLError: or used
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_versions(context, config.min_version, config.max_version)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    _set_ciphers(context, config.cipher_suites)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca_file:
        context.load_verify_locations(config.ca_file)
    else:
        context.load_default_certs()
    if config.cert_file:
        context.load_cert_chain(config.cert_file, config.key_file or None, _no_password)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _set_versions(context: ssl.SSLContext, least: str, most: str) -> None:
    context.minimum_version = _VERSIONS[least]
    context.maximum_version = _VERSIONS[most]


def _set_ciphers(context: ssl.SSLContext, suites: Sequence[str]) -> None:
    """Those of TLS 1.2: OpenSSL's for TLS 1.3 are all good, and the standard library cannot choose among them."""
    older = [suite for suite in suites if not suite.startswith("TLS_")]
    if older:
        context.set_ciphers(":".join(older))


def _no_password() -> str:
    """Without this, OpenSSL would ask on the terminal."""
    raise BadCertificate("the private key is encrypted; Balance has no password for it", of_key=True)


class Watched(Generic[T]):
    """Something built from files, and built again when they change.

    :param files: their paths
    :param build: builds it; may raise OSError and ValueError (of which `BadCertificate` is one) or `ssl.SSLError`
    """

    def __init__(self, files: Iterable[str], build: Callable[[], T]) -> None:
        self._files = tuple(dict.fromkeys(file for file in files if file))
        self._build = build
        self._seen = self._look()
        self.value = build()
        self.reloads = 0
        self.failures = 0
        #: Why the files as they are now are not used; empty where they are.
        self.problem = ""

    def refresh(self) -> bool:
        """Look at the files; whether anything changed. Afterwards `value` is new, or `problem` says why it is not."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.value = self._build()
        except (OSError, ValueError) as error:
            self.failures += 1
            self.problem = describe(error)
        else:
            self.reloads += 1
            self.problem = ""
        return True

    def _look(self) -> tuple[Any, ...]:
        return tuple(_signature(file) for file in self._files)


def _signature(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def describe(error: Exception) -> str:
    """One line for people."""
    if isinstance(error, ssl.SSLError):
        return f"OpenSSL: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)
