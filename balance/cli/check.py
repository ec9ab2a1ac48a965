"""``balance check``."""

from __future__ import annotations

import sys

from balance.assembly import ordered_routes
from balance.config import Config, load, summarise
from balance.registry import INSTALLED, balancer_names


def read(path: str) -> Config:
    """A configuration file, with the algorithms that are installed.

    :raises ConfigError: something in it is wrong
    """
    return load(path, algorithms=balancer_names(), plugins=INSTALLED)


def check(path: str) -> int:
    """Print what a configuration means.

    :raises ConfigError: something in it is wrong
    """
    config = read(path)
    sys.stdout.write(summarise(config, [ordered_routes(listener) for listener in config.each_listener]) + "\n")
    return 0
