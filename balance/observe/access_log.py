"""The access log: one line for each exchange.

Rule of this file: it never gets in the way. Lines are collected and written together; what cannot be written is
counted, not raised; and nothing a client sends can end a line or begin another.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

#: Bytes collected before they are written without waiting for `flush`.
_BUFFER_SIZE: Final = 64 * 1024
#: The descriptor. `sys.stdout` is not it: twistd has put in its place what makes events for its own log.
_STANDARD_OUTPUT: Final = 1
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Exchange(Protocol):
    """What is read of an exchange (`balance.http.exchange.Exchange` is one)."""

    request: Any
    client_ip: str
    status: int
    body_in: int
    body_out: int
    reason: str
    attempts: int
    started: float
    route: Any
    last_backend: Any
    proxy: Any
    #: A WebSocket connection that has ended (`balance.websocket.tunnel.Tunnel`), or None.
    tunnel: Any


class Session(Protocol):
    """What is read of a connection at layer 4 (`balance.tcp.session.TcpSession` is one)."""

    source: tuple[str, int] | None
    bytes_in: int
    bytes_out: int
    reason: str
    attempts: int
    started: float
    route: Any
    last_backend: Any
    proxy: Any

    @property
    def server_name(self) -> str: ...


class AccessLog:
    """
    :param path: file to append to, or ``-`` for standard output
    :param format: ``combined`` (Apache's, with backend, attempts, reason and seconds behind it) or ``json``
    :param now: wall clock, seconds since the epoch
    """

    def __init__(self, path: str, format: str = "combined", now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._render = _json if format == "json" else _combined
        self._now = now
        self._lines: list[bytes] = []
        self._size = 0
        self._file: int | None = None
        #: Lines that could not be written.
        self.lost = 0

    def record(self, exchange: Exchange) -> None:
        """Note an exchange that has ended."""
        self._add(self._render(exchange, self._now()))

    def record_session(self, session: Session) -> None:
        """Note a connection at layer 4 that has ended."""
        render = _session_json if self._render is _json else _session_line
        self._add(render(session, self._now()))

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return
        try:
            data = b"".join(lines)
            if self._file is None:
                self._file = self._open()
            while data:
                data = data[os.write(self._file, data) :]
        except (OSError, ValueError):
            self.lost += len(lines)

    def _open(self) -> int:
        if self._path == "-":
            return os.dup(_STANDARD_OUTPUT)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def reopen(self) -> None:
        """Begin a new file under the same name, after the old one was moved away."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _combined(exchange: Exchange, now: float) -> bytes:
    request = exchange.request
    stamp = _stamp(now)
    line = _quoted(request.method + b" " + request.target + b" " + _version(request.version))
    referer, agent = request.headers.get(b"referer"), request.headers.get(b"user-agent")
    return (
        f'{exchange.client_ip or "-"} - - [{stamp}] "{line}" {exchange.status or 499} {exchange.body_out} '
        f'"{_quoted(referer or b"-")}" "{_quoted(agent or b"-")}" '
        f"{_backend(exchange)} {exchange.attempts} {exchange.reason or '-'} {_seconds(exchange):.6f}\n"
    ).encode()


def _json(exchange: Exchange, now: float) -> bytes:
    request = exchange.request
    record: dict[str, Any] = {
        "time": round(now, 3),
        "listener": exchange.proxy.name,
        "client": exchange.client_ip,
        "method": _text(request.method),
        "host": _text(request.host),
        "target": _text(request.target),
        "version": _text(_version(request.version)),
        "status": exchange.status or 499,
        "request_bytes": exchange.body_in,
        "response_bytes": exchange.body_out,
        "route": exchange.route.name if exchange.route is not None else None,
        "backend": exchange.last_backend.name if exchange.last_backend is not None else None,
        "attempts": exchange.attempts,
        "reason": exchange.reason or None,
        "seconds": round(_seconds(exchange), 6),
        "user_agent": _text(request.headers.get(b"user-agent") or b""),
    }
    if exchange.tunnel is not None:
        messages_in, messages_out = exchange.tunnel.messages
        record["websocket"] = {
            "close_code": exchange.tunnel.close_code,
            "messages_in": messages_in,
            "messages_out": messages_out,
        }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _session_line(session: Session, now: float) -> bytes:
    """The same columns; what stands in quotes is the server name that was asked for, or nothing."""
    client = session.source[0] if session.source is not None else "-"
    name = _quoted(session.server_name.encode("utf-8"))
    return (
        f'{client} - - [{_stamp(now)}] "TCP {name or "-"}" - {session.bytes_out} "-" "-" '
        f"{_backend(session)} {session.attempts} {session.reason or '-'} {_seconds(session):.6f}\n"
    ).encode()


def _session_json(session: Session, now: float) -> bytes:
    record = {
        "time": round(now, 3),
        "listener": session.proxy.name,
        "client": session.source[0] if session.source is not None else "",
        "client_port": session.source[1] if session.source is not None else None,
        "server_name": session.server_name or None,
        "received_bytes": session.bytes_in,
        "sent_bytes": session.bytes_out,
        "route": session.route.name if session.route is not None else None,
        "backend": session.last_backend.name if session.last_backend is not None else None,
        "attempts": session.attempts,
        "reason": session.reason or None,
        "seconds": round(_seconds(session), 6),
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _stamp(now: float) -> str:
    moment = time.gmtime(now)
    return (
        f"{moment.tm_mday:02}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year}:"
        f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} +0000"
    )


def _seconds(exchange: Exchange | Session) -> float:
    return max(0.0, float(exchange.proxy.clock()) - exchange.started)


def _backend(exchange: Exchange | Session) -> str:
    return str(exchange.last_backend.name) if exchange.last_backend is not None else "-"


def _version(version: int) -> bytes:
    return b"HTTP/%d.%d" % divmod(version, 10)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _quoted(raw: bytes) -> str:
    """Text for between quotes: every byte that is not printable ASCII, and the quote itself, is escaped."""
    text = raw.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02x}" for c in text)
