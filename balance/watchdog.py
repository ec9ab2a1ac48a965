"""Tells when the event loop is blocked, and by whom.

Rule of this file: it looks, and touches nothing. The reactor leaves a mark every now and then; a thread that sees no
new one looks at the reactor's stack and writes it to the log, with the name of the plugin that it finds there.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

from balance.loading import LOADED

#: Functions of reactors in which they wait for something to happen: then it is idle, if perhaps short of CPU.
_IDLE: Final = frozenset(("doPoll", "doSelect", "doIteration", "_runOnce", "select"))
_FRAMES: Final = 25


class Watch:
    """What the thread has seen: whether there is something to tell.

    :param limit: seconds without a mark that are told
    :param plugins: names of plugins by the modules they came from
    """

    def __init__(self, limit: float, plugins: Mapping[str, str]) -> None:
        self._limit = limit
        self._plugins = plugins
        self._looked = 0.0
        #: The mark at which the loop got stuck, and how long it was when last looked at; None while it runs.
        self._stuck: float | None = None
        self._length = 0.0

    def look(self, now: float, mark: float, frame: Callable[[], FrameType | None]) -> str:
        """
        :param mark: when the loop ran last
        :param frame: the innermost frame of the reactor's thread
        :return: what is to be told, or nothing
        """
        late = now - self._looked > 2 * self._limit  # nobody let us look: the machine is busy, or was asleep
        self._looked = now
        if self._stuck is not None:
            if mark == self._stuck:
                self._length = now - mark
                return ""
            self._stuck = None
            return f"the event loop runs again; it was blocked for about {self._length * 1000:.0f} ms"
        if late or now - mark <= self._limit:
            return ""
        innermost = frame()
        if innermost is None or innermost.f_code.co_name in _IDLE:
            return ""
        self._stuck, self._length = mark, now - mark
        name = self._blame(innermost)
        by = f"plugin {name}" if name else "no plugin is on the stack"
        stack = "".join(traceback.format_stack(innermost)[-_FRAMES:])
        return f"the event loop has been blocked for {self._length * 1000:.0f} ms ({by}):\n{stack}"

    def _blame(self, innermost: FrameType) -> str:
        """The plugin whose code, or whose package's code, is the innermost."""
        packages = {module.partition(".")[0]: use for module, use in self._plugins.items()}
        packages.pop("balance", None)
        frame: FrameType | None = innermost
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            use = self._plugins.get(module) or packages.get(module.partition(".")[0])
            if use:
                return use
            frame = frame.f_back
        return ""


class Watchdog(Service):
    """
    :param limit: seconds
    """

    log = Logger()

    def __init__(self, reactor: Any, limit: float, plugins: Mapping[str, str] = LOADED) -> None:
        self._reactor = reactor
        self._step = limit / 2
        self._watch = Watch(limit, plugins)
        self._mark = 0.0
        self._call: Any = None
        self._end = threading.Event()

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._begin)  # not earlier: twistd forks, and threads do not survive that

    def stopService(self) -> None:
        super().stopService()
        self._end.set()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _begin(self) -> None:
        if self.running:
            self._end.clear()
            self._beat()
            threading.Thread(target=self._run, args=(threading.get_ident(),), name="watchdog", daemon=True).start()

    def _beat(self) -> None:
        self._mark = time.monotonic()
        self._call = self._reactor.callLater(self._step, self._beat)

    def _run(self, thread: int) -> None:
        while not self._end.wait(self._step):
            told = self._watch.look(time.monotonic(), self._mark, lambda: sys._current_frames().get(thread))
            if told:
                self.log.warn("{told}", told=told)
