"""Opening listening ports.

Rule of this file: a port that cannot be opened is an error at the start, never a line in a log. "All addresses" are two
sockets, one for IPv4 and one for IPv6, so that an IPv4 client is never seen as an IPv6 one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory

from balance.errors import BalanceError
from balance.model import Address
from balance.net.gate import Gate, GuardedPort, GuardedUnixPort, guard
from balance.net.ports import ACCEPTS, EagerPort, EagerUnixPort
from balance.net.tls_transport import TlsServer, TlsUnixServer

BACKLOG: Final = 1024


class ListenError(BalanceError):
    """An address cannot be listened on."""


def listen(
    reactor: Any,
    address: Address,
    factory: ServerFactory,
    backlog: int = BACKLOG,
    *,
    tls: bool = False,
    accepts: int = ACCEPTS,
    gate: Gate | None = None,
) -> list[EagerPort | EagerUnixPort]:
    """Start to accept connections.

    :param address: an empty host means every address of this machine, IPv4 and IPv6; port 0 any free port
    :param tls: the protocols that the factory makes may turn to TLS
    :param accepts: connections in a turn of the reactor, before those that are open get theirs
    :param gate: limits the connections
    :returns: the open ports; the first tells the port number
    :raises ListenError: in use, no permission, not an address of this machine; nothing is left open then
    """
    kind, unix_kind = (EagerPort, EagerUnixPort) if gate is None else (GuardedPort, GuardedUnixPort)
    ports: list[EagerPort | EagerUnixPort]
    if address.path:
        ports = [_listen_unix(unix_kind, reactor, address, factory, backlog)]
    else:
        ports = list(_listen(partial(_listen_tcp, kind, reactor, factory=factory, backlog=backlog), address))
    for port in ports:
        if tls:
            port.transport = TlsUnixServer if address.path else TlsServer
        port.accepts = accepts
    if gate is not None:
        guard(gate, ports)
    return ports


def _listen(opened: Callable[[Address], EagerPort], address: Address) -> list[EagerPort]:
    if address.host:
        return [opened(address)]
    ports = [opened(Address("0.0.0.0", address.port))]
    if _has_ipv6():
        try:
            ports.append(opened(Address("::", ports[0].getHost().port)))
        except ListenError:
            ports[0].stopListening()
            raise
    return ports


def _listen_tcp(
    kind: type[EagerPort], reactor: Any, address: Address, factory: ServerFactory, backlog: int
) -> EagerPort:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        if family == socket.AF_INET and not address.host[:1].isdigit():
            host = socket.gethostbyname(address.host)  # `localhost:8080`: blocks, but only at the start
        else:
            host = address.host
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, address.port))
            sock.listen(backlog)
            port: EagerPort = kind._fromListeningDescriptor(reactor, sock.fileno(), family, factory)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from error
    port.backlog = backlog
    port.startListening()
    return port


def _listen_unix(
    kind: type[EagerUnixPort], reactor: Any, address: Address, factory: ServerFactory, backlog: int
) -> EagerUnixPort:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(address.path).st_mode) and not _answers(address.path):
            os.unlink(address.path)  # left over by a process that did not end well
    port = kind(address.path.encode(), factory, backlog, 0o666, reactor)
    try:
        port.startListening()
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        raise ListenError(f"cannot listen on {address}: {reason}") from error
    return port


def _answers(path: str) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
