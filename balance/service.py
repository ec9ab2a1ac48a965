"""The service hierarchy: what runs, in which order it starts and how it stops.

    BalanceService (MultiService)
      DemoBackends     if `demo_backends` is given
      Discovering      what finds backends; one for each discovery
      Watchdog         if `watchdog` is not 0
      MetricsService   the sink of `metrics`, if `metrics.enabled`
      Reporting        another sink; one for each of `statistics`
      ListenerService  a listener and its proxy; one for each

Rule of this file: everything that can fail at the start fails before the first request is taken, with one clear
message. A stop is a sequence (stop accepting, drain, close), where MultiService would stop all its children at once.
"""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from balance import signals
from balance.assembly import Assembly, assemble_all
from balance.config import Config, made
from balance.demo import DemoBackends
from balance.discovery import Discovering
from balance.explain.live import ask
from balance.net.deadlines import Deadlines
from balance.net.descriptors import use_all_descriptors
from balance.net.dial import Dialer
from balance.net.gate import Gate
from balance.net.listen import ListenError, listen
from balance.net.memory import keep_freed_memory
from balance.net.ports import ACCEPTS
from balance.observe.access_log import AccessLog
from balance.observe.status import status
from balance.observe.views import Views
from balance.pool.backend import Backend, sweep
from balance.registry import INSTALLED, balancer_names, build
from balance.reporting.pages import Pages
from balance.reporting.run import Reporting, Snapshot
from balance.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from balance.config import Metrics
    from balance.secure import Watchlist

#: Seconds between looks at passive health, and between flushes of the access log.
HOUSEKEEPING = 1.0


#: Objects more than there were, before the collector looks for cycles; a few megabytes.
_COLLECT_AFTER: Final = 20_000


class ListenerService(Service):
    """One listener. Starting binds it, stopping closes it and drains its connections, for `timeouts.drain` at most."""

    log = Logger()

    def __init__(self, reactor: Any, assembly: Assembly) -> None:
        self._reactor = reactor
        self._assembly = assembly
        assembly.proxy.counters.connections_limit = assembly.config.max_connections
        #: Open ports, while the service runs; the first tells the port number.
        self.ports: list[Any] = []
        self._limit: Any = None

    def privilegedStartService(self) -> None:
        """Bind, so that ports below 1024 are bound before privileges are shed.

        :raises ListenError: the address is taken, or not ours
        """
        if not self.ports:
            config, proxy = self._assembly.config, self._assembly.proxy
            self.ports = listen(
                self._reactor,
                config.listen,
                proxy,
                tls=config.tls.enabled,
                # A storm of new clients had better wait in the kernel's queue than for its handshakes.
                accepts=min(ACCEPTS, config.tls.handshakes_per_turn) if config.tls.enabled else ACCEPTS,
                gate=Gate(config.max_connections, self._full) if config.max_connections else None,
            )

    def _full(self) -> None:
        counters = self._assembly.proxy.counters
        counters.connections_paused += 1
        if counters.connections_paused == 1:  # afterwards, the statistics tell how often
            self.log.warn(
                "listener {name} has {limit} connections, as many as max_connections allows: more have to wait",
                name=counters.name,
                limit=counters.connections_limit,
            )

    def startService(self) -> None:
        super().startService()
        self.privilegedStartService()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        super().stopService()
        ports, self.ports = self.ports, []
        yield gatherResults([maybeDeferred(port.stopListening) for port in ports])
        for connections in self._assembly.connections:
            connections.closing = True
        self._limit = self._reactor.callLater(self._assembly.config.timeouts.drain, self._hurry)
        yield self._assembly.proxy.drain()
        if self._limit.active():
            self._limit.cancel()
        for connections in self._assembly.connections:
            connections.close()

    def _hurry(self) -> None:
        """The time to drain is over; what has to be said before the end takes a little more."""
        self._limit = self._reactor.callLater(self._assembly.proxy.hurry(), self.insist)

    def insist(self) -> None:
        """Do not wait for what is under way any longer."""
        self._assembly.proxy.kill()


