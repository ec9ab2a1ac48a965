"""The proxies that are compared: how each is configured for a scenario.

Rule of this file: every peer gets what its manual recommends for this work (kept connections to the backends, one core,
no log), and the same routes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUTE_HEADER = "X-Tenant"


@dataclass(frozen=True)
class Setting:
    """What a peer is to do.

    :param tcp: relay bytes, at layer 4
    :param http2: clients speak h2c
    :param http2_backends: backends do
    :param tls: speak TLS 1.3 with clients, with the certificate in ``folder/tls.pem``
    :param routes: routes beside the default one, each matching one value of a header; the load asks for the last
    """

    folder: Path
    port: int
    backends: tuple[int, ...]
    routes: int = 0
    tcp: bool = False
    http2: bool = False
    http2_backends: bool = False
    tls: bool = False


@dataclass(frozen=True)
class Peer:
    """A proxy: the program it needs, and the command for a setting."""

    name: str
    program: str
    command: Callable[[Setting], Sequence[str]]

    @property
    def missing(self) -> str:
        """Why it cannot take part; empty if it can."""
        return "" if shutil.which(self.program) or Path(self.program).exists() else f"{self.program} is not installed"


def _write(setting: Setting, name: str, text: str) -> str:
    path = setting.folder / name
    path.write_text(text)
    return str(path)


def balance(setting: Setting) -> list[str]:
    names = [f"b{port}" for port in setting.backends]
    lines = [f"mode: {'tcp' if setting.tcp else 'http'}", f'listen: "127.0.0.1:{setting.port}"', "backends:"]
    more = ", protocol: h2c" if setting.http2_backends else ""
    lines += [f'  - {{name: b{port}, address: "127.0.0.1:{port}"{more}}}' for port in setting.backends]
    if setting.tls:
        lines.append(f'tls: {{enabled: true, cert_file: {setting.folder}/tls.pem, min_version: "1.3"}}')
    if setting.routes or setting.http2:
        lines.append("http:")
    if setting.http2:
        lines.append("  max_idle_conns_per_host: 256")  # as many as there are streams: HAProxy keeps all by default
    if setting.routes:
        lines.append("  routes:")
        for n in range(setting.routes):
            lines.append(f"    - {{name: r{n}, headers: {{{ROUTE_HEADER}: t{n}}}, backends: [{', '.join(names)}]}}")
    path = _write(setting, "balance.yaml", "\n".join(lines) + "\n")
    return [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "balance", "--config", path]


def balance_messages(setting: Setting) -> list[str]:
    """Where WebSocket messages are relayed, in place of bytes."""
    command = balance(setting)
    path = Path(command[-1])
    path = path.rename(path.with_name("balance-messages.yaml"))
    path.write_text(path.read_text() + "http: {websocket: {messages: true}}\n")
    return [*command[:-1], str(path)]


def haproxy(setting: Setting) -> list[str]:
    rules = "".join(f"  use_backend b if {{ req.hdr({ROUTE_HEADER}) -m str t{n} }}\n" for n in range(setting.routes))
    proto = " proto h2" if setting.http2_backends else ""
    servers = "".join(f"  server s{port} 127.0.0.1:{port}{proto}\n" for port in setting.backends)
    if setting.tcp:
        return _haproxy_tcp(setting, servers)
    tls = (
        f" ssl crt {setting.folder}/tls.pem alpn {'h2' if setting.http2 else 'http/1.1'} ssl-min-ver TLSv1.3"
        if setting.tls
        else ""
    )
    text = f"""\
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 30s
  timeout http-request 10s
  timeout http-keep-alive 75s
  timeout tunnel 1h
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{setting.port}{tls or (" proto h2" if setting.http2 else "")}
{rules}  default_backend b
backend b
  balance roundrobin
{servers}"""
    return ["haproxy", "-db", "-f", _write(setting, "haproxy.cfg", text)]


def _haproxy_tcp(setting: Setting, servers: str) -> list[str]:
    text = f"""\
global
  nbthread 1
  maxconn 6000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option splice-auto
frontend f
  bind 127.0.0.1:{setting.port}
  default_backend b
backend b
  balance roundrobin
{servers}"""
    return ["haproxy", "-db", "-f", _write(setting, "haproxy-tcp.cfg", text)]


def nginx(setting: Setting) -> list[str]:
    servers = "".join(f"server 127.0.0.1:{port};" for port in setting.backends)
    variable = "$http_" + ROUTE_HEADER.lower().replace("-", "_")
    routes = "".join(f"t{n} b;" for n in range(setting.routes))
    if setting.tcp:
        return _nginx_stream(setting, servers)
    pem = setting.folder / "tls.pem"
    tls = f"ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.3;" if setting.tls else ""
    kinds = (" ssl" if setting.tls else "") + (" http2" if setting.http2 else "")
    text = f"""\
worker_processes 1; daemon off; error_log stderr crit; pid {setting.folder}/nginx.pid;
events {{ worker_connections 16000; }}
http {{
  access_log off; keepalive_requests 1000000000; proxy_temp_path {setting.folder}/proxy;
  client_body_temp_path {setting.folder}/body;
  map {variable} $pool {{ default b; {routes} }}
  map $http_upgrade $switch {{ default ""; websocket upgrade; }}
  upstream b {{ {servers} keepalive 100; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{setting.port} backlog=4096{kinds}; {tls}
    http2_max_requests 1000000000;
    location / {{
      proxy_pass http://$pool; proxy_http_version 1.1; proxy_set_header Connection $switch;
      proxy_set_header Upgrade $http_upgrade; proxy_read_timeout 1h;
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""
    return ["nginx", "-c", _write(setting, "nginx.conf", text)]


#: Debian ships the module apart (libnginx-mod-stream).
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def _nginx_stream(setting: Setting, servers: str) -> list[str]:
    text = f"""\
{f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""}
worker_processes 1; daemon off; error_log stderr crit; pid {setting.folder}/nginx-stream.pid;
events {{ worker_connections 16000; }}
stream {{
  upstream b {{ {servers} }}
  server {{ listen 127.0.0.1:{setting.port} backlog=4096; proxy_pass b; tcp_nodelay on; }}
}}
"""
    return ["nginx", "-c", _write(setting, "nginx-stream.conf", text)]


def twisted_web(setting: Setting) -> list[str]:
    script = f"""\
from twisted.internet import reactor
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site
reactor.listenTCP({setting.port}, Site(ReverseProxyResource("127.0.0.1", {setting.backends[0]}, b"")),
                  interface="127.0.0.1", backlog=4096)
reactor.run()
"""
    return [sys.executable, _write(setting, "twisted_web.py", script)]


PEERS = (
    Peer("haproxy", "haproxy", haproxy),
    Peer("nginx", "nginx", nginx),
    Peer("balance", sys.executable, balance),
    Peer("balance-messages", sys.executable, balance_messages),
    Peer("twisted.web", sys.executable, twisted_web),
)


def backend(folder: Path, ports: Sequence[int], http2_ports: Sequence[int] = ()) -> list[str]:
    """An nginx that serves the files of ``folder/www`` on these ports."""
    listens = "".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    listens += "".join(f"listen 127.0.0.1:{port} backlog=4096 http2;" for port in http2_ports)
    text = f"""\
worker_processes 1; daemon off; error_log stderr crit; pid {folder}/backend.pid; user root;
events {{ worker_connections 16000; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; sendfile on;
  http2_max_requests 1000000000;
  server {{ {listens} root {folder}/www; }} }}
"""
    path = folder / "backend.conf"
    path.write_text(text)
    return ["nginx", "-c", str(path)]
