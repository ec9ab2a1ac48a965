"""The files that `tls` sections name: found, read, and fit for each other.

Rule of this file: like `balance.config.checks`, it works on the raw values and leaves whatever has another shape than
expected to the schema. What would only be found out by the first handshake is found out here.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any, Final

from balance.codec.certificates import BadCertificate, CertificateFacts, check_authorities, read_certificate
from balance.config import untyped
from balance.config.document import Document, Path, key_of
from balance.config.errors import Problem
from balance.config.tls import cipher_suite, client_auth, tls_version

_FILES: Final = ("cert_file", "key_file", "client_ca_file", "ca_file")
#: Days before the end of a certificate from which on it is told.
_SOON: Final = 14
_DAY: Final = 86400.0


def absolute_paths(data: dict[str, Any], folder: str) -> None:
    """Paths are relative to the folder of the configuration. Changes ``data``, a listener or the file."""
    sections = [data.get("tls"), *untyped.mappings(untyped.get(data.get("tls"), "certificates"))]
    sections += [backend.get("tls") for backend in untyped.mappings(data.get("backends"))]
    sections += [route.get("tls") for route in untyped.mappings(untyped.get(data.get("http"), "routes"))]
    for section in sections:
        for key in _FILES:
            if isinstance(section, dict) and isinstance(section.get(key), str) and section[key]:
                section[key] = os.path.join(os.path.abspath(folder), section[key])


class TlsFiles:
    """Checks all `tls` sections of a file; ``notices`` is what an operator should know and nothing is wrong with."""

    def __init__(self, document: Document, now: float | None = None) -> None:
        self._document = document
        self._now = time.time() if now is None else now
        self.notices: list[str] = []

    def check(self, data: dict[str, Any], path: Path) -> Iterator[Problem]:
        """One listener, or the file: ``data``, at ``path``."""
        tls = data.get("tls")
        if isinstance(tls, dict):
            yield from self._listener(tls, (*path, "tls"))
        for index, backend in untyped.numbered(data.get("backends")):
            unix = isinstance(backend.get("address"), str) and backend["address"].startswith("unix:")
            yield from self._backend(backend.get("tls"), (*path, "backends", index, "tls"), unix=unix)
        for index, route in untyped.numbered(untyped.get(data.get("http"), "routes")):
            yield from self._backend(route.get("tls"), (*path, "http", "routes", index, "tls"), unix=False)

    # --- listeners --------------------------------------------------------------------------------------------

    def _listener(self, tls: dict[str, Any], path: Path) -> Iterator[Problem]:
        entries = [(path, tls)] if tls.get("cert_file") or tls.get("key_file") else []
        entries += [((*path, "certificates", index), each) for index, each in untyped.numbered(tls.get("certificates"))]
        if tls.get("enabled") is not True:
            if entries and "enabled" not in tls:
                message = "there are certificates, and nothing says 'enabled: true' (or false)"
                yield self._document.problem(path, message, at_key=True)
            return
        if not entries and isinstance(tls.get("certificates", []), list):
            yield self._document.problem(path, "there is no certificate; give cert_file and key_file", at_key=True)
        yield from self._versions(tls, path)
        yield from self._suites(tls, path)
        yield from self._clients(tls, path)
        taken: dict[tuple[str, str], Path] = {}
        defaults: list[Path] = []
        for place, entry in entries:
            if entry.get("default") is True and entry is not tls:
                defaults.append(place)
            found = yield from self._pair(entry, place)
            domains = [name.lower() for name in untyped.items(entry.get("domains")) if isinstance(name, str)]
            for name in domains if found is not None and entry is not tls else []:
                assert found is not None
                other = taken.setdefault((name, found.kind), place)
                if other != place:
                    message = f"{name!r} has a certificate with this kind of key already, at {key_of(other)}"
                    yield self._document.problem((*place, "domains"), message)
        for place in defaults[1:]:
            message = f"there is a default already, at {key_of(defaults[0])}"
            yield self._document.problem((*place, "default"), message)

    def _versions(self, tls: dict[str, Any], path: Path) -> Iterator[Problem]:
        try:
            least, most = tls_version(tls.get("min_version", "1.2")), tls_version(tls.get("max_version", "1.3"))
        except ValueError:
            return
        if least > most:
            message = f"found {most}, which is less than min_version, {least}"
            yield self._document.problem((*path, "max_version"), message)

    def _suites(self, tls: dict[str, Any], path: Path) -> Iterator[Problem]:
        try:
            suites = [cipher_suite(each) for each in untyped.items(tls.get("cipher_suites"))]
            least = tls_version(tls.get("min_version", "1.2"))
        except ValueError:
            return
        if suites and least == "1.2" and all(suite.startswith("TLS_") for suite in suites):
            message = 'these are suites of TLS 1.3 only; add some of TLS 1.2, or say min_version: "1.3"'
            yield self._document.problem((*path, "cipher_suites"), message)

    def _clients(self, tls: dict[str, Any], path: Path) -> Iterator[Problem]:
        file = tls.get("client_ca_file")
        try:
            asks = client_auth(tls.get("client_auth", "none")) != "none"
        except ValueError:
            return
        if asks and not file:
            message = "client_ca_file is missing: the authorities that clients' certificates have to come from"
            yield self._document.problem((*path, "client_auth"), message)
        if asks and isinstance(file, str) and file:
            yield from self._authorities(file, (*path, "client_ca_file"))

    # --- backends ---------------------------------------------------------------------------------------------

    def _backend(self, tls: Any, path: Path, *, unix: bool) -> Iterator[Problem]:
        if unix and (tls is True or (isinstance(tls, dict) and tls.get("verify", True) and not tls.get("server_name"))):
            message = "server_name is missing: a Unix socket has no host name to verify"
            yield self._document.problem(path, message, at_key=True)
        if not isinstance(tls, dict) or tls.get("enabled") is False:
            return
        if isinstance(tls.get("ca_file"), str) and tls["ca_file"]:
            yield from self._authorities(tls["ca_file"], (*path, "ca_file"))
        yield from self._versions(tls, path)
        yield from self._suites(tls, path)
        if tls.get("cert_file") or tls.get("key_file"):
            yield from self._pair(tls, path)

    # --- files ------------------------------------------------------------------------------------------------

    def _pair(self, entry: dict[str, Any], path: Path) -> Generator[Problem, None, CertificateFacts | None]:
        """A certificate and its key; the generator's result is what it says, or None."""
        cert, key = entry.get("cert_file"), entry.get("key_file") or entry.get("cert_file")
        if not isinstance(cert, str) or not cert:
            if "cert_file" not in entry or cert == "":
                yield self._document.problem(path, "cert_file is missing", at_key=True)
            return None
        if not isinstance(key, str):
            return None
        key_path: Path = (*path, "key_file" if entry.get("key_file") else "cert_file")
        pem = yield from self._read(cert, (*path, "cert_file"))
        key_pem = pem if key == cert else (yield from self._read(key, key_path))
        if pem is None or key_pem is None:
            return None
        try:
            facts = read_certificate(pem, key_pem)
        except BadCertificate as error:
            place, file = (key_path, key) if error.of_key else ((*path, "cert_file"), cert)
            yield self._document.problem(place, f"{file}: {error}")
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, _no_password)
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error).lower().replace("_", " ")
            yield self._document.problem((*path, "cert_file"), f"{cert}: OpenSSL does not take it: {reason}")
            return None
        self._note_validity(facts, cert, path)
        return facts

    def _authorities(self, file: str, path: Path) -> Iterator[Problem]:
        pem = yield from self._read(file, path)
        if pem is not None:
            try:
                check_authorities(pem)
            except BadCertificate as error:
                yield self._document.problem(path, f"{file}: {error}")

    def _read(self, file: str, path: Path) -> Generator[Problem, None, bytes | None]:
        try:
            return FilePath(file).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            yield self._document.problem(path, f"{file}: cannot be read: {reason}")
        return None

    def _note_validity(self, facts: CertificateFacts, file: str, path: Path) -> None:
        """Old certificates are served: an outage of one's own making helps nobody. But they are told."""
        place = key_of((*path, "cert_file"))
        if facts.not_after <= self._now:
            self.notices.append(f"{place}: {file}: the certificate expired on {_day(facts.not_after)}")
        elif facts.not_before > self._now:
            self.notices.append(f"{place}: {file}: the certificate is not valid before {_day(facts.not_before)}")
        elif facts.not_after <= self._now + _SOON * _DAY:
            self.notices.append(f"{place}: {file}: the certificate expires on {_day(facts.not_after)}")


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
