"""The `tls` sections: what loads, what is refused and where, which files are looked at."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from balance.assembly import assemble_all
from balance.config import Config, ConfigError, load, loads, summarise
from balance.config.document import Document
from balance.config.tls import cipher_suite, client_auth, fingerprint, tls_version
from balance.config.tls_files import TlsFiles
from balance.net.deadlines import Deadlines
from balance.secure import offered_protocols
from test.certificates import Authority, Pair, self_signed
from test.unit.support import Clock, MemoryDialer

BACKENDS = [{"name": "a", "address": "h.example:1"}]


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.authority = Authority(self.folder)
        self.pair = self.authority.issue("a.example")

    def loads(self, tls: Any, **more: Any) -> Config:
        data = {"backends": BACKENDS, **({} if tls is None else {"tls": tls}), **more}
        return loads(yaml.safe_dump(data, sort_keys=False), "x.yaml")

    def problems(self, tls: Any, **more: Any) -> list[str]:
        with self.assertRaises(ConfigError) as caught:
            self.loads(tls, **more)
        return [line for line in str(caught.exception).splitlines() if line.startswith("x.yaml:")]

    def on(self, pair: Pair | None = None, **more: Any) -> dict[str, Any]:
        return {"enabled": True, **(pair or self.pair).config, **more}


class WhatLoads(Files):
    def test_everything(self) -> None:
        other = self.authority.issue("b.example", "*.b.example", kind="RSA")
        config = self.loads(
            self.on(
                certificates=[{**other.config, "domains": ["B.example"], "default": True}],
                min_version=1.3,
                max_version="VersionTLS13",
                cipher_suites=["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"],
                client_auth="RequireAndVerifyClientCert",
                client_ca_file=str(self.authority.file),
                client_headers={"subject": "X-Who", "fingerprint": ""},
                alpn_protocols=["http/1.1"],
                session_tickets_disabled=True,
                prefer_server_cipher_suites=False,
                handshake_timeout="3s",
            )
        )
        tls = config.tls
        self.assertEqual((tls.min_version, tls.max_version, tls.client_auth), ("1.3", "1.3", "require"))
        self.assertEqual(tls.cipher_suites, ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"))
        self.assertEqual([each.domains for each in tls.served], [(), ("b.example",)])
        self.assertEqual(config.notices, ())
        self.assertIn("client_auth require", summarise(config, [[]]))

    def test_relative_to_the_file(self) -> None:
        config = {"backends": BACKENDS, "tls": {"enabled": True, "cert_file": self.pair.cert.name}}
        config["tls"] |= {"key_file": self.pair.key.name}  # type: ignore[operator]
        path = self.folder / "balance.yaml"
        path.write_text(yaml.safe_dump(config))
        loaded = load(str(path))
        self.assertEqual(loaded.tls.cert_file, str(self.pair.cert.resolve()))
        self.assertTrue(os.path.isabs(loaded.tls.key_file))

    def test_key_in_the_same_file(self) -> None:
        config = self.loads({"enabled": True, "cert_file": str(self.pair.combined)})
        self.assertEqual(config.tls.served[0].key, str(self.pair.combined))

    def test_listeners_inherit_and_have_their_own(self) -> None:
        other = self.authority.issue("b.example")
        listeners = [
            {"name": "one", "listen": ":1"},
            {"name": "two", "listen": ":2", "mode": "tcp", "tls": self.on(other)},
            {"name": "three", "listen": ":3", "tls": {"enabled": False}},
        ]
        config = self.loads(self.on(), listeners=listeners)
        self.assertEqual([each.tls.enabled for each in config.listeners], [True, True, False])
        self.assertEqual(config.listeners[0].tls.cert_file, str(self.pair.cert))
        self.assertEqual(config.listeners[1].tls.cert_file, str(other.cert))

    def test_backends_and_routes(self) -> None:
        backends = [
            {"name": "a", "address": "h.example:1", "tls": True},
            {"name": "b", "address": "h:2", "tls": {"ca_file": str(self.authority.file), "verify": True}},
            {"name": "c", "address": "unix:/s", "tls": {"server_name": "c.example", **self.pair.config}},
            {"name": "d", "address": "h:3", "tls": False},
        ]
        routes = [
            {"name": "clear", "path_prefix": "/clear", "backends": ["a"], "tls": False},
            {"name": "own", "path_prefix": "/own", "backends": ["a", "d"], "tls": {"verify": False}},
            {"name": "rest", "backends": ["a", "b", "c", "d"]},
        ]
        config = self.loads(None, backends=backends, http={"routes": routes})
        clock = Clock()
        (built,) = assemble_all(config, deadlines=Deadlines(clock), dialer=MemoryDialer(), clock=clock.seconds)  # type: ignore[arg-type]
        found = {(each.backend.name, each.tls is not None) for each in built.connections}
        self.assertEqual(found, {("a", True), ("a", False), ("b", True), ("c", True), ("d", False), ("d", True)})
        self.assertEqual(len(built.connections), 7)  # own TLS, own connections
        self.assertIn("TLS", summarise(config, [[]]))

    def test_what_is_offered(self) -> None:
        for tls, mode, expected in [
            ({}, "http", ("h2", "http/1.1", "http/1.0")),
            ({"alpn_protocols": ["http/1.1"]}, "http", ("http/1.1",)),
            ({}, "tcp", ()),
            ({"alpn_protocols": ["h2", "imap"]}, "tcp", ("h2", "imap")),
        ]:
            self.assertEqual(offered_protocols(self.loads(self.on(**tls), mode=mode)), expected)

    def test_switched_off(self) -> None:
        config = self.loads({"enabled": False, "cert_file": "/nowhere", "client_auth": "require"})
        self.assertFalse(config.tls.enabled)

    def test_validity_is_told(self) -> None:
        for pair, message in [
            (self.authority.issue("a.example", days=-2), "expired on"),
            (self.authority.issue("a.example", since=2), "is not valid before"),
            (self.authority.issue("a.example", days=3), "expires on"),
        ]:
            (notice,) = self.loads(self.on(pair)).notices
            self.assertIn(message, notice)
            self.assertTrue(notice.startswith(f"tls.cert_file: {pair.cert}:"), notice)
        document = Document(yaml.safe_dump({"tls": self.on()}), "x")
        files = TlsFiles(document, now=time.time() + 86400 * 365)
        self.assertEqual(list(files.check(document.data, ())), [])
        self.assertIn("expired", files.notices[0])


class WhatIsWrong(Files):
    def test_listeners(self) -> None:
        cert, key = str(self.pair.cert), str(self.pair.key)
        other = self.authority.issue("b.example")
        broken = self.folder / "broken.pem"
        broken.write_bytes(self.pair.cert.read_bytes()[:200])
        nothing = self.folder / "empty.pem"
        nothing.write_text("hello\n")
        for tls, message in [
            ({"enabled": True}, "tls: there is no certificate"),
            ({"cert_file": cert}, "nothing says 'enabled: true'"),
            (
                {"enabled": True, "cert_file": "/nowhere.crt"},
                "tls.cert_file: /nowhere.crt: cannot be read: No such file",
            ),
            (self.on(key_file="/nowhere.key"), "tls.key_file: /nowhere.key: cannot be read"),
            (self.on(key_file=str(other.key)), f"tls.key_file: {other.key}: the private key does not belong"),
            (self.on(cert_file=str(broken)), "a certificate that cannot be read"),
            (self.on(cert_file=str(nothing)), "no certificate in PEM"),
            (self.on(key_file=str(nothing)), "no private key in PEM"),
            ({"enabled": True, "cert_file": cert}, f"tls.cert_file: {cert}: there is no private key"),
            ({"enabled": True, "key_file": key}, "cert_file is missing"),
            (
                {"enabled": True, "certificates": [{"key_file": key}]},
                "tls.certificates[0].cert_file: this key is missing",
            ),
            (self.on(cert_file=str(self.folder)), "cannot be read: Is a directory"),
            (self.on(min_version="1.1"), "TLS 1.1 is not safe any more"),
            (self.on(min_version="SSL3"), 'allowed: "1.2", "1.3"'),
            (self.on(min_version="1.3", max_version="1.2"), "which is less than min_version, 1.3"),
            (self.on(cipher_suites=["ECDHE-RSA-AES128-GCM-SHA265"]), "did you mean 'ECDHE-RSA-AES128-GCM-SHA256'?"),
            (self.on(cipher_suites=["TLS_RSA_WITH_RC4_128_SHA"]), "OpenSSL here has no RC4-SHA"),
            (self.on(cipher_suites=["TLS_AES_128_GCM_SHA256"]), "suites of TLS 1.3 only"),
            (self.on(client_auth="maybe"), "allowed: none, request, require"),
            (self.on(client_auth="require"), "client_ca_file is missing"),
            (self.on(client_auth="require", client_ca_file="/no"), "tls.client_ca_file: /no: cannot be read"),
            (self.on(client_auth="require", client_ca_file=key), "no certificate in PEM"),
            (self.on(client_headers={"subject": "Content-Length"}), "belongs to the connection"),
            (self.on(alpn_protocols=["é"]), "a protocol id is needed"),
            (self.on(handshake_timeout="0s"), "it must be more than 0"),
            (
                self.on(certificates=[{**other.config, "default": True}, {**self.pair.config, "default": True}]),
                "tls.certificates[1].default: there is a default already, at tls.certificates[0]",
            ),
            (
                self.on(certificates=[{**each.config, "domains": ["x.y"]} for each in (self.pair, other)]),
                "'x.y' has a certificate with this kind of key already, at tls.certificates[0]",
            ),
            (
                self.on(certificates=[{**other.config, "domains": ["*.*.x"]}]),
                "a wildcard stands for whole names in front",
            ),
        ]:
            found = self.problems(tls)
            self.assertTrue(any(message in line for line in found), (tls, found))

    def test_place(self) -> None:
        text = f"backends: [{{name: a, address: 'h:1'}}]\ntls:\n  enabled: true\n  cert_file: {self.pair.cert}\n  key_file: /no\n"
        with self.assertRaises(ConfigError) as caught:
            loads(text, "x.yaml")
        self.assertIn("x.yaml:5:13: tls.key_file: /no: cannot be read: No such file", str(caught.exception))

    def test_encrypted_key(self) -> None:
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            PrivateFormat,
            load_pem_private_key,
        )

        key = load_pem_private_key(self.pair.key.read_bytes(), None)
        self.pair.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        )
        self.assertIn("is encrypted", self.problems(self.on())[0])

    def test_backends(self) -> None:
        for tls, message in [
            ({"ca_file": "/no"}, "backends[0].tls.ca_file: /no: cannot be read"),
            ({"cert_file": str(self.pair.cert)}, "there is no private key"),
            ({"verfy": True}, "backends[0].tls.verfy: unknown key; allowed here: enabled, verify"),
            ("yes", "backends[0].tls: found 'yes'; needed: a mapping"),
            ({"min_version": "1.3", "max_version": "1.2"}, "less than min_version"),
        ]:
            found = self.problems(None, backends=[{"name": "a", "address": "h:1", "tls": tls}])
            self.assertTrue(any(message in line for line in found), (tls, found))
        for tls in (True, {"verify": True}):
            found = self.problems(None, backends=[{"name": "a", "address": "unix:/s", "tls": tls}])
            self.assertIn("server_name is missing", found[0])
        route = {"name": "r", "backends": ["a"], "tls": {"ca_file": "/no"}}
        self.assertIn("http.routes[0].tls.ca_file: /no", self.problems(None, http={"routes": [route]})[0])

    def test_route_conditions(self) -> None:
        for key, value, message in [
            ("client_subject", "somebody", "a subject is needed, such as CN=client"),
            ("client_fingerprint", "ab:cd", "64 hexadecimal digits"),
            ("client_verified", "yes", "needed: true or false"),
        ]:
            found = self.problems(None, http={"routes": [{"name": "r", "backends": ["a"], key: value}]})
            self.assertIn(message, found[0])


class Values(SynchronousTestCase):
    def test_versions(self) -> None:
        for value in (1.2, "1.2", "TLS1.2", "tls12", "TLSv1.2", "VersionTLS12", "TLS 1.2"):
            self.assertEqual(tls_version(value), "1.2")
        for value in (1.0, "VersionTLS10", "2", True, None, "1.22"):
            self.assertRaises(ValueError, tls_version, value)

    def test_client_auth(self) -> None:
        for value, meaning in [
            ("none", "none"),
            ("NoClientCert", "none"),
            ("verify_if_given", "request"),
            ("RequestClientCert", "request"),
            ("require-and-verify", "require"),
            ("RequireAnyClientCert", "require"),
        ]:
            self.assertEqual(client_auth(value), meaning)

    def test_suites(self) -> None:
        for iana, openssl in [
            ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
            ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
            ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
            ("TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"),
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"),
            ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        ]:
            self.assertEqual(cipher_suite(iana), openssl)
        for value in (5, "", "RC5", "DEFAULT", "ALL:!x", "aNULL"):
            self.assertRaises(ValueError, cipher_suite, value)

    def test_fingerprint(self) -> None:
        digits = "ab" * 32
        self.assertEqual(fingerprint(":".join(["AB"] * 32)), digits)
        self.assertEqual(fingerprint(digits), digits)


class Broken(Files):
    def test_a_certificate_without_names(self) -> None:
        pair = self_signed(self.folder, "plain.example")
        self.assertTrue(self.loads(self.on(pair)).tls.enabled)

    def test_every_context_is_looked_at(self) -> None:
        """A backend has one, whichever protocol it turns out to speak."""
        tls = {"ca_file": str(self.authority.file)}
        backend = {"address": "h.example:1", "tls": tls}
        config = self.loads(
            None, backends=[{**backend, "name": each, "protocol": each} for each in ("auto", "h2", "http/1.1")]
        )
        clock = Clock()
        (built,) = assemble_all(config, deadlines=Deadlines(clock), dialer=MemoryDialer(), clock=clock.seconds)  # type: ignore[arg-type]
        self.assertEqual(len(built.tls), 3)
        other = Authority(self.folder, "Another")
        self.authority.file.write_bytes(other.file.read_bytes() + b"\n")
        for each in built.tls:
            each.refresh()
            self.assertEqual(each._watched.reloads, 1)  # type: ignore[union-attr]
