"""Starting, measuring and stopping the programs of a run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
CPUS = sorted(os.sched_getaffinity(0))
#: With two cores or more, the proxy has one to itself; load and backends have another.
PINNED = len(CPUS) > 1 and shutil.which("taskset") is not None


@dataclass(frozen=True)
class Cpu:
    """CPU time, in seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user - other.user, self.system - other.system)


def pinned(command: Sequence[str], *, proxy: bool) -> list[str]:
    """The command, on the core where it belongs."""
    if not PINNED:
        return list(command)
    return ["taskset", "-c", str(CPUS[0] if proxy else CPUS[1]), *command]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parse_stat(text: str) -> Cpu:
    """User and system time out of /proc/PID/stat, with those of children that were waited for."""
    fields = text.rpartition(")")[2].split()
    user, system, child_user, child_system = (int(field) / TICKS for field in fields[11:15])
    return Cpu(user + child_user, system + child_system)


class Process:
    """A program under measurement, with its children."""

    def __init__(self, command: Sequence[str], *, proxy: bool, log: Path) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                pinned(command, proxy=proxy),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._log = log

    def _tree(self) -> list[int]:
        found, waiting = [], [self._popen.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())
        return found

    def cpu(self) -> Cpu:
        user = system = 0.0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                cpu = parse_stat(Path(f"/proc/{pid}/stat").read_text())
                user += cpu.user
                system += cpu.system
        return Cpu(user, system)

    def resident(self) -> int:
        """Resident memory of the tree, in bytes."""
        total = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        return total

    def wait_for_port(self, port: int, patience: float = 15.0) -> None:
        deadline = time.monotonic() + patience
        while True:
            if self._popen.poll() is not None:
                raise RuntimeError(f"it ended at once:\n{self._log.read_text(errors='replace')[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"nobody listens on port {port}:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(3)
                return


@contextlib.contextmanager
def running(command: Sequence[str], port: int, log: Path, *, proxy: bool = True) -> Iterator[Process]:
    """Run a program that listens on ``port`` until the block ends."""
    process = Process(command, proxy=proxy, log=log)
    try:
        process.wait_for_port(port)
        yield process
    finally:
        process.stop()
