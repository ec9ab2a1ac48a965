"""Tables out of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.http import Result, Scenario

REFERENCE = "haproxy"


def scenario_table(scenario: Scenario, results: Mapping[str, Sequence[Result]]) -> str:
    """One scenario as a Markdown table: medians over the rounds, and the round that was disturbed least."""
    reference = median(r.cpu.total for r in results[REFERENCE]) if results.get(REFERENCE) else 0.0
    least_reference = min(r.cpu.total for r in results[REFERENCE]) if results.get(REFERENCE) else 0.0
    lines = [
        f"**{scenario.title}**",
        "",
        f"| proxy | CPU us/{scenario.unit} | user | system | times {REFERENCE} "
        "| least | times its least | requests/s | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in results.items():
        if not rounds:
            continue
        total = median(r.cpu.total for r in rounds)
        ratio = f"{total / reference:.2f}" if reference else "-"
        least = min(r.cpu.total for r in rounds)
        least_ratio = f"{least / least_reference:.2f}" if least_reference else "-"
        lines.append(
            f"| {name} | {total * 1e6:.1f} | {median(r.cpu.user for r in rounds) * 1e6:.1f} "
            f"| {median(r.cpu.system for r in rounds) * 1e6:.1f} | {ratio} "
            f"| {least * 1e6:.1f} | {least_ratio} "
            f"| {median(r.rate for r in rounds):.0f} | {median(r.p50 for r in rounds) * 1e3:.2f} "
            f"| {median(r.p99 for r in rounds) * 1e3:.2f} | {sum(r.errors for r in rounds)} |"
        )
    return "\n".join([*lines, ""])


def idle_table(results: Mapping[str, float], connections: int, kind: str) -> str:
    """Memory as a Markdown table."""
    lines = [f"**{connections} idle {kind} connections**", "", "| proxy | resident bytes each |", "|---|---|"]
    lines += [f"| {name} | {value:.0f} |" for name, value in results.items()]
    return "\n".join([*lines, ""])
