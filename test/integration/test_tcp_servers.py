"""Layer 4 with the servers it is for: Redis, PostgreSQL, nginx with TLS, and HAProxy on both sides of the PROXY protocol."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from test.certificates import self_signed
from test.integration.harness import (
    PATIENCE,
    accepts,
    answering,
    backends,
    balance,
    free_port,
    read_response,
    simple,
    wait_for,
)
from test.integration.test_tcp_relay import echo, greeted, metric, named, read_exactly

REDIS = all(shutil.which(name) for name in ("redis-server", "redis-cli", "redis-benchmark"))
HAPROXY, NGINX, CURL = (shutil.which(name) for name in ("haproxy", "nginx", "curl"))
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextlib.contextmanager
def running(command: Sequence[str], port: int, **more: Any) -> Iterator[None]:
    """A server that listens on a port, until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        wait_for(lambda: process.poll() is not None or accepts(port), command[0])
        assert process.poll() is None, f"{command[0]} ended at once"
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def output(*command: str, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not REDIS, reason="redis is not installed")
def test_redis(tmp_path: Path) -> None:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    config = {"mode": "tcp", "backends": [{"name": "redis", "address": f"127.0.0.1:{port}"}]}
    with running(command, port), balance(config) as proxy:
        client = ["redis-cli", "-p", str(proxy.port)]
        assert output(*client, "set", "name", "through balance").strip() == "OK"
        assert output(*client, "get", "name").strip() == "through balance"
        # Publish and subscribe: the subscriber only listens.
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as subscriber:
            subscriber.sendall(b"SUBSCRIBE news\r\n")
            confirmed = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
            assert read_exactly(subscriber, len(confirmed)) == confirmed
            assert output(*client, "publish", "news", "flash").strip() == "1"
            message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nflash\r\n"
            assert read_exactly(subscriber, len(message)) == message
        load = ["redis-benchmark", "-p", str(proxy.port), "-n", "20000", "-c", "50", "-q", "--csv"]
        report = output(*load, "-t", "set,get,lpush,mset", "-P", "4", "-d", "1000")
        assert report.count("\n") >= 4
        wait_for(lambda: metric(proxy, "balance_connections_open") == 0, "all to be closed")
        # redis-benchmark resets what it no longer needs; nothing is the backend's or our fault.
        assert metric(proxy, "balance_backend_failures_total") == 0


@pytest.mark.skipif(POSTGRES is None or not shutil.which("psql"), reason="postgresql is not installed")
def test_postgresql(tmp_path: Path) -> None:
    assert POSTGRES is not None
    port = free_port()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        tmp_path = Path("/tmp") / f"balance-pg-{port}"
        tmp_path.mkdir()
        shutil.chown(tmp_path, "postgres")
        user = {"user": "postgres", "cwd": "/"}
    try:
        data = str(tmp_path / "data")
        output(str(POSTGRES / "initdb"), "-D", data, "-A", "trust", "-U", "balance", "-N", **user)
        certificate = self_signed(tmp_path, "pg.example").combined
        options = [
            "-c",
            f"port={port}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={tmp_path}",
        ]
        certificate.chmod(0o600)
        if user:
            shutil.chown(certificate, "postgres")
        options += ["-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={certificate}"]
        config = {"mode": "tcp", "backends": [{"name": "pg", "address": f"127.0.0.1:{port}"}]}
        command = [str(POSTGRES / "postgres"), "-D", data, "-F", *options]
        with running(command, port, **user), balance(config) as proxy:
            place = f"host=127.0.0.1 port={proxy.port} user=balance dbname=postgres"
            wait_for(
                lambda: (
                    subprocess.run(["psql", place, "-c", "select 1"], capture_output=True, timeout=20).returncode == 0
                ),
                "PostgreSQL to take connections",
            )
            place += " sslmode=require"
            sql = "select length(string_agg(repeat('x', 1000), '')) from generate_series(1, 5000); select ssl from "
            answer = output("psql", place, "-At", "-c", sql + "pg_stat_ssl where pid = pg_backend_pid()")
            assert answer.split() == ["5000000", "t"]
            copied = output("psql", place, "-At", "-c", "copy (select generate_series(1, 200000)) to stdout")
            assert copied.count("\n") == 200_000
    finally:
        if user:
            shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.skipif(not NGINX or not CURL, reason="nginx or curl is not installed")
