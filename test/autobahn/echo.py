"""The echo server that cases are run against: ``python -m test.autobahn.echo PORT``. It is made of Autobahn itself."""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet import reactor


class Echo(WebSocketServerProtocol):  # type: ignore[misc]
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


def accept(offers: list[Any]) -> Any:
    """Compression with every client that offers it."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


def main(port: int) -> None:
    running: Any = reactor
    factory = WebSocketServerFactory(reactor=running)
    factory.protocol = Echo
    factory.setProtocolOptions(failByDrop=False, perMessageCompressionAccept=accept, closeHandshakeTimeout=5)
    running.listenTCP(port, factory, interface="127.0.0.1")
    running.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
