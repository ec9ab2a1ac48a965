"""The door to it all.

Rule of this file: no decisions; what goes with what.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from balance.simulate.accesslog import Replay
from balance.simulate.engine import Run
from balance.simulate.scenario import Scenario, load_scenario
from balance.simulate.traffic import MadeUp, Traffic

if TYPE_CHECKING:
    from balance.config import Config
    from balance.simulate.record import Record


def traffic_of(scenario: Scenario) -> Traffic:
    """The requests of a scenario.

    :raises BalanceError: its log cannot be read, or a class of its requests would be refused
    """
    if not scenario.log:
        return MadeUp(scenario)
    own_times = not any(traits.latency_given for traits in scenario.backends.values())
    return Replay(scenario.log, speed=scenario.speed, host=scenario.host, seed=scenario.seed, own_times=own_times)


def read_requests(path: str) -> Scenario:
    """A scenario file, or an access log, which is then replayed as it was.

    :raises ConfigError: it cannot be read, or something in it is wrong
    """
    if path.endswith((".yaml", ".yml")):
        return load_scenario(path)
    return Scenario(log=path)


def simulate(config: Config, scenario: Scenario, traffic: Traffic | None = None, *, listener: str = "") -> Record:
    """Run a configuration under a scenario.

    :param traffic: that of the scenario, where it is used more than once
    :raises BalanceError: they do not fit together
    """
    run = Run(config, scenario, traffic or traffic_of(scenario), listener=listener)
    with _without_collector():
        return run.go()


@contextmanager
def _without_collector() -> Iterator[None]:
    """A run makes no cycles, and looking for them again and again takes a quarter of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
