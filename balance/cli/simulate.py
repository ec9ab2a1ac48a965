"""``balance simulate``."""

from __future__ import annotations

import json
import sys
from typing import Any

from balance.cli.check import read
from balance.simulate import compare, comparison, report, simulate, tables, traffic_of
from balance.simulate.engine import check_names
from balance.simulate.plot import check_plot, plot
from balance.simulate.run import read_requests


def run(options: Any) -> int:
    """Run one configuration, or two, and tell what came of it.

    :raises BalanceError: a file is wrong, or they do not fit together
    """
    if options.plot:
        check_plot(options.plot)
    paths = [options.config] + ([options.against] if options.against else [])
    configs = [read(path) for path in paths]
    scenario = read_requests(options.requests)
    if options.seed is not None:
        scenario = scenario.model_copy(update={"seed": options.seed})
    check_names(scenario, configs)
    traffic = traffic_of(scenario)
    records = [simulate(config, scenario, traffic, listener=options.listener) for config in configs]
    reports = [report(record) for record in records]
    if options.plot:
        plot(options.plot, list(zip(paths, records, strict=True)))
    changes = compare(*records) if len(records) == 2 else None
    if options.json:
        data = reports[0] if changes is None else {"a": reports[0], "b": reports[1], "changes": changes}
        text = json.dumps(data, indent=1)
    elif changes is None:
        text = tables(reports[0])
    else:
        text = comparison((paths[0], paths[1]), reports[0], reports[1], changes)
    for name, number in (("unread lines", "unread"), ("requests that the server would refuse", "refused")):
        if getattr(traffic, number, 0):
            sys.stderr.write(f"balance: {getattr(traffic, number)} {name} in {scenario.log}, passed over\n")
    sys.stdout.write(text + "\n")
    return 0
