"""Statistics of TLS: handshakes, and certificates on their way to their end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from balance.observe.views import TlsView


def tls_metrics(listeners: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """In Prometheus' format, of the listeners of a snapshot. Nothing at all where none of them speaks TLS."""
    spoken = [(listener["name"], listener["tls"]) for listener in listeners if listener["tls"] is not None]
    if not spoken:
        return
    done = CounterMetricFamily("balance_tls_handshakes", "TLS handshakes that succeeded.", labels=["listener"])
    resumed = CounterMetricFamily("balance_tls_resumed", "Those that took up an old session.", labels=["listener"])
    failures = CounterMetricFamily(
        "balance_tls_failures", "TLS handshakes that failed, by reason.", labels=["listener", "reason"]
    )
    reloads = CounterMetricFamily(
        "balance_tls_reloads", "Times changed certificates were taken up, or not.", labels=["listener", "result"]
    )
    expiry = GaugeMetricFamily(
        "balance_tls_certificate_expiry_seconds",
        "Seconds until a certificate in use expires; negative behind that.",
        labels=["listener", "certificate"],
    )
    now = time.time()
    for name, tls in spoken:
        done.add_metric([name], tls["handshakes"])
        resumed.add_metric([name], tls["resumed"])
        for reason, number in sorted(tls["failures"].items()):
            failures.add_metric([name, reason], number)
        reloads.add_metric([name, "good"], tls["reloads"])
        reloads.add_metric([name, "bad"], tls["reload_failures"])
        for each in tls["certificates"]:
            expires = datetime.fromisoformat(each["not_after"]).timestamp()
            expiry.add_metric([name, each["file"]], expires - now)
    yield from (done, resumed, failures, reloads, expiry)


def tls_status(tls: TlsView | None) -> dict[str, Any] | None:
    """For a snapshot; None where the listener speaks clear text."""
    if tls is None:
        return None
    counters = tls.counters
    return {
        "handshakes": counters.handshakes,
        "resumed": counters.resumed,
        "failures": dict(counters.failures),
        "reloads": counters.reloads,
        "reload_failures": counters.reload_failures,
        "problem": tls.problem,
        "certificates": [
            {
                "file": each.cert_file,
                "names": list(each.domains),
                "subject": each.facts.subject,
                "serial": each.facts.serial,
                "kind": each.facts.kind,
                "not_before": _instant(each.facts.not_before),
                "not_after": _instant(each.facts.not_after),
            }
            for each in tls.served
        ],
    }


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
