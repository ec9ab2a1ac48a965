"""Demo backends: small HTTP servers inside the process, so that the first try needs nothing else.

    /                  says its name, and echoes method, path and fields (as JSON where Accept asks for it)
    /slow?ms=N         answers after N milliseconds
    /stream?chunks=N&ms=M   N pieces, M milliseconds apart
    /status/NNN        answers with that status
    /bytes/N           N bytes
    /echo              the request's body

Rule of this file: on loopback only, and every parameter has a limit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPullProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from balance.net.listen import ListenError

_MAX_MS = 60_000
_MAX_CHUNKS = 10_000
_MAX_BYTES = 1 << 34
_BLOCK = b"x" * 65536


def demo_site(name: str, reactor: Any) -> Site:
    """One demo backend.

    :param name: what it calls itself
    """
    site = Site(_Demo(name, reactor), reactor=reactor)
    site.noisy = False
    return site


class DemoBackends(Service):
    """Runs a demo backend on each port."""

    def __init__(self, ports: Sequence[int], reactor: Any) -> None:
        self._numbers = ports
        self._reactor = reactor
        #: Open ports, while the service runs.
        self.ports: list[Any] = []

    def privilegedStartService(self) -> None:
        """
        :raises ListenError: a port is taken
        """
        if self.ports:
            return
        for number in self._numbers:
            site = demo_site(f"demo-{number}", self._reactor)
            try:
                self.ports.append(self._reactor.listenTCP(number, site, interface="127.0.0.1"))
            except CannotListenError as error:
                reason = getattr(error.socketError, "strerror", None) or error.socketError
                raise ListenError(f"cannot listen on 127.0.0.1:{number} for demo_backends: {reason}") from error

    def startService(self) -> None:
        super().startService()
        self.privilegedStartService()

    def stopService(self) -> Any:
        super().stopService()
        ports, self.ports = self.ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])


class _BadParameter(Exception):
    pass


class _Demo(Resource):
    isLeaf = True

    def __init__(self, name: str, reactor: Any) -> None:
        super().__init__()
        self._name = name
        self._reactor = reactor

    def render(self, request: Request) -> bytes | int:
        path = request.path.decode("latin-1")
        try:
            if path == "/slow":
                return self._slow(request)
            if path == "/stream":
                return self._stream(request)
            if path.startswith("/status/"):
                return self._status(request, path.removeprefix("/status/"))
            if path.startswith("/bytes/"):
                return self._bytes(request, path.removeprefix("/bytes/"))
            if path == "/echo":
                return self._echo(request)
        except _BadParameter as error:
            request.setResponseCode(400)
            return f"{error}\n".encode()
        return self._about(request)

    def _about(self, request: Request) -> bytes:
        fields = [
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        method, path = request.method.decode("latin-1"), request.uri.decode("latin-1")
        if b"json" in (request.getHeader(b"accept") or b""):
            request.setHeader(b"content-type", b"application/json")
            about = {"name": self._name, "method": method, "path": path, "headers": fields}
            return json.dumps(about, indent=1).encode() + b"\n"
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        lines = [f"Hello from {self._name}", "", f"{method} {path}"] + [f"{name}: {value}" for name, value in fields]
        return ("\n".join(lines) + "\n").encode()

    def _slow(self, request: Request) -> int:
        call = self._reactor.callLater(_number(request, b"ms", 1000, _MAX_MS) / 1000, self._finish, request)
        request.notifyFinish().addErrback(lambda _: call.cancel() if call.active() else None)
        return NOT_DONE_YET

    def _finish(self, request: Request) -> None:
        request.write(self._about(request))
        request.finish()

    def _stream(self, request: Request) -> int:
        chunks = _number(request, b"chunks", 10, _MAX_CHUNKS)
        pause = _number(request, b"ms", 100, _MAX_MS) / 1000
        _Ticker(request, self._reactor, chunks, pause)
        return NOT_DONE_YET

    def _status(self, request: Request, text: str) -> bytes:
        status = _parsed(text, "the status", 599)
        if status < 200:
            raise _BadParameter("the status must be from 200 to 599")
        request.setResponseCode(status)
        return b"" if status in (204, 304) else f"{status} from {self._name}\n".encode()

    def _bytes(self, request: Request, text: str) -> bytes | int:
        size = _parsed(text, "the number of bytes", _MAX_BYTES)
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"content-length", str(size).encode())
        if not size or request.method == b"HEAD":
            return b""
        request.registerProducer(_Bytes(request, size), False)
        return NOT_DONE_YET

    def _echo(self, request: Request) -> bytes:
        request.setHeader(b"content-type", request.getHeader(b"content-type") or b"application/octet-stream")
        return b"" if request.content is None else bytes(request.content.read())


def _parsed(text: str, what: str, limit: int) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 12 or int(text) > limit:
        raise _BadParameter(f"{what} must be a number from 0 to {limit}")
    return int(text)


def _number(request: Request, name: bytes, default: int, limit: int) -> int:
    values = request.args.get(name)
    return _parsed(values[0].decode("latin-1"), name.decode(), limit) if values else default


@implementer(IPullProducer)
class _Bytes:
    """Writes a number of bytes as fast as they are taken, and no faster."""

    def __init__(self, request: Request, size: int) -> None:
        self._request = request
        self._left = size

    def resumeProducing(self) -> None:
        piece = _BLOCK[: self._left]
        self._left -= len(piece)
        self._request.write(piece)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        self._left = 0


class _Ticker:
    """Writes a line now and then."""

    def __init__(self, request: Request, reactor: Any, chunks: int, pause: float) -> None:
        self._request = request
        self._reactor = reactor
        self._chunks = chunks
        self._pause = pause
        self._done = 0
        self._gone = False
        request.notifyFinish().addErrback(self._stop)
        self._tick()

    def _stop(self, reason: object) -> None:
        self._gone = True

    def _tick(self) -> None:
        if self._gone:
            return
        if self._done >= self._chunks:
            self._request.finish()
            return
        self._done += 1
        self._request.write(f"chunk {self._done} of {self._chunks}\n".encode())
        self._reactor.callLater(self._pause, self._tick)
