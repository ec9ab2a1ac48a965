"""The ``balance`` command: ``check``, ``run``, ``explain``, ``simulate``, ``plugins``.

Rule of this package: a command reads, asks and prints; what it tells comes from the objects that serve. Exit status: 0
good, 1 a mistake in the configuration or the question (told on standard error), 2 wrong use of the command, 3 the
answer is no (`explain`: no backend would get the request).
"""

from balance.cli.main import main

__all__ = ["main"]
