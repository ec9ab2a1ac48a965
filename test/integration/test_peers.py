"""Programs that others wrote, on both sides: nginx as the backend, curl and wrk as clients."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from test.integration.harness import PATIENCE, Balance, accepts, balance, free_port, wait_for

NGINX, CURL, WRK = (shutil.which(name) for name in ("nginx", "curl", "wrk"))
pytestmark = pytest.mark.skipif(not NGINX or not CURL, reason="nginx or curl is not installed")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Balance, Path]]:
    """Balance in front of one nginx on two ports, serving a folder."""
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    for parent in folder.parents:
        if parent.owner() == folder.owner() and parent != Path("/tmp"):
            parent.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www" / "big").write_bytes(os.urandom(20_000_000))
    (folder / "www" / "page.txt").write_text("hello\n" * 2000)
    ports = [free_port(), free_port()]
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; error_log stderr; pid {folder}/nginx.pid;
        events {{}}
        http {{
          access_log off; client_body_temp_path {folder}/body; types {{ text/plain txt; }}
          gzip on; gzip_types text/plain; gzip_min_length 1; gzip_proxied any;
          server {{
            listen 127.0.0.1:{ports[0]}; listen 127.0.0.1:{ports[1]};
            root {folder}/www; absolute_redirect off;
            location /moved {{ return 302 /page.txt; }}
            location /empty {{ return 204; }}
            location /fields {{ return 200 "$http_x_forwarded_for|$http_host|$http_connection"; }}
          }}
        }}
        """
    )
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    server = subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf"), *user], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: all(map(accepts, ports)), "nginx")
        config = {"backends": [{"name": f"n{port}", "address": f"127.0.0.1:{port}"} for port in ports]}
        with balance(config) as running:
            yield running, folder
    finally:
        server.terminate()
        server.wait(PATIENCE)


def curl(*arguments: str) -> str:
    done = subprocess.run(
        [str(CURL), "-sS", "--max-time", "30", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_download(proxy: tuple[Balance, Path], tmp_path: Path) -> None:
    running, folder = proxy
    curl("-o", str(tmp_path / "got"), f"http://127.0.0.1:{running.port}/big")
    expected = hashlib.sha256((folder / "www" / "big").read_bytes()).hexdigest()
    assert hashlib.sha256((tmp_path / "got").read_bytes()).hexdigest() == expected


def test_head_conditional_range_redirect(proxy: tuple[Balance, Path]) -> None:
    url = f"http://127.0.0.1:{proxy[0].port}"
    head = curl("-I", url + "/big")
    assert "Content-Length: 20000000" in head
    etag = re.search(r'ETag: (".*")', head)
    assert etag
    code = ["-o", "/dev/null", "-w", "%{http_code} %{size_download} %{num_connects}"]
    assert curl(*code, "-H", f"If-None-Match: {etag[1]}", url + "/big") == "304 0 1"
    assert curl(*code, "-r", "100-199", url + "/big") == "206 100 1"
    assert curl(*code, url + "/empty") == "204 0 1"
    assert curl(*code, "-L", url + "/moved") == "200 12000 1"  # the same connection for the second request


def test_chunked_and_compressed(proxy: tuple[Balance, Path]) -> None:
    url = f"http://127.0.0.1:{proxy[0].port}/page.txt"
    assert curl("--compressed", url) == "hello\n" * 2000
    assert "Transfer-Encoding: chunked" in curl("-D", "-", "-o", "/dev/null", "--compressed", url)
    assert curl("--http1.0", "--compressed", url) == "hello\n" * 2000


def test_what_the_backend_sees(proxy: tuple[Balance, Path]) -> None:
    url = f"http://127.0.0.1:{proxy[0].port}/fields"
    assert curl("-H", "Host: shop.example:81", "-H", "X-Forwarded-For: 6.6.6.6", url) == "127.0.0.1|shop.example:81|"


@pytest.mark.skipif(not WRK, reason="wrk is not installed")
def test_load_without_an_error(proxy: tuple[Balance, Path]) -> None:
    running, _ = proxy
    url = f"http://127.0.0.1:{running.port}/fields"
    done = subprocess.run(
        [str(WRK), "-t1", "-c200", "-d2s", url], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Non-2xx" not in done.stdout
    assert "Socket errors" not in done.stdout
    reasons = set(re.findall(r'balance_errors_total{.*reason="(\w+)"}', running.metrics()))
    assert reasons <= {"client_gone"}  # wrk leaves in the middle of what it asked for
