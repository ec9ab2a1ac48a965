"""What is wrong with a configuration, as it is told to people."""

from __future__ import annotations

from dataclasses import dataclass

from balance.errors import BalanceError


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. Lines and columns count from 1; 0 is "no particular place"."""

    line: int
    column: int
    key: str
    message: str

    def text(self, source: str) -> str:
        """``etc/balance.yaml:12:5: http.routes[0].host: found ...; ...``."""
        place = f"{source}:{self.line}:{self.column}" if self.line else source
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(BalanceError):
    """A configuration cannot be used. Holds every mistake that was found; ``str()`` is the whole report."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(problem.text(source) for problem in self.problems))
