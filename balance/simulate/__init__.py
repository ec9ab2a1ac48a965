"""Simulation: a configuration under traffic and failures, in simulated time. See doc/simulate.md.

record = simulate(load("balance.yaml"), load_scenario("friday.yaml"))
print(tables(report(record)))
"""

from balance.simulate.compare import compare
from balance.simulate.record import Record
from balance.simulate.report import report
from balance.simulate.run import simulate, traffic_of
from balance.simulate.scenario import Scenario, load_scenario, loads_scenario
from balance.simulate.tables import comparison, tables

__all__ = [
    "Record",
    "Scenario",
    "compare",
    "comparison",
    "load_scenario",
    "loads_scenario",
    "report",
    "simulate",
    "tables",
    "traffic_of",
]
