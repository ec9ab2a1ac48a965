"""Certificates: what they say, which one a client gets, and when their files change; and what others are told of them."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balance.codec.certificates import BadCertificate, PeerCertificate, printable, read_certificate
from balance.codec.forwarding import CertificateFields, ForwardingRules
from balance.codec.http1 import HeadLimits, parse_request
from balance.config.tls import CertificateConfig, TlsConfig
from balance.errors import BadRequest
from balance.net.tls_contexts import Certificates, LoadedCertificate, Watched, load_certificates
from balance.net.tls_session import RECORD, TlsSession
from balance.routing.rule import Rule
from balance.routing.table import RuleTable
from test.certificates import Authority, Pair

CLIENT = PeerCertificate("CN=billing", "ab" * 32)


class WithFiles(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.authority = Authority(self.folder)

    def load(self, *pairs: Pair, default: int = -1, **more: object) -> Certificates:
        entries = tuple(CertificateConfig(**pair.config, default=index == default) for index, pair in enumerate(pairs))
        return load_certificates(TlsConfig(enabled=True, certificates=entries, **more), ())  # type: ignore[arg-type]


class Facts(WithFiles):
    def test_names(self) -> None:
        for pair, names in [
            (
                self.authority.issue("A.example", "*.B.example", "127.0.0.1", subject="c.example"),
                ("a.example", "*.b.example"),
            ),
            (self.authority.issue(subject="c.example"), ("c.example",)),
        ]:
            facts = read_certificate(pair.cert.read_bytes(), pair.key.read_bytes())
            self.assertEqual((facts.names, facts.kind, facts.subject), (names, "EC", "CN=c.example"))
            self.assertGreater(facts.not_after, facts.not_before)

    def test_mismatch_blames_the_key(self) -> None:
        one, two = self.authority.issue("a.example"), self.authority.issue("a.example", kind="RSA")
        with self.assertRaises(BadCertificate) as caught:
            read_certificate(one.cert.read_bytes(), two.key.read_bytes())
        self.assertTrue(caught.exception.of_key)

    def test_subjects(self) -> None:
        """RFC 4514, and nothing in it that could end a header field."""
        attributes = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Müller, Söhne"),
            x509.NameAttribute(NameOID.COMMON_NAME, "a\r\nX-Evil: 1"),
        ]
        pair = self.authority.issue("a.example", subject=x509.Name(attributes))
        peer = PeerCertificate.of(ssl.PEM_cert_to_DER_cert(pair.cert.read_text()))
        self.assertEqual(peer.subject, "CN=a\\0D\\0AX-Evil: 1,O=M\\C3\\BCller\\, S\\C3\\B6hne")

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.text())
    def test_printable(self, text: str) -> None:
        text = text.encode("utf-8", "ignore").decode()
        shown = printable(text)
        self.assertTrue(shown.isascii() and (shown.isprintable() or not shown))
        self.assertEqual(printable(shown), shown)


class Choosing(WithFiles):
    def test_names(self) -> None:
        one = self.authority.issue("one.example")
        wild = self.authority.issue("*.example", "example")
        deep = self.authority.issue("*.deep.example")
        served = self.load(one, wild, deep)
        contexts = {
            name: served.choose(name)
            for name in ("one.example", "x.example", "example", "a.deep.example", "deep.example", "", "other")
        }
        self.assertIs(contexts["x.example"], contexts["example"])
        self.assertIs(contexts["deep.example"], contexts["x.example"])
        self.assertIsNot(contexts["a.deep.example"], contexts["x.example"])
        self.assertIs(contexts[""], contexts["one.example"])
        self.assertIs(contexts["other"], contexts["one.example"])
        again = self.load(one, wild, default=1)
        self.assertIs(again.choose("other"), again.choose("x.example"))
        self.assertEqual(again.served[0].cert_file, str(wild.cert))

    def test_kinds_share_a_name(self) -> None:
        pairs = [self.authority.issue("a.example", kind=kind) for kind in ("EC", "RSA", "EC")]
        groups: list[list[str]] = []

        def make(group: object) -> ssl.SSLContext:
            assert isinstance(group, tuple)
            groups.append([each.facts.kind for each in group])
            return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        loaded = [
            LoadedCertificate(
                str(p.cert), str(p.key), ("a.example",), read_certificate(p.cert.read_bytes(), p.key.read_bytes())
            )
            for p in pairs
        ]
        Certificates(loaded, make)  # type: ignore[arg-type]
        self.assertEqual(groups, [["EC", "RSA"]])


class Reloading(WithFiles):
    def watched(self, pair: Pair) -> Watched[Certificates]:
        config = TlsConfig(enabled=True, **pair.config)
        return Watched(config.files, lambda: load_certificates(config, ()))

    def replace(self, path: Path, data: bytes) -> None:
        """As a new file under the old name: nothing about it need differ but what it holds, and its number."""
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        os.rename(fresh, path)

    def test_nothing_new(self) -> None:
        watched = self.watched(self.authority.issue("a.example"))
        self.assertFalse(watched.refresh())

    def test_new_pair(self) -> None:
        pair, other = self.authority.issue("a.example"), self.authority.issue("b.example")
        watched = self.watched(pair)
        old = watched.value
        self.replace(pair.cert, other.cert.read_bytes())
        self.assertTrue(watched.refresh())  # caught between the two
        self.assertIs(watched.value, old)
        self.assertIn("does not belong", watched.problem)
        self.assertFalse(watched.refresh())
        self.replace(pair.key, other.key.read_bytes())
        self.assertTrue(watched.refresh())
        self.assertEqual((watched.value.served[0].domains, watched.problem), (("b.example",), ""))
        self.assertEqual((watched.reloads, watched.failures), (1, 1))

    def test_every_way_to_be_broken(self) -> None:
        pair = self.authority.issue("a.example")
        watched, whole = self.watched(pair), pair.cert.read_bytes()
        old = watched.value
        for data in (whole[: len(whole) // 2], b"", b"\xff" * 100, whole.replace(b"M", b"N", 5)):
            self.replace(pair.cert, data)
            self.assertTrue(watched.refresh())
            self.assertTrue(watched.problem)
            self.assertIs(watched.value, old)
        pair.cert.unlink()
        self.assertTrue(watched.refresh())
        self.assertIn("No such file", watched.problem)
        self.replace(pair.cert, whole)
        watched.refresh()
        self.assertEqual(watched.problem, "")


class Telling(SynchronousTestCase):
    FIELDS = CertificateFields("X-Client-Cert-Subject", "X-Client-Cert-Fingerprint", "X-Client-Cert-Verified")

    def told(
        self, certificate: PeerCertificate | None, *sent: bytes, trusted: bool = False
    ) -> list[tuple[bytes, bytes]]:
        networks = [ipaddress.ip_network("192.0.2.0/24")] if trusted else []
        rules = ForwardingRules(networks, certificate=self.FIELDS, private=self.FIELDS.names)
        head = parse_request(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *sent]), HeadLimits())
        rules.for_peer("192.0.2.1", b"https", certificate).apply(head)
        return [(name, value) for name, value in head.headers if b"cert" in name]

    def test_told(self) -> None:
        self.assertEqual(
            self.told(CLIENT),
            [
                (b"x-client-cert-verified", b"true"),
                (b"x-client-cert-subject", b"CN=billing"),
                (b"x-client-cert-fingerprint", b"ab" * 32),
            ],
        )
        self.assertEqual(self.told(None), [(b"x-client-cert-verified", b"false")])

    def test_lies(self) -> None:
        lies = (
            b"X-Client-Cert-Subject: CN=root",
            b"x_client_cert_subject: CN=root",
            b"X-Client_Cert-Verified: true",
            b"X-CLIENT-CERT-FINGERPRINT: 00",
            b"X-Forwarded-For: 10.0.0.1",
        )
        for trusted in (False, True):
            self.assertEqual(self.told(None, *lies, trusted=trusted), [(b"x-client-cert-verified", b"false")])

    def test_routes(self) -> None:
        rules = ForwardingRules()
        known, unknown = (rules.for_peer("192.0.2.1", b"https", each).facts for each in (CLIENT, None))
        table = RuleTable(
            [
                Rule(name="subject", target=1, path_prefix="/s", client_subject="CN=billing"),
                Rule(name="print", target=2, path_prefix="/f", client_fingerprint="ab" * 32),
                Rule(name="field", target=3, path_prefix="/h", headers={"X": "1"}, client_verified=True),
                Rule(name="anonymous", target=4, client_verified=False),
                Rule(name="any", target=5),
            ]
        )

        def route(path: bytes, facts: frozenset[bytes]) -> str:
            head = parse_request(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nX: 1", HeadLimits())
            rule = table.match(head, facts)
            assert rule is not None
            return rule.name

        self.assertEqual(
            [route(path, known) for path in (b"/s", b"/f", b"/h", b"/")], ["subject", "print", "field", "any"]
        )
        self.assertEqual([route(path, unknown) for path in (b"/s", b"/f", b"/h", b"/")], ["anonymous"] * 4)
        forged = b"GET /s HTTP/1.1\r\nHost: a\r\n:client-verified: true"
        self.assertRaises(BadRequest, parse_request, forged, HeadLimits())
        request = parse_request(b"GET /s HTTP/1.1\r\nHost: a", HeadLimits())
        self.assertEqual(
            next(rule for rule in table.ordered if rule.name == "subject").explain(request, unknown),
            "client_subject is not CN=billing",
        )


class Sessions(WithFiles):
    """The in-memory session, byte by byte."""

    def pair(self, version: ssl.TLSVersion) -> tuple[TlsSession, TlsSession]:
        context = self.load(self.authority.issue("a.example")).choose("")
        trusting = ssl.create_default_context(cafile=str(self.authority.file))
        trusting.maximum_version = version
        client = TlsSession(trusting, server_side=False, server_name="a.example")
        server = TlsSession(context, server_side=True)
        done, to_server, to_client = [False, False], b"", b""
        while not all(done):
            done[0] = client.handshake(to_client) or done[0]
            to_server = client.take()
            if to_server or not done[1]:
                done[1] = server.handshake(to_server)
            to_client = server.take()
        if to_client:
            client.decrypt(to_client)
        return client, server

    def test_any_cut(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client, server = self.pair(version)
            data = os.urandom(3 * RECORD + 17)
            for step in (1000, 7, 16384, 16385, 40_000, 100_000):
                records = client.encrypt(data)
                got = b"".join(server.decrypt(records[n : n + step]) for n in range(0, len(records), step))
                self.assertEqual(got, data)
            self.assertEqual(server.take(), b"")

    def test_ends(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client, server = self.pair(version)
            records = client.encrypt(b"last words") + client.close()
            self.assertEqual(client.encrypt(b"too late"), b"")
            self.assertEqual(client.close(), b"")
            self.assertEqual(server.decrypt(records), b"last words")
            self.assertTrue(server.ended)
            answer = server.encrypt(b"x" * 50_000)
            for n in range(0, len(answer), 999):  # half a record is in our hands when we say our end
                client.decrypt(answer[n : n + 999])
            self.assertFalse(client.ended)
            client.decrypt(server.close())
            self.assertTrue(client.ended)

    def test_close_between_two_halves_of_a_record(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client, server = self.pair(version)
            record = server.encrypt(b"y" * 10_000)
            self.assertEqual(client.decrypt(record[:5000]), b"")
            self.assertTrue(server.decrypt(client.close()) == b"" and server.ended)
            self.assertEqual(client.decrypt(record[5000:]), b"y" * 10_000)

    def test_tampered(self) -> None:
        client, server = self.pair(ssl.TLSVersion.TLSv1_3)
        record = bytearray(client.encrypt(b"hello"))
        record[-1] ^= 1
        self.assertRaises(ssl.SSLError, server.decrypt, bytes(record))
        self.assertTrue(server.take())  # the alert
