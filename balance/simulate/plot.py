"""A picture of a run (or of two): requests, latency and backends over time.

Rule of this file: matplotlib is wanted only here, and only when somebody asks for a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from balance.errors import BalanceError
from balance.simulate.record import NONE, Record

#: Points along the time axis.
_BINS: Final = 120
FORMATS: Final = (".png", ".svg")


def check_plot(path: str) -> None:
    """Before the work is done: can a picture be made?

    :raises BalanceError: another kind of file, or matplotlib is not installed
    """
    if not path.endswith(FORMATS):
        raise BalanceError(f"--plot {path!r}: the name must end in {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BalanceError("--plot needs matplotlib, which is not installed: pip install 'balance[plot]'") from None


def plot(path: str, runs: Sequence[tuple[str, Record]]) -> None:
    """Draw runs beside each other.

    :param runs: title and record of each
    :raises BalanceError: see `check_plot`; the file cannot be written
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5 * len(runs), 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(3, len(runs), squeeze=False, sharex="col", sharey="row")
    for column, (title, record) in enumerate(runs):
        axes[0][column].set_title(title)
        _requests(axes[0][column], record)
        _latency(axes[1][column], record)
        _backends(axes[2][column], record)
        axes[2][column].set_xlabel("seconds")
    metadata = {"Date": None} if path.endswith(".svg") else {}
    try:
        figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise BalanceError(f"--plot {path!r}: cannot be written: {error.strerror}") from None


def _bins(record: Record) -> tuple[list[float], float]:
    last = record.arrived_at[record.size - 1] if record.size else 0.0
    width = max(last / _BINS, 1e-3)
    return [width * (number + 0.5) for number in range(_BINS + 1)], width


def _requests(axes: Any, record: Record) -> None:
    times, width = _bins(record)
    good, bad = [0] * len(times), [0] * len(times)
    for at, reason in zip(record.arrived_at[: record.size], record.reason, strict=False):
        (bad if reason else good)[min(int(at / width), _BINS)] += 1
    axes.stackplot(times, [n / width for n in good], [n / width for n in bad], labels=["answered", "errors"])
    axes.set_ylabel("requests a second")
    axes.legend(loc="upper left")


def _latency(axes: Any, record: Record) -> None:
    times, width = _bins(record)
    seconds: list[list[float]] = [[] for _ in times]
    rows = zip(record.arrived_at[: record.size], record.latency, record.reason, strict=False)
    for at, latency, reason in rows:
        if not reason:
            seconds[min(int(at / width), _BINS)].append(latency)
    for percent in (50, 90, 99):
        line = [1000 * sorted(each)[len(each) * percent // 100] if each else float("nan") for each in seconds]
        axes.plot(times, line, label=f"p{percent}")
    axes.set_yscale("log")
    axes.set_ylabel("latency, ms")
    axes.legend(loc="upper left")


def _backends(axes: Any, record: Record) -> None:
    times, width = _bins(record)
    counts = [[0] * len(times) for _ in record.backends]
    for at, backend in zip(record.arrived_at[: record.size], record.backend, strict=False):
        if backend != NONE:
            counts[backend][min(int(at / width), _BINS)] += 1
    for name, count in zip(record.backends, counts, strict=True):
        axes.plot(times, [number / width for number in count], label=name)
    for at, _, state in record.health:
        axes.axvline(at, color="red" if state == "ejected" else "green", linewidth=0.5)
    axes.set_ylabel("requests a second, by backend")
    axes.legend(loc="upper left")
