"""Row 11: how long monitoring and the pages of the dashboard take when the journal has ten million rows.

Monitoring reads the sums and never the journal: those are made by themselves, of a year in which 100,000
accounts have jobs, some of them often and most of them seldom, which is what costs most. Pages read more than
that: for them there is a journal of ten million rows, and all that stands beside it (`tests.bench.year`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import asyncpg

from persistence import api_keys
from persistence.monitoring import PostgresMonitoring
from persistence.monitoring.activity import FIRST, LIMITS
from persistence.monitoring.counting import count
from persistence.monitoring.snapshots import PERIODS, Snapshots
from persistence.pool import Pool, open_pool
from tests.bench import loaded, year
from tests.bench.bed import Bed, House, run
from tests.bench.figures import Line, Samples, percentile
from tests.bench.filled import Size, fill
from tests.bench.sizes import Sizes, Told
from tests.bench.visits import Operator, visits
from tests.bench.year import ACCOUNTS

MUST_MS = 50
PAGE_MUST_MS = 100
ENTRIES = 10_000_000
VISITS = 24
NAMED = 8
ZONES = ("UTC", "America/Sao_Paulo", "Asia/Kathmandu")

Ask = Callable[[], Awaitable[object]]

CLEAR = """
TRUNCATE usage_kinds, usage_models, usage_accounts, usage_pauses, usage_snapshots;
ALTER TABLE usage_accounts DROP CONSTRAINT usage_accounts_pkey;
DROP INDEX usage_accounts_start;
"""

INDEX = """
ALTER TABLE usage_accounts ADD PRIMARY KEY (account, start);
CREATE INDEX usage_accounts_start ON usage_accounts (start);
"""

# A job is two entries. The square makes few accounts busy. In the order of time, as it would have come.
LIVE = f"""
INSERT INTO usage_accounts (account, start, pause, spent, refunded, transactions, reservations, last_at)
SELECT account, start,
  (extract(epoch FROM start - lag(start) OVER (PARTITION BY account ORDER BY start)) / 900)::integer,
  10 * jobs, 0, 2 * jobs, jobs, start
