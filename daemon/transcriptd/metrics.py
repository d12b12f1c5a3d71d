"""The same answers for Prometheus, collected when they are asked for.

Owns the names of the metrics. Labels are sources, states, reasons, rules and operations, never
sessions: their number does not grow. No global registry, so that two daemons in one process do not
mix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

import transcriptd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from transcriptd.moment import Sums
    from transcriptd.report import Report
    from transcriptd.totals import OfSource

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REASONS = (
    "auth",
    "bucket_missing",
    "denied",
    "disabled",
    "foreign_writer",
    "health_listen",
    "health_socket",
    "journal",
    "root_unreadable",
    "scan_failed",
    "store_failing",
    "store_slow",
    "store_unreachable",
    "watch_polling",
)
"""Every reason there is: each is exported also while it does not hold, so that rules can rely."""


class Metrics:
    """Shows one daemon's report as metrics. Summing up may take long; the rest does not."""

    def __init__(self, report: Report, sums: Sums) -> None:
        self._report = report
        self._sums = sums
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing: what there is depends on nothing that is known beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        yield InfoMetricFamily(
            "transcriptd_build", "What runs.", {"version": transcriptd.__version__}
        )
        yield from self._sessions()
        yield from self._scrub()
        yield from self._archiving()
        yield self._degraded()
        yield from self._store()

    def _sessions(self) -> Iterator[Metric]:
        totals = self._report.totals(self._sums)
        sessions = GaugeMetricFamily("transcriptd_sessions", "Sessions by state.", labels=["state"])
        for state, count in totals["states"].items():
            sessions.add_metric([state], count)
        yield sessions
        yield GaugeMetricFamily(
            "transcriptd_backlog", "Sessions that wait or are at work.", totals["backlog"]
        )
        yield GaugeMetricFamily(
            "transcriptd_oldest_unarchived_seconds",
            "Age of the oldest change that is not archived; 0 where there is none.",
            totals["oldest_unarchived_s"] or 0.0,
        )
        yield GaugeMetricFamily(
            "transcriptd_bases_behind",
            "Sessions whose object has not taken in what was appended to it.",
            totals["bases_behind"],
        )
        yield GaugeMetricFamily(
            "transcriptd_behind_bytes",
            "Bytes that are archived beside the objects they belong to.",
            totals["behind_bytes"],
        )
        yield GaugeMetricFamily(
            "transcriptd_oldest_behind_seconds",
            "Since when the object that is behind longest is; 0 where there is none.",
            totals["oldest_behind_s"] or 0.0,
        )
        yield from _of_sources(self._sums.sources)

    def _scrub(self) -> Iterator[Metric]:
        scrub = self._report.scrub(self._sums)
        yield GaugeMetricFamily(
            "transcriptd_scrub_waiting",
            "Sessions that are to be read again in the background.",
            scrub["waiting"],
        )
        yield CounterMetricFamily(
            "transcriptd_scrub_bytes", "Bytes read again in the background.", scrub["read_bytes"]
        )
        yield CounterMetricFamily(
            "transcriptd_rewrites_found",
            "Rewrites that nothing but reading again told.",
            scrub["found"],
        )

    def _archiving(self) -> Iterator[Metric]:
        status = self._report.status
        yield CounterMetricFamily(
            "transcriptd_archived", "Changes archived.", status.events["archived"]
        )
        yield CounterMetricFamily(
            "transcriptd_failed_attempts",
            "Attempts at a session that failed and are repeated.",
            status.events["failed"],
        )
        yield HistogramMetricFamily(
            "transcriptd_archive_seconds",
            "From noticing a change to its being archived.",
            buckets=status.archive_s.buckets(),
            sum_value=status.archive_s.total,
        )
        yield GaugeMetricFamily(
            "transcriptd_last_archived_timestamp_seconds",
            "When something was archived last; 0 before the first time.",
            status.last_archived or 0.0,
        )

    def _degraded(self) -> Metric:
        family = GaugeMetricFamily(
            "transcriptd_degraded", "1 where something is degraded.", labels=["reason"]
        )
        holding = self._report.status.degraded
        for reason in sorted({*REASONS, *holding}):
            family.add_metric([reason], float(reason in holding))
        return family

    def _store(self) -> Iterator[Metric]:
        if self._report.store is None:
            return
        traffic = self._report.store.traffic
        requests = CounterMetricFamily(
            "transcriptd_store_requests",
            "Requests to the store.",
            labels=["op", "outcome"],
        )
        for (operation, outcome), count in sorted(traffic.requests.items()):
            requests.add_metric([operation, outcome], count)
        yield requests
        yield CounterMetricFamily(
            "transcriptd_sent_bytes", "Bytes of bodies sent to the store.", traffic.sent_bytes
        )
        yield CounterMetricFamily(
            "transcriptd_received_bytes",
            "Bytes of bodies received from the store.",
            traffic.received_bytes,
        )


def _of_sources(sources: Iterable[OfSource]) -> Iterator[Metric]:
    sessions = GaugeMetricFamily(
        "transcriptd_source_sessions",
        "Sessions by source and state.",
        labels=["source", "state"],
    )
    damaged = GaugeMetricFamily(
        "transcriptd_damaged_lines",
        "Lines that are no JSON; they are archived as they are.",
        labels=["source"],
    )
    findings = GaugeMetricFamily(
        "transcriptd_findings",
        "What the rules found in what is archived; none where there is none.",
        labels=["source", "rule"],
    )
    redaction = GaugeMetricFamily(
        "transcriptd_redaction",
        "1 for what is done about secrets: off, report or mask.",
        labels=["source", "mode"],
    )
    unarchived = 0
    for each in sources:
        for state, count in each["states"].items():
            sessions.add_metric([each["source"], state], count)
        damaged.add_metric([each["source"]], each["damaged_lines"])
        for rule, count in each["findings"].items():
            findings.add_metric([each["source"], rule], count)
        redaction.add_metric([each["source"], each["redaction"]], 1)
        unarchived += each["expiring_unarchived"]
    yield sessions
    yield damaged
    yield findings
    yield redaction
    yield GaugeMetricFamily(
        "transcriptd_expiring_unarchived",
        "Sessions that their agent deletes within 7 days and that are not archived.",
        unarchived,
    )
