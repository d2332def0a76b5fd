"""Row 8: how long PostgreSQL lacks what was answered, while HTTP is loaded as far as it goes."""

from tests.bench.bed import Bed, fetch, run, wait_until
from tests.bench.figures import Line
from tests.bench.load import CLIENTS
from tests.bench.rows.http import Hits, mismatches
from tests.bench.sizes import WARM_UP_SECONDS, Sizes, Told

MUST_MS = 500
WORKERS = 2
_DRAIN_SECONDS = 30.0
_LOAD_SECONDS_MAX = 20.0  # all entries must still be in the streams when they are counted again

_LAG = """
SELECT percentile_disc(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY lag_ms), count(*)
FROM (SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - at) AS lag_ms
      FROM journal WHERE kind = 'deducted' AND at >= (SELECT min(at) FROM journal WHERE kind = 'deducted')
        + interval '{seconds} seconds') AS lags
"""


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    told.expect(2)
    # PostgreSQL itself notes when each transaction was committed, on the same clock as Redis' `at`.
    postgres = bed.own_postgres(track_commit_timestamp="on")
    house = bed.house(postgres=postgres)
    programs = [bed.program(name, house) for name in (*["worker"] * WORKERS, "cron")]
    hits = Hits(bed, house, bed.api(house))
    hits(WARM_UP_SECONDS)
    told.step("under load")
    rate = hits(min(_LOAD_SECONDS_MAX, sizes.rounds * sizes.seconds))
    total = run(fetch(house.database_url, "SELECT sum(cursor) FROM shards"))[0][0]
    wrong = mismatches(house, hits)

    def drained() -> bool:
        nonlocal total
        before, total = total, run(fetch(house.database_url, "SELECT count(*) FROM journal"))[0][0]
        return bool(before == total)

    wait_until(drained, _DRAIN_SECONDS)
    (lags, count) = run(fetch(house.database_url, _LAG.format(seconds=WARM_UP_SECONDS)))[0]
    p50, p99, longest = map(float, lags)
    missing = max(0, hits.answered - run(fetch(house.database_url, "SELECT count(*) FROM journal"))[0][0])
    for program in programs:
        program.stop()
    told.step(f"p99 {p99:,.0f} ms")
    return [
        Line(
            "8",
            "lag from the entry's time, before the answer, to PostgreSQL's commit, under full HTTP load",
            f"p99 {p99:,.0f} ms",
            f"< {MUST_MS} ms",
            p99 < MUST_MS and not wrong and not missing and not hits.errors,
            f"p50 {p50:,.0f} ms, longest {longest:,.0f} ms of {count:,} entries; {CLIENTS} connections, "
            f"{rate:,.0f}/s answered beside {WORKERS} workers; "
            f"{wrong + missing} mismatches, {hits.errors} errors",
        )
    ]