def test_a_tls_server_behind_its_name(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "web.example").combined
    port = free_port()
    (tmp_path / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; error_log stderr; pid {tmp_path}/nginx.pid;
        events {{}}
        http {{
          access_log off; client_body_temp_path {tmp_path}/body;
          server {{
            listen 127.0.0.1:{port} ssl http2; server_name web.example;
            ssl_certificate {certificate}; ssl_certificate_key {certificate};
            location / {{ return 200 "$ssl_server_name $server_protocol"; }}
          }}
        }}
        """
    )
    with running([str(NGINX), "-c", str(tmp_path / "nginx.conf")], port), backends(named(b"no")) as (other,):
        config = {
            "mode": "tcp",
            "backends": [{"name": "web", "address": f"127.0.0.1:{port}"}, other.config],
            "routes": [
                {"name": "web", "sni": "web.example", "alpn": ["h2", "http/1.1"], "backends": ["web"]},
                {"name": "rest", "backends": [other.config["name"]]},
            ],
        }
        with balance(config) as proxy:
            ask = [str(CURL), "-sS", "--cacert", str(certificate), "--resolve", f"web.example:{proxy.port}:127.0.0.1"]
            url = f"https://web.example:{proxy.port}/"
            assert output(*ask, "--http1.1", url) == "web.example HTTP/1.1"
            assert output(*ask, "--http2", url) == "web.example HTTP/2.0"
            assert metric(proxy, "balance_backend_requests_total", backend="web") == 2


def haproxy(folder: Path, front: int, bind: str, back: int, server: str) -> list[str]:
    path = folder / "haproxy.cfg"
    path.write_text(
        f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen l
  bind 127.0.0.1:{front} {bind}
  server s 127.0.0.1:{back} {server}
"""
    )
    return [str(HAPROXY), "-db", "-f", str(path)]


def introduced(seen: list[Any]) -> list[Any]:
    """Whom the headers name; waiting for a port to open leaves headers of its own, in any order."""
    return [(header.source, header.destination) for header in seen]


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_haproxy_in_front(tmp_path: Path, version: str) -> None:
    seen: list[Any] = []
    front = free_port()
    trust = {"accept_proxy": True, "trusted_proxies": ["127.0.0.1"]}
    with backends(greeted(seen), answering(simple(b"web"))) as (one, web):
        one_config = {**one.config, "send_proxy": "v2"}
        with balance({"mode": "tcp", "backends": [one_config], **trust}) as proxy:
            with running(haproxy(tmp_path, front, "", proxy.port, version), front):
                with socket.create_connection(("127.0.0.1", front), PATIENCE) as client:
                    client.sendall(b"hello")
                    assert read_exactly(client, 5) == b"hello"
                    assert (client.getsockname(), ("127.0.0.1", front)) in introduced(seen)
        with balance({"backends": [web.config], **trust}) as proxy:
            with running(haproxy(tmp_path, front, "", proxy.port, version), front):
                with socket.create_connection(("127.0.0.1", front), PATIENCE) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert read_response(client).body == b"web"


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_behind(tmp_path: Path, version: str) -> None:
    """HAProxy refuses a header it cannot read, and passes on whom ours names."""
    seen: list[Any] = []
    middle = free_port()
    with backends(greeted(seen), echo) as (one, _):
        command = haproxy(tmp_path, middle, "accept-proxy", one.port, "send-proxy-v2")
        config = {"backends": [{"name": "h", "address": f"127.0.0.1:{middle}", "send_proxy": version}]}
        with running(command, middle), balance({"mode": "tcp", **config}) as proxy, proxy.connect() as client:
            client.sendall(b"hello")
            assert read_exactly(client, 5) == b"hello"
            assert (client.getsockname(), ("127.0.0.1", proxy.port)) in introduced(seen)