FROM (
  SELECT 'customer-' || lpad(floor({ACCOUNTS} * power(random(), 2))::integer::text, 8, '0') AS account,
    date_bin('15 minutes', now() - random() * interval '365 days', 'epoch') AS start, count(*) AS jobs
  FROM generate_series(1, {ENTRIES // 2}) GROUP BY 1, 2
) AS lived
ORDER BY start
"""

PAUSE = """
WITH ends AS (
  SELECT start, coalesce(width_bucket(pause, $1::integer[]), $2::integer) AS class, 0 AS began, 1 AS ended
  FROM usage_accounts
  UNION ALL
  SELECT start - pause * interval '15 minutes', width_bucket(pause, $1::integer[]), 1, 0
  FROM usage_accounts WHERE pause IS NOT NULL
), quarters AS (
  SELECT start, class, sum(began) AS began, sum(ended) AS ended FROM ends GROUP BY start, class
)
INSERT INTO usage_pauses (span, start, class, began, ended)
SELECT span, begin, class, sum(began), sum(ended)
FROM quarters, LATERAL (
  VALUES ('quarter', start), ('hour', date_bin('1 hour', start, 'epoch')),
    ('day', date_bin('1 day', start, 'epoch'))
) AS spans (span, begin)
GROUP BY span, begin, class ORDER BY begin
"""

SUM = """
WITH quarters AS (
  SELECT start, sum(reservations) AS count, sum(spent) AS credits FROM usage_accounts GROUP BY start
), spans AS (
  SELECT span, begin, sum(count) AS count, sum(credits) AS credits
  FROM quarters, LATERAL (
    VALUES ('quarter', start), ('hour', date_bin('1 hour', start, 'epoch')),
      ('day', date_bin('1 day', start, 'epoch')), ('ever', 'epoch'::timestamptz)
  ) AS spans (span, begin)
  GROUP BY span, begin
), kinds AS (
  INSERT INTO usage_kinds (span, start, kind, count, credits)
  SELECT span, begin, kind, count, credits
  FROM spans, unnest(ARRAY['granted', 'deducted', 'reserved', 'confirmed', 'cancelled', 'expired', 'refunded',
    'lapsed']) AS kind
  ORDER BY begin
)
INSERT INTO usage_models (span, start, model, transactions, credits, confirmed, ended, reserved, captured,
  milliseconds)
SELECT span, begin, 'model-' || n, count, credits, count, count, credits, credits, 9000 * count
FROM spans, generate_series(1, 20) AS n ORDER BY begin
"""

COUNTED = f"UPDATE usage_state SET counted = counted + {ENTRIES}, as_of = now()"


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.expect(7)
    told.say(f"making {ACCOUNTS:,} accounts")
    valkey, database_url = bed.born("none")
    run(fill(database_url, Size(ACCOUNTS, 10)))
    told.step("counting them")
    rate = run(counted(database_url))
    told.step(f"{rate:,.0f} entries/s; making {year.ENTRIES:,} entries")
    run(year.live(database_url))
    told.step(f"making the sums of {ENTRIES:,}")
    run(_fill(database_url))
    told.step("asking")
    answers, snapshots = run(asked(database_url, max(3, sizes.rounds)))
    told.step("filling Redis")
    run(loaded.load(database_url, valkey.url))
    told.step("opening pages")
    pages = _visited(bed, House(valkey, database_url, run(_key(database_url))))
    told.step("done")
    slowest = max(answers, key=lambda name: answers[name].median)
    beside = ", ".join(f"{name} {each.median:.1f}" for name, each in answers.items())
    return [
        Line(
            "11",
            f"dashboard and monitoring queries at {ENTRIES:,} journal rows, {ACCOUNTS:,} accounts, a year",
            f"slowest: {slowest}, {answers[slowest]} ms",
            f"< {MUST_MS} ms",
            answers[slowest].median < MUST_MS,
            f"in ms: {beside}; made beside the journal: all balances and the four lists of who spent most in "
            f"{snapshots:.2f} s; {rate:,.0f} entries/s counted",
        ),
        _line_of(pages),
    ]


def _line_of(pages: dict[str, Samples]) -> Line:
    """Judged by the slow visits of each page, not by the usual ones."""
    slow = {name: percentile(sorted(each.values), 0.95) for name, each in pages.items()}
    names = sorted(slow, key=slow.__getitem__, reverse=True)
    described = [f"{name} {pages[name].median:.0f}/{slow[name]:.0f}" for name in names]
    return Line(
        "11",
        f"the dashboard's pages over HTTP at {year.ENTRIES:,} journal rows, of {len(pages)} kinds of visits",
        f"slowest: {names[0]}, median {pages[names[0]].median:.0f} ms, 95% within {slow[names[0]]:.0f} ms",
        f"< {PAGE_MUST_MS} ms",
        slow[names[0]] < PAGE_MUST_MS,
        f"median/95% in ms of the slowest: {', '.join(described[:NAMED])}; {VISITS} visits each, of"
        " which 95% are all but one; the first overview of a second has the whole health looked at; an"
        f" account has {2 * year.JOBS // year.HOT_EVERY:,} entries; {year.LATELY:,} reservations,"
        f" {year.DELIVERIES:,} webhooks",
    )


def _visited(bed: Bed, house: House) -> dict[str, Samples]:
    """Milliseconds of each page, by turns, so that what the machine does meanwhile meets all of them."""
    operator = Operator(bed.api(house).port, house.token, ZONES[1])
    known = visits(operator, year.HOT, f"task-{year.JOBS - 1000}", year.DELIVERIES // 2)
    values: dict[str, list[float]] = {name: [] for name in known}
    for round_ in range(1 + VISITS):
        for name, visit in known.items():
            seconds = operator.open(*visit).seconds
            if round_:
                values[name].append(1000 * seconds)
    return {name: Samples(found) for name, found in values.items()}


async def _key(database_url: str) -> str:
    async with await open_pool(database_url, connections_max=1) as pool:
        return await api_keys.create(pool, "operator", ["operate"])


async def counted(database_url: str) -> float:
    """Entries a second, of real ones."""
    connection = await asyncpg.connect(database_url, ssl=False)
    begun, total = time.perf_counter(), 0
    while some := await count(connection):
        total += some
    seconds = time.perf_counter() - begun
    await connection.close()
    return total / seconds


async def _fill(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, ssl=False)
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(CLEAR)
    await connection.execute("SET work_mem = '256MB'; SET maintenance_work_mem = '256MB'")
    await connection.execute(LIVE)
    await connection.execute(INDEX)
    await connection.execute(PAUSE, list(LIMITS), FIRST)
    await connection.execute(SUM)
    await connection.execute(COUNTED)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def asked(database_url: str, rounds: int) -> tuple[dict[str, Samples], float]:
    """Milliseconds of each question, and how many seconds the snapshots take."""
    now = datetime.now(UTC)
    async with await open_pool(database_url, connections_max=4) as pool:
        begun = time.perf_counter()
        async with pool.acquire() as connection:
            await Snapshots().renew(connection, now)
        snapshots = time.perf_counter() - begun
        questions = _questions(pool, now)
        values: dict[str, list[float]] = {name: [] for name in questions}
        for round_ in range(rounds + 1):
            for name, ask in questions.items():
                asked = time.perf_counter()
                await ask()
                if round_:
                    values[name].append(1000 * (time.perf_counter() - asked))
    return {name: Samples(found) for name, found in values.items()}, snapshots


def _questions(pool: Pool, now: datetime) -> dict[str, Ask]:
    """Everything that may be asked, with the usual windows."""
    monitoring = PostgresMonitoring(pool, lambda: now)
    questions: dict[str, Ask] = {"overview": monitoring.overview}
    for period in PERIODS:
        questions[f"top-users of a {period}"] = lambda period=period: monitoring.top_accounts(period, 10)
        questions[f"models of a {period}"] = lambda period=period: monitoring.models(period)
        for zone in ZONES:
            tz = ZoneInfo(zone)
            questions[f"usage by {period} in {zone}"] = lambda period=period, tz=tz: monitoring.usage(
                period, None, None, tz
            )
    questions["dashboard"] = lambda: asyncio.gather(
        monitoring.overview(),
        monitoring.usage("day", None, None, ZoneInfo(ZONES[1])),
        monitoring.top_accounts("day", 10),
        monitoring.models("day"),
    )
    return questions
