"""Answers from the sums: `app.monitoring.Monitoring` over a pool.

A question is put together from days (of UTC) that lie wholly in a step, and from the hours of those days
through which a step's edge goes; where a zone is no whole hours from UTC, of such an hour from its quarters.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import TypeVar

import msgspec
from asyncpg import Record
from asyncpg.transaction import Transaction

from app.monitoring import (
    TOP_MAX,
    AccountCounts,
    AccountUse,
    KindSum,
    ModelsUse,
    ModelUse,
    Overview,
    Period,
    ReservationCounts,
    Step,
    TopAccounts,
    Usage,
)
from app.periods import RECENT, edges, quarter
from persistence.monitoring.activity import Pauses, active
from persistence.monitoring.snapshots import BALANCES, Balances
from persistence.pool import Connection, Pool, answering

MODELS_MAX = 1_000

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_IN_CREDITS = frozenset(
    {"granted", "deducted", "confirmed", "cancelled", "expired", "refunded", "lapsed", "adjusted"}
)
"""The kinds that a step has."""

_EMPTY = Balances(accounts=AccountCounts(0, 0), available=0, held=0, liability=0, buckets=[])

T = TypeVar("T")


class PostgresMonitoring:
    """`clock`: the time that entries have."""

    def __init__(self, pool: Pool, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._clock = clock

    STAND = "SELECT pending, confirmed, cancelled, expired FROM usage_state"

    EVER = "SELECT kind, count, credits FROM usage_kinds WHERE span = 'ever' ORDER BY kind"

    MODELS_EVER = """
    SELECT * FROM usage_models WHERE span = 'ever'
    ORDER BY transactions DESC, credits DESC, model COLLATE "C" LIMIT $1
    """

    async def overview(self) -> Overview:
        async with answering(self._pool) as connection, _at_once(connection):
            known, balances = await _snapshot(connection, BALANCES, Balances)
            stand = await connection.fetchrow(self.STAND)
            kinds = await connection.fetch(self.EVER)
            models = await connection.fetch(self.MODELS_EVER, MODELS_MAX)
        assert stand is not None, "a state without a row"
        balances = balances or _EMPTY
        return Overview(
            as_of=known["as_of"],
            lag_seconds=self._lag_seconds(known["as_of"]),
            accounts=balances.accounts,
            available=balances.available,
            held=balances.held,
            liability=balances.liability,
            buckets=balances.buckets,
            reservations=ReservationCounts(**stand),
            transactions={row["kind"]: KindSum(row["count"], int(row["credits"])) for row in kinds},
            models=[_model(row) for row in models],
        )

    async def usage(
        self, period: Period, since: datetime | None, until: datetime | None, tz: tzinfo
    ) -> Usage:
        before, steps = edges(period, since, until, tz, self._clock())
        bounds = [before, *steps]
        async with answering(self._pool) as connection, _at_once(connection):
            as_of = await connection.fetchval(AS_OF)
            sums = await connection.fetch(KINDS, bounds, *_cut(bounds))
            accounts = await _accounts(connection, bounds)
        found = [{"accounts": count, "transactions": 0} for count in accounts]
        for row in sums:
            its = found[row["step"] - 1]
            its["transactions"] += int(row["count"])
            if row["kind"] == "reserved":
                its["reservations"] = int(row["count"])
            elif row["kind"] in _IN_CREDITS:
                its[row["kind"]] = int(row["credits"])
        previous, *series = (Step(start=start, **its) for start, its in zip(bounds, found, strict=False))
        return Usage(
            as_of=as_of,
            lag_seconds=self._lag_seconds(as_of),
            period=period,
            series=series,
            previous=previous,
        )

    async def top_accounts(self, period: Period, limit: int) -> TopAccounts:
        if not 1 <= limit <= TOP_MAX:
            raise ValueError(f"limit {limit}: 1 to {TOP_MAX}")
        async with answering(self._pool) as connection:
            known, users = await _snapshot(connection, period, list[AccountUse])
        return TopAccounts(
            as_of=known["as_of"],
            lag_seconds=self._lag_seconds(known["as_of"]),
            period=period,
            since=known["since"] or self._since(period),
            users=(users or [])[:limit],
        )

    async def models(self, period: Period) -> ModelsUse:
        since = self._since(period)
        async with answering(self._pool) as connection, _at_once(connection):
            as_of = await connection.fetchval(AS_OF)
            rows = await connection.fetch(MODELS, since, *_cut([since]), MODELS_MAX)
        return ModelsUse(
            as_of=as_of,
            lag_seconds=self._lag_seconds(as_of),
            period=period,
            since=since,
            models=[_model(row) for row in rows],
        )

    def _since(self, period: Period) -> datetime:
        return quarter(self._clock() - RECENT[period])

    def _lag_seconds(self, as_of: datetime) -> float:
        return max(0.0, (self._clock() - as_of).total_seconds())


def _at_once(connection: Connection) -> Transaction:
    """Several looks at the same moment."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


