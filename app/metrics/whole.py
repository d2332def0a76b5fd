"""What a scrape shows of the whole ledger, whichever process is asked: gauges that all of them show alike.

What nobody can tell just now is left out: an alert on a number that is missing says the truth, one on an old
number does not.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from app.alerts import ALERTS_MAX, Alert, Alerts
from app.health import Health, HealthReport
from app.journaling import Journaling, ShardJournaled
from app.metrics.look import Look
from app.opened import Open, Opened
from app.queues import AtWork, Queues
from app.reconciliations import Reconciliation, Reconciliations

HEALTH_SECONDS = 5.0
"""It promises to answer within so long, also while others are away."""

_SEVERITY = {"healthy": 0, "warning": 1, "critical": 2}


class Whole:
    """Asks everybody at once."""

    def __init__(
        self,
        *,
        journaling: Journaling,
        queues: Queues,
        reconciliations: Reconciliations,
        opened: Opened,
        health: Health,
        alerts: Alerts,
    ) -> None:
        self._shards = Look(journaling.shards)
        self._at_work = Look(queues.look)
        self._runs = Look(lambda: reconciliations.runs(1))
        self._open = Look(opened.look)
        self._health = Look(health.report, HEALTH_SECONDS)
        self._firing = Look(lambda: alerts.alerts("firing", limit=ALERTS_MAX))

    async def metrics(self) -> list[Metric]:
        """As it is now, or was some seconds ago."""
        shards, at_work, runs, open_, health, firing = await asyncio.gather(
            self._shards.now(),
            self._at_work.now(),
            self._runs.now(),
            self._open.now(),
            self._health.now(),
            self._firing.now(),
        )
        redis = shards is not None and any(each.stream is not None for each in shards)
        answers = {"postgres": shards is not None, "queues": at_work is not None}
        if shards is not None:  # whether Redis answers is found out with the shards
            answers["redis"] = redis
        found: list[Metric] = [
            _gauge("lastro_store_up", "Whether a store answered when it was asked.", "store", answers)
        ]
        if shards is not None:
            found += _of_shards(shards)
        if at_work is not None:
            found += _of_workers(at_work)
        if runs:
            found += _of_reconciliation(runs[0])
        if open_ is not None:
            found += _of_open(open_)
        if health is not None:
            found += _of_health(health)
        if firing is not None:
            found += _of_alerts(firing)
        return found


def _gauge(name: str, help_: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for value, measured in values.items():
        family.add_metric([value], measured)
    return family


def _one(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value=value)


def _of_shards(shards: Sequence[ShardJournaled]) -> Iterator[Metric]:
    yield _gauge(
        "lastro_journal_cursor_entries",
        "The last sequence of a shard that the journal has.",
        "shard",
        {str(each.shard): each.cursor for each in shards},
    )
    yield _gauge(
        "lastro_journal_verified_entries",
        "The last sequence of a shard up to which its chain was proved.",
        "shard",
        {str(each.shard): each.verified for each in shards},
    )
    yield _gauge(
        "lastro_shard_fenced",
        "Whether a shard refuses rather than serve a lie.",
        "shard",
        {str(each.shard): each.fence is not None for each in shards},
    )
    streams = {each.shard: each.stream for each in shards if each.stream is not None}
    if not streams:
        return
    yield _gauge(
        "lastro_stream_sequence_entries",
        "The last sequence of a shard.",
        "shard",
        {str(shard): stream.sequence for shard, stream in streams.items()},
    )
    yield _gauge(
        "lastro_stream_kept_entries",
        "Entries in the stream of a shard, journaled or not.",
        "shard",
        {str(shard): stream.kept for shard, stream in streams.items()},
    )
    yield _gauge(
        "lastro_backlog_entries",
        "Entries of a shard that the journal lacks.",
        "shard",
        {str(each.shard): each.behind for each in shards if each.behind is not None},
    )
    yield _one(
        "lastro_journal_lag_seconds",
        "How old the oldest entry is that the journal lacks, over all shards.",
        max(each.lag_seconds or 0.0 for each in shards),
    )


def _of_workers(at_work: AtWork) -> Iterator[Metric]:
    yield _one(
        "lastro_workers", "Workers that have shown themselves lately.", sum(w.alive for w in at_work.workers)
    )
    yield _one("lastro_cron_up", "Whether jobs are put into the queues.", at_work.cron)
    jobs = GaugeMetricFamily(
        "lastro_jobs", "Jobs of a queue that wait, run, or have failed lately.", labels=["queue", "state"]
    )
    for queue in at_work.queues:
        jobs.add_metric([queue.name, "waiting"], queue.waiting)
        jobs.add_metric([queue.name, "running"], queue.running)
        jobs.add_metric([queue.name, "failed"], queue.failed)
    yield jobs


def _of_reconciliation(run: Reconciliation) -> Iterator[Metric]:
    """The latest run."""
    yield _gauge(
        "lastro_reconciliation_status",
        "The latest reconciliation: 1 for how it stands, 0 for the other ways.",
        "status",
        {status: run.status == status for status in ("running", "equal", "drift", "unknown")},
    )
    yield _one(
        "lastro_reconciliation_started_timestamp_seconds",
        "When the latest reconciliation began.",
        run.started_at.timestamp(),
    )
    yield _one("lastro_reconciliation_accounts", "Accounts that it has compared.", run.accounts)
    yield _one(
        "lastro_reconciliation_drift_accounts",
        "Accounts in which it found a difference.",
        len({each.account_id for each in run.drift}),
    )


def _of_open(open_: Open) -> Iterator[Metric]:
    yield _one("lastro_open_holds", "Reservations that hold credits.", open_.reservations)
    yield _gauge(
        "lastro_webhook_inbox_rows", "Webhooks that are not settled, by status.", "status", open_.webhooks
    )
    yield _gauge(
        "lastro_event_deliveries",
        "Deliveries of outgoing events that wait, and that were given up.",
        "state",
        open_.events,
    )


def _of_health(health: HealthReport) -> Iterator[Metric]:
    checks = health.checks
    yield _gauge(
        "lastro_health_status",
        "How a check of the health stands: 0 healthy, 1 warning, 2 critical.",
        "check",
        {each.name: _SEVERITY[each.status] for each in checks},
    )
    yield _gauge(
        "lastro_health_value",
        "What a check of the health measured, in the check's own unit.",
        "check",
        {each.name: each.value for each in checks if each.value is not None},
    )


def _of_alerts(firing: Iterable[Alert]) -> Iterator[Metric]:
    family = GaugeMetricFamily("lastro_alerts_firing", "Alerts that fire.", labels=["rule", "level"])
    counts: dict[tuple[str, str], int] = {}
    for each in firing:
        counts[each.rule, each.level] = counts.get((each.rule, each.level), 0) + 1
    for labels, count in counts.items():
        family.add_metric(labels, count)
    yield family
