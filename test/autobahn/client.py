"""The fuzzing client: runs cases against a server, several at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint

from test.autobahn.cases import Octets, octets

#: What counts as passed. (NON-STRICT is what the suite itself tolerates.)
GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")

#: Times as long as a case allows: it speaks of seconds for what takes milliseconds, and a busy machine is no failure.
_PATIENCE = 5


@dataclass(frozen=True)
class Outcome:
    """Of one case: the suite's verdicts on what was received, and on how it was closed."""

    behavior: str
    close: str
    text: str

    @property
    def good(self) -> bool:
        return self.behavior in GOOD

    @property
    def good_close(self) -> bool:
        return self.close in (*GOOD, "FAILED BY CLIENT")  # "it is preferred that the server close"


class _Protocol(WebSocketClientProtocol):  # type: ignore[misc]
    """What a case calls `p`. Byte strings of Python 2 are translated here, in both directions."""

    factory: _Factory

    def connectionMade(self) -> None:
        self.connectionWasOpen = False
        self.createWirelog = False
        self.txFrameStats: dict[int, int] = {}
        self.calls: list[Any] = []
        super().connectionMade()

    def onOpen(self) -> None:
        self.connectionWasOpen = True
        self.factory.case.onOpen()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.case.onMessage(Octets(payload.decode("latin-1")), isBinary)

    def onPing(self, payload: bytes) -> None:
        self.sendPong(payload)
        self.factory.case.onPing(Octets(payload.decode("latin-1")))

    def onPong(self, payload: bytes) -> None:
        self.factory.case.onPong(Octets(payload.decode("latin-1")))

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self.factory.case.onClose(wasClean, code, reason)

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        for call in self.calls:
            if call.active():
                call.cancel()
        case = self.factory.case
        case.onConnectionLost(self.failedByMe)
        self.factory.done.callback(Outcome(case.behavior, case.behaviorClose, f"{case.result} / {case.resultClose}"))

    # --- what cases call --------------------------------------------------------------------------------------

    def sendFrame(self, opcode: int, payload: Any = b"", *arguments: Any, **more: Any) -> None:
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        super().sendFrame(opcode, octets(payload), *arguments, **more)

    def sendMessage(self, payload: Any, *arguments: Any, **more: Any) -> None:
        super().sendMessage(octets(payload), *arguments, **more)

    def sendMessageFrameData(self, payload: Any, sync: bool = False) -> Any:
        return super().sendMessageFrameData(octets(payload), sync)

    def sendCloseFrame(self, code: Any = None, reasonUtf8: Any = None, isReply: bool = False) -> None:
        super().sendCloseFrame(code, None if reasonUtf8 is None else octets(reasonUtf8), isReply)

    def sendClose(self, code: Any = None, reason: Any = None) -> None:
        self.sendCloseFrame(code, reason)

    def enableWirelog(self, enable: bool) -> None:
        """There is none."""

    def continueLater(self, delay: float, function: Any, tag: Any = None) -> None:
        self._later(delay, function)

    def killAfter(self, delay: float) -> None:
        self._later(_PATIENCE * delay, lambda: self._fail_connection())

    def closeAfter(self, delay: float) -> None:
        self._later(delay if delay <= 1 else _PATIENCE * delay, self.sendClose)

    def _later(self, delay: float, function: Any) -> None:
        def call() -> None:
            if self.state != self.STATE_CLOSED:
                function()

        self.calls.append(self.factory.reactor.callLater(delay, call))


class _Factory(WebSocketClientFactory):  # type: ignore[misc]
    noisy = False

    def __init__(self, url: str, case: type[Any], reactor: Any) -> None:
        super().__init__(url, reactor=reactor)
        self.setProtocolOptions(
            failByDrop=False,
            openHandshakeTimeout=20,
            closeHandshakeTimeout=_PATIENCE,
            serverConnectionDropTimeout=_PATIENCE,
        )
        self.done: Deferred[Outcome] = Deferred()
        self._case = case
        self.case: Any = None

    def buildProtocol(self, addr: Any) -> _Protocol:
        protocol = _Protocol()
        protocol.factory = self
        self.case = self._case(protocol)
        return protocol


def run(
    reactor: Any, port: int, cases: Iterable[tuple[str, type[Any]]], at_a_time: int = 8
) -> Deferred[dict[str, Outcome]]:
    """Run cases against a server on this port; fires with the outcome of each."""
    outcomes: dict[str, Outcome] = {}
    gate = DeferredSemaphore(at_a_time)

    async def one(name: str, case: type[Any]) -> None:
        factory = _Factory(f"ws://127.0.0.1:{port}/", case, reactor)
        await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
        outcomes[name] = await factory.done

    async def everything() -> dict[str, Outcome]:
        with contextlib.suppress(StopIteration):
            await gatherResults(
                [gate.run(lambda n=name, c=case: Deferred.fromCoroutine(one(n, c))) for name, case in cases],
                consumeErrors=True,
            )
        return outcomes

    return Deferred.fromCoroutine(everything())
