"""``balance run``: twistd, in the foreground, with our plugin."""

from __future__ import annotations

import sys


def run(config: str, pidfile: str = "", logfile: str = "-") -> int:
    """Run until a signal ends it."""
    # Twistd reads the command line by itself, and nothing may have imported the reactor before our plugin chooses one.
    sys.argv = [
        "twistd",
        "--nodaemon",
        f"--pidfile={pidfile}",
        f"--logfile={logfile}",
        "balance",
        "--config",
        config,
    ]
    from twisted.scripts.twistd import run as twistd

    twistd()
    return 0
