"""`metrics`: statistics for whoever comes and asks, over HTTP.

Rule of this file: it is a sink like any other. A page is made of a snapshot when it is asked for; between two questions
nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

from balance.config import Metrics
from balance.interfaces import IStatisticsSink
from balance.observe.prometheus import exposition
from balance.observe.site import metrics_site


@implementer(IStatisticsSink)
class Pages:
    """Prometheus' format at the configured path, JSON at ``/status``.

    :param metrics: where it listens, and the path
    :param explain: answers questions at ``/explain``, see `balance.observe.site`
    """

    def __init__(
        self,
        metrics: Metrics,
        explain: Callable[[Mapping[bytes, Sequence[bytes]]], tuple[int, dict[str, Any]]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._explain = explain
        self._port: IListeningPort | None = None

    def start(self, snapshot: Callable[[], dict[str, Any]], reactor: Any) -> None:
        """
        :raises CannotListenError: the address is taken, or not ours
        """
        listen = self._metrics.listen
        site = metrics_site(self._metrics.path, lambda: exposition(snapshot()), snapshot, self._explain)
        self._port = reactor.listenTCP(listen.port, site, interface=listen.host)

    def stop(self) -> Any:
        port, self._port = self._port, None
        return None if port is None else port.stopListening()