class Housekeeping(Service):
    """What time does: deadlines, passive health, certificates that were renewed, and the access log on its way to the
    disk."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        deadlines: Deadlines,
        backends: Iterable[Backend],
        access_log: AccessLog | None,
        tls: Sequence[Watchlist] = (),
    ) -> None:
        self._deadlines = deadlines
        self._backends = backends
        self._access_log = access_log
        self._tls = tls
        self._loop = LoopingCall(self._keep_house)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._deadlines.start()
        self._loop.start(HOUSEKEEPING, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        self._deadlines.stop()
        self._flush()

    def _keep_house(self) -> None:
        """One that fails does not end the others, or the loop."""
        for work in (self._sweep, self._refresh, self._flush):
            try:
                work()
            except Exception:
                self.log.failure("housekeeping failed")

    def _sweep(self) -> None:
        sweep(self._backends, self._deadlines.now)

    def _refresh(self) -> None:
        for watched in self._tls:
            for each in watched:
                each.refresh()

    def _flush(self) -> None:
        if self._access_log is not None:
            self._access_log.flush()


class MetricsService(Reporting):
    """Runs the sink of `metrics`, which, unlike others, has to start: its address is bound with those of the listeners,
    and if it is taken, nothing starts.
    """

    def __init__(self, reactor: Any, metrics: Metrics, sink: Pages, snapshot: Snapshot) -> None:
        super().__init__(reactor, "metrics", sink, snapshot)
        self._listen = metrics.listen
        self._begun = False

    def privilegedStartService(self) -> None:
        """
        :raises ListenError: the address is taken, or not ours
        """
        self.begin()

    def begin(self) -> None:
        if self._begun:
            return
        try:
            self._sink.start(self._snapshot, self._reactor)
        except CannotListenError as error:
            raise ListenError(f"cannot listen on {self._listen}: {error.socketError}") from error
        self._begun = True

    def stopService(self) -> Any:
        self._begun = False
        return super().stopService()


class BalanceService(MultiService):
    """Everything one configuration asks for."""

    log = Logger()

    def __init__(self, config: Config, reactor: Any) -> None:
        super().__init__()
        self._config = config
        self._reactor = reactor
        deadlines = Deadlines(reactor, seconds=time.monotonic)
        access_log: AccessLog | None = None
        if config.access_log is not None:
            access_log = AccessLog(config.access_log.path, config.access_log.format)
        self._access_log = access_log
        #: What the configuration was turned into, listener by listener.
        self.assemblies = assemble_all(
            config,
            deadlines=deadlines,
            dialer=Dialer(reactor, deadlines),
            clock=time.monotonic,
            access_log=access_log,
            on_health=self._health_changed,
        )
        if config.demo_backends:
            DemoBackends(config.demo_backends, reactor).setServiceParent(self)
        snapshot = partial(status, _views(self.assemblies))
        if config.metrics.enabled:
            pages = Pages(config.metrics, partial(ask, self.assemblies))
            MetricsService(reactor, config.metrics, pages, snapshot).setServiceParent(self)
        tls = [assembly.tls for assembly in self.assemblies]
        self._housekeeping = Housekeeping(reactor, deadlines, Everyone(self.assemblies), access_log, tls)
        self._housekeeping.setServiceParent(self)
        for assembly in self.assemblies:
            for group, discovery in assembly.discoveries:
                Discovering(reactor, group, discovery).setServiceParent(self)
        for each in config.statistics:
            sink = build("sink", each)
            Reporting(reactor, each.use, sink, snapshot).setServiceParent(self)
        if config.watchdog:
            Watchdog(reactor, config.watchdog).setServiceParent(self)
        #: One for each listener, in the order of the file.
        self.listeners = [ListenerService(reactor, assembly) for assembly in self.assemblies]
        for listener in self.listeners:
            listener.setServiceParent(self)

    def startService(self) -> None:
        use_all_descriptors()
        keep_freed_memory()
        super().startService()
        for notice in self._config.notices:
            self.log.info("{notice}", notice=notice)
        for listener in self._config.each_listener:
            mode = f"{listener.mode} over TLS" if listener.tls.enabled else listener.mode
            self.log.info("listening on {address}, mode {mode}", address=str(listener.listen), mode=mode)
        self._reactor.callWhenRunning(signals.install, self._reactor, self._insist)
        if self._access_log is not None:
            self._reactor.callWhenRunning(signals.on_rotate, self._reactor, self._access_log.reopen)
        # What was made up to here stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        # Requests come and go by the hundred and leave no cycles behind: looking for some among them finds nothing.
        gc.set_threshold(_COLLECT_AFTER, 10, 10)

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """First the listeners, with all they have under way; then what that may still need."""
        yield gatherResults([maybeDeferred(listener.disownServiceParent) for listener in self.listeners])
        yield super().stopService()

    def _insist(self) -> None:
        for listener in self.listeners:
            listener.insist()

    def _health_changed(self, backend: Backend) -> None:
        self.log.warn(
            "backend {name} ({address}) is now {state}",
            name=backend.name,
            address=str(backend.address),
            state=backend.state,
        )


class Everyone:
    """The backends that there are now, each once."""

    def __init__(self, assemblies: Sequence[Assembly]) -> None:
        self._assemblies = assemblies

    def __iter__(self) -> Iterator[Backend]:
        return iter(dict.fromkeys(backend for assembly in self._assemblies for backend in assembly.backends))


def _views(assemblies: Sequence[Assembly]) -> Views:
    """What statistics look at: everything once, also what several listeners use."""
    backends = Everyone(assemblies)
    pools = [pool for assembly in assemblies for pool in assembly.pools]

    def idle(backend: Backend) -> int:
        return sum(kept.idle for each in assemblies for kept in each.connections if kept.backend is backend)

    return Views([assembly.proxy for assembly in assemblies], backends, pools, idle)


def make_service(config: Config | Mapping[str, Any] | str, reactor: Any = None) -> BalanceService:
    """The service for a configuration; nothing is bound before it is started.

    :param config: as read from a file, or made in Python: see `balance.config.made`
    :param reactor: the one to run on; the global one by default
    :raises ConfigError: something is wrong with the configuration
    :raises PluginError: an algorithm's plugin is missing or broken
    :raises TlsError: a certificate cannot be used
    """
    checked = made(config, algorithms=balancer_names(), plugins=INSTALLED)
    if reactor is None:
        from twisted.internet import reactor as default

        reactor = default
    return BalanceService(checked, reactor)


#: `make_service` by the name that Twisted's application code calls such a thing.
makeService = make_service