# Before anything was counted: since the ledger is there nothing was.
AS_OF = """
SELECT coalesce(as_of, (SELECT created_at FROM ledger), now()) FROM usage_state
"""

# What has not changed since is as good as new.
SNAPSHOT = """
SELECT since, body, coalesce(
  CASE WHEN known.counted = state.counted THEN state.as_of ELSE known.as_of END,
  (SELECT created_at FROM ledger), now()
) AS as_of
FROM usage_state AS state LEFT JOIN usage_snapshots AS known ON known.name = $1
"""


async def _snapshot(connection: Connection, name: str, of: type[T]) -> tuple[Record, T | None]:
    """A row with `as_of` and `since`, and what there is to see; `None`: it was never made."""
    row = await connection.fetchrow(SNAPSHOT, name)
    assert row is not None, "a state without a row"
    return row, None if row["body"] is None else msgspec.json.decode(row["body"], type=of)


def _pieces(table: str) -> str:
    """The rows of a table that make up any time whose edges lie in the days $2 and the hours $3 only.

    The limits bound nothing: they make PostgreSQL walk along the index for each, and not read all quarters.
    """
    return f"""(
      SELECT * FROM {table} WHERE span = 'day' AND start <> ALL ($2::timestamptz[])
      UNION ALL
      SELECT hours.* FROM unnest($2::timestamptz[]) AS cut (day), LATERAL (
        SELECT * FROM {table}
        WHERE span = 'hour' AND start >= day AND start < day + interval '24 hours' LIMIT 1000000
      ) AS hours
      WHERE start <> ALL ($3::timestamptz[])
      UNION ALL
      SELECT quarters.* FROM unnest($3::timestamptz[]) AS cut (hour), LATERAL (
        SELECT * FROM {table}
        WHERE span = 'quarter' AND start >= hour AND start < hour + interval '1 hour' LIMIT 1000000
      ) AS quarters
    ) AS pieces"""  # noqa: S608 - a table of ours


# $1: edges, rising.
KINDS = f"""
SELECT width_bucket(start, $1::timestamptz[]) AS step, kind, sum(count) AS count, sum(credits) AS credits
FROM {_pieces("usage_kinds")}
WHERE start >= ($1::timestamptz[])[1] AND start < ($1::timestamptz[])[cardinality($1)]
GROUP BY step, kind
"""  # noqa: S608

# All that there was before the first edge is step 0.
PAUSES = f"""
SELECT width_bucket(start, $1::timestamptz[]) AS step, class, sum(began)::bigint AS began,
  sum(ended)::bigint AS ended
FROM {_pieces("usage_pauses")}
WHERE start < ($1::timestamptz[])[cardinality($1)]
GROUP BY step, class
"""  # noqa: S608

ODD = """
SELECT count(*) FROM usage_accounts
WHERE start >= $1 AND start < $2 AND pause >= $3 AND pause < $4
  AND start - pause * interval '15 minutes' < $1
"""


async def _accounts(connection: Connection, bounds: Sequence[datetime]) -> list[int]:
    """How many different accounts were active between each two bounds."""
    rows = await connection.fetch(PAUSES, bounds, *_cut(bounds))
    counts = []
    for (start, end), (count, odd) in zip(
        pairwise(bounds), active(bounds, [Pauses(*row) for row in rows]), strict=True
    ):
        looked = 0 if odd is None else await connection.fetchval(ODD, start, end, *odd)
        counts.append(count + looked)
    return counts


# $1: since when.
MODELS = f"""
SELECT model, sum(transactions) AS transactions, sum(credits) AS credits, sum(confirmed) AS confirmed,
  sum(ended) AS ended, sum(reserved) AS reserved, sum(captured) AS captured,
  sum(milliseconds) AS milliseconds
FROM {_pieces("usage_models")}
WHERE start >= $1
GROUP BY model ORDER BY transactions DESC, credits DESC, model COLLATE "C" LIMIT $4
"""  # noqa: S608


def _model(row: Record) -> ModelUse:
    confirmed, ended = int(row["confirmed"]), int(row["ended"])
    reserved, captured = int(row["reserved"]), int(row["captured"])
    return ModelUse(
        model=row["model"],
        transactions=int(row["transactions"]),
        credits=int(row["credits"]),
        reserved=reserved,
        captured=captured,
        capture_ratio=captured / reserved if reserved else None,
        success_rate=confirmed / ended if ended else None,
        average_seconds=int(row["milliseconds"]) / confirmed / 1000 if confirmed else None,
    )


def _cut(bounds: Sequence[datetime]) -> tuple[list[datetime], list[datetime]]:
    """The days and the hours (of UTC) in which there is a bound, but not at their beginning."""
    return _within(bounds, _DAY), _within(bounds, _HOUR)


def _within(bounds: Sequence[datetime], span: timedelta) -> list[datetime]:
    starts = {bound: _EPOCH + (bound - _EPOCH) // span * span for bound in bounds}
    return sorted({start for bound, start in starts.items() if start != bound})
