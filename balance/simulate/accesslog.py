"""Access logs, read back: ours (`balance.observe.access_log`, both formats) and any other in Apache's combined format.

Rule of this file: a line that cannot be read, or whose request the server would refuse, is counted and passed over. A
log tells when a request ended; it came as long before that as it took.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Iterator
from statistics import median
from typing import Any, Final, NamedTuple

from balance.codec.http1 import parse_request
from balance.config.errors import ConfigError, Problem
from balance.errors import ClientError
from balance.model import RequestHead
from balance.simulate.traffic import MAX_REQUESTS, Arrival, Traffic, copy

_COMBINED: Final = re.compile(
    r'(?P<client>\S+) \S+ \S+ \[(?P<stamp>[^\]]+)\] "(?P<line>[^"]*)" (?P<status>\d{3}|-) (?:\d+|-)'
    r'(?: "[^"]*" "(?P<agent>[^"]*)")?'  # combined
    r"(?: \S+ \d+ \S+ (?P<seconds>[\d.]+))?\s*"  # ours: backend, attempts, reason, seconds
)
_STAMP: Final = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
#: Classes of requests that are told apart.
_KINDS_MAX: Final = 40
_DEFAULT_SECONDS: Final = 0.01


class Entry(NamedTuple):
    """One line. ``at`` is when it came; ``seconds`` is below 0 where the line does not tell."""

    at: float
    client: str
    method: str
    host: str
    target: str
    agent: str
    status: int
    seconds: float


class Replay(Traffic):
    """The requests of an access log.

    :param speed: times as fast as they came
    :param host: of requests where the log does not tell
    :param own_times: each takes as long as it did; else as its backend's latency says
    :raises ConfigError: the log cannot be read, or holds no request at all
    :ivar unread: lines that are no log lines; :ivar refused: requests that the server would refuse
    """

    def __init__(
        self, path: str, *, speed: float = 1.0, host: str = "localhost", seed: int = 1, own_times: bool = True
    ) -> None:
        self.unread = 0
        self.refused = 0
        self._seed = seed
        self._templates: dict[tuple[str, str, str, str], RequestHead | None] = {}
        entries = sorted(self._read(path), key=lambda entry: entry.at)
        if not entries:
            raise ConfigError(path, [Problem(0, 0, "", f"no request in it ({self.unread} lines that are none)")])
        good = [entry.seconds for entry in entries if entry.seconds >= 0 and _good(entry.status)]
        usual = median(good) if good else _DEFAULT_SECONDS
        kinds: dict[str, int] = {}
        first = entries[0].at
        self._arrivals: list[tuple[float, int, RequestHead, str, float]] = []
        for entry in entries:
            head = self._head(entry, host)
            if head is None:
                self.refused += 1
                continue
            seconds = entry.seconds if entry.seconds >= 0 and _good(entry.status) else usual
            kind = kinds.setdefault(_kind(head, kinds), len(kinds))
            at = (entry.at - first) / speed
            self._arrivals.append((at, kind, head, entry.client, seconds if own_times else -1.0))
        self.kinds = list(kinds)
        self.duration = self._arrivals[-1][0] if self._arrivals else 0.0

    def arrivals(self) -> Iterator[Arrival]:
        from random import Random

        draw = Random(self._seed).random
        for at, kind, head, client, seconds in self._arrivals:
            yield at, kind, copy(head), client, draw(), seconds

    def _read(self, path: str) -> Iterator[Entry]:
        second, within = 0.0, 0
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file):
                    if number >= MAX_REQUESTS:
                        raise ConfigError(path, [Problem(number, 0, "", f"more than {MAX_REQUESTS} lines")])
                    entry = parse(line)
                    if entry is None:
                        self.unread += bool(line.strip())
                        continue
                    if entry.at == int(entry.at):
                        # Whole seconds: those of the same one follow each other closely, in the order of the file.
                        within = within + 1 if entry.at == second else 0
                        second = entry.at
                        entry = entry._replace(at=entry.at + min(within * 1e-4, 0.999))
                    yield entry._replace(at=entry.at - max(0.0, entry.seconds))
        except OSError as error:
            raise ConfigError(path, [Problem(0, 0, "", f"cannot be read: {error.strerror}")]) from None

    def _head(self, entry: Entry, host: str) -> RequestHead | None:
        key = (entry.method, entry.host or host, entry.target, entry.agent)
        if key not in self._templates:
            lines = [f"{entry.method} {entry.target} HTTP/1.1", f"Host: {entry.host or host}"]
            lines += [f"User-Agent: {entry.agent}"] if entry.agent not in ("", "-") else []
            try:
                self._templates[key] = parse_request("\r\n".join(lines).encode("utf-8"))
            except ClientError:
                self._templates[key] = None
        return self._templates[key]


def _good(status: int) -> bool:
    """The time it took was a backend's."""
    return 100 <= status < 499


def _kind(head: RequestHead, known: dict[str, int]) -> str:
    """Method, host and first segment of the path; the rest together once there are many."""
    segment = head.path.split(b"/")[1] if b"/" in head.path else b""
    more = b"/" if head.path.count(b"/") > 1 else b""
    name = f"{head.method.decode('ascii')} {head.host.decode('latin-1')}/{(segment + more).decode('latin-1')}"
    return name if name in known or len(known) < _KINDS_MAX else "(others)"


def parse(line: str) -> Entry | None:
    """Read one line; None for one that is no record of a request."""
    return _json(line) if line.startswith("{") else _combined(line)


def _json(line: str) -> Entry | None:
    try:
        record: dict[str, Any] = json.loads(line)
        return Entry(
            float(record["time"]),
            str(record["client"]),
            str(record["method"]),
            str(record.get("host") or ""),
            str(record["target"]),
            str(record.get("user_agent") or ""),
            int(record["status"]),
            float(record.get("seconds", -1.0)),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _combined(line: str) -> Entry | None:
    match = _COMBINED.fullmatch(line)
    stamp = _STAMP.fullmatch(match["stamp"]) if match else None
    if match is None or stamp is None:
        return None
    method, _, rest = match["line"].partition(" ")
    target, _, version = rest.rpartition(" ")
    if not target or not version.startswith("HTTP/"):
        return None
    status = int(match["status"]) if match["status"] != "-" else 0
    seconds = float(match["seconds"]) if match["seconds"] else -1.0
    return Entry(_time(stamp), match["client"], method, "", target, match["agent"] or "", status, seconds)


def _time(stamp: re.Match[str]) -> float:
    day, month, year, hour, minute, second, sign, hours, minutes = stamp.groups()
    number = "JanFebMarAprMayJunJulAugSepOctNovDec".find(month) // 3 + 1
    offset = (int(hours) * 60 + int(minutes)) * 60 * (-1 if sign == "-" else 1)
    return float(timegm((int(year), number, int(day), int(hour), int(minute), int(second))) - offset)
